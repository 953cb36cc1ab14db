//! Random transactions of etcd's clients and leases against a model that knows nothing but maps.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plimsoll_mvcc::{
    Compare, Denial, Done, Draft, EventKind, Limits, Mvcc, Operand, Operation, Pick, Put, Query, Relation,
    Revision, Span, Target, Txn, TxnDone,
};
use proptest::prelude::*;

/// Value, create revision, revision, version, lease.
#[derive(Clone, Debug, PartialEq)]
struct Row(Vec<u8>, i64, i64, i64, i64);

type State = BTreeMap<String, Row>;

#[derive(Clone, Debug)]
enum Action {
    Transact(Txn),
    Grant(i64),
    Revoke(i64),
    Apply,
}

#[derive(Clone, Default)]
struct Model {
    states: BTreeMap<i64, State>,
    leases: BTreeSet<i64>,
}

/// What is done, as far as both can tell it: keys with revisions, counts.
#[derive(Debug, PartialEq)]
enum Told {
    Range(Vec<(String, Row)>, usize),
    Put(Option<Row>),
    Delete(Vec<String>),
    Txn(bool, i64, Vec<Told>),
}

struct Run {
    state: State,
    revision: i64,
    changed: BTreeSet<String>,
}

impl Model {
    fn current(&self) -> (i64, State) {
        let (revision, state) = self.states.last_key_value().unwrap();
        (*revision, state.clone())
    }

    fn transact(&mut self, txn: &Txn) -> Result<Told, Denial> {
        let (revision, state) = self.current();
        let mut run = Run { state: state.clone(), revision, changed: BTreeSet::new() };
        let told = self.perform(txn, &state, &mut run)?;
        if !run.changed.is_empty() {
            self.states.insert(revision + 1, run.state);
        }
        Ok(told)
    }

    fn perform(&self, txn: &Txn, before: &State, run: &mut Run) -> Result<Told, Denial> {
        let holds = txn.compare.iter().all(|compare| holds(compare, before));
        let mut told = Vec::new();
        for operation in if holds { &txn.success } else { &txn.failure } {
            told.push(match operation {
                Operation::Range(query) => {
                    let state = query.at.map_or(&run.state, |at| &self.states[&at.0]);
                    let all: Vec<_> = within(state, &query.span).into_iter().collect();
                    let count = all.len();
                    Told::Range(all.into_iter().take(query.reach()).collect(), count)
                }
                Operation::Put(put) => {
                    let lease = put.lease.unwrap_or_default();
                    if lease != 0 && !self.leases.contains(&lease) {
                        return Err(Denial::LeaseNotFound);
                    }
                    let key = put.key.to_string();
                    let previous = run.state.get(&key).cloned();
                    if !run.changed.insert(key.clone()) {
                        return Err(Denial::DuplicateKey);
                    }
                    let at = run.revision + 1;
                    let (create, version) = previous.as_ref().map_or((at, 1), |row| (row.1, row.3 + 1));
                    let value = put.value.clone().unwrap().to_vec();
                    run.state.insert(key, Row(value, create, at, version, lease));
                    Told::Put(previous)
                }
                Operation::Delete(span) => {
                    let gone: Vec<_> = within(&run.state, span).into_keys().collect();
                    for key in &gone {
                        if !run.changed.insert(key.clone()) {
                            return Err(Denial::DuplicateKey);
                        }
                        run.state.remove(key);
                    }
                    Told::Delete(gone)
                }
                Operation::Txn(inner) => self.perform(inner, before, run)?,
            });
        }
        Ok(Told::Txn(holds, run.revision + i64::from(!run.changed.is_empty()), told))
    }

    fn revoke(&mut self, id: i64) -> bool {
        if !self.leases.remove(&id) {
            return false;
        }
        let (revision, mut state) = self.current();
        let before = state.len();
        state.retain(|_, row| row.4 != id);
        if state.len() < before {
            self.states.insert(revision + 1, state);
        }
        true
    }
}

fn within(state: &State, span: &Span) -> State {
    state.iter().filter(|(key, _)| span.contains(key)).map(|(key, row)| (key.clone(), row.clone())).collect()
}

