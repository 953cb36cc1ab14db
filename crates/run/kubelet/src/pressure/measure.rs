//! What the node and its pods use.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use nix::sys::statvfs::statvfs;
use plimsoll_cri::v1;
use plimsoll_podlife::eviction::rank::Layout;
use plimsoll_podlife::eviction::{ContainerUse, DiskUse, Figure, Figures, PodUse, Signal};

use crate::agent::Agent;
use crate::machine::{available_memory, processes};
use crate::volume;

/// Where things lie.
#[derive(Clone)]
pub(super) struct Disks {
    /// Volumes and logs.
    pub(super) node: PathBuf,
    /// Images.
    pub(super) images: PathBuf,
    /// Writable layers.
    pub(super) containers: PathBuf,
    pub(super) layout: Layout,
}

impl Disks {
    /// Everything with the node's own files.
    pub(super) fn together(agent: &Agent) -> Self {
        let node = agent.config.data_dir.clone();
        Self { images: node.clone(), containers: node.clone(), node, layout: Layout::Together }
    }

    /// Asks the engine where it keeps images and containers; none when it does not answer.
    pub(super) async fn find(agent: &Agent) -> Option<Self> {
        let node = agent.config.data_dir.clone();
        let info = agent.engine.image_fs_info().await.ok()?;
        let place = |list: Vec<v1::FilesystemUsage>| {
            list.into_iter().find_map(|it| it.fs_id).map(|id| PathBuf::from(id.mountpoint))
        };
        let images = place(info.image_filesystems).unwrap_or_else(|| node.clone());
        let containers = place(info.container_filesystems).unwrap_or_else(|| images.clone());
        let device = |path: &Path| std::fs::metadata(path).map(|it| it.dev()).ok();
        let layout = match (device(&images) == device(&node), device(&containers) == device(&node)) {
            (true, _) => Layout::Together,
            (false, true) => Layout::OnlyImagesApart,
            (false, false) => Layout::ImagesApart,
        };
        Some(Self { node, images, containers, layout })
    }
}

/// What is left of everything that has a signal.
pub(super) fn node(agent: &Agent, disks: &Disks, at: Timestamp) -> Figures {
    let mut figures = Figures::new();
    let mut set = |signal, left: Option<(i64, i64)>| {
        if let Some((available, capacity)) = left {
            figures.insert(signal, Figure { available, capacity, at });
        }
    };
    set(Signal::MemoryAvailable, memory(agent));
    set(Signal::AllocatableMemoryAvailable, pods_memory(agent));
    set(Signal::PidAvailable, processes().map(|(running, most)| (most - running, most)));
    for (path, bytes, inodes) in [
        (&disks.node, Signal::NodeFsAvailable, Signal::NodeFsInodesFree),
        (&disks.images, Signal::ImageFsAvailable, Signal::ImageFsInodesFree),
        (&disks.containers, Signal::ContainerFsAvailable, Signal::ContainerFsInodesFree),
    ] {
        let space = space(path);
        set(bytes, space.map(|(bytes, _)| bytes));
        // File systems without a fixed number of inodes have no such figure.
        set(inodes, space.map(|(_, inodes)| inodes).filter(|(_, capacity)| *capacity > 0));
    }
    figures
}

/// Available and all memory. A pretended machine is used by pods only.
fn memory(agent: &Agent) -> Option<(i64, i64)> {
    let capacity = agent.machine.memory;
    if !agent.machine.is_pretended {
        return Some((available_memory(), capacity));
    }
    let used = agent.cgroups.pods().stats().ok()?.memory.working_set;
    Some((capacity - i64::try_from(used).ok()?, capacity))
}

fn pods_memory(agent: &Agent) -> Option<(i64, i64)> {
    let stats = agent.cgroups.pods().stats().ok()?.memory;
    let limit = i64::try_from(stats.limit?).ok()?;
    Some((limit - i64::try_from(stats.working_set).ok()?, limit))
}

type Left = (i64, i64);

/// What is left and what there is of a file system: bytes, inodes. What is reserved and can never be used
/// does not count as being there, or a disk with a large reserve would always seem full.
pub(super) fn space(path: &Path) -> Option<(Left, Left)> {
    let all = statvfs(path).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks * all.fragment_size()).unwrap_or(i64::MAX);
    let count = |inodes: u64| i64::try_from(inodes).unwrap_or(i64::MAX);
    let inodes = (count(all.files_available()), count(all.files()));
    let used = all.blocks().saturating_sub(all.blocks_free());
    let (available, capacity) = (all.blocks_available(), all.blocks_available() + used);
    Some(((bytes(available), bytes(capacity)), inodes))
}

