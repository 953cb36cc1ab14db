//! Keys: reading, writing, transactions, compaction.

use plimsoll_etcd::etcdserverpb::kv_server::Kv;
use plimsoll_etcd::etcdserverpb::{self as pb};
use plimsoll_mvcc::{Operation, Revision};
use tonic::{Request, Response, Status};

use super::{Etcd, OPERATIONS, convert, refusal, txn};
use crate::{Answered, Listed};

#[tonic::async_trait]
impl Kv for Etcd {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        let query = convert::query(&request)?;
        if request.count_only {
            let (revision, count) = self.store.query_count(&query).map_err(refusal::of)?;
            let listed = Listed { entries: Vec::new(), more: false, count };
            return Ok(Response::new(self.range_told(&request, &listed, revision)));
        }
        let store = self.store.clone();
        // What is past may have to be read from the disk.
        let read = match query.at {
            Some(_) => {
                tokio::task::spawn_blocking(move || store.query(&query)).await.map_err(|_| stopped())?
            }
            None => store.query(&query),
        };
        let (revision, listed) = read.map_err(refusal::of)?;
        Ok(Response::new(self.range_told(&request, &listed, revision)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let request = request.into_inner();
        let prev = request.prev_kv;
        txn::check_size(&request)?;
        match self.operate(Operation::Put(convert::put(request)?)).await? {
            (revision, Answered::Put(previous)) => {
                Ok(Response::new(self.put_told(prev, previous.as_deref(), revision)))
            }
            _ => Err(stopped()),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        txn::check_size(&request)?;
        match self.operate(Operation::Delete(txn::delete_span(&request)?)).await? {
            (revision, Answered::Delete(gone)) => {
                Ok(Response::new(self.delete_told(request.prev_kv, &gone, revision)))
            }
            _ => Err(stopped()),
        }
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        txn::check_size(&request)?;
        let asked = txn::txn(&request, OPERATIONS)?;
        match self.store.transact(asked).await.map_err(refusal::of)? {
            (revision, Answered::Txn(succeeded, answers)) => {
                let told = self.txn_told(&request, (succeeded, answers));
                Ok(Response::new(pb::TxnResponse { header: self.header(revision), ..told }))
            }
            _ => Err(stopped()),
        }
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let to = Revision(request.into_inner().revision);
        // A new store has been compacted to its first revision, and nobody did it.
        if to <= self.store.compacted() && to != Revision::FIRST {
            return Err(refusal::compacted());
        }
        if to > self.store.revision() {
            return Err(refusal::future());
        }
        if to != self.store.compacted() {
            self.store.compact(to).await.map_err(refusal::of)?;
        }
        Ok(Response::new(pb::CompactionResponse { header: self.header_now() }))
    }
}

impl Etcd {
    async fn operate(&self, operation: Operation) -> Result<(Revision, Answered), Status> {
        self.store.operate(operation).await.map_err(refusal::of)
    }
}

fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}
