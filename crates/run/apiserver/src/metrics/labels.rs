//! What tells requests apart. Every label has few values: names of kinds, verbs, codes.

use http::Method;
use prometheus_client::encoding::EncodeLabelSet;

use crate::query::Query;
use crate::registry;
use crate::server::Api;
use crate::target::Target;
use crate::version::VERSION;

/// Paths that are no resources and have a series of their own.
const PATHS: [&str; 6] = ["/healthz", "/livez", "/readyz", "/metrics", "/version", "/openapi/v2"];

/// One request as metrics know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    verb: &'static str,
    dry_run: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
}

/// Names a call without reading its words.
pub(super) type Key = [(usize, usize); 7];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Request {
    code: u16,
    component: &'static str,
    dry_run: &'static str,
    group: &'static str,
    resource: &'static str,
    scope: &'static str,
    subresource: &'static str,
    verb: &'static str,
    version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Duration {
    component: &'static str,
    dry_run: &'static str,
    group: &'static str,
    resource: &'static str,
    scope: &'static str,
    subresource: &'static str,
    verb: &'static str,
    version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Reload {
    pub(super) status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Long {
    component: &'static str,
    group: &'static str,
    resource: &'static str,
    scope: &'static str,
    subresource: &'static str,
    verb: &'static str,
    version: &'static str,
}

/// Labels of `apiserver_request_terminations_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Reason {
    code: u16,
    component: &'static str,
    group: &'static str,
    resource: &'static str,
    scope: &'static str,
    subresource: &'static str,
    verb: &'static str,
    version: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct InFlight {
    request_kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Watched {
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    pub(super) version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Deprecated {
    pub(super) group: &'static str,
    pub(super) removed_release: &'static str,
    pub(super) resource: &'static str,
    pub(super) subresource: &'static str,
    pub(super) version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Cluster {
    pub(super) storage_cluster_id: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Stored {
    pub(super) resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Object {
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Build {
    git_version: &'static str,
    major: &'static str,
    minor: &'static str,
    platform: String,
}

impl Default for Build {
    fn default() -> Self {
        let platform = format!("{}/{}", std::env::consts::OS, crate::version::architecture());
        Self { major: "1", minor: "37", git_version: VERSION, platform }
    }
}

const COMPONENT: &str = "apiserver";

impl Call {
    pub(super) fn of(api: &Api, method: &Method, target: &Target, query: &Query) -> Self {
        let dry_run = if query.get("dryRun").is_empty() { "" } else { "All" };
        let path = match target {
            Target::Resource(path) => path,
            Target::Other => {
                return Self { dry_run, ..Self::nothing(word(method, false, false, "")) };
            }
        };
        let Ok(kind) = registry::kind(api, path) else {
            return Self { dry_run, ..Self::nothing(word(method, false, false, "")) };
        };
        let subresource = kind.subresource(&path.subresource).map_or("", |sub| sub.name);
        let watched = path.watch || (path.name.is_empty() && query.flag("watch"));
        let scope = match (path.name.is_empty(), path.namespace.is_empty()) {
            (false, _) => "resource",
            (true, _) if *method == Method::POST => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        Self {
            verb: word(method, path.name.is_empty(), watched, subresource),
            dry_run,
            group: kind.group,
            version: kind.version,
            resource: kind.plural,
            subresource,
            scope,
        }
    }

    /// A path that is no resource.
    fn nothing(verb: &'static str) -> Self {
        Self { verb, dry_run: "", group: "", version: "", resource: "", subresource: "", scope: "" }
    }

    /// The same, for a path that has a series of its own.
    pub(super) fn at(self, path: &str) -> Self {
        let known = PATHS.into_iter().find(|known| path.trim_end_matches('/') == *known);
        match known {
            Some(subresource) if self.resource.is_empty() => Self { subresource, ..self },
            _ => self,
        }
    }

    /// The same for calls with the same words. Words are compared by their place in memory, which is quicker; in the
    /// worst case a call has two keys.
    pub(super) fn key(&self) -> Key {
        let Self { verb, dry_run, group, version, resource, subresource, scope } = *self;
        [verb, dry_run, group, version, resource, subresource, scope]
            .map(|word| (word.as_ptr() as usize, word.len()))
    }

    /// Runs as long as the client likes.
    pub(super) fn is_long_running(&self) -> bool {
        matches!(self.verb, "WATCH" | "CONNECT") || self.subresource == "log"
    }

    pub(super) fn in_flight(&self) -> Option<InFlight> {
        match self.verb {
            _ if self.is_long_running() => None,
            "GET" | "LIST" | "HEAD" => Some(InFlight { request_kind: "readOnly" }),
            _ => Some(InFlight { request_kind: "mutating" }),
        }
    }

    /// Is its answer's size of interest? Upstream measures what is read.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.verb, "GET" | "LIST") && !self.resource.is_empty()
    }

    pub(super) fn request(&self, code: u16) -> Request {
        let Self { verb, dry_run, group, version, resource, subresource, scope } = *self;
        Request { verb, dry_run, group, version, resource, subresource, scope, component: COMPONENT, code }
    }

    pub(super) fn duration(&self) -> Duration {
        let Self { verb, dry_run, group, version, resource, subresource, scope } = *self;
        Duration { verb, dry_run, group, version, resource, subresource, scope, component: COMPONENT }
    }

    pub(super) fn long(&self) -> Long {
        let Self { verb, group, version, resource, subresource, scope, .. } = *self;
        Long { verb, group, version, resource, subresource, scope, component: COMPONENT }
    }

    /// What objectives and sizes are told apart by.
    pub(super) fn objective(&self) -> Long {
        self.long()
    }

    pub(super) fn termination(&self) -> Reason {
        let Self { verb, group, version, resource, subresource, scope, .. } = *self;
        Reason { verb, group, version, resource, subresource, scope, component: COMPONENT, code: 504 }
    }
}

/// The verb as upstream's metrics write it.
fn word(method: &Method, collection: bool, watched: bool, subresource: &str) -> &'static str {
    if matches!(subresource, "exec" | "attach" | "portforward" | "proxy") {
        return "CONNECT";
    }
    match method.as_str() {
        "GET" | "HEAD" if watched => "WATCH",
        "GET" | "HEAD" if collection => "LIST",
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" if collection => "DELETECOLLECTION",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_those_of_dashboards() {
        for (method, collection, watched, subresource, expected) in [
            ("GET", false, false, "", "GET"),
            ("GET", true, false, "", "LIST"),
            ("GET", true, true, "", "WATCH"),
            ("POST", false, false, "exec", "CONNECT"),
            ("DELETE", true, false, "", "DELETECOLLECTION"),
            ("BREW", false, false, "", "other"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert_eq!(word(&method, collection, watched, subresource), expected);
        }
    }
}