fn holds(compare: &Compare, state: &State) -> bool {
    let rows = within(state, &compare.span);
    let number = |row: &Row, target| match target {
        Target::Create => row.1,
        Target::Modified => row.2,
        Target::Lease => row.4,
        _ => row.3,
    };
    let relation = |ordering: std::cmp::Ordering| match compare.relation {
        Relation::Equal => ordering.is_eq(),
        Relation::Greater => ordering.is_gt(),
        Relation::Less => ordering.is_lt(),
        Relation::Differs => ordering.is_ne(),
    };
    match &compare.with {
        Operand::Value(value) => {
            !rows.is_empty() && rows.values().all(|row| relation(row.0.as_slice().cmp(value)))
        }
        Operand::Number(_, with) if rows.is_empty() => relation(0.cmp(with)),
        Operand::Number(target, with) => rows.values().all(|row| relation(number(row, *target).cmp(with))),
    }
}

fn told(done: &TxnDone) -> Told {
    let row = |entry: &plimsoll_mvcc::Entry| {
        let version = i64::try_from(entry.version).unwrap();
        Row(entry.value.to_vec(), entry.create.0, entry.modified.0, version, entry.lease)
    };
    let each = done.done.iter().map(|(_, done)| match done {
        Done::Range(_, found) => {
            let rows = found.picks.iter().map(|pick| match pick {
                Pick::Entry(entry) => (entry.key.to_string(), row(entry)),
                Pick::Row(_) => unreachable!("everything is in the window"),
            });
            Told::Range(rows.collect(), found.count)
        }
        Done::Put(previous) => Told::Put(previous.as_deref().map(row)),
        Done::Delete(gone) => Told::Delete(gone.iter().map(|entry| entry.key.to_string()).collect()),
        Done::Txn(inner) => told(inner),
    });
    Told::Txn(done.succeeded, done.revision.0, each.collect())
}

fn key() -> impl Strategy<Value = String> {
    (0..6_u8).prop_map(|number| format!("/{}/{number}", number % 2))
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        3 => key().prop_map(|key| Span::key(&key)),
        1 => (key(), key()).prop_map(|(start, end)| Span::between(&start, Some(&end))),
        1 => Just(Span::Prefix("/1/".into())),
        1 => key().prop_map(|start| Span::between(&start, None)),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = prop_oneof![
        Just(Relation::Equal),
        Just(Relation::Greater),
        Just(Relation::Less),
        Just(Relation::Differs)
    ];
    let target =
        prop_oneof![Just(Target::Version), Just(Target::Create), Just(Target::Modified), Just(Target::Lease)];
    let with = prop_oneof![
        3 => (target, 0..6_i64).prop_map(|(target, number)| Operand::Number(target, number)),
        1 => (0..3_u8).prop_map(|value| Operand::Value(vec![value].into())),
    ];
    (span(), relation, with).prop_map(|(span, relation, with)| Compare { span, relation, with })
}

fn operation() -> impl Strategy<Value = Operation> {
    let put = (key(), 0..3_u8, prop_oneof![3 => Just(0), 1 => 1..4_i64]).prop_map(|(key, value, lease)| {
        let value = Some(vec![value].into());
        Operation::Put(Put { key: key.as_str().into(), value, lease: Some(lease) })
    });
    let range = (span(), 0..3_usize, any::<bool>()).prop_map(|(span, limit, first)| {
        let at = first.then_some(Revision(1));
        Operation::Range(Query { limit, at, ..Query::all(span) })
    });
    prop_oneof![4 => put, 2 => range, 2 => span().prop_map(Operation::Delete)]
}

