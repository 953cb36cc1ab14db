//! A store so simple that it is right: every change in a list.

use std::collections::BTreeMap;

use plimsoll_store::{Change, EventKind, Expect, Revision, Store, StoreError, Value, WatchItem};

use crate::Dice;

/// Everything that was ever written, and what was compacted. The change of revision `r` is number `r - 2`.
#[derive(Default)]
pub(crate) struct Reference {
    changes: Vec<Written>,
    writes: usize,
}

struct Written {
    key: String,
    kind: EventKind,
    value: String,
}

/// What the store is after some operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mark {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

/// Key, create revision, revision, version, value.
type Row = (String, i64, i64, u64, String);

impl Reference {
    pub(crate) fn start() -> Mark {
        Mark { revision: 1, compacted: 1 }
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
        let steps = (0..[1, 1, 1, 2, 5][dice.below(5)]).map(|_| self.change(from, dice)).collect::<Vec<_>>();
        match (self.apply(from, &steps), store.commit_many(steps).await) {
            (None, Ok(entries)) => {
                let last = entries.last().unwrap().modified.0;
                assert_eq!(last, self.changes.len() as i64 + 1);
                Mark { revision: last, ..from }
            }
            (Some(wrong), Err(StoreError::PreconditionAt { step, .. })) => {
                assert_eq!(step, wrong);
                from
            }
            (expected, other) => panic!("refused at {expected:?}, and the store said {other:?}"),
        }
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
            let value = format!("{}{}{}", text(head.clone()), self.changes.len() + 2, text(tail.clone()));
            self.changes.push(Written { key: key.clone(), kind, value });
        }
        None
    }

    fn at(&self, revision: i64) -> BTreeMap<String, Row> {
        let mut state = BTreeMap::new();
        for (number, change) in self.changes.iter().take((revision - 1).max(0) as usize).enumerate() {
            let at = number as i64 + 2;
            let before: Option<Row> = state.remove(&change.key);
            if change.kind == EventKind::Put {
                let (create, version) = before.map_or((at, 1), |row| (row.1, row.3 + 1));
                let row = (change.key.clone(), create, at, version, change.value.clone());
                state.insert(change.key.clone(), row);
            }
        }
        state
    }

    /// Holds a store that was opened again against what was acknowledged, and what may have been on its way.
    pub(crate) async fn check(&self, store: &Store, acknowledged: Mark, next: Mark, dice: &mut Dice) -> Mark {
        let found = Mark { revision: store.revision().0, compacted: store.compacted().0 };
        let right = [acknowledged, next];
        assert!(right.iter().any(|mark| mark.revision == found.revision), "{found:?} of {right:?}");
        assert!(right.iter().any(|mark| mark.compacted == found.compacted), "{found:?} of {right:?}");
        let past = found.revision - dice.below((found.revision - found.compacted + 1) as usize) as i64;
        for (at, read) in [(found.revision, None), (past, Some(Revision(past)))] {
            let page = store.range("", None, 0, read).unwrap();
            let row = |entry: &std::sync::Arc<plimsoll_store::Entry>| {
                let value = String::from_utf8(entry.value.to_vec()).unwrap();
                (entry.key.to_string(), entry.create.0, entry.modified.0, entry.version, value)
            };
            let rows: Vec<Row> = page.entries.iter().map(row).collect();
            assert_eq!(rows, self.at(at).into_values().collect::<Vec<_>>(), "at {at} of {found:?}");
        }
        self.check_watch(store, found).await;
        found
    }

    async fn check_watch(&self, store: &Store, found: Mark) {
        let mut watch = store.watch("", Some(Revision(found.compacted))).unwrap();
        for revision in found.compacted + 1..=found.revision {
            let WatchItem::Event(event) = watch.next().await.unwrap();
            let right = &self.changes[revision as usize - 2];
            let seen = (event.revision().0, &*event.entry.key, event.kind, &*event.entry.value);
            assert_eq!(seen, (revision, &*right.key, right.kind, right.value.as_bytes()));
        }
        assert!(watch.ready().is_none());
        let gone = store.watch("", Some(Revision(found.compacted - 1)));
        assert!(matches!(gone, Err(StoreError::Compacted { .. })));
    }
}
