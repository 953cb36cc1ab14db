//! Transactions: whether one may be asked for, and its answer.

use std::collections::BTreeSet;

use plimsoll_etcd::etcdserverpb::request_op::Request as Asked;
use plimsoll_etcd::etcdserverpb::response_op::Response as Told;
use plimsoll_etcd::etcdserverpb::{self as pb, RequestOp, ResponseOp, TxnRequest};
use plimsoll_mvcc::{Operation, Revision, Span, Txn};
use tonic::Status;

use super::{Etcd, convert, key, refusal};
use crate::Answered;

/// The store's transaction; `room` is how many operations it may have.
pub(super) fn txn(request: &TxnRequest, room: usize) -> Result<Txn, Status> {
    let txn = branches(request, room)?;
    Written::of(&txn.success)?;
    Written::of(&txn.failure)?;
    Ok(txn)
}

fn branches(request: &TxnRequest, room: usize) -> Result<Txn, Status> {
    let most = request.compare.len().max(request.success.len()).max(request.failure.len());
    let room = room.checked_sub(most).ok_or_else(refusal::too_many_operations)?;
    let operations =
        |of: &[RequestOp]| of.iter().map(|of| operation(of, room)).collect::<Result<Vec<_>, _>>();
    Ok(Txn {
        compare: request.compare.iter().map(convert::compare).collect::<Result<_, _>>()?,
        success: operations(&request.success)?,
        failure: operations(&request.failure)?,
    })
}

fn operation(request: &RequestOp, room: usize) -> Result<Operation, Status> {
    Ok(match request.request.as_ref().ok_or_else(refusal::key_not_found)? {
        Asked::RequestRange(range) => Operation::Range(convert::query(range)?),
        Asked::RequestPut(put) => Operation::Put(convert::put(put.clone())?),
        Asked::RequestDeleteRange(delete) => Operation::Delete(delete_span(delete)?),
        Asked::RequestTxn(inner) => Operation::Txn(branches(inner, room)?),
    })
}

pub(super) fn delete_span(request: &pb::DeleteRangeRequest) -> Result<Span, Status> {
    match request.key.is_empty() {
        true => Err(refusal::empty_key()),
        false => Ok(key::span(&request.key, &request.range_end)),
    }
}

/// What operations write: no key may be put twice, or put and deleted, whichever branches are taken.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a str>,
    deletions: Vec<&'a Span>,
}

impl<'a> Written<'a> {
    fn of(operations: &'a [Operation]) -> Result<Self, Status> {
        let mut all = Self::default();
        for operation in operations {
            if let Operation::Delete(span) = operation {
                all.deletions.push(span);
            }
        }
        for operation in operations {
            let Operation::Txn(inner) = operation else { continue };
            let (then, otherwise) = (Self::of(&inner.success)?, Self::of(&inner.failure)?);
            for key in &then.puts {
                all.put(key)?;
            }
            // Of the branches of one transaction one is taken.
            for key in otherwise.puts.difference(&then.puts) {
                all.put(key)?;
            }
            all.deletions.extend(then.deletions.into_iter().chain(otherwise.deletions));
        }
        for operation in operations {
            if let Operation::Put(put) = operation {
                all.put(&put.key)?;
            }
        }
        Ok(all)
    }

    fn put(&mut self, key: &'a str) -> Result<(), Status> {
        let deleted = self.deletions.iter().any(|span| span.contains(key));
        if deleted || !self.puts.insert(key) { Err(refusal::duplicate_key()) } else { Ok(()) }
    }
}

impl Etcd {
    pub(super) fn range_told(
        &self,
        request: &pb::RangeRequest,
        listed: &crate::Listed,
        revision: Revision,
    ) -> pb::RangeResponse {
        let form = if request.keys_only { convert::bare } else { convert::key_value };
        let count = i64::try_from(listed.count).unwrap_or(i64::MAX);
        let header = self.header(revision);
        if request.count_only {
            return pb::RangeResponse { header, count, ..Default::default() };
        }
        let kvs = listed.entries.iter().map(|entry| form(entry)).collect();
        pb::RangeResponse { header, kvs, more: listed.more, count }
    }

    pub(super) fn put_told(
        &self,
        prev: bool,
        previous: Option<&plimsoll_mvcc::Entry>,
        revision: Revision,
    ) -> pb::PutResponse {
        let prev_kv = previous.filter(|_| prev).map(convert::key_value);
        pb::PutResponse { header: self.header(revision), prev_kv }
    }

    pub(super) fn delete_told(
        &self,
        prev: bool,
        gone: &[std::sync::Arc<plimsoll_mvcc::Entry>],
        revision: Revision,
    ) -> pb::DeleteRangeResponse {
        let all = if prev { gone } else { &[] };
        pb::DeleteRangeResponse {
            header: self.header(revision),
            deleted: i64::try_from(gone.len()).unwrap_or(i64::MAX),
            prev_kvs: all.iter().map(|entry| convert::key_value(entry)).collect(),
        }
    }

