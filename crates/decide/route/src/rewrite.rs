//! Other paths for backends than clients ask for.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use regex::Regex;

/// What cannot stand in a path as it is.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');

/// How a path becomes another one.
#[derive(Clone, Debug)]
pub struct Rewrite {
    pattern: Regex,
    /// Parts between the groups, and the group after each; the last has none.
    parts: Vec<(String, Option<usize>)>,
    query: Option<String>,
}

impl Rewrite {
    /// `target` with `$1` to `$9` for what the groups of `pattern` held.
    pub fn new(pattern: Regex, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = path.chars().peekable();
        while let Some(next) = rest.next() {
            let group = if next == '$' { rest.next_if(char::is_ascii_digit) } else { None };
            match group.and_then(|digit| digit.to_digit(10)) {
                Some(group) => parts.push((std::mem::take(&mut text), Some(group as usize))),
                None => text.push(next),
            }
        }
        parts.push((text, None));
        Self { pattern, parts, query }
    }

    /// Path and query for the backend, of a decoded path and the query as it was sent. None where the pattern does
    /// not match.
    pub fn apply(&self, path: &str, query: Option<&str>) -> Option<String> {
        let groups = self.pattern.captures(path)?;
        let mut decoded = String::new();
        for (text, group) in &self.parts {
            decoded.push_str(text);
            if let Some(found) = group.and_then(|group| groups.get(group)) {
                decoded.push_str(found.as_str());
            }
        }
        if !decoded.starts_with('/') {
            decoded.insert(0, '/');
        }
        let mut out = Cow::from(utf8_percent_encode(&decoded, ESCAPED)).into_owned();
        for (index, query) in self.query.as_deref().into_iter().chain(query).enumerate() {
            out.push(if index == 0 { '?' } else { '&' });
            out.push_str(query);
        }
        Some(out)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn targets_take_groups() {
        // Pattern, target, path, query, what the backend is asked for.
        let table = [
            ("/something(/|$)(.*)", "/$2", "/something", None, Some("/")),
            ("/something(/|$)(.*)", "/$2", "/something/", None, Some("/")),
            ("/something(/|$)(.*)", "/$2", "/something/new", Some("a=1"), Some("/new?a=1")),
            ("/foo", "/", "/foo/bar", None, Some("/")),
            ("/foo", "/x?from=foo", "/foo", Some("b"), Some("/x?from=foo&b")),
            ("/(.*)", "$1", "/A b?", None, Some("/A%20b%3F")),
            ("/(.*)", "/$1$9$", "/é", None, Some("/%C3%A9$")),
            ("/foo", "/", "/bar", None, None),
        ];
        for (pattern, target, path, query, expected) in table {
            let rewrite = Rewrite::new(Regex::new(&format!("(?i)^{pattern}")).unwrap(), target);
            assert_eq!(rewrite.apply(path, query).as_deref(), expected, "{pattern} {path}");
        }
    }
}
