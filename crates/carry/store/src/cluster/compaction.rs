//! History goes by the clock, and one of several servers lets it go.
//!
//! They meet at a key of upstream's, so that its API servers can take part: who finds it as it was one interval ago
//! writes it and compacts to the revision of the interval before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use plimsoll_etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use plimsoll_etcd::etcdserverpb::kv_client::KvClient;
use plimsoll_etcd::etcdserverpb::{
    CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op, response_op,
};
use tonic::Status;

use super::connection::{Members, Repeat, Wire};

/// The key where servers meet.
const KEY: &[u8] = b"compact_rev_key";

/// What a server remembers from one interval to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Last {
    /// The version of the key.
    version: i64,
    /// The revision of etcd; 0: not known yet.
    revision: i64,
}

/// Compacts until it is aborted. `mine` says whether this server did so last.
pub(super) async fn run(members: Arc<Members>, interval: Duration, mine: Arc<AtomicBool>) {
    let mut last = Last::default();
    loop {
        tokio::time::sleep(interval).await;
        match turn(&members, last).await {
            Ok((next, won)) => {
                last = next;
                mine.store(won, Ordering::Relaxed);
            }
            Err(status) => tracing::warn!(error = status.message(), "etcd was not compacted"),
        }
    }
}

/// One interval; the second is whether it was this server's turn.
async fn turn(members: &Members, last: Last) -> Result<(Last, bool), Status> {
    let request = request(last);
    let call = |wire: Wire| {
        let request = request.clone();
        async move { KvClient::new(wire).txn(request).await }
    };
    let answer = members.ask(Repeat::IfUndone, call).await?;
    let revision = answer.header.map(|header| header.revision).unwrap_or_default();
    if !answer.succeeded {
        let found = answer.responses.into_iter().find_map(|one| match one.response {
            Some(response_op::Response::ResponseRange(mut found)) => found.kvs.pop(),
            _ => None,
        });
        return Ok((Last { version: found.map_or(0, |pair| pair.version), revision }, false));
    }
    // What happened before this server came is somebody's who may still read it.
    if last.revision > 0 {
        compact(members, last.revision).await?;
    }
    Ok((Last { version: last.version + 1, revision }, true))
}

/// Lets the history before a revision go.
pub(super) async fn compact(members: &Members, revision: i64) -> Result<(), Status> {
    let call = |wire: Wire| async move {
        KvClient::new(wire).compact(CompactionRequest { revision, physical: false }).await
    };
    match members.ask(Repeat::Always, call).await {
        Err(status) if status.message().contains("required revision has been compacted") => Ok(()),
        other => other.map(|_| ()),
    }
}

fn request(last: Last) -> TxnRequest {
    let key = Bytes::from_static(KEY);
    let operation = |request| vec![RequestOp { request: Some(request) }];
    let value = last.revision.to_string().into();
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::Version(last.version)),
        }],
        success: operation(request_op::Request::RequestPut(PutRequest {
            key: key.clone(),
            value,
            ..PutRequest::default()
        })),
        failure: operation(request_op::Request::RequestRange(RangeRequest {
            key,
            ..RangeRequest::default()
        })),
    }
}
