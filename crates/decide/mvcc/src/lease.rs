//! Leases: what keys may hang on, so that they go when nobody renews it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The shortest time to live, in seconds: that of an etcd with its usual timing.
pub(crate) const SHORTEST: i64 = 2;
/// What a lease takes beside its keys, in bytes.
const SIZE: u64 = 48;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its number; never 0.
    pub id: i64,
    /// For how many seconds it lives after it was granted or renewed.
    pub ttl: i64,
    /// When it ends unless it is renewed: milliseconds since the Unix epoch.
    pub deadline: u64,
    /// What hangs on it.
    pub keys: BTreeSet<Arc<str>>,
}

impl Lease {
    /// One that is granted now; too short a time is made longer.
    #[must_use]
    pub fn new(id: i64, ttl: i64, now: u64) -> Self {
        let ttl = ttl.max(SHORTEST);
        Self { id, ttl, deadline: deadline(ttl, now), keys: BTreeSet::new() }
    }

    /// How many whole seconds are left; below 0 when it is over and nobody has ended it yet.
    #[must_use]
    pub fn remaining(&self, now: u64) -> i64 {
        match self.deadline.checked_sub(now) {
            Some(left) => i64::try_from(left / 1000).unwrap_or(i64::MAX),
            None => -1,
        }
    }
}

fn deadline(ttl: i64, now: u64) -> u64 {
    now.saturating_add(ttl.unsigned_abs().saturating_mul(1000))
}

/// All leases.
#[derive(Debug, Default)]
pub struct Leases {
    leases: BTreeMap<i64, Lease>,
    due: BTreeSet<(u64, i64)>,
    tally: LeaseTally,
}

/// How many leases came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTally {
    /// Were made.
    pub granted: u64,
    /// Ended, by somebody or by the clock.
    pub revoked: u64,
    /// Were told to live on.
    pub renewed: u64,
}

impl Leases {
    /// The lease of this number.
    #[must_use]
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// How many came and went since they were read.
    #[must_use]
    pub fn tally(&self) -> LeaseTally {
        self.tally
    }

    /// These are here already.
    pub(crate) fn adopt(&mut self, leases: impl IntoIterator<Item = Lease>) {
        leases.into_iter().for_each(|lease| self.put(lease.id, Some(lease)));
        self.tally = LeaseTally::default();
    }

    /// What they take beside their keys, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.leases.len() as u64 * SIZE
    }

    /// When the next one ends.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.due.first().map(|(deadline, _)| *deadline)
    }

    /// Those whose time is over by then, in the order in which it is.
    #[must_use]
    pub fn due(&self, now: u64, limit: usize) -> Vec<i64> {
        self.due.iter().take_while(|(deadline, _)| *deadline <= now).take(limit).map(|(_, id)| *id).collect()
    }

    /// Lets it live its whole time from now on. Its time to live, if there is such a lease and its time is not over.
    pub fn renew(&mut self, id: i64, now: u64) -> Option<i64> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.deadline > now)?;
        self.due.remove(&(lease.deadline, id));
        lease.deadline = deadline(lease.ttl, now);
        self.due.insert((lease.deadline, id));
        self.tally.renewed += 1;
        Some(lease.ttl)
    }

    pub(crate) fn put(&mut self, id: i64, lease: Option<Lease>) {
        if let Some(before) = self.leases.remove(&id) {
            self.due.remove(&(before.deadline, id));
            self.tally.revoked += u64::from(lease.is_none());
        }
        if let Some(lease) = lease {
            self.tally.granted += 1;
            self.due.insert((lease.deadline, id));
            self.leases.insert(id, lease);
        }
    }

    pub(crate) fn attach(&mut self, id: i64, key: &Arc<str>) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(Arc::clone(key));
        }
    }

    pub(crate) fn detach(&mut self, id: i64, key: &str) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_end_unless_they_are_renewed() {
        let mut leases = Leases::default();
        for (id, ttl) in [(7, 10), (8, 1), (9, 20)] {
            leases.put(id, Some(Lease::new(id, ttl, 1000)));
        }
        assert_eq!((leases.next(), leases.due(11_000, 9)), (Some(3000), vec![8, 7]));
        assert_eq!(
            (leases.renew(7, 5000), leases.renew(8, 5000), leases.renew(1, 0)),
            (Some(10), None, None)
        );
        assert_eq!(leases.due(11_000, 9), [8]);
        leases.put(8, None);
        leases.put(8, None);
        assert_eq!(leases.tally(), LeaseTally { granted: 3, revoked: 1, renewed: 1 });
        assert_eq!(leases.next(), Some(15_000));
        let left: Vec<_> =
            [0, 14_001, 15_000, 15_001].map(|now| leases.get(7).map(|lease| lease.remaining(now))).into();
        assert_eq!(left, [Some(15), Some(0), Some(0), Some(-1)]);
    }
}
