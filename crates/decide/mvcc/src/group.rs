//! The order of concurrent writers.
//!
//! A group of transactions is ordered as it arrived. Each precondition sees the transactions
//! before it in the same group, so that one sync of the disk can serve all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use crate::{Change, Entry, Event, EventKind, Expect, Lease, Memo, Mvcc, Revision, Step, Value};

/// What becomes of one transaction: the committed version of each step, or the refusal.
pub type Outcome = Result<Vec<Arc<Entry>>, Refusal>;

/// A precondition did not hold. Nothing of the transaction happened.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Which step, counted from zero.
    pub step: usize,
    /// What the key was instead.
    pub current: Option<Arc<Entry>>,
}

/// A group in order, not yet visible.
#[derive(Debug, Default)]
pub struct Group {
    /// One for each transaction.
    pub outcomes: Vec<Outcome>,
    /// All changes of the group, in revision order.
    pub events: Vec<Arc<Event>>,
}

/// Orders transactions behind everything applied to `state`. Each change gets a revision of its own.
/// `now` is in milliseconds since the Unix epoch.
pub fn sequence<'a>(state: &Mvcc, transactions: impl IntoIterator<Item = &'a [Step]>, now: u64) -> Group {
    let mut draft = Draft::new(state, now);
    let outcomes = transactions.into_iter().map(|steps| draft.attempt(steps)).collect();
    Group { outcomes, events: draft.events }
}

/// The state as it will be after the group so far.
#[derive(Debug)]
pub struct Draft<'a> {
    pub(crate) state: &'a Mvcc,
    pub(crate) now: u64,
    pending: HashMap<Arc<str>, Option<Arc<Entry>>>,
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) leases: BTreeMap<i64, Option<Lease>>,
}

/// What a group changes, in order.
#[derive(Debug, Default)]
pub struct Changes {
    /// All events, in revision order.
    pub events: Vec<Arc<Event>>,
    /// The leases that come or go, as they are behind the group.
    pub leases: BTreeMap<i64, Option<Lease>>,
}

impl<'a> Draft<'a> {
    /// Behind everything applied to `state`; `now` is in milliseconds since the Unix epoch.
    #[must_use]
    pub fn new(state: &'a Mvcc, now: u64) -> Self {
        Self { state, now, pending: HashMap::new(), events: Vec::new(), leases: BTreeMap::new() }
    }

    /// What the group changes.
    #[must_use]
    pub fn finish(self) -> Changes {
        Changes { events: self.events, leases: self.leases }
    }

    /// The revision of the last change.
    pub(crate) fn revision(&self) -> Revision {
        self.events.last().map_or(self.state.revision(), |last| last.revision())
    }
}

impl Draft<'_> {
    /// All steps, each at a revision of its own, or none.
    ///
    /// # Errors
    /// When the precondition of one does not hold.
    pub fn attempt(&mut self, steps: &[Step]) -> Outcome {
        let mark = self.events.len();
        for (number, step) in steps.iter().enumerate() {
            let current = self.current(&step.key);
            if !allowed(step, current.as_deref()) {
                self.undo(mark);
                return Err(Refusal { step: number, current });
            }
            let event = self.event(step, current);
            self.push(event);
        }
        Ok(self.events[mark..].iter().map(|event| Arc::clone(&event.entry)).collect())
    }

    pub(crate) fn push(&mut self, event: Event) {
        let after = (event.kind == EventKind::Put).then(|| Arc::clone(&event.entry));
        self.pending.insert(Arc::clone(&event.entry.key), after);
        self.events.push(Arc::new(event));
    }

    pub(crate) fn current(&self, key: &str) -> Option<Arc<Entry>> {
        match self.pending.get(key) {
            Some(pending) => pending.clone(),
            None => self.state.get(key),
        }
    }

    pub(crate) fn undo(&mut self, mark: usize) {
        for event in self.events.drain(mark..).rev() {
            self.pending.insert(Arc::clone(&event.entry.key), event.previous.clone());
        }
    }

    fn event(&self, step: &Step, previous: Option<Arc<Entry>>) -> Event {
        let modified = self.revision().next();
        let (kind, value) = match &step.change {
            Change::Put(value) => (EventKind::Put, value),
            Change::Delete(value) => (EventKind::Delete, value),
        };
        let entry = Entry {
            key: previous.as_ref().map_or_else(|| Arc::clone(&step.key), |entry| Arc::clone(&entry.key)),
            value: value.at(modified),
            create: previous.as_ref().map_or(modified, |entry| entry.create),
            modified,
            version: version(kind, previous.as_deref()),
            expires: self.expires(kind, value),
            lease: 0,
            memo: OnceLock::new(),
        };
        Event { kind, entry: Arc::new(entry), previous, sub: 0, last: true, memo: Memo::default() }
    }

    fn expires(&self, kind: EventKind, value: &Value) -> Option<u64> {
        let ttl = value.ttl.filter(|_| kind == EventKind::Put)?;
        Some(self.now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)))
    }
}

