//! The state store: its flags of `up`, and `plimsoll store`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use plimsoll_apiserver::{Datastore, Snapshots, revision_place};
use plimsoll_etcd::etcdserverpb::alarm_request::AlarmAction;
use plimsoll_store::{
    Cluster, Member, Membership, Options, Owner, Store, StoreError, Summary, check, cluster_of, examine,
    restore, restore_etcd, snapshot_status,
};
use tokio_util::sync::CancellationToken;

use crate::etcd::{self, EtcdTlsArgs, Place};
use crate::instance::USUAL;
use crate::store_client::Running;
use crate::{log, up};

/// What the state store keeps, and for how long
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArgs {
    /// How often history that nobody needs is dropped; 0: never by the clock
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = plimsoll_meta::duration::parse)]
    pub(crate) etcd_compaction_interval: Duration,
    /// How many bytes the state may take; beyond it, writes that add something are refused. 0: 2 GiB
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) quota_backend_bytes: u64,
    /// How often the state is copied to the data directory's snapshots; 0: never
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = plimsoll_meta::duration::parse)]
    pub(crate) snapshot_interval: Duration,
    /// How long these copies are kept; the newest stays
    #[arg(long, value_name = "DURATION", default_value = "168h", value_parser = plimsoll_meta::duration::parse)]
    pub(crate) snapshot_retention: Duration,
    /// Where the state is served to etcdctl and other clients of etcd: ADDRESS:PORT with certificates,
    /// unix:///SOCKET, or http://127.0.0.1:PORT for every program of this machine
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        help_heading = "etcd API",
        conflicts_with = "datastore_endpoint"
    )]
    pub(crate) etcd_listen: Vec<Place>,
    #[command(flatten)]
    pub(crate) etcd_tls: EtcdTlsArgs,
    #[command(flatten)]
    pub(crate) datastore: DatastoreArgs,
}

/// The cluster of etcd that keeps the state
#[derive(Args, Clone, Debug)]
pub(crate) struct DatastoreArgs {
    /// A member of an etcd cluster (SCHEME://HOST:PORT) that keeps the state instead of the data directory; repeat it, or
    /// separate them by commas, for all members. It must be 3.4 or newer, and hold nothing that others wrote
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) datastore_endpoint: Vec<String>,
    /// Whose certificates the members of etcd show (PEM)
    #[arg(long, value_name = "FILE", requires = "datastore_endpoint")]
    pub(crate) datastore_cafile: Option<PathBuf>,
    /// Our certificate for etcd (PEM)
    #[arg(long, value_name = "FILE", requires = "datastore_endpoint", requires = "datastore_keyfile")]
    pub(crate) datastore_certfile: Option<PathBuf>,
    /// The key of our certificate for etcd (PEM)
    #[arg(long, value_name = "FILE", requires = "datastore_endpoint", requires = "datastore_certfile")]
    pub(crate) datastore_keyfile: Option<PathBuf>,
}

impl StoreArgs {
    pub(crate) fn compaction_interval(&self) -> Option<Duration> {
        Some(self.etcd_compaction_interval).filter(|interval| !interval.is_zero())
    }

    pub(crate) fn quota(&self) -> u64 {
        quota(self.quota_backend_bytes)
    }

    /// Serves the etcd API of an instance's store.
    pub(crate) async fn serve(
        &self,
        store: Store,
        directory: &Path,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        // A cluster of etcd serves its own.
        if !self.datastore.datastore_endpoint.is_empty() {
            return Ok(());
        }
        let cluster = cluster(directory)?.unwrap_or_default();
        etcd::serve(store, directory, &cluster, &self.etcd_listen, &self.etcd_tls, shutdown).await
    }

    pub(crate) fn snapshots(&self, folder: PathBuf) -> Option<Snapshots> {
        let (every, keep) = (self.snapshot_interval, self.snapshot_retention);
        (!every.is_zero()).then_some(Snapshots { folder, every, keep })
    }
}

/// etcd's default stands behind 0.
fn quota(bytes: u64) -> u64 {
    const DEFAULT: u64 = 2 << 30;
    if bytes == 0 { DEFAULT } else { bytes }
}

impl DatastoreArgs {
    /// The cluster that keeps the state, if one does.
    pub(crate) fn datastore(&self) -> anyhow::Result<Option<Datastore>> {
        let endpoints = self.datastore_endpoint.clone();
        let secure = endpoints.iter().any(|endpoint| endpoint.starts_with("https://"));
        if endpoints.is_empty() {
            return Ok(None);
        }
        anyhow::ensure!(
            secure == self.datastore_cafile.is_some(),
            "--datastore-cafile and endpoints that begin with https:// need each other"
        );
        let identity = self.datastore_certfile.clone().zip(self.datastore_keyfile.clone());
        Ok(Some(Datastore { endpoints, authority: self.datastore_cafile.clone(), identity }))
    }
}

