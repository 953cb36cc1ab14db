//! A store so simple that it is right: every change in a list.

use std::collections::BTreeMap;

use plimsoll_store::{
    Change, EventKind, Expect, Operation, Put, Revision, Span, Store, StoreError, Txn, Value, WatchItem,
};

use crate::Dice;

/// Numbers of leases.
const LEASES: usize = 6;

/// Everything that was ever written, in order.
#[derive(Default)]
pub(crate) struct Reference {
    changes: Vec<Written>,
    writes: usize,
}

struct Written {
    revision: i64,
    lease: i64,
    key: String,
    kind: EventKind,
    value: String,
}

/// What the store is after some operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mark {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// Which leases there are, a bit each.
    pub(crate) leases: u8,
}

impl Mark {
    /// What clients wrote.
    pub(crate) fn state(&self) -> (i64, u8) {
        (self.revision, self.leases)
    }
}

/// Key, create revision, revision, version, value, lease.
type Row = (String, i64, i64, u64, String, i64);

impl Reference {
    pub(crate) fn start() -> Mark {
        Mark { revision: 1, compacted: 1, leases: 0 }
    }

    /// Does something to the store, holds its answer against what is right, and says where that leads.
    pub(crate) async fn step(&mut self, store: &Store, from: Mark, dice: &mut Dice) -> Mark {
        if dice.below(12) == 0 && from.revision > from.compacted {
            let reach = (from.revision - from.compacted) as usize;
            let compacted = from.revision - dice.below(reach.min(24)) as i64;
            if compacted > from.compacted {
                store.compact(Revision(compacted)).await.unwrap();
                return Mark { compacted, ..from };
            }
        }
        match dice.below(4) {
            0 => return self.transact(store, from, dice).await,
            1 if dice.below(2) == 0 => return self.lease(store, from, dice).await,
            _ => {}
        }
        let steps = (0..[1, 1, 1, 2, 5][dice.below(5)]).map(|_| self.change(from, dice)).collect::<Vec<_>>();
        match (self.apply(from, &steps), store.commit_many(steps).await) {
            (None, Ok(entries)) => {
                let last = entries.last().unwrap().modified.0;
                assert_eq!(last, self.revision());
                Mark { revision: last, ..from }
            }
            (Some(wrong), Err(StoreError::PreconditionAt { step, .. })) => {
                assert_eq!(step, wrong);
                from
            }
            (expected, other) => panic!("refused at {expected:?}, and the store said {other:?}"),
        }
    }

    /// Several operations at one revision.
    async fn transact(&mut self, store: &Store, from: Mark, dice: &mut Dice) -> Mark {
        let mut state = self.at(from.revision);
        let revision = from.revision + 1;
        let mut success = Vec::new();
        let mut keys: Vec<_> = (0..10).map(|number| format!("/{}/{}", number % 2, number / 2)).collect();
        for _ in 0..1 + dice.below(4) {
            let key = keys.swap_remove(dice.below(keys.len()));
            let lease = dice.below(LEASES + 3) as i64 - 3;
            let lease = if lease > 0 && from.leases >> lease & 1 == 1 { lease } else { 0 };
            if dice.below(4) == 0 {
                success.push(Operation::Delete(Span::key(&key)));
                if let Some(row) = state.remove(&key) {
                    let kind = EventKind::Delete;
                    self.changes.push(Written { revision, lease: 0, key, kind, value: row.4 });
                }
                continue;
            }
            self.writes += 1;
            let length = [3, 40, 700, 9000][dice.below(4)];
            let value = format!("{} {}", self.writes, dice.noise(length));
            let bytes = Some(value.clone().into());
            success.push(Operation::Put(Put { key: key.as_str().into(), value: bytes, lease: Some(lease) }));
            self.changes.push(Written { revision, lease, key, kind: EventKind::Put, value });
        }
        let (after, _) = store.transact(Txn { success, ..Txn::default() }).await.unwrap();
        assert_eq!(after.0, self.revision());
        Mark { revision: after.0, ..from }
    }

    /// Grants a lease that is not there, or revokes one that is, with what hangs on it.
    async fn lease(&mut self, store: &Store, from: Mark, dice: &mut Dice) -> Mark {
        let id = 1 + dice.below(LEASES) as i64;
        let leases = from.leases ^ 1 << id;
        if from.leases >> id & 1 == 0 {
            store.grant(id, 1000 + id).await.unwrap();
            return Mark { leases, ..from };
        }
        let revision = from.revision + 1;
        for (key, row) in self.at(from.revision) {
            if row.5 == id {
                let kind = EventKind::Delete;
                self.changes.push(Written { revision, lease: 0, key, kind, value: row.4 });
            }
        }
        assert_eq!(store.revoke(id).await.unwrap().0, self.revision());
        Mark { revision: self.revision(), leases, ..from }
    }

    fn revision(&self) -> i64 {
        self.changes.last().map_or(1, |change| change.revision)
    }