fn allowed(step: &Step, current: Option<&Entry>) -> bool {
    let expected = match step.expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Revision(revision) => current.is_some_and(|entry| entry.modified == revision),
    };
    expected && (current.is_some() || matches!(step.change, Change::Put(_)))
}

pub(crate) fn version(kind: EventKind, previous: Option<&Entry>) -> u64 {
    match kind {
        EventKind::Put => previous.map_or(0, |entry| entry.version) + 1,
        EventKind::Delete => 0,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Limits, Revision};

    fn put(key: &str, expect: Expect, text: &'static str) -> Vec<Step> {
        vec![Step { key: key.into(), expect, change: Change::Put(Value::plain(text)) }]
    }

    fn delete(key: &str, expect: Expect) -> Vec<Step> {
        vec![Step { key: key.into(), expect, change: Change::Delete(Value::spliced("gone at ", "")) }]
    }

    fn order(state: &Mvcc, transactions: &[Vec<Step>]) -> Group {
        sequence(state, transactions.iter().map(Vec::as_slice), 1000)
    }

    #[test]
    fn writers_of_one_group_see_each_other() {
        let transactions = [
            put("a", Expect::Absent, "one"),
            put("a", Expect::Absent, "two"),
            put("a", Expect::Revision(Revision(2)), "three"),
            put("a", Expect::Revision(Revision(2)), "four"),
            delete("a", Expect::Any),
            delete("a", Expect::Any),
            put("a", Expect::Absent, "five"),
        ];
        let group = order(&Mvcc::new(Limits::default()), &transactions);
        let told: Vec<_> = group
            .outcomes
            .iter()
            .map(|outcome| match outcome {
                Ok(entries) => Ok(entries[0].modified.0),
                Err(refusal) => Err(refusal.current.as_ref().map(|entry| entry.modified.0)),
            })
            .collect();
        assert_eq!(told, [Ok(2), Err(Some(2)), Ok(3), Err(Some(3)), Ok(4), Err(None), Ok(5)]);
        let seen: Vec<_> =
            group.events.iter().map(|event| (&*event.entry.value, event.entry.version)).collect();
        assert_eq!(seen, [(&b"one"[..], 1), (b"three", 2), (b"gone at 4", 0), (b"five", 1)]);
        assert_eq!(group.events[2].entry.create, Revision(2));
        assert_eq!(group.events[3].entry.create, Revision(5));
    }

    #[test]
    fn a_transaction_happens_whole_or_not_at_all() {
        let mut whole = put("a", Expect::Absent, "1");
        whole.extend(put("b", Expect::Absent, "1"));
        let mut broken = put("a", Expect::Any, "2");
        broken.extend(put("a", Expect::Any, "3"));
        broken.extend(put("c", Expect::Any, "2"));
        broken.extend(put("b", Expect::Absent, "2"));
        let group = order(
            &Mvcc::new(Limits::default()),
            &[whole, broken, put("a", Expect::Any, "4"), put("c", Expect::Absent, "4")],
        );
        let refusal = group.outcomes[1].as_ref().unwrap_err();
        assert_eq!(
            (refusal.step, refusal.current.as_ref().map(|entry| entry.modified)),
            (3, Some(Revision(3)))
        );
        let events: Vec<_> = group
            .events
            .iter()
            .map(|event| (&*event.entry.key, event.revision().0, event.entry.version))
            .collect();
        assert_eq!(events, [("a", 2, 1), ("b", 3, 1), ("a", 4, 2), ("c", 5, 1)]);
    }

    #[test]
    fn a_lifetime_starts_with_the_commit() {
        let ttl = Some(std::time::Duration::from_secs(2));
        let step = Step {
            key: "e".into(),
            expect: Expect::Any,
            change: Change::Put(Value::plain("x").with_ttl(ttl)),
        };
        let group = order(&Mvcc::new(Limits::default()), &[vec![step]]);
        assert_eq!(group.events[0].entry.expires, Some(3000));
    }
}
