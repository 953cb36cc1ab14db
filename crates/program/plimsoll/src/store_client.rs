//! `plimsoll store` of a running instance: it is asked over its socket.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hyper_util::rt::TokioIo;
use plimsoll_etcd::etcdserverpb::alarm_request::AlarmAction;
use plimsoll_etcd::etcdserverpb::kv_client::KvClient;
use plimsoll_etcd::etcdserverpb::lease_client::LeaseClient;
use plimsoll_etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use plimsoll_etcd::etcdserverpb::{self as pb};
use plimsoll_store::etcd::OWN_FORM;
use plimsoll_store::{Draft, Summary, snapshot_status};
use tokio::net::UnixStream;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::etcd::SOCKET;

/// A running instance.
pub(crate) struct Running {
    channel: Channel,
}

impl Running {
    /// The instance of a data directory.
    pub(crate) async fn connect(data_dir: &Path) -> anyhow::Result<Self> {
        let socket = data_dir.join(SOCKET);
        let path = socket.clone();
        // The URI only fills the authority of the requests: the connector knows the path.
        let connector = tower::service_fn(move |_: Uri| {
            let path: PathBuf = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
        let channel = channel.with_context(|| {
            let (socket, dir) = (socket.display(), data_dir.display());
            format!(
                "no instance answers on {socket}: is one running, is {dir} its --data-dir, and does it keep its state itself \
                 (with --datastore-endpoint, ask etcd: plimsoll store members, etcdctl)?"
            )
        })?;
        Ok(Self { channel })
    }

    /// Tells how the store is.
    pub(crate) async fn status(&self) -> anyhow::Result<()> {
        let status = self.maintenance().status(pb::StatusRequest {}).await.map_err(told)?.into_inner();
        let count = pb::RangeRequest { count_only: true, ..everything() };
        let keys = self.keys().range(count).await.map_err(told)?.into_inner();
        let hash =
            self.maintenance().hash_kv(pb::HashKvRequest { revision: 0 }).await.map_err(told)?.into_inner();
        let leases = LeaseClient::new(self.channel.clone()).lease_leases(pb::LeaseLeasesRequest {}).await;
        let leases = leases.map_err(told)?.into_inner().leases.len();
        println!(
            "revision   {} (history from {})",
            keys.header.map_or(0, |header| header.revision),
            // etcd says -1 of a history that was never cut.
            hash.compact_revision.max(1)
        );
        println!("keys       {}, {leases} leases", keys.count);
        // Files are compressed, so that what is kept may be more than they have.
        println!("disk       {} bytes of files for {} bytes of state", status.db_size, status.db_size_in_use);
        println!(
            "alarms     {}",
            if status.errors.is_empty() { "none".to_owned() } else { status.errors.join(", ") }
        );
        Ok(())
    }

    /// Lets history go before a revision, or before now.
    pub(crate) async fn compact(&self, revision: Option<i64>) -> anyhow::Result<()> {
        let revision = match revision {
            Some(revision) => revision,
            None => {
                let count = pb::RangeRequest { count_only: true, ..everything() };
                let header = self.keys().range(count).await.map_err(told)?.into_inner().header;
                header.map_or(0, |header| header.revision)
            }
        };
        let request = pb::CompactionRequest { revision, physical: true };
        self.keys().compact(request).await.map_err(told)?;
        println!("compacted to revision {revision}");
        Ok(())
    }

    /// Gives back the room of what was removed.
    pub(crate) async fn reclaim(&self) -> anyhow::Result<()> {
        let size = async || -> anyhow::Result<i64> {
            Ok(self.maintenance().status(pb::StatusRequest {}).await.map_err(told)?.into_inner().db_size)
        };
        let before = size().await?;
        self.maintenance().defragment(pb::DefragmentRequest {}).await.map_err(told)?;
        println!("{before} bytes on disk before, {} now", size().await?);
        Ok(())
    }

    /// Tells what is the matter, and makes the store accept writes again where that is asked for.
    pub(crate) async fn alarm(&self, action: AlarmAction) -> anyhow::Result<()> {
        let request = pb::AlarmRequest { action: action.into(), ..Default::default() };
        let alarms = self.maintenance().alarm(request).await.map_err(told)?.into_inner().alarms;
        let text = if alarms.is_empty() { "no alarm" } else { "NOSPACE" };
        println!(
            "{text}{}",
            if action == AlarmAction::Deactivate && !alarms.is_empty() { ": disarmed" } else { "" }
        );
        Ok(())
    }

    /// Copies everything to a file.
    pub(crate) async fn save(&self, path: &Path) -> anyhow::Result<Summary> {
        let mut request = Request::new(pb::SnapshotRequest {});
        request.metadata_mut().insert(OWN_FORM, MetadataValue::from_static("yes"));
        let mut pieces = self.maintenance().snapshot(request).await.map_err(told)?.into_inner();
        let failed = || format!("write {}", path.display());
        let mut draft = Draft::begin(path).with_context(failed)?;
        while let Some(piece) = pieces.message().await.map_err(told)? {
            draft.write_all(&piece.blob).with_context(failed)?;
        }
        let summary = snapshot_status(draft.path())?;
        draft.finish().with_context(failed)?;
        Ok(summary)
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    fn keys(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }
}

fn everything() -> pb::RangeRequest {
    let zero = bytes::Bytes::from_static(&[0]);
    pb::RangeRequest { key: zero.clone(), range_end: zero, ..Default::default() }
}

/// What the store answered, without the frame around it.
fn told(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}
