//! Keys that belong together.

use std::sync::Arc;

/// A part of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// Those that start with this.
    Prefix(Arc<str>),
    /// Those from `start` on and before `end`, or to the last one.
    Range {
        /// The first that may be in it.
        start: Arc<str>,
        /// The first that is not.
        end: Option<Arc<str>>,
    },
}

impl Span {
    /// One key.
    #[must_use]
    pub fn key(key: &str) -> Self {
        Self::Range { start: key.into(), end: Some(format!("{key}\0").into()) }
    }

    /// From `start` on and before `end`; a prefix where it is one, because those who watch it are found sooner.
    #[must_use]
    pub fn between(start: &str, end: Option<&str>) -> Self {
        match end {
            Some(end) if follows(start, end) => Self::Prefix(start.into()),
            _ => Self::Range { start: start.into(), end: end.map(Arc::from) },
        }
    }

    /// The key, when it can hold that alone.
    #[must_use]
    pub fn single(&self) -> Option<&str> {
        match self {
            Self::Range { start, end: Some(end) } if end.strip_prefix(&**start) == Some("\0") => Some(start),
            _ => None,
        }
    }

    /// Whether a key is in it.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        match self {
            Self::Prefix(prefix) => key.starts_with(&**prefix),
            Self::Range { start, end } => &**start <= key && end.as_ref().is_none_or(|end| key < &**end),
        }
    }

    /// What all keys in it start with.
    #[must_use]
    pub fn root(&self) -> &str {
        match self {
            Self::Prefix(prefix) => prefix,
            Self::Range { start, end: Some(end) } => common(start, end),
            Self::Range { end: None, .. } => "",
        }
    }

    /// No key in it is less.
    pub(crate) fn start(&self) -> &str {
        match self {
            Self::Prefix(start) | Self::Range { start, .. } => start,
        }
    }
}

/// Whether `end` is the first key behind all that start with `prefix`.
fn follows(prefix: &str, end: &str) -> bool {
    let (mut one, mut other) = (prefix.chars().rev(), end.chars().rev());
    match (one.next(), other.next()) {
        (Some(last), Some(next)) => u32::from(last) + 1 == u32::from(next) && one.eq(other),
        _ => false,
    }
}

fn common<'a>(one: &'a str, other: &str) -> &'a str {
    let differ = one.char_indices().zip(other.chars()).find(|((_, one), other)| one != other);
    &one[..differ.map_or(one.len().min(other.len()), |((at, _), _)| at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_hold_what_they_say() {
        let all = ["", "a", "a\0", "a/", "a/b", "a0", "ab", "b"];
        for (span, held, root) in [
            (Span::key("a"), vec!["a"], "a"),
            (Span::between("a/", Some("a0")), vec!["a/", "a/b"], "a/"),
            (Span::between("a/", Some("a/")), vec![], "a/"),
            (Span::between("a/b", Some("a")), vec![], "a"),
            (Span::between("a", Some("b")), vec!["a", "a\0", "a/", "a/b", "a0", "ab"], "a"),
            (Span::between("a/", Some("ab")), vec!["a/", "a/b", "a0"], "a"),
            (Span::between("a0", None), vec!["a0", "ab", "b"], ""),
            (Span::Prefix("a".into()), vec!["a", "a\0", "a/", "a/b", "a0", "ab"], "a"),
        ] {
            let found: Vec<_> = all.into_iter().filter(|key| span.contains(key)).collect();
            assert_eq!((found, span.root()), (held, root), "{span:?}");
        }
        assert_eq!(Span::between("a/", Some("a0")), Span::Prefix("a/".into()));
    }
}