/// What pods use, by UID. Pods that cannot be measured are absent.
pub(super) async fn pods(agent: &Arc<Agent>, pods: &[Arc<Pod>]) -> BTreeMap<String, PodUse> {
    let stats = agent.engine.container_stats().await.unwrap_or_default();
    let mut by_pod: HashMap<String, Vec<v1::ContainerStats>> = HashMap::new();
    for it in stats {
        let uid = it.attributes.as_ref().and_then(|it| it.labels.get(plimsoll_cri::POD_UID)).cloned();
        by_pod.entry(uid.unwrap_or_default()).or_default().push(it);
    }
    let (agent, pods) = (agent.clone(), pods.to_vec());
    let work = move || {
        let measured = pods.iter().filter_map(|pod| {
            let uid = pod.metadata.uid.clone()?;
            let stats = by_pod.remove(&uid).unwrap_or_default();
            Some((uid, pod_use(&agent, pod, &stats)?))
        });
        measured.collect()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

fn pod_use(agent: &Agent, pod: &Pod, stats: &[v1::ContainerStats]) -> Option<PodUse> {
    let uid = pod.metadata.uid.as_deref()?;
    let group = agent.cgroups.group(pod.spec.as_ref()?, uid).stats().ok()?;
    let meta = &pod.metadata;
    let name = |text: &Option<String>| text.clone().unwrap_or_default();
    let logs = agent.config.log_dir.join(format!("{}_{}_{uid}", name(&meta.namespace), name(&meta.name)));
    let containers: Vec<_> = stats.iter().map(|it| container_use(it, &logs)).collect();
    let volumes: BTreeMap<_, _> = volume::volumes(pod)
        .filter_map(|volume| Some((volume.name.clone(), disk_use(&local_folder(agent, pod, volume)?))))
        .collect();
    let parts = containers.iter().map(|it| it.root + it.logs);
    let storage: DiskUse = parts.chain(volumes.values().copied()).sum();
    Some(PodUse {
        memory: signed(group.memory.working_set),
        processes: signed(group.pids.current),
        containers,
        volumes,
        storage: storage.bytes,
    })
}

fn container_use(stats: &v1::ContainerStats, logs: &Path) -> ContainerUse {
    let metadata = stats.attributes.as_ref().and_then(|it| it.metadata.clone()).unwrap_or_default();
    let value = |value: Option<v1::UInt64Value>| value.map_or(0, |it| signed(it.value));
    let layer = stats.writable_layer.clone().unwrap_or_default();
    ContainerUse {
        memory: value(stats.memory.unwrap_or_default().working_set_bytes),
        root: DiskUse { bytes: value(layer.used_bytes), inodes: value(layer.inodes_used) },
        logs: disk_use(&logs.join(&metadata.name)),
        name: metadata.name,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The folder of a volume that takes space of the node's disk and of no other.
pub(crate) fn local_folder(agent: &Agent, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
    let in_memory = |it: &k8s_openapi::api::core::v1::EmptyDirVolumeSource| {
        it.medium.as_deref().is_some_and(|medium| !medium.is_empty())
    };
    let counts = volume.empty_dir.as_ref().is_some_and(|it| !in_memory(it))
        || volume.config_map.is_some()
        || volume.downward_api.is_some();
    counts.then(|| volume::folder(agent, pod, volume))
}

/// Space and inodes of a folder with all below it on the same file system.
pub(crate) fn disk_use(folder: &Path) -> DiskUse {
    let Ok(root) = std::fs::symlink_metadata(folder) else { return DiskUse::default() };
    let mut sum = of(&root);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            // Files come and go while they are counted.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != root.dev() {
                continue;
            }
            sum = sum + of(&meta);
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    sum
}

fn of(meta: &std::fs::Metadata) -> DiskUse {
    // Linux counts in blocks of 512 bytes, whatever the file system does.
    DiskUse { bytes: signed(meta.blocks() * 512), inodes: 1 }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn folders_are_counted_with_all_below_them_and_links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a");
        std::fs::create_dir_all(folder.join("b/c")).unwrap();
        std::fs::write(temp.path().join("large"), vec![1; 1 << 20]).unwrap();
        std::fs::write(folder.join("b/c/file"), vec![1; 64 << 10]).unwrap();
        std::os::unix::fs::symlink(temp.path().join("large"), folder.join("link")).unwrap();
        let used = disk_use(&folder);
        assert_eq!(used.inodes, 5);
        assert!((64 << 10..512 << 10).contains(&used.bytes), "{used:?}");
        assert_eq!(disk_use(&temp.path().join("absent")), DiskUse::default());
    }
}