    /// The answer to a transaction; headers within it tell the revision alone.
    pub(super) fn txn_told(
        &self,
        request: &TxnRequest,
        (succeeded, answers): (bool, Vec<(Revision, Answered)>),
    ) -> pb::TxnResponse {
        let asked = if succeeded { &request.success } else { &request.failure };
        let responses =
            asked.iter().zip(answers).map(|(asked, (at, answer))| self.told(asked, at, answer)).collect();
        pb::TxnResponse { header: None, succeeded, responses }
    }

    fn told(&self, asked: &RequestOp, at: Revision, answer: Answered) -> ResponseOp {
        let bare = || Some(pb::ResponseHeader { revision: at.0, ..Default::default() });
        let response = match (&asked.request, answer) {
            (Some(Asked::RequestRange(request)), Answered::Range(listed)) => {
                let told = self.range_told(request, &listed, at);
                Some(Told::ResponseRange(pb::RangeResponse { header: bare(), ..told }))
            }
            (Some(Asked::RequestPut(request)), Answered::Put(previous)) => {
                let told = self.put_told(request.prev_kv, previous.as_deref(), at);
                Some(Told::ResponsePut(pb::PutResponse { header: bare(), ..told }))
            }
            (Some(Asked::RequestDeleteRange(request)), Answered::Delete(gone)) => {
                let told = self.delete_told(request.prev_kv, &gone, at);
                Some(Told::ResponseDeleteRange(pb::DeleteRangeResponse { header: bare(), ..told }))
            }
            (Some(Asked::RequestTxn(request)), Answered::Txn(succeeded, answers)) => {
                let header = Some(pb::ResponseHeader::default());
                let told = self.txn_told(request, (succeeded, answers));
                Some(Told::ResponseTxn(pb::TxnResponse { header, ..told }))
            }
            _ => None,
        };
        ResponseOp { response }
    }
}

/// Whether a request is too long.
pub(super) fn check_size(message: &impl prost::Message) -> Result<(), Status> {
    if message.encoded_len() > super::REQUEST { Err(refusal::too_large()) } else { Ok(()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(key: &'static str) -> RequestOp {
        let put = pb::PutRequest { key: Bytes::from_static(key.as_bytes()), ..Default::default() };
        RequestOp { request: Some(Asked::RequestPut(put)) }
    }

    fn delete(key: &'static str, end: &'static str) -> RequestOp {
        let (key, range_end) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(end.as_bytes()));
        let delete = pb::DeleteRangeRequest { key, range_end, prev_kv: false };
        RequestOp { request: Some(Asked::RequestDeleteRange(delete)) }
    }

    fn inner(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp { request: Some(Asked::RequestTxn(TxnRequest { success, failure, ..Default::default() })) }
    }

    #[test]
    fn a_key_is_written_once() {
        for (operations, right) in [
            (vec![put("a"), put("b")], true),
            (vec![put("a"), put("a")], false),
            (vec![put("b"), delete("a", "c")], false),
            (vec![put("c"), delete("a", "c")], true),
            (vec![delete("a", "c"), delete("b", "")], true),
            (vec![inner(vec![put("a")], vec![put("a")])], true),
            (vec![put("a"), inner(vec![], vec![put("a")])], false),
            (vec![inner(vec![put("a")], vec![]), inner(vec![], vec![put("a")])], false),
            (vec![delete("a", "c"), inner(vec![put("b")], vec![])], false),
        ] {
            let request = TxnRequest { success: operations, ..Default::default() };
            let found = txn(&request, 8).map(drop).map_err(|status| status.message().to_owned());
            let expected =
                if right { Ok(()) } else { Err("etcdserver: duplicate key given in txn request".to_owned()) };
            assert_eq!(found, expected, "{request:?}");
        }
    }

    #[test]
    fn operations_are_counted_along_the_longest_branch() {
        let wide = TxnRequest { success: vec![put("a"), put("b"), put("c")], ..Default::default() };
        assert!(txn(&wide, 3).is_ok());
        assert_eq!(txn(&wide, 2).unwrap_err().message(), "etcdserver: too many operations in txn request");
        let deep =
            TxnRequest { success: vec![inner(vec![put("a"), put("b")], vec![])], ..Default::default() };
        assert!(txn(&deep, 3).is_ok());
        assert!(txn(&deep, 2).is_err());
        // What an operation lacks is said before what operations do to each other.
        for operations in [vec![put("")], vec![inner(vec![put("a"), put("a")], vec![]), put("")]] {
            assert_eq!(
                txn(&TxnRequest { success: operations, ..Default::default() }, 9).unwrap_err().message(),
                "etcdserver: key is not provided"
            );
        }
    }
}
