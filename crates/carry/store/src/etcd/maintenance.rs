//! Status, alarms, room, hashes, copies.

use std::pin::Pin;

use bytes::BytesMut;
use plimsoll_etcd::etcdserverpb::alarm_request::AlarmAction;
use plimsoll_etcd::etcdserverpb::downgrade_request::DowngradeAction;
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
            AlarmAction::Activate if request.alarm == i32::from(AlarmType::Nospace) => {
                if request.member_id == 0 || request.member_id == self.member.id {
                    self.store.arm();
                }
                self.alarms()
            }
            AlarmAction::Activate => {
                return Err(Status::unimplemented("plimsoll: the store itself tells what is corrupt"));
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
            db_size_quota: number(stats.quota),
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
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let pb::DowngradeRequest { action, version } = request.into_inner();
        let parts: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        let version = parts.is_some_and(|parts| (2..=3).contains(&parts.len()));
        // There is no other version of this store to go to.
        Err(match DowngradeAction::try_from(action) {
            Ok(DowngradeAction::Validate | DowngradeAction::Enable) if version => {
                Status::failed_precondition("etcdserver: invalid downgrade target version")
            }
            Ok(DowngradeAction::Validate | DowngradeAction::Enable) => {
                Status::invalid_argument("etcdserver: wrong downgrade target version format")
            }
            Ok(DowngradeAction::Cancel) => {
                Status::failed_precondition("etcdserver: no inflight downgrade job")
            }
            Err(_) => Status::unimplemented("etcdserver: unknown method"),
        })
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use plimsoll_etcd::etcdserverpb::kv_server::Kv;
    use plimsoll_etcd::etcdserverpb::lease_server::Lease;

    use super::*;
    use crate::{Options, Store};

    #[tokio::test]
    async fn alarms_are_raised_and_ended_by_hand() {
        let folder = tempfile::tempdir().unwrap();
        let etcd = Etcd::new(Store::open(folder.path(), Options::default()).unwrap(), "m", "c", Vec::new());
        let alarm = async |action: AlarmAction, kind: AlarmType| {
            let request = pb::AlarmRequest { action: action.into(), member_id: 0, alarm: kind.into() };
            Maintenance::alarm(&etcd, Request::new(request))
                .await
                .map(|answer| answer.into_inner().alarms.len())
        };
        let put = async || {
            let request = pb::PutRequest { key: "k".into(), ..Default::default() };
            etcd.put(Request::new(request)).await.map(|_| ()).map_err(|status| status.message().to_owned())
        };
        assert_eq!(alarm(AlarmAction::Activate, AlarmType::Nospace).await.unwrap(), 1);
        for _ in 0..2 {
            assert_eq!(put().await.unwrap_err(), "etcdserver: mvcc: database space exceeded");
            etcd.store.compact(etcd.store.revision()).await.unwrap();
        }
        assert!(alarm(AlarmAction::Activate, AlarmType::Corrupt).await.is_err());
        assert_eq!(alarm(AlarmAction::Get, AlarmType::None).await.unwrap(), 1);
        assert_eq!(alarm(AlarmAction::Deactivate, AlarmType::Nospace).await.unwrap(), 1);
        assert_eq!(alarm(AlarmAction::Get, AlarmType::None).await.unwrap(), 0);
        put().await.unwrap();
    }

    #[tokio::test]
    async fn there_is_nothing_to_downgrade_to() {
        let folder = tempfile::tempdir().unwrap();
        let etcd = Etcd::new(Store::open(folder.path(), Options::default()).unwrap(), "m", "c", Vec::new());
        for (action, version, says) in [
            (DowngradeAction::Validate, "3.4", "etcdserver: invalid downgrade target version"),
            (DowngradeAction::Enable, "3.4.0", "etcdserver: invalid downgrade target version"),
            (DowngradeAction::Validate, "old", "etcdserver: wrong downgrade target version format"),
            (DowngradeAction::Cancel, "", "etcdserver: no inflight downgrade job"),
        ] {
            let request = pb::DowngradeRequest { action: action.into(), version: version.into() };
            let refused = etcd.downgrade(Request::new(request)).await.unwrap_err();
            assert_eq!(refused.message(), says);
        }
    }

    #[tokio::test]
    async fn leases_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let etcd = Etcd::new(Store::open(folder.path(), Options::default()).unwrap(), "m", "c", Vec::new());
        for (id, ttl) in [(1, 60), (2, 50)] {
            etcd.lease_grant(Request::new(pb::LeaseGrantRequest { id, ttl })).await.unwrap();
        }
        let listed = etcd.lease_leases(Request::new(pb::LeaseLeasesRequest {})).await.unwrap().into_inner();
        assert_eq!(listed.leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [2, 1], "who ends first");
        etcd.lease_revoke(Request::new(pb::LeaseRevokeRequest { id: 1 })).await.unwrap();
        etcd.store.renew(2).unwrap();
        let mut registry = prometheus_client::registry::Registry::default();
        super::super::metrics::register(&etcd, &mut registry);
        let (_, text) = plimsoll_metrics::write(&[&registry], "");
        for line in [
            "etcd_debugging_lease_granted_total 2",
            "etcd_debugging_lease_revoked_total 1",
            "etcd_debugging_lease_renewed_total 1",
            "etcd_debugging_lease_ttl_total_bucket{le=\"64\"} 2",
            "etcd_server_has_leader 1",
            "etcd_mvcc_db_total_size_in_use_in_bytes",
        ] {
            assert!(text.contains(&format!("\n{line}")), "{line}: {text}");
        }
    }
}
