//! The paths of one host, and which of them a request means.

use std::collections::HashMap;

use regex::Regex;

use crate::draft::PathKind;

/// Values by path. The longest path counts; of equally long ones exact before prefix before the others.
#[derive(Clone, Debug)]
pub(crate) struct Paths<T> {
    exact: HashMap<Box<str>, T>,
    /// Without the slash at the end, so that `/` is the empty text.
    prefixes: HashMap<Box<str>, T>,
    longest_prefix: usize,
    /// The longest first.
    others: Vec<(Other, T)>,
}

#[derive(Clone, Debug)]
enum Other {
    Start(Box<str>),
    /// The length is that of the path as its owner wrote it.
    Pattern(usize, Regex),
}

impl Other {
    fn len(&self) -> usize {
        match self {
            Self::Start(text) => text.len(),
            Self::Pattern(length, _) => *length,
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Start(text) => path.starts_with(&**text),
            Self::Pattern(_, pattern) => pattern.is_match(path),
        }
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefixes: HashMap::new(), longest_prefix: 0, others: Vec::new() }
    }
}

impl<T> Paths<T> {
    /// Adds a path, which must not be known already.
    pub(crate) fn add(&mut self, path: &str, kind: &PathKind, value: T) {
        let other = match kind {
            PathKind::Exact => return drop(self.exact.insert(path.into(), value)),
            PathKind::Prefix => {
                let prefix = trimmed(path);
                self.longest_prefix = self.longest_prefix.max(prefix.len());
                return drop(self.prefixes.insert(prefix.into(), value));
            }
            PathKind::Start => Other::Start(path.into()),
            PathKind::Pattern(pattern) => Other::Pattern(path.len(), pattern.clone()),
        };
        let at = self.others.partition_point(|(known, _)| known.len() >= other.len());
        self.others.insert(at, (other, value));
    }

    /// The value of the path that a request's path (see [`crate::normal`]) means.
    pub(crate) fn find(&self, path: &str) -> Option<&T> {
        if let Some(found) = self.exact.get(path) {
            return Some(found);
        }
        let prefix = self.prefix(path);
        let least = prefix.map_or(0, |(length, _)| length + 1);
        let longer = self.others.iter().take_while(|(other, _)| other.len() >= least);
        let other = longer.into_iter().find(|(other, _)| other.matches(path));
        other.map(|(_, value)| value).or(prefix.map(|(_, value)| value))
    }

    /// The longest prefix of whole segments, and its length.
    fn prefix(&self, path: &str) -> Option<(usize, &T)> {
        let mut rest = trimmed(path);
        loop {
            // Longer ones cannot be known; hashing them would let long paths cost much.
            if rest.len() <= self.longest_prefix
                && let Some(value) = self.prefixes.get(rest)
            {
                return Some((rest.len().max(1), value));
            }
            rest = &rest[..rest.rfind('/')?];
        }
    }
}

/// A path without slashes at its end.
pub(crate) fn trimmed(path: &str) -> &str {
    path.trim_end_matches('/')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn paths(rows: &[(&str, &str)]) -> Paths<String> {
        let mut paths = Paths::default();
        for (kind, path) in rows {
            let kind_of = match *kind {
                "exact" => PathKind::Exact,
                "prefix" => PathKind::Prefix,
                "start" => PathKind::Start,
                _ => PathKind::Pattern(Regex::new(&format!("(?i)^{path}")).unwrap()),
            };
            paths.add(path, &kind_of, format!("{kind} {path}"));
        }
        paths
    }

    #[test]
    fn upstreams_table_of_examples() {
        // Kubernetes' documentation of Ingress, "Examples" of path types: kind, paths, request, which path.
        let table: &[(&str, &[&str], &str, Option<&str>)] = &[
            ("prefix", &["/"], "/any", Some("/")),
            ("exact", &["/foo"], "/foo", Some("/foo")),
            ("exact", &["/foo"], "/bar", None),
            ("exact", &["/foo"], "/foo/", None),
            ("exact", &["/foo/"], "/foo", None),
            ("prefix", &["/foo"], "/foo/", Some("/foo")),
            ("prefix", &["/foo/"], "/foo", Some("/foo/")),
            ("prefix", &["/foo/"], "/foo/", Some("/foo/")),
            ("prefix", &["/aaa/bb"], "/aaa/bbb", None),
            ("prefix", &["/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
            ("prefix", &["/aaa/bbb/"], "/aaa/bbb", Some("/aaa/bbb/")),
            ("prefix", &["/aaa/bbb"], "/aaa/bbb/", Some("/aaa/bbb")),
            ("prefix", &["/aaa/bbb"], "/aaa/bbb/ccc", Some("/aaa/bbb")),
            ("prefix", &["/aaa/bbb"], "/aaa/bbbxyz", None),
            ("prefix", &["/", "/aaa"], "/aaa/ccc", Some("/aaa")),
            ("prefix", &["/", "/aaa", "/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
            ("prefix", &["/", "/aaa", "/aaa/bbb"], "/ccc", Some("/")),
            ("prefix", &["/aaa"], "/ccc", None),
            ("start", &["/aaa"], "/aaabbb", Some("/aaa")),
            ("pattern", &["/a.c(/|$)"], "/ABC/d", Some("/a.c(/|$)")),
        ];
        for (kind, known, request, expected) in table {
            let rows: Vec<(&str, &str)> = known.iter().map(|path| (*kind, *path)).collect();
            let expected = expected.map(|path| format!("{kind} {path}"));
            assert_eq!(paths(&rows).find(request), expected.as_ref(), "{kind} {known:?} {request}");
        }
    }

    #[test]
    fn the_longest_path_counts_then_the_strictest() {
        let rows = [
            ("prefix", "/foo"),
            ("exact", "/foo"),
            ("start", "/foo"),
            ("start", "/fo"),
            ("pattern", "/foo/(b|c)"),
            ("prefix", "/foo/b/longer/than"),
            ("start", "/foo/c/2"),
        ];
        let table = [
            ("/foo", "exact /foo"),
            ("/foo/", "prefix /foo"),
            ("/foo/x", "prefix /foo"),
            ("/foox", "start /foo"),
            ("/fox", "start /fo"),
            ("/foo/b", "pattern /foo/(b|c)"),
            ("/foo/c/2", "pattern /foo/(b|c)"),
            ("/foo/b/longer/than/that", "prefix /foo/b/longer/than"),
        ];
        let paths = paths(&rows);
        for (request, expected) in table {
            assert_eq!(paths.find(request).map(String::as_str), Some(expected), "{request}");
        }
        assert_eq!(paths.find("/x"), None);
    }
}
