//! Taking away all that a pod had on this node.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::Backoff;
use plimsoll_kernel::mount;

use super::blocking;
use crate::agent::Agent;
use crate::csi;

/// Unmounts and removes everything of a pod. May be repeated.
pub(crate) async fn release(agent: Arc<Agent>, uid: String) -> Result<(), String> {
    if agent.volumes.is_busy(&uid) {
        return Err("a volume is being made still".into());
    }
    csi::unpublish(&agent, &uid).await?;
    blocking(move || {
        let dir = agent.config.pod_dir(&uid);
        if dir.exists() {
            mount::unmount_below(&dir).map_err(|error| error.to_string())?;
            remove(&dir).map_err(|error| format!("removing {}: {error}", dir.display()))?;
        }
        agent.volumes.forget(&uid);
        agent.users.free(&uid);
        Ok(())
    })
    .await
}

/// Releases a pod that nobody knows any more, as often as it takes: its drivers may come later.
pub(crate) async fn release_orphan(agent: Arc<Agent>, uid: String) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(120));
    while let Err(error) = release(agent.clone(), uid.clone()).await {
        tracing::warn!(pod = uid, error, "volumes of a pod that is gone stay");
        tokio::time::sleep(backoff.delay()).await;
    }
}

/// Undoes what was prepared for pods that are gone, as often as it takes.
pub(crate) async fn sweep_stages(agent: Arc<Agent>) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(120));
    while let Err(error) = csi::sweep(&agent).await {
        tracing::debug!(error, "volumes that no pod uses stay prepared");
        tokio::time::sleep(backoff.delay()).await;
    }
}

/// Removes a folder, but nothing of another file system: what is mounted still is somebody's data.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Ok(meta) => remove_below(dir, meta.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_below(dir: &Path, device: u64) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let meta = fs::symlink_metadata(&path)?;
        if meta.dev() != device {
            return Err(io::Error::other(format!("{} is mounted", path.display())));
        }
        if meta.is_dir() { remove_below(&path, device)? } else { fs::remove_file(&path)? }
    }
    fs::remove_dir(dir)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_stays() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("pod");
        let inside = dir.join("volumes/v");
        fs::create_dir_all(&inside).unwrap();
        mount::tmpfs(&inside, "").unwrap();
        fs::write(inside.join("data"), "x").unwrap();
        assert!(remove(&dir).unwrap_err().to_string().ends_with("volumes/v is mounted"));
        assert!(inside.join("data").exists());
        mount::unmount_below(&dir).unwrap();
        remove(&dir).unwrap();
        assert!(!dir.exists());
        remove(&dir).unwrap();
    }
}
