//! How large a volume in memory may grow.

use k8s_openapi::api::core::v1::PodSpec;
use plimsoll_meta::quantity::Quantity;

use crate::cgroup;

/// The bytes that a volume in memory takes at most: the least of its own limit, the pod's memory
/// limit and what all pods may use (kubelet: pkg/volume/emptydir, `calculateEmptyDirMemorySize`).
#[must_use]
pub fn memory_size(spec: &PodSpec, limit: Option<Quantity>, allocatable: Option<i64>) -> Option<i64> {
    let own = limit.map(|limit| limit.value());
    let pod = cgroup::pod(spec, &cgroup::Machine::default()).memory;
    [own, pod, allocatable].into_iter().flatten().filter(|bytes| *bytes > 0).min()
}
