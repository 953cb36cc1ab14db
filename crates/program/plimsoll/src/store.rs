//! The state store: its flags of `up`, and `plimsoll store`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use plimsoll_apiserver::Snapshots;
use plimsoll_store::{Options, Store, Summary, check, cluster_of, restore, snapshot_status};

use crate::instance::USUAL;

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
}

impl StoreArgs {
    pub(crate) fn compaction_interval(&self) -> Option<Duration> {
        Some(self.etcd_compaction_interval).filter(|interval| !interval.is_zero())
    }

    /// etcd's default stands behind 0.
    pub(crate) fn quota(&self) -> u64 {
        const DEFAULT: u64 = 2 << 30;
        if self.quota_backend_bytes == 0 { DEFAULT } else { self.quota_backend_bytes }
    }

    pub(crate) fn snapshots(&self, folder: PathBuf) -> Option<Snapshots> {
        let (every, keep) = (self.snapshot_interval, self.snapshot_retention);
        (!every.is_zero()).then_some(Snapshots { folder, every, keep })
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
    /// Hold the state of a stopped instance (`down --keep-data`) against its checksums, and its index against a scan
    Check,
    /// Copies of the state
    #[command(subcommand)]
    Snapshot(SnapshotAction),
}

#[derive(Subcommand, Clone, Debug)]
enum SnapshotAction {
    /// Copy the state of a stopped instance to a file; a running one copies to its snapshots by itself
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
        /// The file
        file: PathBuf,
        /// How far revisions skip ahead, so that clients of a later state list again
        #[arg(long, value_name = "COUNT", default_value_t = 1_000_000_000, value_parser = clap::value_parser!(i64).range(0..))]
        bump_revision: i64,
    },
}

/// Does it and tells what there is.
pub(crate) fn run(command: &StoreCommand) -> anyhow::Result<()> {
    let place = command.data_dir.join("store");
    match &command.action {
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
        StoreAction::Snapshot(SnapshotAction::Save { file }) => tell(file, &save(command, &place, file)?),
        StoreAction::Snapshot(SnapshotAction::Status { file }) => tell(file, &snapshot_status(file)?),
        StoreAction::Snapshot(SnapshotAction::Restore { file, bump_revision }) => {
            let cluster = cluster(&command.data_dir)?;
            tell(file, &restore(file, &place, cluster.as_deref(), *bump_revision)?);
        }
    }
    Ok(())
}

fn save(command: &StoreCommand, place: &Path, file: &Path) -> anyhow::Result<Summary> {
    let cluster = cluster(&command.data_dir)?;
    let cluster = cluster.with_context(|| format!("{} holds no cluster", command.data_dir.display()))?;
    let store = Store::open(place, Options { compaction_interval: None, ..Options::default() });
    let store = store.context("a running instance copies its state to its snapshots by itself")?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("start")?;
    Ok(runtime.block_on(store.save(file, &cluster))?)
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
