//! What filters change: headers, paths, hosts, and what scripts of other origins may do.

use std::sync::Arc;

use super::kinds::{Cors, Filter, HeaderChange, HttpRule, PathChange, Redirect};
use super::matching::PathMatch;
use crate::rewrite::Rewrite;

/// Changes of a message's headers: some are set, some added, some removed.
pub type Headers = HeaderChange;

/// What is changed for a rule or a backend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Of requests.
    pub request: Headers,
    /// Of answers.
    pub response: Headers,
    /// The host that backends are asked for.
    pub host: Option<String>,
    /// Rules for scripts of other origins.
    pub cors: Option<Cors>,
}

/// An answer that sends clients elsewhere.
#[derive(Clone, Debug)]
pub struct Redirection {
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<Rewrite>,
    /// Its status.
    pub status: u16,
}

/// The filters of a rule, sorted by what they do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    pub(crate) changes: Arc<Changes>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) path: Option<PathChange>,
    pub(crate) mirrors: Vec<super::kinds::Mirror>,
}

impl Filters {
    pub(crate) fn of(filters: &[Filter]) -> Result<Self, String> {
        let (mut out, mut changes) = (Self::default(), Changes::default());
        for filter in filters {
            match filter.kind.as_str() {
                "RequestHeaderModifier" => changes.request = filter.request_header_modifier.clone(),
                "ResponseHeaderModifier" => changes.response = filter.response_header_modifier.clone(),
                "RequestRedirect" => out.redirect = Some(filter.request_redirect.clone()),
                "URLRewrite" => {
                    changes.host = filter.url_rewrite.hostname.clone();
                    out.path = filter.url_rewrite.path.clone();
                }
                "RequestMirror" => out.mirrors.push(filter.request_mirror.clone()),
                "CORS" => changes.cors = Some(filter.cors.clone()),
                other => return Err(format!("filter {other} is not supported")),
            }
        }
        out.changes = Arc::new(changes);
        Ok(out)
    }

    /// The changes of a backend, which are those of headers only.
    pub(crate) fn of_backend(filters: &[Filter]) -> Result<Arc<Changes>, String> {
        let known = ["RequestHeaderModifier", "ResponseHeaderModifier"];
        if let Some(other) = filters.iter().find(|filter| !known.contains(&filter.kind.as_str())) {
            return Err(format!("filter {} is not supported in backendRefs", other.kind));
        }
        Ok(Self::of(filters)?.changes)
    }
}

/// The other path that a filter asks for, where a match was for `path`.
pub(crate) fn rewrite(change: &PathChange, path: &PathMatch) -> Rewrite {
    match (&change.replace_prefix_match, path) {
        (Some(with), PathMatch::Prefix(prefix)) => Rewrite::prefix(prefix, with),
        _ => Rewrite::whole(change.replace_full_path.as_deref().unwrap_or("/")),
    }
}

impl Redirection {
    pub(crate) fn of(given: &Redirect, path: &PathMatch) -> Self {
        Self {
            scheme: given.scheme.clone(),
            host: given.hostname.clone(),
            port: given.port,
            path: given.path.as_ref().map(|change| rewrite(change, path)),
            status: given.status_code.unwrap_or(302),
        }
    }

    /// Where a request is to go: `port` is the listener's, `path` as of [`crate::normal`], `sent` path and query as they
    /// were sent.
    pub fn location(&self, encrypted: bool, port: u16, host: &str, path: &str, sent: &str) -> String {
        let present = if encrypted { "https" } else { "http" };
        let scheme = self.scheme.as_deref().unwrap_or(present);
        let usual = if scheme == "https" { 443 } else { 80 };
        // Another scheme comes with its own port.
        let port = self.port.unwrap_or(if self.scheme.is_some() { usual } else { port });
        let host = self.host.as_deref().unwrap_or(host);
        let query = sent.split_once('?').map(|(_, query)| query);
        let changed = self.path.as_ref().and_then(|change| change.apply(path, query));
        let target = changed.as_deref().unwrap_or(sent);
        match port == usual {
            true => format!("{scheme}://{host}{target}"),
            false => format!("{scheme}://{host}:{port}{target}"),
        }
    }
}

impl Cors {
    fn allows(&self, origin: &str) -> bool {
        self.allow_origins.iter().any(|allowed| match allowed.split_once('*') {
            None => allowed.eq_ignore_ascii_case(origin),
            Some((before, after)) => {
                origin.len() >= before.len() + after.len()
                    && origin.starts_with(before)
                    && origin.ends_with(after)
            }
        })
    }

