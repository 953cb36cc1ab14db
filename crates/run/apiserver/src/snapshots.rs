//! Copies of the store, made by the clock and kept for a while.
//!
//! A file is named after the second in which it was made and the revision it shows.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plimsoll_store::Store;
use tokio_util::sync::CancellationToken;

use crate::config::Snapshots;

/// How long a server runs before it makes the first one of all.
const FIRST: u64 = 60;
/// What the names end with.
const END: &str = "snapshot";

/// Makes them until `shutdown`. `cluster` is how they name the cluster.
pub(crate) async fn run(store: Store, snapshots: Snapshots, cluster: String, shutdown: CancellationToken) {
    let started = now();
    loop {
        let newest = all(&snapshots.folder).unwrap_or_default().pop();
        let due = newest.map_or(started + FIRST, |(made, _)| made + snapshots.every.as_secs());
        let wait = Duration::from_secs(due.saturating_sub(now()));
        if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        if let Err(error) = make(&store, &snapshots, &cluster).await {
            tracing::error!(%error, folder = %snapshots.folder.display(), "snapshot of the state failed");
            if shutdown.run_until_cancelled(tokio::time::sleep(Duration::from_secs(FIRST))).await.is_none() {
                return;
            }
        }
    }
}

async fn make(
    store: &Store,
    snapshots: &Snapshots,
    cluster: &str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&snapshots.folder)?;
    let path = snapshots.folder.join(format!("{}-{}.{END}", now(), store.revision()));
    let summary = store.save(&path, cluster).await?;
    tracing::info!(path = %path.display(), revision = %summary.revision, "snapshot of the state made");
    let oldest = now().saturating_sub(snapshots.keep.as_secs());
    let mut made = all(&snapshots.folder)?;
    // The newest stays, however old it is.
    made.pop();
    for (_, path) in made.into_iter().filter(|(made, _)| *made < oldest) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// All of a folder with the second in which each was made, oldest first.
fn all(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let made = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_suffix(END)?;
        name.split_once('-')?.0.parse::<u64>().ok()
    };
    let paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut found: Vec<_> = paths.filter_map(|path| Some((made(&path)?, path))).collect();
    found.sort();
    Ok(found)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn old_ones_go_and_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), plimsoll_store::Options::default()).unwrap();
        let place = folder.path().join("snapshots");
        fs::create_dir(&place).unwrap();
        let hour = 3600;
        let old = format!("{}-7.{END}", now() - 3 * hour);
        let recent = format!("{}-8.{END}", now() - hour);
        for name in [&old, &recent, "a-file"] {
            fs::write(place.join(name), "").unwrap();
        }
        let snapshots = Snapshots {
            folder: place.clone(),
            every: Duration::from_secs(hour),
            keep: Duration::from_secs(2 * hour),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(store, snapshots, "cluster-a".into(), shutdown.clone()));
        while place.join(&old).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        shutdown.cancel();
        running.await.unwrap();
        let left = all(&place).unwrap();
        assert_eq!((left.len(), &left[0].1), (2, &place.join(recent)));
        assert_eq!(plimsoll_store::snapshot_status(&left[1].1).unwrap().cluster, "cluster-a");
        assert!(place.join("a-file").exists());
    }
}
