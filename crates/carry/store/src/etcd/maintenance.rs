//! Status, alarms, room, hashes, copies.

use std::pin::Pin;

use bytes::BytesMut;
use plimsoll_etcd::etcdserverpb::alarm_request::AlarmAction;
use plimsoll_etcd::etcdserverpb::maintenance_server::Maintenance;
use plimsoll_etcd::etcdserverpb::{self as pb, AlarmMember, AlarmType};
use plimsoll_mvcc::Revision;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Etcd, OWN_FORM, TERM, VERSION, refusal};
use crate::{Alarm, StoreError};

/// Bytes of a copy that are sent at once.
const PIECE: usize = 32 << 10;

#[tonic::async_trait]
impl Maintenance for Etcd {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let request = request.into_inner();
        let raised = self.alarms();
        let ours = |request: &pb::AlarmRequest| {
            (request.member_id == 0 || request.member_id == self.member.id)
                && [AlarmType::None.into(), AlarmType::Nospace.into()].contains(&request.alarm)
        };
        let action = AlarmAction::try_from(request.action).unwrap_or_default();
        let alarms = match action {
            AlarmAction::Get => raised,
            AlarmAction::Activate => {
                return Err(Status::unimplemented("plimsoll: alarms are raised by the store itself"));
            }
            AlarmAction::Deactivate if ours(&request) => {
                self.store.disarm();
                raised
            }
            AlarmAction::Deactivate => Vec::new(),
        };
        Ok(Response::new(pb::AlarmResponse { header: self.header_now(), alarms }))
    }

    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let stats = self.store.stats().map_err(refusal::of)?;
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let index = self.store.revision().0.unsigned_abs();
        let alarms = self.alarms();
        let errors = alarms.iter().map(|alarm| format!("memberID:{} alarm:NOSPACE ", alarm.member_id));
        Ok(Response::new(pb::StatusResponse {
            header: self.header_now(),
            version: VERSION.to_owned(),
            db_size: number(stats.total),
            leader: self.member.id,
            raft_index: index,
            raft_term: TERM,
            raft_applied_index: index,
            errors: errors.collect(),
            db_size_in_use: number(stats.bytes.kept()),
            ..Default::default()
        }))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.store.reclaim().await.map_err(refusal::of)?;
        Ok(Response::new(pb::DefragmentResponse { header: self.header_now() }))
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let hash = self.store.hash().await.map_err(refusal::of)?;
        Ok(Response::new(pb::HashResponse { header: self.header_now(), hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let upto = (revision > 0).then_some(Revision(revision));
        let (hash, upto, compacted) = self.store.hash_versions(upto).await.map_err(refusal::of)?;
        // etcd has no revision for what was never compacted.
        let compact_revision = if compacted > Revision::FIRST { compacted.0 } else { -1 };
        let header = self.header_now();
        Ok(Response::new(pb::HashKvResponse { header, hash, compact_revision, hash_revision: upto.0 }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let own = request.metadata().contains_key(OWN_FORM);
        let (pieces, stream) = mpsc::channel(4);
        let etcd = self.clone();
        tokio::spawn(async move {
            if let Err(error) = etcd.copy(own, &pieces).await {
                // Whoever asked may be gone.
                let _ = pieces.send(Err(refusal::of(error))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        match request.into_inner().target_id == self.member.id {
            true => Ok(Response::new(pb::MoveLeaderResponse { header: self.header_now() })),
            false => Err(Status::failed_precondition("etcdserver: bad leader transferee")),
        }
    }

    async fn downgrade(
        &self,
        _request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(Status::unimplemented("plimsoll: the version of the store is that of plimsoll"))
    }
}

impl Etcd {
    pub(super) fn alarms(&self) -> Vec<AlarmMember> {
        let raised = *self.store.alarm().borrow() == Alarm::NoSpace;
        let alarm = AlarmMember { member_id: self.member.id, alarm: AlarmType::Nospace.into() };
        raised.then_some(alarm).into_iter().collect()
    }

    /// Sends a copy of everything in pieces. It is a file first: who receives slowly must not hold up the store.
    async fn copy(
        &self,
        own: bool,
        pieces: &mpsc::Sender<Result<pb::SnapshotResponse, Status>>,
    ) -> Result<(), StoreError> {
        let path = self.store.scratch("snapshot");
        let sent = self.send_copy(own, &path, pieces).await;
        let _ = tokio::fs::remove_file(&path).await;
        sent
    }

    async fn send_copy(
        &self,
        own: bool,
        path: &std::path::Path,
        pieces: &mpsc::Sender<Result<pb::SnapshotResponse, Status>>,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Directory { path: path.into(), source };
        let mut left = match own {
            true => self.store.save(path, &self.member.snapshots).await?.bytes,
            false => self.store.save_for_etcd(path, &self.member.snapshots).await?,
        };
        let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
        loop {
            let mut blob = BytesMut::with_capacity(PIECE);
            let read = file.read_buf(&mut blob).await.map_err(failed)? as u64;
            if read == 0 {
                return Ok(());
            }
            left = left.saturating_sub(read);
            let piece = pb::SnapshotResponse {
                header: self.header_now(),
                remaining_bytes: left,
                blob: blob.freeze(),
                version: VERSION.to_owned(),
            };
            if pieces.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
    }
}