/// `plimsoll store`
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreCommand {
    /// Where the instance keeps everything
    #[arg(long, global = true, value_name = "DIR", default_value = USUAL)]
    data_dir: PathBuf,
    #[command(subcommand)]
    action: StoreAction,
}

/// What to do with the state.
#[derive(Subcommand, Clone, Debug)]
enum StoreAction {
    /// Tell how the store of a running instance is
    Status,
    /// Let the history of a running instance go: before a revision, or all of it
    Compact {
        /// The first revision that can be read afterwards
        revision: Option<i64>,
    },
    /// Give the room of what was removed back at once
    Reclaim,
    /// The alarm of a store without room
    #[command(subcommand)]
    Alarm(AlarmCommand),
    /// Serve a state of its own as an etcd, for other API servers
    Serve(Serve),
    /// Hold the state of a stopped instance (`down --keep-data`) against its checksums, and its index against a scan
    Check,
    /// How the members of a cluster of etcd are, and what is to be done about it
    Members(DatastoreArgs),
    /// Copies of the state
    #[command(subcommand)]
    Snapshot(SnapshotAction),
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum AlarmCommand {
    /// Tell whether it is raised
    List,
    /// Accept writes again, until the next one does not fit
    Disarm,
}

/// An etcd of one member
#[derive(Args, Clone, Debug)]
struct Serve {
    /// Where: ADDRESS:PORT with certificates, unix:///SOCKET, or http://127.0.0.1:PORT for every program of this machine
    #[arg(long, value_name = "URL", value_delimiter = ',', default_value = "127.0.0.1:2379")]
    listen: Vec<Place>,
    /// How often history is dropped; 0: when a client asks for it, as API servers do
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = plimsoll_meta::duration::parse)]
    compaction_interval: Duration,
    /// How many bytes the state may take; beyond it, writes that add something are refused. 0: 2 GiB
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    quota_backend_bytes: u64,
    #[command(flatten)]
    tls: EtcdTlsArgs,
}

#[derive(Subcommand, Clone, Debug)]
enum SnapshotAction {
    /// Copy the state to a file
    Save {
        /// The file
        file: PathBuf,
    },
    /// Hold a copy against its hash, and tell what it is of
    Status {
        /// The file
        file: PathBuf,
    },
    /// Make the state of a copy; the instance must have none
    Restore {
        /// The file: of this program, or of `etcdctl snapshot save`
        file: PathBuf,
        /// How far revisions skip ahead, so that clients of a later state list again
        #[arg(long, value_name = "COUNT", default_value_t = 1_000_000_000, value_parser = clap::value_parser!(i64).range(0..=1 << 60))]
        bump_revision: i64,
        #[command(flatten)]
        etcd: EtcdMember,
    },
}

/// A member of a new cluster of etcd, made instead
#[derive(Args, Clone, Debug)]
struct EtcdMember {
    /// Make the data directory of an etcd instead, one on the machine of each member; the flags --initial-… and --name are
    /// those of etcd
    #[arg(long, value_name = "DIR")]
    etcd_data_dir: Option<PathBuf>,
    /// The name of the member
    #[arg(long, value_name = "NAME", default_value = "default", requires = "etcd_data_dir")]
    name: String,
    /// All members, and where they reach each other
    #[arg(
        long,
        value_name = "NAME=URL,…",
        default_value = "default=http://localhost:2380",
        requires = "etcd_data_dir"
    )]
    initial_cluster: String,
    /// What tells clusters at the same addresses apart
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster", requires = "etcd_data_dir")]
    initial_cluster_token: String,
}

/// Does it and tells what there is.
pub(crate) fn run(command: &StoreCommand) -> anyhow::Result<()> {
    let place = command.data_dir.join("store");
    match &command.action {
        StoreAction::Status => running(command, async |instance| instance.status().await)?,
        StoreAction::Compact { revision } => {
            running(command, async |instance| instance.compact(*revision).await)?;
        }
        StoreAction::Reclaim => running(command, async |instance| instance.reclaim().await)?,
        StoreAction::Alarm(alarm) => {
            let action = match alarm {
                AlarmCommand::List => AlarmAction::Get,
                AlarmCommand::Disarm => AlarmAction::Deactivate,
            };
            running(command, async |instance| instance.alarm(action).await)?;
        }
        StoreAction::Serve(options) => serve(command, options)?,
        StoreAction::Check => {
            let found = check(&place)?;
            println!(
                "{}: {} keys in {} versions at revision {}, compacted at {}; {} batches in journals; all is well",
                place.display(),
                found.keys,
                found.rows,
                found.revision,
                found.compacted,
                found.batches
            );
        }
        StoreAction::Members(cluster) => members(cluster)?,
        StoreAction::Snapshot(SnapshotAction::Save { file }) => tell(file, &save(command, &place, file)?),
        StoreAction::Snapshot(SnapshotAction::Status { file }) => tell(file, &snapshot_status(file)?),
        StoreAction::Snapshot(SnapshotAction::Restore { file, bump_revision, etcd }) => {
            if let Some(to) = &etcd.etcd_data_dir {
                let EtcdMember { name, initial_cluster, initial_cluster_token, .. } = etcd;
                let membership = Membership::read(name, initial_cluster, initial_cluster_token)?;
                tell(file, &restore_etcd(file, to, &membership, *bump_revision)?);
                return Ok(());
            }
            let cluster = cluster(&command.data_dir)?;
            let owner = cluster.as_deref().map(|cluster| Owner { cluster, place: revision_place });
            tell(file, &restore(file, &place, owner, *bump_revision)?);
        }
    }
    Ok(())
}

