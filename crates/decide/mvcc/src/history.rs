//! What keys were before they are what they are.
//!
//! It knows which row held a key at an older revision, not the row's bytes: those are in the log.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::{Revision, Span};

/// Names one row of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// The revision that wrote it.
    pub revision: Revision,
    /// The key it is about.
    pub key: Arc<str>,
}

/// Every version since the last compaction that is no longer the current one.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The past of each key, oldest first.
    spans: BTreeMap<Arc<str>, Vec<Term>>,
    /// Rows in the order in which compaction may drop them.
    droppable: VecDeque<Droppable>,
    bytes: u64,
}

/// A version was the key's state from `start` on and before `end`.
#[derive(Clone, Copy, Debug)]
struct Term {
    start: Revision,
    end: Revision,
}

#[derive(Debug)]
struct Droppable {
    /// From this revision on, nobody needs the row.
    from: Revision,
    row: Row,
    /// What it takes, see [`crate::Entry::size`].
    size: u32,
}

impl History {
    /// The version of `start` was replaced or deleted at `end`.
    pub(crate) fn supersede(&mut self, key: &Arc<str>, start: Revision, end: Revision, size: u64) {
        self.spans.entry(Arc::clone(key)).or_default().push(Term { start, end });
        self.may_drop(key, start, end, size);
    }

    /// The key was deleted at `at`. Its row says so until compaction passes it.
    pub(crate) fn bury(&mut self, key: &Arc<str>, at: Revision, size: u64) {
        self.may_drop(key, at, at, size);
    }

    fn may_drop(&mut self, key: &Arc<str>, revision: Revision, from: Revision, size: u64) {
        self.bytes += size;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.droppable.push_back(Droppable { from, row: Row { revision, key: Arc::clone(key) }, size });
    }

    /// What all rows take that compaction may drop some day.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The row that held the key at `at`, if that is not its current version, and the revision that replaced it.
    pub(crate) fn row_at(&self, key: &str, at: Revision) -> Option<(Row, Revision)> {
        let (key, spans) = self.spans.get_key_value(key)?;
        row_of(key, spans, at)
    }

    /// Those rows of the first `limit` such keys with `prefix` behind `after`.
    pub(crate) fn rows_at(
        &self,
        prefix: &str,
        after: Option<&str>,
        at: Revision,
        limit: usize,
    ) -> Vec<(Row, Revision)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.spans
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, spans)| row_of(key, spans, at))
            .take(limit)
            .collect()
    }

    /// Those rows of the keys of a span.
    pub(crate) fn rows_within(&self, span: &Span, at: Revision) -> Vec<(Row, Revision)> {
        self.spans
            .range::<str, _>((Bound::Included(span.start()), Bound::Unbounded))
            .take_while(|(key, _)| span.contains(key))
            .filter_map(|(key, spans)| row_of(key, spans, at))
            .collect()
    }

    /// Drops up to `limit` rows that nobody at `compacted` or later can ask for.
    pub(crate) fn drop_until(&mut self, compacted: Revision, limit: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        while rows.len() < limit && self.droppable.front().is_some_and(|next| next.from <= compacted) {
            if let Some(Droppable { row, size, .. }) = self.droppable.pop_front() {
                self.bytes -= u64::from(size).min(self.bytes);
                self.forget(&row);
                rows.push(row);
            }
        }
        rows
    }

    fn forget(&mut self, row: &Row) {
        let Some(spans) = self.spans.get_mut(&row.key) else { return };
        spans.retain(|span| span.start != row.revision);
        if spans.is_empty() {
            self.spans.remove(&row.key);
        }
    }
}

fn row_of(key: &Arc<str>, spans: &[Term], at: Revision) -> Option<(Row, Revision)> {
    let after = spans.partition_point(|span| span.start <= at);
    let span = spans[..after].last().filter(|span| at < span.end)?;
    Some((Row { revision: span.start, key: Arc::clone(key) }, span.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` is written at 2 and 4, deleted at 6, written at 8; `b` is written at 3 and 5.
    fn history() -> History {
        let (a, b) = ("a".into(), "b".into());
        let mut history = History::default();
        history.supersede(&a, Revision(2), Revision(4), 10);
        history.supersede(&b, Revision(3), Revision(5), 10);
        history.supersede(&a, Revision(4), Revision(6), 10);
        history.bury(&a, Revision(6), 10);
        history
    }

    fn row(key: &str, revision: i64) -> Row {
        Row { revision: Revision(revision), key: key.into() }
    }

    #[test]
    fn the_past_is_found_by_revision() {
        for (key, at, revision) in [
            ("a", 1, None),
            ("a", 2, Some(2)),
            ("a", 3, Some(2)),
            ("a", 4, Some(4)),
            ("a", 5, Some(4)),
            ("a", 6, None),
            ("a", 9, None),
            ("b", 4, Some(3)),
            ("b", 5, None),
            ("c", 5, None),
        ] {
            let expected = revision.map(|revision| row(key, revision));
            let found = history().row_at(key, Revision(at)).map(|(row, _)| row);
            assert_eq!(found, expected, "{key} at {at}");
        }
        let (a, b) = ((row("a", 4), Revision(6)), (row("b", 3), Revision(5)));
        assert_eq!(history().rows_at("", None, Revision(4), 9), [a.clone(), b.clone()]);
        assert_eq!(history().rows_at("", None, Revision(4), 1), [a]);
        assert_eq!(history().rows_at("", Some("a"), Revision(4), 9), [b]);
    }

    #[test]
    fn compaction_drops_what_it_passed() {
        let mut history = history();
        assert_eq!(history.bytes(), 40);
        assert_eq!(history.drop_until(Revision(4), 9), [row("a", 2)]);
        assert_eq!(history.bytes(), 30);
        assert_eq!(history.drop_until(Revision(6), 1), [row("b", 3)]);
        assert_eq!(history.row_at("a", Revision(5)), Some((row("a", 4), Revision(6))));
        assert_eq!(history.drop_until(Revision(6), 9), [row("a", 4), row("a", 6)]);
        assert!(history.spans.is_empty());
    }
}