    fn change(&mut self, from: Mark, dice: &mut Dice) -> (String, Expect, Change) {
        let key = format!("/{}/{}", dice.below(2), dice.below(5));
        let current = self.at(from.revision).remove(&key).map(|row| row.2);
        let expect = match (dice.below(8), current) {
            (0, Some(revision)) => Expect::Revision(Revision(revision)),
            (1, None) => Expect::Absent,
            (2, _) => Expect::Revision(Revision(1)),
            _ => Expect::Any,
        };
        self.writes += 1;
        let length = [3, 40, 700, 9000][dice.below(4)];
        let value = Value::spliced(format!("{} ", self.writes), format!(" {}", dice.noise(length)));
        match dice.below(5) {
            0 => (key, expect, Change::Delete(value)),
            _ => (key, expect, Change::Put(value)),
        }
    }

    /// Notes the changes, unless one of them is refused: then its number.
    fn apply(&mut self, from: Mark, steps: &[(String, Expect, Change)]) -> Option<usize> {
        let before = self.changes.len();
        for (number, (key, expect, change)) in steps.iter().enumerate() {
            let current = self.at(from.revision + number as i64).remove(key).map(|row| row.2);
            let holds = match expect {
                Expect::Any => true,
                Expect::Absent => current.is_none(),
                Expect::Revision(revision) => current == Some(revision.0),
            };
            let (kind, value) = match change {
                Change::Put(value) => (EventKind::Put, value),
                Change::Delete(value) => (EventKind::Delete, value),
            };
            if !holds || (kind == EventKind::Delete && current.is_none()) {
                self.changes.truncate(before);
                return Some(number);
            }
            let plimsoll_store::Body::Spliced { head, tail } = &value.body else { unreachable!() };
            let text = |bytes| String::from_utf8(Vec::from(bytes)).unwrap();
            let value = format!("{}{}{}", text(head.clone()), self.revision() + 1, text(tail.clone()));
            let revision = self.revision() + 1;
            self.changes.push(Written { revision, lease: 0, key: key.clone(), kind, value });
        }
        None
    }

    fn at(&self, revision: i64) -> BTreeMap<String, Row> {
        let mut state = BTreeMap::new();
        for change in self.changes.iter().take_while(|change| change.revision <= revision) {
            let at = change.revision;
            let before: Option<Row> = state.remove(&change.key);
            if change.kind == EventKind::Put {
                let (create, version) = before.map_or((at, 1), |row| (row.1, row.3 + 1));
                let row = (change.key.clone(), create, at, version, change.value.clone(), change.lease);
                state.insert(change.key.clone(), row);
            }
        }
        state
    }

    /// Holds a store that was opened again against what was acknowledged, and what may have been on its way.
    pub(crate) async fn check(&self, store: &Store, acknowledged: Mark, next: Mark, dice: &mut Dice) -> Mark {
        let leases = store.leases().iter().fold(0, |leases, id| leases | 1_u8 << id);
        let found = Mark { revision: store.revision().0, compacted: store.compacted().0, leases };
        let right = [acknowledged, next];
        assert!(right.iter().any(|mark| mark.state() == found.state()), "{found:?} of {right:?}");
        assert!(right.iter().any(|mark| mark.compacted == found.compacted), "{found:?} of {right:?}");
        let past = found.revision - dice.below((found.revision - found.compacted + 1) as usize) as i64;
        for (at, read) in [(found.revision, None), (past, Some(Revision(past)))] {
            let page = store.range("", None, 0, read).unwrap();
            let row = |entry: &std::sync::Arc<plimsoll_store::Entry>| {
                let value = String::from_utf8(entry.value.to_vec()).unwrap();
                (entry.key.to_string(), entry.create.0, entry.modified.0, entry.version, value, entry.lease)
            };
            let rows: Vec<Row> = page.entries.iter().map(row).collect();
            assert_eq!(rows, self.at(at).into_values().collect::<Vec<_>>(), "at {at} of {found:?}");
        }
        self.check_leases(store, found);
        self.check_watch(store, found).await;
        found
    }

    /// Each lease has what hangs on it, and lives its whole time.
    fn check_leases(&self, store: &Store, found: Mark) {
        let state = self.at(found.revision);
        for id in store.leases() {
            let (lease, remaining) = store.lease(id).unwrap();
            let hangs = state.values().filter(|row| row.5 == id).map(|row| &*row.0);
            assert!(lease.keys.iter().map(|key| &**key).eq(hangs), "what hangs on lease {id}");
            assert!(lease.ttl == 1000 + id && remaining > 900, "{lease:?}, {remaining} left");
        }
    }

    async fn check_watch(&self, store: &Store, found: Mark) {
        let mut watch = store.watch("", Some(Revision(found.compacted))).unwrap();
        let kept = |change: &&Written| (found.compacted + 1..=found.revision).contains(&change.revision);
        for right in self.changes.iter().filter(kept) {
            let WatchItem::Event(event) = watch.next().await.unwrap();
            let seen = (event.revision().0, &*event.entry.key, event.kind, &*event.entry.value);
            assert_eq!(seen, (right.revision, &*right.key, right.kind, right.value.as_bytes()));
        }
        assert!(watch.ready().is_none());
        let gone = store.watch("", Some(Revision(found.compacted - 1)));
        assert!(matches!(gone, Err(StoreError::Compacted { .. })));
    }
}
