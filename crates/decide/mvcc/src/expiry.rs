//! Which keys delete themselves, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::{Entry, Revision};

/// Keys with a lifetime, soonest first.
///
/// An entry that was replaced meanwhile stays in here until its old deadline; the deletion is
/// conditional on the revision and fails harmlessly then.
#[derive(Debug, Default)]
pub struct Expiry {
    deadlines: BinaryHeap<Reverse<(u64, Revision, Arc<str>)>>,
}

impl Expiry {
    /// Remembers the entry's deadline, if it has one. True: it is now the soonest of all.
    pub fn add(&mut self, entry: &Entry) -> bool {
        let Some(deadline) = entry.expires else { return false };
        let soonest = self.next().is_none_or(|next| deadline < next);
        self.deadlines.push(Reverse((deadline, entry.modified, Arc::clone(&entry.key))));
        soonest
    }

    /// The soonest deadline: milliseconds since the Unix epoch.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.deadlines.peek().map(|Reverse((deadline, ..))| *deadline)
    }

    /// The keys that still are what they were when they were added, oldest version first. The others are forgotten.
    pub fn oldest(&mut self, current: impl Fn(&str, Revision) -> bool) -> Vec<(Arc<str>, Revision)> {
        self.deadlines.retain(|Reverse((_, revision, key))| current(key, *revision));
        let all = self.deadlines.iter();
        let mut all: Vec<_> = all.map(|Reverse((_, revision, key))| (Arc::clone(key), *revision)).collect();
        all.sort_unstable_by_key(|(_, revision)| *revision);
        all
    }

    /// Takes out up to `limit` keys that are due, each with the revision that set the deadline.
    pub fn due(&mut self, now: u64, limit: usize) -> Vec<(Arc<str>, Revision)> {
        let mut due = Vec::new();
        while due.len() < limit && self.next().is_some_and(|deadline| deadline <= now) {
            if let Some(Reverse((_, revision, key))) = self.deadlines.pop() {
                due.push((key, revision));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    fn entry(key: &str, revision: i64, expires: Option<u64>) -> Entry {
        Entry {
            key: key.into(),
            value: bytes::Bytes::new(),
            create: Revision(revision),
            modified: Revision(revision),
            version: 1,
            expires,
            lease: 0,
            memo: OnceLock::new(),
        }
    }

    #[test]
    fn keys_come_due_in_order() {
        let mut expiry = Expiry::default();
        assert!(!expiry.add(&entry("forever", 2, None)));
        assert!(expiry.add(&entry("b", 3, Some(200))));
        assert!(expiry.add(&entry("a", 4, Some(100))));
        assert!(!expiry.add(&entry("c", 5, Some(300))));
        assert!(!expiry.add(&entry("gone", 6, Some(250))));
        let oldest = expiry.oldest(|key, _| key != "gone");
        assert_eq!(oldest, [("b".into(), Revision(3)), ("a".into(), Revision(4)), ("c".into(), Revision(5))]);
        assert_eq!(expiry.due(99, 10), []);
        assert_eq!(expiry.due(200, 1), [("a".into(), Revision(4))]);
        assert_eq!(expiry.due(200, 10), [("b".into(), Revision(3))]);
        assert_eq!(expiry.next(), Some(300));
    }
}
