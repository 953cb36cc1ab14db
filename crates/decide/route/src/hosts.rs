//! What is known by host name: exact names, then wildcards for one label, then everything.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Values by host name.
#[derive(Clone, Debug)]
pub struct Hosts<T> {
    exact: HashMap<Arc<str>, T>,
    /// By what follows `*.`.
    wildcards: HashMap<Arc<str>, T>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: HashMap::new(), any: None }
    }
}

impl<T> Hosts<T> {
    /// The value kept for a host as a rule names it ("" for any host), if there is one.
    pub fn get(&self, rule: &str) -> Option<&T> {
        match rule.strip_prefix("*.") {
            _ if rule.is_empty() => self.any.as_ref(),
            Some(suffix) => self.wildcards.get(suffix),
            None => self.exact.get(rule),
        }
    }

    /// As [`Self::get`], and makes it where there is none.
    pub fn entry(&mut self, rule: &str, new: impl FnOnce() -> T) -> &mut T {
        match rule.strip_prefix("*.") {
            _ if rule.is_empty() => self.any.get_or_insert_with(new),
            Some(suffix) => self.wildcards.entry(suffix.into()).or_insert_with(new),
            None => self.exact.entry(rule.into()).or_insert_with(new),
        }
    }

    /// Keeps a value for a host as a rule names it, or none any more.
    pub fn set(&mut self, rule: &str, value: Option<T>) {
        let (map, name) = match rule.strip_prefix("*.") {
            _ if rule.is_empty() => return self.any = value,
            Some(suffix) => (&mut self.wildcards, suffix),
            None => (&mut self.exact, rule),
        };
        match value {
            Some(value) => drop(map.insert(name.into(), value)),
            None => drop(map.remove(name)),
        }
    }

    /// The value of the most exact rule for the host of a request, which is in lower case (see [`host_of`]).
    pub fn find(&self, host: &str) -> Option<&T> {
        self.exact(host).or(self.any.as_ref())
    }

    /// As [`Self::find`], without the value for any host.
    pub fn exact(&self, host: &str) -> Option<&T> {
        self.exact.get(host).or_else(|| self.wildcards.get(host.split_once('.')?.1))
    }

    /// The values of all rules for a host of which a wildcard stands for any labels, the most exact first.
    pub fn all(&self, host: &str) -> impl Iterator<Item = &T> {
        let suffixes = std::iter::successors(host.split_once('.'), |(_, rest)| rest.split_once('.'));
        let wildcards = suffixes.filter_map(|(_, suffix)| self.wildcards.get(suffix));
        self.exact.get(host).into_iter().chain(wildcards).chain(&self.any)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.wildcards.values()).chain(&self.any)
    }
}

/// Whether a `Host` header can name a host, as nginx looks at it; it may be empty.
pub fn is_host(authority: &str) -> bool {
    authority.bytes().all(|byte| byte > b' ' && byte < 0x7f && byte != b'/')
}

/// The host of a `Host` header or authority, without port, in lower case.
pub fn host_of(authority: &str) -> Cow<'_, str> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').map_or(authority.len(), |at| at + 2),
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let host = authority[..end].strip_suffix('.').unwrap_or(&authority[..end]);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_rule_counts() {
        let mut hosts = Hosts::default();
        for rule in ["", "*.foo.com", "bar.foo.com", "*.bar.foo.com"] {
            hosts.entry(rule, || rule.to_owned());
        }
        let table = [
            ("bar.foo.com", "bar.foo.com"),
            ("baz.foo.com", "*.foo.com"),
            ("a.bar.foo.com", "*.bar.foo.com"),
            ("a.baz.foo.com", ""),
            ("foo.com", ""),
            ("", ""),
        ];
        for (host, rule) in table {
            assert_eq!(hosts.find(host).map(String::as_str), Some(rule), "{host}");
        }
        let all = |host: &str| hosts.all(host).cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(all("bar.foo.com"), "bar.foo.com *.foo.com ");
        assert_eq!(all("x.y.bar.foo.com"), "*.bar.foo.com *.foo.com ");
        assert_eq!(hosts.get("*.foo.com").map(String::as_str), Some("*.foo.com"));
        assert_eq!(hosts.get("x.foo.com"), None);
        assert_eq!(hosts.values().count(), 4);
    }

    #[test]
    fn what_can_name_a_host() {
        for host in ["a.com", "a.com:80", "[::1]:80", "a_b", ""] {
            assert!(is_host(host), "{host}");
        }
        for host in ["a b", "a/b", "a\t", "a\u{7f}", "\u{e9}"] {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn authorities_have_ports_cases_and_dots() {
        let table = [
            ("Foo.com:8080", "foo.com"),
            ("foo.com.", "foo.com"),
            ("foo.com.:80", "foo.com"),
            ("[::1]:80", "[::1]"),
            ("[::1", "[::1"),
            ("", ""),
        ];
        for (authority, host) in table {
            assert_eq!(host_of(authority), host);
        }
    }
}
