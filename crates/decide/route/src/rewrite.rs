//! Other paths for backends than clients ask for.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use regex::{Captures, Regex};

use crate::paths::trimmed;

/// What cannot stand in a path as it is.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');

/// What cannot stand in an argument of a query as it is.
const ESCAPED_ARGUMENT: &AsciiSet = &ESCAPED.add(b'&').add(b'+').add(b';');

/// How a path becomes another one.
#[derive(Clone, Debug)]
pub struct Rewrite {
    change: Change,
}

/// What is between the groups of a pattern, and the group after it; the last has none.
type Part = (String, Option<usize>);

#[derive(Clone, Debug)]
enum Change {
    /// What the groups of a pattern held, in another path and, if it has one, its query.
    Groups(Regex, Vec<Part>, Option<Vec<Part>>),
    /// Another path.
    Whole(String),
    /// Another beginning; without the slash at the end.
    Prefix(String, String),
}

impl Change {
    /// The other path, decoded, and what its query begins with.
    fn apply(&self, path: &str) -> Option<(String, Option<String>)> {
        match self {
            Self::Groups(pattern, parts, query) => {
                let groups = pattern.captures(path)?;
                let query = query.as_ref().map(|parts| {
                    filled(parts, &groups, |group| utf8_percent_encode(group, ESCAPED_ARGUMENT).into())
                });
                Some((filled(parts, &groups, Cow::Borrowed), query))
            }
            Self::Whole(whole) => Some((whole.clone(), None)),
            Self::Prefix(old, new) => {
                let rest = path.strip_prefix(old.as_str())?;
                let begin = if rest.is_empty() { new } else { trimmed(new) };
                Some((format!("{begin}{rest}"), None))
            }
        }
    }
}

fn filled<'a>(parts: &[Part], groups: &Captures<'a>, written: impl Fn(&'a str) -> Cow<'a, str>) -> String {
    let mut out = String::new();
    for (text, group) in parts {
        out.push_str(text);
        if let Some(found) = group.and_then(|group| groups.get(group)) {
            out.push_str(&written(found.as_str()));
        }
    }
    out
}

/// The parts of a target in which `$1` to `$9` stand for groups.
fn parts(target: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = target.chars().peekable();
    while let Some(next) = rest.next() {
        let group = if next == '$' { rest.next_if(char::is_ascii_digit) } else { None };
        match group.and_then(|digit| digit.to_digit(10)) {
            Some(group) => parts.push((std::mem::take(&mut text), Some(group as usize))),
            None => text.push(next),
        }
    }
    parts.push((text, None));
    parts
}

impl Rewrite {
    /// `target` with `$1` to `$9` for what the groups of `pattern` held.
    pub fn new(pattern: Regex, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Self { change: Change::Groups(pattern, parts(path), query.map(parts)) }
    }

    /// `path` in the place of any path.
    pub fn whole(path: &str) -> Self {
        Self { change: Change::Whole(path.to_owned()) }
    }

    /// `new` in the place of the segments `old` at the beginning.
    pub fn prefix(old: &str, new: &str) -> Self {
        Self { change: Change::Prefix(trimmed(old).to_owned(), new.to_owned()) }
    }

    /// Path and query for the backend, of a decoded path and the query as it was sent. None where the pattern does
    /// not match.
    pub fn apply(&self, path: &str, query: Option<&str>) -> Option<String> {
        let (mut decoded, own) = self.change.apply(path)?;
        if !decoded.starts_with('/') {
            decoded.insert(0, '/');
        }
        let mut out = Cow::from(utf8_percent_encode(&decoded, ESCAPED)).into_owned();
        for (index, query) in own.as_deref().into_iter().chain(query).enumerate() {
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
            (
                "/show/(.*)/(.*)",
                "/x?name=$1&as=$2",
                "/show/a&b é/c",
                Some("d"),
                Some("/x?name=a%26b%20%C3%A9&as=c&d"),
            ),
        ];
        for (pattern, target, path, query, expected) in table {
            let rewrite = Rewrite::new(Regex::new(&format!("(?i)^{pattern}")).unwrap(), target);
            assert_eq!(rewrite.apply(path, query).as_deref(), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn beginnings_are_replaced_as_the_gateway_api_says() {
        // Its table of ReplacePrefixMatch: path, prefix, replacement, path for the backend.
        let table = [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
        ];
        for (path, prefix, with, expected) in table {
            assert_eq!(
                Rewrite::prefix(prefix, with).apply(path, None).as_deref(),
                Some(expected),
                "{path} {prefix}"
            );
        }
        assert_eq!(Rewrite::whole("/a$1").apply("/x", Some("q")).as_deref(), Some("/a$1?q"));
    }
}
