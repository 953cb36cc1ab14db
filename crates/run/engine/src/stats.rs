//! What containers and sandboxes use.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use plimsoll_cri::v1::{
    self, ContainerAttributes, ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage,
    LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes,
    PodSandboxStats, ProcessUsage, SwapUsage, UInt64Value,
};
use plimsoll_kernel::cgroup::{Cgroup, Stats};

use crate::clock;
use crate::engine::{Engine, blocking};
use crate::error::Result;
use crate::pods::{Container, Sandbox};

impl Engine {
    /// The usage of one container. One that has ended has used up its group: only the disk is told.
    pub(crate) async fn container_stats(&self, container: &Arc<Container>) -> Result<ContainerStats> {
        let group = self.cgroup(&container.cgroup);
        let container = container.clone();
        blocking(move || Ok(of_container(&container, &group))).await
    }

    /// The usage of a sandbox: its containers, its network and its processes.
    pub(crate) async fn sandbox_stats(&self, sandbox: &Arc<Sandbox>) -> Result<PodSandboxStats> {
        let containers = self.shared.pods.containers_of(&sandbox.id);
        let parent = self.cgroup(&self.pod_cgroup(sandbox));
        let groups: Vec<Cgroup> = containers.iter().map(|container| self.cgroup(&container.cgroup)).collect();
        let own = self.sandbox_cgroup(sandbox);
        let sandbox = sandbox.clone();
        let named_parent = sandbox.config.linux.as_ref().is_some_and(|linux| !linux.cgroup_parent.is_empty());
        blocking(move || {
            let at = clock::now();
            // Without a group of its own the pod is what its sandbox's group says.
            let usage = if named_parent { parent.stats() } else { own.stats() }.unwrap_or_default();
            let pause = sandbox.state().pause.map(|pause| pause.pid);
            let linux = LinuxPodSandboxStats {
                cpu: Some(cpu(&usage, at)),
                memory: Some(memory(&usage, at)),
                network: pause.filter(|_| sandbox.owns_network()).map(|pid| network(pid, at)),
                process: Some(ProcessUsage { timestamp: at, process_count: value(usage.pids.current) }),
                containers: containers
                    .iter()
                    .zip(&groups)
                    .map(|(one, group)| of_container(one, group))
                    .collect(),
                io: None,
            };
            let attributes = PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: sandbox.config.metadata.clone(),
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            };
            Ok(PodSandboxStats { attributes: Some(attributes), linux: Some(linux) })
        })
        .await
    }
}

fn of_container(container: &Container, group: &Cgroup) -> ContainerStats {
    let at = clock::now();
    let attributes = ContainerAttributes {
        id: container.id.clone(),
        metadata: container.config.metadata.clone(),
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
    };
    let usage = group.stats().ok();
    ContainerStats {
        attributes: Some(attributes),
        cpu: usage.as_ref().map(|usage| cpu(usage, at)),
        memory: usage.as_ref().map(|usage| memory(usage, at)),
        writable_layer: Some(folder_usage(&container.dir.upper(), at)),
        swap: usage.as_ref().map(|usage| SwapUsage {
            timestamp: at,
            swap_available_bytes: None,
            swap_usage_bytes: value(usage.memory.swap),
        }),
        io: None,
    }
}

fn cpu(usage: &Stats, at: i64) -> CpuUsage {
    CpuUsage {
        timestamp: at,
        usage_core_nano_seconds: value(usage.cpu.usage_nanos),
        usage_nano_cores: None,
        psi: None,
    }
}

fn memory(usage: &Stats, at: i64) -> MemoryUsage {
    let memory = &usage.memory;
    MemoryUsage {
        timestamp: at,
        working_set_bytes: value(memory.working_set),
        available_bytes: memory.limit.and_then(|limit| value(limit.saturating_sub(memory.working_set))),
        usage_bytes: value(memory.usage),
        rss_bytes: value(memory.rss),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        psi: None,
    }
}

/// What the links of a process's network have carried; the loopback link does not count.
fn network(pid: i32, at: i64) -> NetworkUsage {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let interfaces = links(&text);
    let default = interfaces.iter().find(|link| link.name == "eth0").or(interfaces.first()).cloned();
    NetworkUsage { timestamp: at, default_interface: default, interfaces }
}

fn links(text: &str) -> Vec<NetworkInterfaceUsage> {
    let link = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let get = |index: usize| numbers.get(index).and_then(|number| value(*number));
        Some(NetworkInterfaceUsage {
            name: name.trim().to_owned(),
            rx_bytes: get(0),
            rx_errors: get(2),
            tx_bytes: get(8),
            tx_errors: get(10),
        })
    };
    text.lines().filter_map(link).filter(|link| link.name != "lo").collect()
}

/// Bytes and entries of a folder, as the disk has them.
pub(crate) fn folder_usage(folder: &Path, at: i64) -> FilesystemUsage {
    let (mut bytes, mut entries) = (0, 0);
    measure(folder, &mut bytes, &mut entries);
    FilesystemUsage {
        timestamp: at,
        fs_id: Some(FilesystemIdentifier { mountpoint: folder.to_string_lossy().into_owned() }),
        used_bytes: value(bytes),
        inodes_used: value(entries),
    }
}

/// What all containers have written, beside their images.
pub(crate) fn containers_usage(sandboxes: &Path, at: i64) -> FilesystemUsage {
    let (mut bytes, mut entries) = (0, 0);
    for sandbox in fs::read_dir(sandboxes).into_iter().flatten().flatten() {
        for container in fs::read_dir(sandbox.path().join("containers")).into_iter().flatten().flatten() {
            measure(&container.path().join("upper"), &mut bytes, &mut entries);
        }
    }
    FilesystemUsage {
        timestamp: at,
        fs_id: Some(FilesystemIdentifier { mountpoint: sandboxes.to_string_lossy().into_owned() }),
        used_bytes: value(bytes),
        inodes_used: value(entries),
    }
}

fn measure(path: &Path, bytes: &mut u64, entries: &mut u64) {
    const BLOCK: u64 = 512;
    let Ok(meta) = path.symlink_metadata() else { return };
    *bytes += meta.blocks() * BLOCK;
    *entries += 1;
    if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            measure(&entry.path(), bytes, entries);
        }
    }
}

pub(crate) fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(UInt64Value { value })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn links_without_the_loopback() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  \
                    eth0: 10 2 3 4 5 6 7 8 90 10 11 12 13 14 15 16\n";
        let found = links(text);
        assert_eq!(found.len(), 1);
        let link = found.first().unwrap();
        assert_eq!((link.name.as_str(), link.rx_bytes, link.tx_bytes), ("eth0", value(10), value(90)));
    }
}
