//! Pods that use more of the node's disk than they allowed themselves.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use plimsoll_meta::quantity::Quantity;

use super::PodUse;
use super::rank::Layout;
use crate::cgroup::limit_total;
use crate::qos::amount;

/// A limit of a pod's own that it went beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// What counts such evictions: `emptydirfs.limit`, `ephemeralpodfs.limit`, `ephemeralcontainerfs.limit`.
    pub signal: &'static str,
    /// What the pod is told.
    pub message: String,
}

/// Whether a pod has any limit of this kind: only then its use of the disk has to be known.
#[must_use]
pub fn has_any(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let mut volumes = spec.volumes.iter().flatten();
    volumes.any(|it| it.empty_dir.as_ref().is_some_and(|it| it.size_limit.is_some()))
        || limit_total(spec, "ephemeral-storage").is_some()
}

/// The first limit that a pod went beyond: of a volume, of the whole pod, of a container.
#[must_use]
pub fn beyond(pod: &Pod, usage: &PodUse, layout: Layout) -> Option<Beyond> {
    volume(pod, usage).or_else(|| whole(pod, usage)).or_else(|| container(pod, usage, layout))
}

fn volume(pod: &Pod, usage: &PodUse) -> Option<Beyond> {
    let volumes = pod.spec.as_ref()?.volumes.iter().flatten();
    for volume in volumes {
        let limit = volume.empty_dir.as_ref().and_then(|it| it.size_limit.as_ref());
        let Some(limit) = limit.and_then(|limit| limit.0.parse::<Quantity>().ok()) else { continue };
        let used = usage.volumes.get(&volume.name).map_or(0, |used| used.bytes);
        if limit.sign() > 0 && used > limit.value() {
            let name = &volume.name;
            let message = format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". ");
            return Some(Beyond { signal: "emptydirfs.limit", message });
        }
    }
    None
}

fn whole(pod: &Pod, usage: &PodUse) -> Option<Beyond> {
    let limit = limit_total(pod.spec.as_ref()?, "ephemeral-storage")?;
    (usage.storage > limit.value()).then(|| Beyond {
        signal: "ephemeralpodfs.limit",
        message: format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "),
    })
}

fn container(pod: &Pod, usage: &PodUse, layout: Layout) -> Option<Beyond> {
    let limits: BTreeMap<&str, Quantity> = pod
        .spec
        .as_ref()?
        .containers
        .iter()
        .filter_map(|it| {
            let limit = amount(it.resources.as_ref()?.limits.as_ref(), "ephemeral-storage")?;
            (!limit.is_zero()).then_some((it.name.as_str(), limit))
        })
        .collect();
    usage.containers.iter().find_map(|it| {
        let limit = limits.get(it.name.as_str())?;
        let layers = if layout == Layout::ImagesApart { 0 } else { it.root.bytes };
        (it.logs.bytes + layers > limit.value()).then(|| Beyond {
            signal: "ephemeralcontainerfs.limit",
            message: format!(
                "Container {} exceeded its local ephemeral storage limit \"{limit}\". ",
                it.name
            ),
        })
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::super::{ContainerUse, DiskUse};
    use super::*;

    const MI: i64 = 1 << 20;

    #[test]
    fn limits_of_volumes_pods_and_containers() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [
                {"name": "a", "resources": {"limits": {"ephemeral-storage": "10Mi"}}},
                {"name": "b", "resources": {"limits": {"ephemeral-storage": "30Mi"}}},
            ],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "5Mi"}}, {"name": "w", "emptyDir": {}}],
        }}))
        .unwrap();
        let disk = |mi: i64| DiskUse { bytes: mi * MI, inodes: 0 };
        let usage = |root: i64, logs: i64, volume: i64, storage: i64| PodUse {
            containers: vec![ContainerUse {
                name: "a".into(),
                root: disk(root),
                logs: disk(logs),
                memory: 0,
            }],
            volumes: BTreeMap::from([("v".to_owned(), disk(volume)), ("w".to_owned(), disk(1000))]),
            storage: storage * MI,
            ..PodUse::default()
        };
        for (usage, layout, expected) in [
            (usage(5, 5, 5, 40), Layout::Together, None),
            (
                usage(0, 0, 6, 99),
                Layout::Together,
                Some("Usage of EmptyDir volume \"v\" exceeds the limit \"5Mi\". "),
            ),
            (
                usage(0, 0, 0, 41),
                Layout::Together,
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 40Mi. "),
            ),
            (
                usage(5, 6, 0, 11),
                Layout::Together,
                Some("Container a exceeded its local ephemeral storage limit \"10Mi\". "),
            ),
            (usage(5, 6, 0, 11), Layout::ImagesApart, None),
        ] {
            let told = beyond(&pod, &usage, layout).map(|it| it.message);
            assert_eq!(told.as_deref(), expected);
        }
    }
}
