//! A key's state at a revision, and the event that made it so.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::Revision;

/// One version of a key. Index, watchers and readers share it.
#[derive(Debug)]
pub struct Entry {
    /// The full key.
    pub key: Arc<str>,
    /// The committed bytes, revision included when the value was spliced.
    pub value: Bytes,
    /// The revision at which the key came into being.
    pub create: Revision,
    /// The revision of this version.
    pub modified: Revision,
    /// How many times the key was written since it came into being; 0 for a deletion's final state.
    pub version: u64,
    /// When the key deletes itself: milliseconds since the Unix epoch.
    pub expires: Option<u64>,
    /// The lease it hangs on; 0: none.
    pub lease: i64,
    /// Something that the reader derived from the value once (say, the decoded object).
    pub memo: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Entry {
    /// Whether it may delete itself: its own time ends, or that of a lease.
    #[must_use]
    pub fn mortal(&self) -> bool {
        self.expires.is_some() || self.lease != 0
    }

    /// What its row takes: key, value, and what is noted about them.
    #[must_use]
    pub fn size(&self) -> u64 {
        const NOTED: usize = 48;
        (self.key.len() + self.value.len() + NOTED) as u64
    }

    /// What `derive` makes of the value, computed at most once per entry.
    ///
    /// Readers that ask one entry for different types get a fresh value each time, except
    /// the first of them.
    pub fn derived<T: Any + Send + Sync>(&self, derive: impl FnOnce(&Bytes) -> T) -> Arc<T> {
        if let Some(memo) = self.memo.get() {
            return match Arc::clone(memo).downcast() {
                Ok(known) => known,
                Err(_) => Arc::new(derive(&self.value)),
            };
        }
        let made = Arc::new(derive(&self.value));
        // A concurrent reader may have been first; both values are equal then.
        let _ = self.memo.set(Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
        made
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or updated.
    Put,
    /// It was deleted or expired.
    Delete,
}

/// A change as watchers see it. One allocation serves all of them.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new version; for a deletion the final state with the deletion's revision.
    pub entry: Arc<Entry>,
    /// The version before, if there was one and it is still known.
    pub previous: Option<Arc<Entry>>,
    /// Its place among the events of its revision, from 0 on.
    pub sub: u32,
    /// Whether it is the last event of its revision.
    pub last: bool,
    /// Something that watchers make of the event once and share.
    pub memo: Memo,
}

/// A value of any type, made by whoever needs it first.
#[derive(Debug, Default)]
pub struct Memo(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Memo {
    /// The value, made at most once; `None` when one of another type is there already.
    pub fn get_or<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        let made = self.0.get_or_init(|| Arc::new(make()));
        Arc::clone(made).downcast().ok()
    }
}

impl Event {
    /// The revision at which it happened.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.entry.modified
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_keeps_its_first_value() {
        let memo = Memo::default();
        assert_eq!(memo.get_or(|| 1).as_deref(), Some(&1));
        assert_eq!(memo.get_or(|| 2).as_deref(), Some(&1));
        assert_eq!(memo.get_or(|| "other type"), None);
    }

    #[test]
    fn a_memo_is_derived_once() {
        let entry = Entry {
            key: "a".into(),
            value: Bytes::from_static(b"12"),
            create: Revision(2),
            modified: Revision(2),
            version: 1,
            expires: None,
            lease: 0,
            memo: OnceLock::new(),
        };
        let first = entry.derived(Bytes::len);
        let again = entry.derived::<usize>(|_| unreachable!("derived before"));
        assert_eq!((*first, *again), (2, 2));
        assert_eq!(*entry.derived(|value| value[0]), b'1');
    }
}