fn txn() -> impl Strategy<Value = Txn> {
    let operations = || proptest::collection::vec(operation(), 0..3);
    let flat = (proptest::collection::vec(compare(), 0..2), operations(), operations())
        .prop_map(|(compare, success, failure)| Txn { compare, success, failure });
    flat.prop_recursive(2, 8, 2, |inner| {
        let with = |operations: Vec<Operation>, inner: Option<Txn>| {
            operations.into_iter().chain(inner.map(Operation::Txn)).collect::<Vec<_>>()
        };
        let branch = (proptest::collection::vec(operation(), 0..2), proptest::option::of(inner.clone()));
        let other = (proptest::collection::vec(operation(), 0..2), proptest::option::of(inner));
        (proptest::collection::vec(compare(), 0..2), branch, other).prop_map(move |(compare, yes, no)| Txn {
            compare,
            success: with(yes.0, yes.1),
            failure: with(no.0, no.1),
        })
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => txn().prop_map(Action::Transact),
        2 => (1..4_i64).prop_map(Action::Grant),
        1 => (1..4_i64).prop_map(Action::Revoke),
        3 => Just(Action::Apply),
    ]
}

fn check(mvcc: &Mvcc, model: &Model) {
    let (revision, state) = model.current();
    assert_eq!(mvcc.revision().0, revision);
    let done = TxnDone { succeeded: true, revision: Revision(0), done: Vec::new() };
    assert_eq!(told(&done), Told::Txn(true, 0, Vec::new()));
    let found = mvcc.find(&Span::Prefix("".into()), usize::MAX, None).unwrap();
    let done = Done::Range(Query::all(Span::Prefix("".into())), found);
    let all = TxnDone { succeeded: true, revision: Revision(0), done: vec![(Revision(0), done)] };
    let rows: Vec<_> = state.clone().into_iter().collect();
    let count = rows.len();
    assert_eq!(told(&all), Told::Txn(true, 0, vec![Told::Range(rows, count)]));
    for lease in mvcc.leases().iter() {
        let hangs = state.iter().filter(|(_, row)| row.4 == lease.id).map(|(key, _)| key.as_str());
        assert!(lease.keys.iter().map(|key| &**key).eq(hangs), "keys of lease {}", lease.id);
    }
    assert!(mvcc.leases().iter().map(|lease| lease.id).eq(model.leases.iter().copied()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transactions_are_etcds(actions in proptest::collection::vec(action(), 1..40)) {
        let mut mvcc = Mvcc::new(Limits::default());
        let mut model = Model { states: [(1, State::new())].into(), ..Model::default() };
        // Several groups, of several actions each.
        for group in actions.split(|action| matches!(action, Action::Apply)) {
            let mut draft = Draft::new(&mvcc, 0);
            for action in group {
                match action {
                    Action::Transact(txn) => {
                        let found = draft.transact(txn).map(|done| told(&done));
                        prop_assert_eq!(found, model.transact(txn), "{:?}", txn);
                    }
                    Action::Grant(id) => assert_eq!(draft.grant(*id, 5).is_ok(), model.leases.insert(*id)),
                    Action::Revoke(id) => assert_eq!(draft.revoke(*id).is_ok(), model.revoke(*id)),
                    Action::Apply => {}
                }
            }
            let changes = draft.finish();
            for pair in changes.events.windows(2) {
                let same = pair[0].revision() == pair[1].revision();
                prop_assert_eq!(pair[0].last, !same);
                prop_assert_eq!(pair[1].sub, if same { pair[0].sub + 1 } else { 0 });
            }
            prop_assert!(changes.events.iter().all(|event| event.kind == EventKind::Put || event.entry.lease == 0));
            mvcc.lease(changes.leases);
            mvcc.apply(&changes.events);
            check(&mvcc, &model);
        }
    }
}

#[test]
fn what_is_kept_needs_a_key_and_revisions_must_be_readable() {
    let mvcc = Mvcc::new(Limits::default());
    let mut draft = Draft::new(&mvcc, 0);
    let put = |value: Option<&'static [u8]>, lease| {
        Txn::of(Operation::Put(Put { key: Arc::from("a"), value: value.map(Into::into), lease }))
    };
    assert_eq!(draft.transact(&put(None, Some(0))).unwrap_err(), Denial::KeyNotFound);
    assert_eq!(draft.transact(&put(Some(b"1"), None)).unwrap_err(), Denial::KeyNotFound);
    assert_eq!(draft.transact(&put(Some(b"1"), Some(7))).unwrap_err(), Denial::LeaseNotFound);
    draft.grant(7, 1).unwrap();
    draft.transact(&put(Some(b"1"), Some(7))).unwrap();
    draft.transact(&put(None, None)).unwrap();
    let entry = &draft.finish().events[1].entry;
    assert_eq!((&*entry.value, entry.lease, entry.version), (&b"1"[..], 7, 2));
    let future = Query { at: Some(Revision(2)), ..Query::all(Span::key("a")) };
    let denied = Draft::new(&mvcc, 0).transact(&Txn::of(Operation::Range(future))).unwrap_err();
    assert_eq!(denied, Denial::Unreadable(plimsoll_mvcc::Unreadable::Future { current: Revision(1) }));
}
