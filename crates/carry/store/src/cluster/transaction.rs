//! A transaction of ours as one of etcd's, and what its answer means.

use std::collections::HashMap;

use bytes::Bytes;
use plimsoll_etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use plimsoll_etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, request_op,
    response_op,
};
use plimsoll_etcd::mvccpb::KeyValue;
use plimsoll_mvcc::{Change, Expect, Step};

use super::form::Form;

/// The request; `leases` has those of the lifetimes that occur, in seconds.
pub(super) fn request(steps: &[Step], form: &Form, leases: &HashMap<i64, i64>) -> TxnRequest {
    let key = |step: &Step| Bytes::copy_from_slice(step.key.as_bytes());
    let change = |step: &Step| match &step.change {
        Change::Put(value) => request_op::Request::RequestPut(PutRequest {
            key: key(step),
            value: form.seal(&step.key, value),
            lease: lifetime(step).and_then(|seconds| leases.get(&seconds)).copied().unwrap_or_default(),
            ..PutRequest::default()
        }),
        Change::Delete(_) => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
            key: key(step),
            ..Default::default()
        }),
    };
    let look = |step: &Step| {
        request_op::Request::RequestRange(RangeRequest { key: key(step), ..RangeRequest::default() })
    };
    let operation = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: steps.iter().filter_map(|step| Some(comparison(key(step), expected(step)?))).collect(),
        success: steps.iter().map(change).map(operation).collect(),
        failure: steps.iter().map(look).map(operation).collect(),
    }
}

/// How long what a step puts lasts, in whole seconds.
pub(super) fn lifetime(step: &Step) -> Option<i64> {
    let Change::Put(value) = &step.change else { return None };
    let seconds = value.ttl?.as_millis().div_ceil(1000);
    Some(i64::try_from(seconds).unwrap_or(i64::MAX).max(1))
}

/// The first step whose key was not as expected, and what it was, from the answer to a request that was refused.
pub(super) fn refusal(steps: &[Step], answers: Vec<ResponseOp>) -> (usize, Option<KeyValue>) {
    let mut first = None;
    for (number, (step, answer)) in steps.iter().zip(answers).enumerate() {
        let Some(response_op::Response::ResponseRange(mut found)) = answer.response else { continue };
        let current = found.kvs.pop();
        let modified = current.as_ref().map(|pair| pair.mod_revision);
        let holds = match expected(step) {
            None => true,
            Some(Wanted::Absent) => modified.is_none(),
            Some(Wanted::Present) => modified.is_some(),
            Some(Wanted::At(revision)) => modified == Some(revision),
        };
        if !holds {
            return (number, current);
        }
        first = first.or(current);
    }
    (0, first)
}

/// What etcd is to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Absent,
    Present,
    At(i64),
}

fn expected(step: &Step) -> Option<Wanted> {
    match (step.expect, &step.change) {
        (Expect::Any, Change::Put(_)) => None,
        (Expect::Any, Change::Delete(_)) => Some(Wanted::Present),
        (Expect::Absent, _) => Some(Wanted::Absent),
        (Expect::Revision(revision), _) => Some(Wanted::At(revision.0)),
    }
}

fn comparison(key: Bytes, wanted: Wanted) -> Compare {
    let (result, revision) = match wanted {
        Wanted::Absent => (CompareResult::Equal, 0),
        Wanted::Present => (CompareResult::Greater, 0),
        Wanted::At(revision) => (CompareResult::Equal, revision),
    };
    Compare {
        result: result.into(),
        target: CompareTarget::Mod.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::ModRevision(revision)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plimsoll_etcd::etcdserverpb::RangeResponse;
    use plimsoll_mvcc::{Revision, Value};

    use super::*;

    fn step(key: &str, expect: Expect, put: bool) -> Step {
        let value = Value::plain("v").with_ttl(Some(Duration::from_millis(1500)));
        let change = if put { Change::Put(value) } else { Change::Delete(value) };
        Step { key: key.into(), expect, change }
    }

    fn answer(modified: i64) -> ResponseOp {
        let pair = KeyValue { mod_revision: modified, ..KeyValue::default() };
        let kvs = if modified == 0 { Vec::new() } else { vec![pair] };
        let found = RangeResponse { kvs, ..RangeResponse::default() };
        ResponseOp { response: Some(response_op::Response::ResponseRange(found)) }
    }

    #[test]
    fn what_is_expected_is_compared() {
        let form = Form { transform: None, place: |_| None };
        for (expect, put, compares) in [
            (Expect::Any, true, None),
            (Expect::Any, false, Some((CompareResult::Greater, 0))),
            (Expect::Absent, true, Some((CompareResult::Equal, 0))),
            (Expect::Revision(Revision(7)), true, Some((CompareResult::Equal, 7))),
            (Expect::Revision(Revision(7)), false, Some((CompareResult::Equal, 7))),
        ] {
            let request = request(&[step("/k", expect, put)], &form, &HashMap::from([(2, 99)]));
            let found =
                request.compare.first().map(|compare| (compare.result(), compare.target_union.clone()));
            let expected =
                compares.map(|(result, revision)| (result, Some(TargetUnion::ModRevision(revision))));
            assert_eq!(found, expected, "{expect:?}");
            if let Some(request_op::Request::RequestPut(put)) = &request.success[0].request {
                assert_eq!(put.lease, 99);
            }
        }
    }

    #[test]
    fn the_first_step_that_does_not_hold_is_named() {
        let steps = [
            step("/a", Expect::Any, true),
            step("/b", Expect::Revision(Revision(5)), true),
            step("/c", Expect::Absent, true),
        ];
        for (found, refused) in [([1, 5, 3], (2, 3)), ([1, 6, 3], (1, 6)), ([0, 0, 0], (1, 0))] {
            let (number, current) = refusal(&steps, found.map(answer).to_vec());
            assert_eq!((number, current.map_or(0, |pair| pair.mod_revision)), refused);
        }
    }
}