    /// Headers of the answer to a request from an origin; none if it is not allowed.
    pub fn answer(&self, origin: &str) -> Vec<(&'static str, String)> {
        if !self.allows(origin) {
            return Vec::new();
        }
        let credentials = self.allow_credentials == Some(true);
        let any = !credentials && self.allow_origins.iter().any(|allowed| allowed == "*");
        let mut out = vec![("access-control-allow-origin", if any { "*" } else { origin }.to_owned())];
        if credentials {
            out.push(("access-control-allow-credentials", "true".to_owned()));
        }
        if !self.expose_headers.is_empty() {
            out.push(("access-control-expose-headers", self.expose_headers.join(", ")));
        }
        if !any {
            out.push(("vary", "Origin".to_owned()));
        }
        out
    }

    /// Headers of the answer to a preflight, which asks for a method and headers.
    pub fn preflight(
        &self,
        origin: &str,
        method: &str,
        headers: Option<&str>,
    ) -> Vec<(&'static str, String)> {
        let mut out = self.answer(origin);
        if out.is_empty() {
            return out;
        }
        out.retain(|(name, _)| *name != "access-control-expose-headers");
        let list = |allowed: &[String], asked: &str| match allowed.iter().any(|one| one == "*") {
            true => asked.to_owned(),
            false => allowed.join(", "),
        };
        out.push(("access-control-allow-methods", list(&self.allow_methods, method)));
        if !self.allow_headers.is_empty() {
            out.push(("access-control-allow-headers", list(&self.allow_headers, headers.unwrap_or("*"))));
        }
        out.push(("access-control-max-age", self.max_age.unwrap_or(5).to_string()));
        out
    }
}

/// What of a rule decides where its requests go, without any request.
pub(crate) fn timeouts(
    rule: &HttpRule,
) -> Result<(Option<std::time::Duration>, Option<std::time::Duration>), String> {
    let read = |text: &Option<String>| text.as_deref().map(plimsoll_meta::duration::parse).transpose();
    Ok((read(&rule.timeouts.request)?, read(&rule.timeouts.backend_request)?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn redirections_keep_what_they_do_not_change() {
        let prefix = PathMatch::Prefix("/a".to_owned());
        // Filter, encrypted, port, location.
        let table = [
            (json!({"scheme": "https"}), false, 80, "https://a.com/a/b?q=1"),
            (json!({"scheme": "https"}), false, 8080, "https://a.com/a/b?q=1"),
            (json!({"scheme": "https", "port": 8443}), false, 80, "https://a.com:8443/a/b?q=1"),
            (json!({"hostname": "b.com"}), false, 80, "http://b.com/a/b?q=1"),
            (json!({"hostname": "b.com"}), false, 8080, "http://b.com:8080/a/b?q=1"),
            (json!({"port": 80}), false, 8080, "http://a.com/a/b?q=1"),
            (json!({"hostname": "b.com"}), true, 443, "https://b.com/a/b?q=1"),
            (
                json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}}),
                false,
                80,
                "http://a.com/x?q=1",
            ),
            (
                json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x/"}}),
                false,
                80,
                "http://a.com/x/b?q=1",
            ),
            (
                json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}),
                false,
                80,
                "http://a.com/b?q=1",
            ),
        ];
        for (filter, encrypted, port, expected) in table {
            let redirection = Redirection::of(&serde_json::from_value(filter.clone()).unwrap(), &prefix);
            let found = redirection.location(encrypted, port, "a.com", "/a/b", "/a/b?q=1");
            assert_eq!((found.as_str(), redirection.status), (expected, 302), "{filter}");
        }
    }

    #[test]
    fn origins_are_compared_and_told() {
        let cors = |extra: serde_json::Value| -> Cors {
            let mut all =
                json!({"allowOrigins": ["https://a.com", "https://*.b.com"], "allowMethods": ["GET", "PUT"]});
            all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            serde_json::from_value(all).unwrap()
        };
        let told = |headers: Vec<(&str, String)>| {
            let all: Vec<String> = headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            all.join(" ").replace("access-control-", "")
        };
        let plain = cors(json!({}));
        assert_eq!(told(plain.answer("https://a.com")), "allow-origin=https://a.com vary=Origin");
        assert_eq!(told(plain.answer("https://x.b.com")), "allow-origin=https://x.b.com vary=Origin");
        assert_eq!(told(plain.answer("https://b.com")), "");
        assert_eq!(told(plain.answer("http://a.com")), "");
        let open = cors(json!({"allowOrigins": ["*"], "exposeHeaders": ["x"]}));
        assert_eq!(told(open.answer("http://c.com")), "allow-origin=* expose-headers=x");
        let all = cors(
            json!({"allowCredentials": true, "allowMethods": ["*"], "allowHeaders": ["x", "y"], "maxAge": 9}),
        );
        assert_eq!(
            told(all.preflight("https://a.com", "DELETE", Some("x"))),
            "allow-origin=https://a.com allow-credentials=true vary=Origin allow-methods=DELETE allow-headers=x, y max-age=9"
        );
    }
}
