//! The order in which pods are evicted.

use std::cmp::{Ordering, Reverse};

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{DiskUse, PodUse, Resource, Signal};
use crate::cgroup::request_sum;

/// A pod and what it uses; `None` when it could not be measured.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What it uses.
    pub usage: Option<&'a PodUse>,
}

/// On which file systems the parts of containers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All on one.
    Together,
    /// Images and writable layers on one of their own.
    ImagesApart,
    /// Images on one of their own, writable layers with the node's files.
    OnlyImagesApart,
}

/// Sorts pods: who goes first stands first. Pods that could not be measured go before all others.
///
/// Memory and disk: those that use more than they requested, then lower priority, then how much more.
/// Process ids: lower priority, then the number of processes.
pub fn rank(candidates: &mut [Candidate<'_>], signal: Signal, layout: Layout) {
    let by = |one: &Candidate<'_>, other: &Candidate<'_>| -> Ordering {
        let key = |it: &Candidate<'_>| it.usage.map(|usage| excess(it.pod, usage, signal, layout));
        let (first, second) = (key(one), key(other));
        let priorities = || priority(one.pod).cmp(&priority(other.pod));
        if signal.resource() == Resource::Pids {
            return priorities().then_with(|| measured(first, second, Reverse));
        }
        measured(first, second, |it| Reverse(it > 0))
            .then_with(priorities)
            .then_with(|| measured(first, second, Reverse))
    };
    candidates.sort_by(by);
}

fn measured<K: Ord>(one: Option<i64>, other: Option<i64>, key: impl Fn(i64) -> K) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => key(one).cmp(&key(other)),
        (one, other) => one.is_some().cmp(&other.is_some()),
    }
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// How much more a pod uses than it requested.
fn excess(pod: &Pod, usage: &PodUse, signal: Signal, layout: Layout) -> i64 {
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    match signal.resource() {
        Resource::Memory => usage.memory - request_sum(spec, "memory", |amount| amount.value()),
        Resource::Pids => usage.processes,
        Resource::Inodes => on_disk(usage, signal, layout).inodes,
        Resource::EphemeralStorage => {
            let asked = request_sum(spec, "ephemeral-storage", |amount| amount.value());
            on_disk(usage, signal, layout).bytes - asked
        }
    }
}

/// What a pod has on the file system of a signal.
fn on_disk(usage: &PodUse, signal: Signal, layout: Layout) -> DiskUse {
    let (own, layers) = match (signal, layout) {
        (_, Layout::Together) => (true, true),
        (Signal::ImageFsAvailable | Signal::ImageFsInodesFree, Layout::ImagesApart) => (false, true),
        (Signal::ContainerFsAvailable | Signal::ContainerFsInodesFree, Layout::ImagesApart) => (false, true),
        (_, Layout::ImagesApart) => (true, false),
        // Nothing of a pod lies with the images.
        (Signal::ImageFsAvailable | Signal::ImageFsInodesFree, Layout::OnlyImagesApart) => (false, false),
        (_, Layout::OnlyImagesApart) => (true, true),
    };
    let mut sum = DiskUse::default();
    for container in &usage.containers {
        if own {
            sum = sum + container.logs;
        }
        if layers {
            sum = sum + container.root;
        }
    }
    if own { sum + usage.volumes.values().copied().sum() } else { sum }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::ContainerUse;
    use super::*;

    const MI: i64 = 1 << 20;

    fn pod(name: &str, priority: i32, request: &str) -> Pod {
        let requests = if request.is_empty() {
            json!({})
        } else {
            json!({"memory": request, "ephemeral-storage": request})
        };
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": requests}}]},
        }))
        .unwrap()
    }

    fn order(pods: &[(Pod, Option<PodUse>)], signal: Signal, layout: Layout) -> Vec<String> {
        let mut all: Vec<_> =
            pods.iter().map(|(pod, usage)| Candidate { pod, usage: usage.as_ref() }).collect();
        rank(&mut all, signal, layout);
        all.iter().map(|it| it.pod.metadata.name.clone().unwrap()).collect()
    }

    #[test]
    fn memory_goes_by_request_then_priority_then_excess() {
        let memory = |mi: i64| Some(PodUse { memory: mi * MI, ..PodUse::default() });
        let pods = [
            (pod("within-low", -10, "200Mi"), memory(150)),
            (pod("over-high", 100, "100Mi"), memory(900)),
            (pod("over-low-a-bit", 0, "100Mi"), memory(150)),
            (pod("over-low-a-lot", 0, ""), memory(160)),
            (pod("within-high", 100, "200Mi"), memory(199)),
            (pod("unknown", 1000, "1Gi"), None),
        ];
        let expected =
            ["unknown", "over-low-a-lot", "over-low-a-bit", "over-high", "within-low", "within-high"];
        for signal in [Signal::MemoryAvailable, Signal::AllocatableMemoryAvailable] {
            assert_eq!(order(&pods, signal, Layout::Together), expected);
        }
    }

    #[test]
    fn process_ids_go_by_priority_then_number() {
        let processes = |count| Some(PodUse { processes: count, ..PodUse::default() });
        let pods = [
            (pod("high", 10, ""), processes(5000)),
            (pod("few", 0, ""), processes(3)),
            (pod("many", 0, ""), processes(300)),
        ];
        assert_eq!(order(&pods, Signal::PidAvailable, Layout::Together), ["many", "few", "high"]);
    }

    #[test]
    fn disk_counts_what_lies_on_the_file_system_in_question() {
        let usage = |root: i64, logs: i64, volume: i64| {
            let part = |mi: i64| DiskUse { bytes: mi * MI, inodes: mi };
            let containers =
                vec![ContainerUse { name: "c".into(), root: part(root), logs: part(logs), memory: 0 }];
            let volumes = BTreeMap::from([("v".to_owned(), part(volume))]);
            Some(PodUse { containers, volumes, ..PodUse::default() })
        };
        let pods = [
            (pod("layers", 0, "10Mi"), usage(100, 0, 0)),
            (pod("logs", 0, "10Mi"), usage(0, 50, 0)),
            (pod("volume", 0, "10Mi"), usage(0, 0, 70)),
            (pod("asked", 0, "1Gi"), usage(500, 0, 0)),
        ];
        for (signal, layout, expected) in [
            (Signal::NodeFsAvailable, Layout::Together, ["layers", "volume", "logs", "asked"]),
            (Signal::ImageFsAvailable, Layout::Together, ["layers", "volume", "logs", "asked"]),
            (Signal::NodeFsAvailable, Layout::ImagesApart, ["volume", "logs", "layers", "asked"]),
            (Signal::ImageFsAvailable, Layout::ImagesApart, ["layers", "logs", "volume", "asked"]),
            // Inodes cannot be requested.
            (Signal::NodeFsInodesFree, Layout::Together, ["asked", "layers", "volume", "logs"]),
            (Signal::ContainerFsAvailable, Layout::OnlyImagesApart, ["layers", "volume", "logs", "asked"]),
        ] {
            assert_eq!(order(&pods, signal, layout), expected, "{signal} {layout:?}");
        }
    }
}
