//! Random writers, readers and compactions against a model that keeps every state there ever was.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use plimsoll_mvcc::{
    Change, Entry, Event, EventKind, Expect, Limits, Mvcc, Pick, Revision, Row, Span, Step, Unreadable,
    Value, sequence,
};
use proptest::prelude::*;

/// The revision of each live key.
type State = BTreeMap<Arc<str>, i64>;

#[derive(Clone, Debug)]
enum Action {
    Write(Vec<Vec<(u8, u8, bool)>>),
    Compact(u8),
    Reopen,
}

/// Every state by revision, and the bytes of every row, as the log would have them.
#[derive(Default)]
struct Model {
    states: BTreeMap<i64, State>,
    rows: HashMap<(i64, Arc<str>), Arc<Event>>,
    compacted: i64,
}

fn key(number: u8) -> Arc<str> {
    format!("/{}/{}", number % 3, number).into()
}

fn limits() -> Limits {
    Limits { events: 8, bytes: 1 << 20 }
}

impl Model {
    fn current(&self) -> (i64, &State) {
        let (revision, state) = self.states.last_key_value().unwrap();
        (*revision, state)
    }

    fn write(&mut self, mvcc: &mut Mvcc, group: &[Vec<(u8, u8, bool)>]) {
        let transactions: Vec<Vec<Step>> =
            group.iter().map(|steps| steps.iter().map(|step| self.step(step)).collect()).collect();
        let group = sequence(mvcc, transactions.iter().map(Vec::as_slice), 0);
        let mut events = group.events.iter();
        for (steps, outcome) in transactions.iter().zip(&group.outcomes) {
            let expected = self.attempt(steps);
            assert_eq!(outcome.is_ok(), expected.is_some(), "{steps:?}");
            for (revision, state) in expected.unwrap_or_default() {
                let event = events.next().unwrap();
                assert_eq!(event.revision().0, revision);
                self.rows.insert((revision, Arc::clone(&event.entry.key)), Arc::clone(event));
                self.states.insert(revision, state);
            }
        }
        assert!(events.next().is_none());
        mvcc.apply(&group.events);
    }

    fn step(&self, (number, expect, put): &(u8, u8, bool)) -> Step {
        let key = key(*number);
        let expect = match expect % 4 {
            0 => Expect::Any,
            1 => Expect::Absent,
            2 => Expect::Revision(Revision(self.current().1.get(&key).copied().unwrap_or(3))),
            _ => Expect::Revision(Revision(2)),
        };
        let value = Value::spliced("at ", "");
        Step { key, expect, change: if *put { Change::Put(value) } else { Change::Delete(value) } }
    }

    fn attempt(&self, steps: &[Step]) -> Option<Vec<(i64, State)>> {
        let (mut revision, mut state) = (self.current().0, self.current().1.clone());
        let mut after = Vec::new();
        for step in steps {
            let current = state.get(&step.key).copied();
            let put = matches!(step.change, Change::Put(_));
            let holds = match step.expect {
                Expect::Any => true,
                Expect::Absent => current.is_none(),
                Expect::Revision(expected) => current == Some(expected.0),
            };
            if !holds || (!put && current.is_none()) {
                return None;
            }
            revision += 1;
            if put {
                state.insert(Arc::clone(&step.key), revision)
            } else {
                state.remove(&step.key)
            };
            after.push((revision, state.clone()));
        }
        Some(after)
    }

    fn compact(&mut self, mvcc: &mut Mvcc, share: u8) {
        let to = self.compacted + (self.current().0 - self.compacted) * i64::from(share) / 255;
        mvcc.compact(Revision(to)).unwrap();
        self.compacted = to;
        // Half of the rows stay now and then, as if the process had died in between.
        let limit = if share.is_multiple_of(2) { usize::MAX } else { 3 };
        for Row { revision, key } in mvcc.reclaim(limit) {
            assert!(self.rows.remove(&(revision.0, key)).is_some(), "a row is dropped once");
        }
    }

    fn reopen(&self) -> Mvcc {
        let mut rows: Vec<_> = self.rows.values().collect();
        rows.sort_by_key(|event| event.revision());
        let rows = rows.into_iter().map(|event| Ok::<_, ()>((event.kind, copy(&event.entry))));
        Mvcc::load(limits(), Revision(self.compacted), rows).unwrap()
    }

