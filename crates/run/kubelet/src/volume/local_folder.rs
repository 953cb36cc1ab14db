//! Folders of the built-in provisioner (`plimsoll.io/local`): made when a pod first uses one, removed before its
//! volume goes, watched in between.
//!
//! What enters are the volumes that name this node; what leaves are folders, Events, and the finalizer that held a
//! volume. Only folders that have a volume's own name, right below the agent's folder, are touched, and no link is
//! followed on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume};
use kube::Api;
use kube::api::{Patch, PatchParams};
use plimsoll_client::{Delta, EventType, Filter, Informer, Object as _, WorkQueue};
use plimsoll_meta::quantity::Quantity;
use plimsoll_volume::annotation::VOLUME_PROTECTION;
use plimsoll_volume::local::{FINALIZER, NODE};
use plimsoll_volume::{capacity, is_local, reclaim_policy, volume_phase};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{blocking, release};
use crate::agent::Agent;
use crate::pressure::disk_use;

/// Counting files takes at most this part of the time.
const SHARE: u32 = 50;

/// Makes the folder of a volume, if it is one of these.
pub(super) async fn make(agent: &Agent, volume: &PersistentVolume) -> Result<(), String> {
    if !is_local(volume) {
        return Ok(());
    }
    let Some(root) = agent.config.local_volumes.clone() else {
        return Err("this node keeps no local volumes".to_owned());
    };
    let folder = folder(&root, volume)?;
    blocking(move || make_folder(&root, &folder)).await
}

/// The folder of a volume.
fn folder(root: &Path, volume: &PersistentVolume) -> Result<PathBuf, String> {
    let name = volume.name();
    let own = root.join(name);
    let said = volume.spec.as_ref().and_then(|spec| spec.local.as_ref()).map(|local| local.path.as_str());
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    match said {
        Some(said) if plain && Path::new(said) == own => Ok(own),
        said => Err(format!("path \"{}\" is not \"{}\"", said.unwrap_or_default(), own.display())),
    }
}

fn make_folder(root: &Path, folder: &Path) -> Result<(), String> {
    let text = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    if !is_folder(root)? {
        fs::create_dir_all(root).map_err(|error| text(root, error))?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(|error| text(root, error))?;
    }
    if is_folder(folder)? {
        return Ok(());
    }
    fs::create_dir(folder).map_err(|error| text(folder, error))?;
    // As in an empty folder of a pod, whoever runs in it may write.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).map_err(|error| text(folder, error))
}

