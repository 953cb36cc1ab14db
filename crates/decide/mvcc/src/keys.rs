//! The live keys in order, in leaves that readers can hold on to.
//!
//! A reader takes the leaves it needs (a few pointers) and walks them after the lock is gone;
//! a writer that meets a leaf in a reader's hands copies that leaf.

use std::ops::Range;
use std::sync::Arc;

use crate::{Entry, Span};

/// A leaf splits when it would grow beyond this.
const FULL: usize = 128;
/// A leaf below this joins its neighbour if both fit well.
const SPARSE: usize = FULL / 4;

/// Entries in key order.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    leaves: Vec<Leaf>,
}

#[derive(Debug)]
struct Leaf {
    /// Not above any key of this leaf, above every key of the leaf before.
    first: Arc<str>,
    entries: Arc<Vec<Arc<Entry>>>,
}

/// Where an entry stands: the leaf, and the place in it.
type Place = (usize, usize);

/// A run of entries of one leaf.
pub(crate) type Run = (Arc<Vec<Arc<Entry>>>, Range<usize>);

impl Keys {
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        let (leaf, found) = self.find(key)?;
        found.ok().map(|at| &self.leaves[leaf].entries[at])
    }

    /// Puts the entry in; returns the one it replaces.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let Some((leaf, found)) = self.find(&entry.key) else {
            let first = Arc::clone(&entry.key);
            self.leaves.push(Leaf { first, entries: Arc::new(vec![entry]) });
            return None;
        };
        match found {
            Ok(at) => {
                let entries = Arc::make_mut(&mut self.leaves[leaf].entries);
                Some(std::mem::replace(&mut entries[at], entry))
            }
            Err(at) => {
                self.add((leaf, at), entry);
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Arc<Entry>> {
        let (leaf, Ok(at)) = self.find(key)? else { return None };
        let entries = Arc::make_mut(&mut self.leaves[leaf].entries);
        let removed = entries.remove(at);
        if entries.is_empty() {
            self.leaves.remove(leaf);
        } else if entries.len() < SPARSE {
            self.join(leaf);
        }
        Some(removed)
    }

    /// How many keys start with `prefix` and stand behind `after`.
    pub(crate) fn count(&self, prefix: &str, after: Option<&str>) -> usize {
        let (start, end) = self.bounds(prefix, after);
        self.distance(start, end)
    }

    /// The first `limit` keys with `prefix` behind `after`, and how many more there are.
    pub(crate) fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<Run>, usize) {
        self.runs(self.bounds(prefix, after), limit)
    }

    /// The first `limit` keys of a span, and how many more there are.
    pub(crate) fn within(&self, span: &Span, limit: usize) -> (Vec<Run>, usize) {
        let start = self.seek(|key| key < span.start());
        let end = self.seek(|key| key < span.start() || span.contains(key));
        self.runs((start, end.max(start)), limit)
    }

    fn runs(&self, (mut start, end): (Place, Place), limit: usize) -> (Vec<Run>, usize) {
        let (mut runs, mut room) = (Vec::new(), limit);
        while start < end && room > 0 {
            let (leaf, from) = start;
            let entries = &self.leaves[leaf].entries;
            let stop = if leaf == end.0 { end.1 } else { entries.len() };
            let to = stop.min(from.saturating_add(room));
            runs.push((Arc::clone(entries), from..to));
            room -= to - from;
            start = if to == entries.len() { (leaf + 1, 0) } else { (leaf, to) };
        }
        (runs, self.distance(start, end))
    }

    fn bounds(&self, prefix: &str, after: Option<&str>) -> (Place, Place) {
        let start = self.seek(|key| key < prefix || after.is_some_and(|after| key <= after));
        let end = self.seek(|key| key < prefix || key.starts_with(prefix));
        (start, end.max(start))
    }

    /// The first place whose key is not `before`; `before` holds for a first part of all keys.
    fn seek(&self, before: impl Fn(&str) -> bool) -> Place {
        let leaf = self.leaves.partition_point(|leaf| before(&leaf.first)).saturating_sub(1);
        let Some(found) = self.leaves.get(leaf) else { return (0, 0) };
        let at = found.entries.partition_point(|entry| before(&entry.key));
        if at == found.entries.len() { (leaf + 1, 0) } else { (leaf, at) }
    }

    fn distance(&self, start: Place, end: Place) -> usize {
        if start >= end {
            return 0;
        }
        let whole: usize = self.leaves[start.0..end.0].iter().map(|leaf| leaf.entries.len()).sum();
        whole + end.1 - start.1
    }

    /// The leaf where the key belongs, and its place there: taken (`Ok`) or free (`Err`).
    fn find(&self, key: &str) -> Option<(usize, Result<usize, usize>)> {
        let leaf = self.leaves.partition_point(|leaf| &*leaf.first <= key).saturating_sub(1);
        let entries = &self.leaves.get(leaf)?.entries;
        Some((leaf, entries.binary_search_by(|entry| (*entry.key).cmp(key))))
    }

    fn add(&mut self, (leaf, at): Place, entry: Arc<Entry>) {
        let len = self.leaves[leaf].entries.len();
        if len < FULL {
            if at == 0 {
                self.leaves[leaf].first = Arc::clone(&entry.key);
            }
            Arc::make_mut(&mut self.leaves[leaf].entries).insert(at, entry);
        } else if at == len {
            // Keys that arrive in order fill leaves instead of halving each.
            let first = Arc::clone(&entry.key);
            self.leaves.insert(leaf + 1, Leaf { first, entries: Arc::new(vec![entry]) });
        } else {
            self.split(leaf);
            let half = self.leaves[leaf].entries.len();
            let place = if at <= half { (leaf, at) } else { (leaf + 1, at - half) };
            self.add(place, entry);
        }
    }

    fn split(&mut self, leaf: usize) {
        let entries = Arc::make_mut(&mut self.leaves[leaf].entries);
        let upper = entries.split_off(entries.len() / 2);
        let first = Arc::clone(&upper[0].key);
        self.leaves.insert(leaf + 1, Leaf { first, entries: Arc::new(upper) });
    }

    fn join(&mut self, leaf: usize) {
        let (lower, upper) =
            if leaf + 1 < self.leaves.len() { (leaf, leaf + 1) } else { (leaf.saturating_sub(1), leaf) };
        let both = self.leaves[lower].entries.len() + self.leaves[upper].entries.len();
        if lower == upper || both > FULL - SPARSE {
            return;
        }
        let upper = self.leaves.remove(upper);
        Arc::make_mut(&mut self.leaves[lower].entries).extend(upper.entries.iter().cloned());
    }
}