    fn check(&self, mvcc: &Mvcc) {
        let (current, now) = self.current();
        assert_eq!(mvcc.revision().0, current);
        for (revision, state) in &self.states {
            let at = Revision(*revision);
            if *revision < self.compacted {
                let compacted =
                    Unreadable::Compacted { compacted: Revision(self.compacted), current: Revision(current) };
                assert_eq!(mvcc.select("", None, 0, Some(at)).unwrap_err(), compacted);
                assert_eq!(mvcc.recent(&Span::Prefix("".into()), at).unwrap_err(), compacted);
                continue;
            }
            self.check_pages(mvcc, at, state);
            for number in 0..12 {
                let found = mvcc.get_at(&key(number), at).unwrap().map(|pick| self.resolve(pick).modified.0);
                assert_eq!(found, state.get(&key(number)).copied(), "{} at {at}", key(number));
            }
            self.check_events(mvcc, at);
        }
        assert_eq!(mvcc.count("/1/"), now.keys().filter(|key| key.starts_with("/1/")).count());
        let future = Revision(current + 1);
        assert_eq!(mvcc.get_at("a", future).unwrap_err(), Unreadable::Future { current: Revision(current) });
    }

    fn check_pages(&self, mvcc: &Mvcc, at: Revision, state: &State) {
        for prefix in ["", "/1/", "/2/1"] {
            let expected: Vec<_> = state.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
            let (mut seen, mut after) = (Vec::new(), None::<Arc<str>>);
            loop {
                let selection = mvcc.select(prefix, after.as_deref(), 2, Some(at)).unwrap();
                assert_eq!(selection.revision, at);
                let (picks, more, remaining) = selection.into_picks();
                seen.extend(picks.into_iter().map(|pick| self.resolve(pick)));
                assert_eq!(more, remaining > 0);
                if at == mvcc.revision() {
                    assert_eq!(seen.len() + remaining, expected.len());
                }
                if !more {
                    break;
                }
                after = seen.last().map(|entry| Arc::clone(&entry.key));
            }
            assert!(
                seen.iter().map(|entry| (&entry.key, &entry.modified.0)).eq(expected),
                "{prefix} at {at}"
            );
        }
    }

    fn check_events(&self, mvcc: &Mvcc, after: Revision) {
        let Some(recent) = mvcc.recent(&Span::Prefix("/1/".into()), after).unwrap() else {
            assert!(after < mvcc.window_floor());
            return;
        };
        let mut expected: Vec<_> = self.rows.values().filter(|event| event.revision() > after).collect();
        expected.retain(|event| event.entry.key.starts_with("/1/"));
        expected.sort_by_key(|event| event.revision());
        assert!(
            recent.iter().map(|event| event.revision()).eq(expected.iter().map(|event| event.revision()))
        );
    }

    fn resolve(&self, pick: Pick) -> Arc<Entry> {
        let entry = match pick {
            Pick::Entry(entry) => entry,
            Pick::Row(Row { revision, key }) => {
                let event =
                    self.rows.get(&(revision.0, key)).expect("a row that is asked for is still there");
                assert_eq!(event.kind, EventKind::Put);
                Arc::clone(&event.entry)
            }
        };
        assert_eq!(&*entry.value, format!("at {}", entry.modified).as_bytes());
        entry
    }
}

fn copy(entry: &Entry) -> Entry {
    Entry { key: Arc::clone(&entry.key), value: entry.value.clone(), memo: OnceLock::new(), ..*entry }
}

fn action() -> impl Strategy<Value = Action> {
    let step = (0..12_u8, any::<u8>(), proptest::bool::weighted(0.7));
    let transaction = proptest::collection::vec(step, 1..3);
    prop_oneof![
        8 => proptest::collection::vec(transaction, 1..6).prop_map(Action::Write),
        2 => any::<u8>().prop_map(Action::Compact),
        1 => Just(Action::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kept_revision_reads_as_it_was(actions in proptest::collection::vec(action(), 1..24)) {
        let mut mvcc = Mvcc::new(limits());
        let mut model = Model { compacted: 1, ..Model::default() };
        model.states.insert(1, BTreeMap::new());
        for action in actions {
            match action {
                Action::Write(group) => model.write(&mut mvcc, &group),
                Action::Compact(share) => model.compact(&mut mvcc, share),
                Action::Reopen => mvcc = model.reopen(),
            }
            model.check(&mvcc);
        }
    }
}
