//! What a request must be like, and which of several rules that fit counts.

use std::cmp::Reverse;

use percent_encoding::percent_decode_str;
use regex::Regex;

use super::kinds::{GrpcMatch, HttpMatch, Text};
use crate::paths::trimmed;
use crate::settings::pattern;

/// A request, as rules see it.
pub struct Asked<'a> {
    /// The host, as of [`crate::host_of`].
    pub host: &'a str,
    /// The path, as of [`crate::normal`].
    pub path: &'a str,
    /// The query as it was sent.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// All values of a header.
    pub headers: &'a dyn Fn(&str) -> Vec<&'a str>,
}

/// One match of a rule: all of it must fit.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    pub(crate) path: PathMatch,
    method: Option<String>,
    headers: Vec<(String, Value)>,
    query: Vec<(String, Value)>,
}

#[derive(Clone, Debug)]
pub(crate) enum PathMatch {
    Exact(String),
    /// Whole segments, without the slash at the end.
    Prefix(String),
    Pattern(Regex),
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Pattern(Regex),
}

/// Smaller ones count before greater ones.
pub(crate) type Rank = (Reverse<(u8, usize)>, bool, Reverse<usize>, Reverse<usize>);

impl Match {
    pub(crate) fn of_http(given: &HttpMatch) -> Result<Self, String> {
        let path = match &given.path {
            Some(text) => PathMatch::of(text)?,
            None => PathMatch::Prefix(String::new()),
        };
        let method = given.method.clone();
        Ok(Self {
            path,
            method,
            headers: values(&given.headers, true)?,
            query: values(&given.query_params, false)?,
        })
    }

    /// A call is a request for `/service/method`.
    pub(crate) fn of_grpc(given: &GrpcMatch) -> Result<Self, String> {
        let called = given.method.clone().unwrap_or_default();
        let part = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let path = match (part(&called.service), part(&called.method)) {
            (None, None) => PathMatch::Prefix(String::new()),
            (service, method) if called.kind.as_deref() == Some("RegularExpression") => {
                let part = |text: Option<String>| text.unwrap_or_else(|| "[^/]+".to_owned());
                PathMatch::Pattern(whole(&format!("/(?:{})/(?:{})", part(service), part(method)))?)
            }
            (Some(service), Some(method)) => PathMatch::Exact(format!("/{service}/{method}")),
            (Some(service), None) => PathMatch::Prefix(format!("/{service}")),
            (None, Some(method)) => PathMatch::Pattern(whole(&format!("/[^/]+/{}", regex::escape(&method)))?),
        };
        Ok(Self { path, method: None, headers: values(&given.headers, true)?, query: Vec::new() })
    }

    /// Exact paths before patterns before prefixes, longer ones before shorter ones, then those with a method, with more
    /// headers, with more parameters.
    pub(crate) fn rank(&self) -> Rank {
        let path = match &self.path {
            PathMatch::Exact(path) => (2, path.len()),
            PathMatch::Pattern(pattern) => (1, pattern.as_str().len()),
            PathMatch::Prefix(path) => (0, path.len()),
        };
        (Reverse(path), self.method.is_none(), Reverse(self.headers.len()), Reverse(self.query.len()))
    }

    pub(crate) fn fits(&self, asked: &Asked<'_>) -> bool {
        self.path.fits(asked.path)
            && self.method.as_deref().is_none_or(|method| method == asked.method)
            && self.headers.iter().all(|(name, value)| value.fits_one(&(asked.headers)(name)))
            && self.query.iter().all(|(name, value)| {
                parameter(asked.query.unwrap_or_default(), name).is_some_and(|found| value.fits(&found))
            })
    }
}

impl PathMatch {
    fn of(given: &Text) -> Result<Self, String> {
        let value = given.value.clone().unwrap_or_else(|| "/".to_owned());
        Ok(match given.kind.as_deref() {
            Some("Exact") => Self::Exact(value),
            Some("RegularExpression") => Self::Pattern(whole(&value)?),
            _ => Self::Prefix(trimmed(&value).to_owned()),
        })
    }

    fn fits(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Pattern(pattern) => pattern.is_match(path),
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    /// As those who count name it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Prefix(text) if text.is_empty() => "/",
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }
}

impl Value {
    fn fits(&self, found: &str) -> bool {
        match self {
            Self::Text(text) => text == found,
            Self::Pattern(pattern) => pattern.is_match(found),
        }
    }

    /// A header may have been sent several times, or once with several values.
    fn fits_one(&self, found: &[&str]) -> bool {
        found.iter().any(|value| self.fits(value)) || found.len() > 1 && self.fits(&found.join(","))
    }
}

/// Of several conditions on one name the first counts.
fn values(given: &[Text], any_case: bool) -> Result<Vec<(String, Value)>, String> {
    let mut out: Vec<(String, Value)> = Vec::new();
    for Text { kind, name, value } in given {
        let name = if any_case { name.to_ascii_lowercase() } else { name.clone() };
        let text = value.clone().unwrap_or_default();
        let value = match kind.as_deref() {
            Some("RegularExpression") => Value::Pattern(whole(&text)?),
            _ => Value::Text(text),
        };
        if !out.iter().any(|(known, _)| *known == name) {
            out.push((name, value));
        }
    }
    Ok(out)
}

