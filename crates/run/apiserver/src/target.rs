//! What a request's path names.

/// The resource or other path that a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Something under `/api/v1` or `/apis/GROUP/VERSION`.
    Resource(ResourcePath),
    /// Discovery, health, OpenAPI and the like.
    Other,
}

/// The parts of a resource path; absent parts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource, with its leading slash (proxies).
    pub(crate) rest: String,
    /// The deprecated `/watch/` form.
    pub(crate) watch: bool,
}

impl Target {
    /// Reads a decoded path.
    pub(crate) fn parse(path: &str) -> Self {
        Self::resource(path).map_or(Self::Other, Self::Resource)
    }

    fn resource(path: &str) -> Option<ResourcePath> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut found = ResourcePath::default();
        match parts.next()? {
            "api" => found.version = parts.next()?.to_owned(),
            "apis" => {
                found.group = parts.next()?.to_owned();
                found.version = parts.next()?.to_owned();
            }
            _ => return None,
        }
        let mut parts: Vec<&str> = parts.collect();
        if parts.last() == Some(&"") && !parts.contains(&"proxy") {
            parts.pop();
        }
        if parts.first() == Some(&"watch") {
            found.watch = true;
            parts.remove(0);
        }
        let parts = match parts[..] {
            // A namespace itself, or its own subresources.
            ["namespaces", name, sub @ ("status" | "finalize")] => {
                return Some(ResourcePath {
                    resource: "namespaces".to_owned(),
                    namespace: name.to_owned(),
                    name: name.to_owned(),
                    subresource: sub.to_owned(),
                    ..found
                });
            }
            ["namespaces", name, _, ..] => {
                found.namespace = name.to_owned();
                &parts[2..]
            }
            ["namespaces", name] => {
                found.namespace = name.to_owned();
                &parts[..]
            }
            _ => &parts[..],
        };
        found.resource = (*parts.first().filter(|part| !part.is_empty())?).to_owned();
        found.name = parts.get(1).unwrap_or(&"").to_string();
        found.subresource = parts.get(2).unwrap_or(&"").to_string();
        if parts.len() > 3 {
            found.rest = format!("/{}", parts[3..].join("/"));
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Option<String> {
        match Target::parse(path) {
            Target::Other => None,
            Target::Resource(r) => Some(format!(
                "{}|{}|{}|{}|{}|{}|{}",
                r.group, r.version, r.namespace, r.resource, r.name, r.subresource, r.rest
            )),
        }
    }

    #[test]
    fn paths_are_read() {
        for (path, expected) in [
            ("/api", None),
            ("/api/v1", None),
            ("/apis/apps/v1", None),
            ("/healthz", None),
            ("/api/v1/nodes", Some("|v1||nodes|||")),
            ("/api/v1/namespaces", Some("|v1||namespaces|||")),
            ("/api/v1/namespaces/a", Some("|v1|a|namespaces|a||")),
            ("/api/v1/namespaces/a/finalize", Some("|v1|a|namespaces|a|finalize|")),
            ("/api/v1/namespaces/a/pods", Some("|v1|a|pods|||")),
            ("/api/v1/namespaces/a/pods/b/exec", Some("|v1|a|pods|b|exec|")),
            ("/api/v1/namespaces/a/services/b/proxy/x/y", Some("|v1|a|services|b|proxy|/x/y")),
            ("/api/v1/nodes/n/proxy/metrics/cadvisor", Some("|v1||nodes|n|proxy|/metrics/cadvisor")),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", Some("apps|v1|a|deployments|b|scale|")),
            ("/api/v1/watch/namespaces/a/pods", Some("|v1|a|pods|||")),
        ] {
            assert_eq!(parts(path).as_deref(), expected, "{path}");
        }
    }
}