/// Asks the running instance.
fn running<T>(
    command: &StoreCommand,
    ask: impl AsyncFnOnce(&Running) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    runtime.block_on(async { ask(&Running::connect(&command.data_dir).await?).await })
}

/// Serves a store until a signal.
fn serve(command: &StoreCommand, options: &Serve) -> anyhow::Result<()> {
    log::begin(log::Reader::Terminal, log::Format::Text);
    let directory = &command.data_dir;
    // Somebody else's store is not served beside it.
    anyhow::ensure!(
        !directory.join("pki/ca.crt").exists(),
        "{} is that of a cluster: `plimsoll up --etcd-listen` serves its state",
        directory.display()
    );
    let mut builder = fs::DirBuilder::new();
    let made = std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700).create(directory);
    made.with_context(|| format!("make {}", directory.display()))?;
    let runtime = up::runtime()?;
    runtime.block_on(async {
        let interval = Some(options.compaction_interval).filter(|interval| !interval.is_zero());
        let settings = Options {
            compaction_interval: interval,
            quota: quota(options.quota_backend_bytes),
            ..Options::default()
        };
        let store = Store::open(&directory.join("store"), settings)?;
        let shutdown = CancellationToken::new();
        up::stop_on_signal(shutdown.clone())?;
        etcd::serve(store, directory, &own_name(directory), &options.listen, &options.tls, &shutdown).await?;
        shutdown.cancelled().await;
        Ok(())
    })
}

fn members(cluster: &DatastoreArgs) -> anyhow::Result<()> {
    let Datastore { endpoints, authority, identity } =
        cluster.datastore()?.context("name the members of etcd: --datastore-endpoint")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    // No values are read.
    let cluster = Cluster { endpoints, authority, identity, place: |_| None };
    let (members, advice) = runtime.block_on(examine(&cluster))?;
    println!(
        "{:<32} {:<16} {:<10} {:<7} {:>14} {:>14}",
        "ENDPOINT", "ID", "VERSION", "LEADER", "BYTES", "IN USE"
    );
    for Member { endpoint, id, leader, version, size, in_use, .. } in members {
        let leads = if id == leader { "yes" } else { "no" };
        println!("{endpoint:<32} {id:<16x} {version:<10} {leads:<7} {size:>14} {in_use:>14}");
    }
    advice.iter().for_each(|advice| println!("{advice}"));
    anyhow::ensure!(advice.is_empty(), "{} to be looked at", advice.len());
    Ok(())
}

/// A running instance is asked; the files of a stopped one are read.
fn save(command: &StoreCommand, place: &Path, file: &Path) -> anyhow::Result<Summary> {
    // A process that was killed leaves its socket.
    if std::os::unix::net::UnixStream::connect(command.data_dir.join(etcd::SOCKET)).is_ok() {
        return running(command, async |instance| instance.save(file).await);
    }
    if !place.join("format").exists() {
        return Err(StoreError::Absent { path: place.to_owned() }.into());
    }
    let cluster = cluster(&command.data_dir)?.unwrap_or_else(|| own_name(&command.data_dir));
    let store = Store::open(place, Options { compaction_interval: None, ..Options::default() });
    let store = store?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("start")?;
    Ok(runtime.block_on(store.save(file, &cluster))?)
}

/// How snapshots name a store without a cluster.
fn own_name(data_dir: &Path) -> String {
    format!("store {}", data_dir.display())
}

/// How snapshots name the cluster of a directory, if there is one.
fn cluster(data_dir: &Path) -> anyhow::Result<Option<String>> {
    let certificate = data_dir.join("pki/ca.crt");
    match fs::read(&certificate) {
        Ok(bytes) => Ok(Some(cluster_of(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", certificate.display())),
    }
}

fn tell(file: &Path, summary: &Summary) {
    let Summary { cluster, revision, rows, bytes, hash } = summary;
    println!(
        "{}: revision {revision}, {rows} versions, {bytes} bytes, cluster {cluster}, sha256 {hash}",
        file.display()
    );
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_quota_is_the_usual_one() {
        assert_eq!([0, 1].map(super::quota), [2 << 30, 1]);
    }
}