fn whole(text: &str) -> Result<Regex, String> {
    pattern(&format!("^(?:{text})$"), false).map_err(|problem| format!("{text:?} {problem}"))
}

/// The first value of a parameter.
fn parameter(query: &str, name: &str) -> Option<String> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut found = pairs.filter(|(known, _)| decode(known) == name);
    found.next().map(|(_, value)| decode(value))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn http(given: serde_json::Value) -> Match {
        Match::of_http(&serde_json::from_value(given).unwrap()).unwrap()
    }

    fn grpc(given: serde_json::Value) -> Match {
        Match::of_grpc(&serde_json::from_value(given).unwrap()).unwrap()
    }

    #[test]
    fn all_of_a_match_must_fit() {
        let path = |kind: &str, value: &str| json!({"path": {"type": kind, "value": value}});
        let method = |given: serde_json::Value| grpc(json!({ "method": given }));
        // Match, path, query, method, fits; the header "a" is there as "1" and "2".
        let table = [
            (http(json!({})), "/x", "", "GET", true),
            (http(path("Exact", "/a")), "/a", "", "GET", true),
            (http(path("Exact", "/a")), "/a/", "", "GET", false),
            (http(path("PathPrefix", "/a")), "/a/", "", "GET", true),
            (http(path("PathPrefix", "/a/")), "/a", "", "GET", true),
            (http(path("PathPrefix", "/a")), "/ab", "", "GET", false),
            (http(path("PathPrefix", "/")), "/ab", "", "GET", true),
            (http(path("RegularExpression", "/a.")), "/ab", "", "GET", true),
            (http(path("RegularExpression", "/a.")), "/abc", "", "GET", false),
            (http(json!({"method": "POST"})), "/", "", "GET", false),
            (http(json!({"headers": [{"name": "A", "value": "1"}]})), "/", "", "GET", true),
            (
                http(json!({"headers": [{"name": "A", "value": "1"}, {"name": "a", "value": "9"}]})),
                "/",
                "",
                "GET",
                true,
            ),
            (http(json!({"headers": [{"name": "A", "value": "1,2"}]})), "/", "", "GET", true),
            (http(json!({"headers": [{"name": "A", "value": "3"}]})), "/", "", "GET", false),
            (http(json!({"headers": [{"name": "b", "value": ""}]})), "/", "", "GET", false),
            (
                http(json!({"headers": [{"type": "RegularExpression", "name": "a", "value": "[2-5]"}]})),
                "/",
                "",
                "GET",
                true,
            ),
            (http(json!({"queryParams": [{"name": "q", "value": "a b"}]})), "/", "q=a+b&q=c", "GET", true),
            (http(json!({"queryParams": [{"name": "q", "value": "c"}]})), "/", "q=a%20b&q=c", "GET", false),
            (http(json!({"queryParams": [{"name": "q", "value": ""}]})), "/", "qq", "GET", false),
            (method(json!({"service": "pkg.S", "method": "M"})), "/pkg.S/M", "", "POST", true),
            (method(json!({"service": "pkg.S"})), "/pkg.S/M", "", "POST", true),
            (method(json!({"service": "pkg.S"})), "/pkg.S2/M", "", "POST", false),
            (method(json!({"method": "M"})), "/pkg.S/M", "", "POST", true),
            (method(json!({"method": "M"})), "/pkg.S/MM", "", "POST", false),
            (
                method(json!({"type": "RegularExpression", "service": "pkg\\..*"})),
                "/pkg.S/M",
                "",
                "POST",
                true,
            ),
        ];
        let headers = |name: &str| if name == "a" { vec!["1", "2"] } else { Vec::new() };
        for (rule, path, query, method, expected) in table {
            let asked = Asked { host: "", path, query: Some(query), method, headers: &headers };
            assert_eq!(rule.fits(&asked), expected, "{rule:?} {path}?{query}");
        }
    }

    #[test]
    fn the_most_specific_match_counts() {
        let header = |name: &str| json!({"name": name, "value": "1"});
        let path = |kind: &str, value: &str| json!({"type": kind, "value": value});
        // In the order in which they count.
        let ordered = [
            json!({"path": path("Exact", "/a")}),
            json!({"path": path("RegularExpression", "/.")}),
            json!({"path": path("PathPrefix", "/a/b")}),
            json!({"path": path("PathPrefix", "/a"), "method": "GET"}),
            json!({"path": path("PathPrefix", "/a"), "headers": [header("a"), header("b")]}),
            json!({"path": path("PathPrefix", "/a"), "headers": [header("a")], "queryParams": [header("q"), header("r")]}),
            json!({"path": path("PathPrefix", "/a"), "headers": [header("a")]}),
            json!({"path": path("PathPrefix", "/a"), "queryParams": [header("q")]}),
            json!({"path": path("PathPrefix", "/a")}),
            json!({}),
        ];
        let ranks: Vec<Rank> = ordered.iter().map(|given| http(given.clone()).rank()).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
        assert!(ranks.windows(2).all(|pair| pair[0] != pair[1]), "{ranks:?}");
    }
}
