//! What an etcd cluster would need an operator for: room that comes back, alarms, and what there is to know.
//!
//! Files are written again one member at a time, the leader last, each only when the one before serves again. When
//! etcd is full, history is compacted to the newest revision first, and the alarm goes when the files are smaller.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll_etcd::etcdserverpb::alarm_request::AlarmAction;
use plimsoll_etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use plimsoll_etcd::etcdserverpb::{AlarmRequest, AlarmType, DefragmentRequest, StatusRequest};
use plimsoll_mvcc::members::{Member, in_turn, wasteful};
use tokio::sync::Notify;
use tonic::Status;

use super::compaction::compact;
use super::connection::{Members, Repeat, Wire};
use crate::shared::Shared;
use crate::{Alarm, StoreError};

/// How often members are looked at.
const LOOK: Duration = Duration::from_secs(30);
/// How long a member may take to tell how it is.
const TELL: Duration = Duration::from_secs(3);
/// How long a member may take to write its file again.
const WRITE: Duration = Duration::from_secs(10 * 60);

/// What upkeep works with.
#[derive(Clone)]
pub(super) struct Upkeep {
    pub(super) shared: Arc<Shared>,
    pub(super) members: Arc<Members>,
    /// What members said of themselves last.
    pub(super) known: Arc<Mutex<Vec<Member>>>,
    /// This server cares for the members: it did so for their history.
    pub(super) mine: Arc<AtomicBool>,
    /// A write was refused for want of room.
    pub(super) full: Arc<Notify>,
}

impl Upkeep {
    /// Goes on until it is aborted.
    pub(super) async fn run(self) {
        loop {
            // An alarm may have been raised by a write of somebody else.
            let _ = tokio::time::timeout(LOOK, self.full.notified()).await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "upkeep of etcd");
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let members = ask(&self.members).await;
        let alarms = alarms(&self.members).await.map_err(super::failure)?;
        self.shared.space.set(if alarms.is_empty() { Alarm::None } else { Alarm::NoSpace });
        let waste = wasteful(&members).into_iter().cloned().collect();
        *self.known.lock().expect("nothing panics while it holds what is known") = members;
        if !alarms.is_empty() {
            return self.make_room(&alarms).await;
        }
        if self.mine.load(Ordering::Relaxed) {
            self.rewrite(waste).await?;
        }
        Ok(())
    }

    /// All that can go goes, and writes are accepted again if that helped.
    async fn make_room(&self, alarms: &[u64]) -> Result<(), StoreError> {
        tracing::error!(
            "etcd has no room left and accepts deletions only; its history is compacted and its files written again"
        );
        let newest = super::newest(&self.members).await.map_err(super::failure)?;
        compact(&self.members, newest.0).await.map_err(super::failure)?;
        self.reclaim().await?;
        for member in alarms {
            disarm(&self.members, *member).await.map_err(super::failure)?;
        }
        self.shared.space.recovered();
        Ok(())
    }

    /// Writes all files again.
    pub(super) async fn reclaim(&self) -> Result<(), StoreError> {
        let members = ask(&self.members).await;
        self.rewrite(in_turn(&members).into_iter().cloned().collect()).await
    }

    async fn rewrite(&self, members: Vec<Member>) -> Result<(), StoreError> {
        for member in members {
            let wire = self.members.each().find(|(endpoint, _)| *endpoint == member.endpoint);
            let Some((endpoint, wire)) = wire else { continue };
            let mut client = MaintenanceClient::new(wire.clone());
            let written = tokio::time::timeout(WRITE, client.defragment(DefragmentRequest {})).await;
            let written = written.unwrap_or_else(|_| Err(Status::deadline_exceeded("it takes too long")));
            written.map_err(|status| StoreError::Cluster(format!("{endpoint}: {}", status.message())))?;
            // The next one only when this one is well: most of them have to serve at any time.
            let status = tell(endpoint, wire).await.map_err(super::failure)?;
            tracing::info!(endpoint, before = member.size, after = status.size, "etcd wrote its file again");
        }
        Ok(())
    }
}

/// What the members say of themselves, those that answer.
pub(super) async fn ask(members: &Members) -> Vec<Member> {
    let answers = members.each().map(|(endpoint, wire)| tell(endpoint, wire));
    let mut found = Vec::new();
    for answer in futures::future::join_all(answers).await {
        match answer {
            Ok(member) => found.push(member),
            Err(status) => tracing::debug!(error = status.message(), "member of etcd does not answer"),
        }
    }
    found
}

async fn tell(endpoint: &str, wire: Wire) -> Result<Member, Status> {
    let mut client = MaintenanceClient::new(wire);
    let status = tokio::time::timeout(TELL, client.status(StatusRequest {})).await;
    let status = status.map_err(|_| Status::deadline_exceeded(format!("{endpoint} does not answer")))??;
    let status = status.into_inner();
    let header = status.header.unwrap_or_default();
    let bytes = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(Member {
        endpoint: endpoint.to_owned(),
        cluster: header.cluster_id,
        id: header.member_id,
        leader: status.leader,
        version: status.version,
        agreed: None,
        learner: status.is_learner,
        errors: status.errors,
        size: bytes(status.db_size),
        in_use: bytes(status.db_size_in_use),
        quota: bytes(status.db_size_quota),
    })
}

/// The members that have no room.
async fn alarms(members: &Members) -> Result<Vec<u64>, Status> {
    let request =
        AlarmRequest { action: AlarmAction::Get.into(), member_id: 0, alarm: AlarmType::Nospace.into() };
    let call = |wire: Wire| async move { MaintenanceClient::new(wire).alarm(request).await };
    let found = members.ask(Repeat::Always, call).await?.alarms;
    Ok(found.iter().filter(|one| one.alarm() == AlarmType::Nospace).map(|one| one.member_id).collect())
}

async fn disarm(members: &Members, member: u64) -> Result<(), Status> {
    let action = AlarmAction::Deactivate.into();
    let request = AlarmRequest { action, member_id: member, alarm: AlarmType::Nospace.into() };
    let call = |wire: Wire| async move { MaintenanceClient::new(wire).alarm(request).await };
    members.ask(Repeat::Always, call).await.map(|_| ())
}