/// Whether a folder is there; an error if something else is, such as a link.
fn is_folder(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(true),
        Ok(_) => Err(format!("path \"{}\" is not a directory", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Looks after all folders of this node until `stop`.
pub(crate) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let Some(root) = agent.config.local_volumes.clone() else { return stop.cancelled().await };
    let labels = Some(format!("{NODE}={}", agent.config.node_name));
    let filter = Filter { labels, ..Filter::default() };
    let volumes = agent.informers.filtered::<PersistentVolume>(filter);
    let keeper = Keeper { agent, root, volumes, queue: WorkQueue::new() };
    tokio::select! {
        () = stop.cancelled() => {}
        () = keeper.notice() => {}
        () = keeper.remove() => {}
        () = keeper.measure() => {}
    }
}

struct Keeper {
    agent: Arc<Agent>,
    root: PathBuf,
    volumes: Informer<PersistentVolume>,
    /// Names of volumes that go.
    queue: WorkQueue<String>,
}

/// Whether nobody has the volume any more, so that it waits for this agent alone.
fn waits(volume: &PersistentVolume) -> bool {
    let held = |by: &str| volume.metadata.finalizers.iter().flatten().any(|one| one == by);
    volume.metadata.deletion_timestamp.is_some()
        && held(FINALIZER)
        && !held(VOLUME_PROTECTION)
        && volume_phase(volume) != "Bound"
}

impl Keeper {
    async fn notice(&self) {
        let mut deltas = self.volumes.subscribe();
        while let Some(delta) = deltas.recv().await {
            if let Delta::Applied { new, .. } = delta
                && waits(&new)
            {
                self.queue.add(new.name().to_owned());
            }
        }
    }

    async fn remove(&self) {
        loop {
            let name = self.queue.get().await;
            if let Some(volume) = self.volumes.get("", &name).filter(|volume| waits(volume)) {
                match self.let_go(&volume).await {
                    Ok(()) => self.queue.forget(&name),
                    Err(why) => {
                        self.tell(&reference(&volume), "VolumeFailedDelete", why);
                        self.queue.add_rate_limited(name.clone());
                    }
                }
            }
            self.queue.done(&name);
        }
    }

    async fn let_go(&self, volume: &PersistentVolume) -> Result<(), String> {
        if reclaim_policy(volume) == "Delete" {
            let folder = folder(&self.root, volume)?;
            let (pods, name) = (self.agent.config.data_dir.join("pods"), volume.name().to_owned());
            blocking(move || remove_folder(&pods, &name, &folder)).await?;
        }
        let mut finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|one| one != FINALIZER);
        let metadata = json!({"finalizers": finalizers, "resourceVersion": volume.metadata.resource_version});
        let all = Api::<PersistentVolume>::all(self.agent.client.clone());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match all.patch(volume.name(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(|error| error.to_string()),
        }
    }

    /// Tells of volumes that hold more than they were asked for.
    async fn measure(&self) {
        let period = self.agent.config.volume_stats_period;
        if period.is_zero() {
            return std::future::pending().await;
        }
        self.volumes.synced().await;
        let mut told = BTreeSet::new();
        loop {
            let begun = Instant::now();
            let mut figures = BTreeMap::new();
            for volume in self.volumes.list() {
                let Ok(folder) = folder(&self.root, &volume) else { continue };
                let Ok(used) = blocking(move || Ok(disk_use(&folder).bytes)).await else { continue };
                let Some(size) = capacity(&volume) else { continue };
                let over = used > size.value();
                if over && told.insert(volume.name().to_owned()) {
                    self.tell_claim(&volume, used, &size);
                } else if !over {
                    told.remove(volume.name());
                }
                figures.insert(volume.name().to_owned(), (used.unsigned_abs(), size.value().unsigned_abs()));
            }
            self.agent.volumes.measured(figures);
            tokio::time::sleep(period.max(begun.elapsed() * SHARE)).await;
        }
    }

    fn tell_claim(&self, volume: &PersistentVolume, used: i64, size: &Quantity) {
        let Some(claim) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()) else { return };
        let used = Quantity::from_bytes(used);
        let why = format!("volume {} holds {used}, more than the {size} that it has room for", volume.name());
        self.tell(&claim, "VolumeOverfull", why);
    }

    fn tell(&self, about: &ObjectReference, reason: &str, message: String) {
        self.agent.recorder.event(about, EventType::Warning, reason, message);
    }
}

fn reference(volume: &PersistentVolume) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolume".to_owned()),
        name: volume.metadata.name.clone(),
        uid: volume.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Removes a folder that no pod shows any more.
fn remove_folder(pods: &Path, name: &str, folder: &Path) -> Result<(), String> {
    for pod in fs::read_dir(pods).into_iter().flatten().flatten() {
        let shown = pod.path().join("volumes/kubernetes.io~local-volume").join(name);
        if shown.exists() {
            return Err(format!("{} is in use still", folder.display()));
        }
    }
    is_folder(folder)?;
    release::remove(folder).map_err(|error| format!("removing {}: {error}", folder.display()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn volume(name: &str, path: &str) -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"local": {"path": path}}}))
            .unwrap()
    }

    #[test]
    fn only_own_folders_are_touched() {
        let root = Path::new("/data");
        for (name, path, fine) in [
            ("pvc-1", "/data/pvc-1", true),
            ("pvc-1", "/data/pvc-2", false),
            ("pvc-1", "/etc", false),
            ("pvc-1", "/data/../etc/pvc-1", false),
            ("..", "/data/..", false),
            ("a/b", "/data/a/b", false),
        ] {
            assert_eq!(folder(root, &volume(name, path)).is_ok(), fine, "{name} {path}");
        }
    }

    #[test]
    fn folders_are_made_once_and_links_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("volumes");
        let (folder, link) = (root.join("pvc-1"), root.join("pvc-2"));
        make_folder(&root, &folder).unwrap();
        fs::write(folder.join("data"), "x").unwrap();
        make_folder(&root, &folder).unwrap();
        assert!(folder.join("data").exists());
        let elsewhere = temp.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("precious"), "x").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        let refused = format!("path \"{}\" is not a directory", link.display());
        assert_eq!(make_folder(&root, &link), Err(refused.clone()));
        assert_eq!(remove_folder(&temp.path().join("pods"), "pvc-2", &link), Err(refused));

        let pods = temp.path().join("pods");
        let shown = pods.join("uid/volumes/kubernetes.io~local-volume/pvc-1");
        fs::create_dir_all(&shown).unwrap();
        assert!(remove_folder(&pods, "pvc-1", &folder).unwrap_err().ends_with("is in use still"));
        fs::remove_dir(&shown).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.join("out")).unwrap();
        remove_folder(&pods, "pvc-1", &folder).unwrap();
        assert!(!folder.exists() && elsewhere.join("precious").exists(), "links are removed, not followed");
        remove_folder(&pods, "pvc-1", &folder).unwrap();
    }

    #[test]
    fn volumes_wait_for_their_folder_only_when_nobody_has_them() {
        let volume = |going: bool, phase: &str, finalizers: &[&str]| -> PersistentVolume {
            let going = going.then_some("2024-01-01T00:00:00Z");
            serde_json::from_value(json!({"metadata": {"deletionTimestamp": going, "finalizers": finalizers},
                "spec": {}, "status": {"phase": phase}}))
            .unwrap()
        };
        for (volume, expected) in [
            (volume(true, "Released", &[FINALIZER]), true),
            (volume(true, "Released", &[FINALIZER, VOLUME_PROTECTION]), false),
            (volume(true, "Bound", &[FINALIZER]), false),
            (volume(false, "Released", &[FINALIZER]), false),
            (volume(true, "Released", &["other"]), false),
        ] {
            assert_eq!(waits(&volume), expected, "{volume:?}");
        }
    }
}