/// All entries of the runs, in order.
pub(crate) fn walk(runs: &[Run]) -> impl Iterator<Item = &Arc<Entry>> {
    runs.iter().flat_map(|(entries, range)| &entries[range.clone()])
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::Revision;

    fn entry(key: &str) -> Arc<Entry> {
        Arc::new(Entry {
            key: key.into(),
            value: bytes::Bytes::new(),
            create: Revision(1),
            modified: Revision(1),
            version: 1,
            expires: None,
            lease: 0,
            memo: OnceLock::new(),
        })
    }

    fn names(runs: &[Run]) -> Vec<&str> {
        walk(runs).map(|entry| &*entry.key).collect()
    }

    #[test]
    fn a_prefix_is_paged_in_order() {
        let mut keys = Keys::default();
        for key in ["/b/1", "/a/2", "/a/1", "/a", "/ab/1", "/a/3"] {
            assert!(keys.insert(entry(key)).is_none());
        }
        for (prefix, after, limit, page, remaining) in [
            ("/a/", None, 10, vec!["/a/1", "/a/2", "/a/3"], 0),
            ("/a/", None, 2, vec!["/a/1", "/a/2"], 1),
            ("/a/", Some("/a/1"), 1, vec!["/a/2"], 1),
            ("/a/", Some("/a/3"), 1, vec![], 0),
            ("/a/", Some("/z"), 1, vec![], 0),
            ("/c/", None, 1, vec![], 0),
            ("", None, 1, vec!["/a"], 5),
        ] {
            let (runs, left) = keys.page(prefix, after, limit);
            assert_eq!((names(&runs), left), (page, remaining), "{prefix} behind {after:?}");
        }
        assert_eq!(Keys::default().count("", None), 0);
    }

    #[test]
    fn leaves_split_and_join_without_losing_a_key() {
        let mut keys = Keys::default();
        let mut expected = std::collections::BTreeSet::new();
        for step in 0..20_000_u32 {
            // A fixed scramble: neither in order nor repeating soon.
            let key = format!("/k/{:05}", step.wrapping_mul(2_654_435_761) % 3_000);
            if step % 3 == 2 {
                assert_eq!(keys.remove(&key).is_some(), expected.remove(&key));
            } else {
                assert_eq!(keys.insert(entry(&key)).is_none(), expected.insert(key));
            }
        }
        let (runs, _) = keys.page("/k/", None, usize::MAX);
        assert!(names(&runs).into_iter().eq(expected.iter().map(String::as_str)));
        assert_eq!(keys.count("", None), expected.len());
        for key in &expected {
            assert!(keys.remove(key).is_some());
        }
        assert!(keys.leaves.is_empty());
    }

    #[test]
    fn a_reader_keeps_what_it_took() {
        let mut keys = Keys::default();
        keys.insert(entry("a"));
        let (runs, _) = keys.page("", None, 10);
        keys.remove("a");
        keys.insert(entry("b"));
        assert_eq!(names(&runs), ["a"]);
    }
}
