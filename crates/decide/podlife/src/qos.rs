//! Quality of service: who is throttled and killed first.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use plimsoll_meta::quantity::Quantity;

use crate::spec::is_sidecar;

/// How firmly a pod's resources are promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Every container has limits that equal its requests.
    Guaranteed,
    /// Some container asks for something.
    Burstable,
    /// Nothing is asked for.
    BestEffort,
}

impl Class {
    /// The word in `status.qosClass`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class of a pod (kubernetes: pkg/apis/core/v1/helper/qos). Pod-level resources decide where set.
#[must_use]
pub fn class(spec: &PodSpec) -> Class {
    if let Some(resources) = &spec.resources
        && (resources.requests.is_some() || resources.limits.is_some())
    {
        return class_of(&[(resources.requests.as_ref(), resources.limits.as_ref())]);
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let all: Vec<_> = containers
        .map(|container| {
            let resources = container.resources.as_ref();
            let requests = resources.and_then(|it| it.requests.as_ref());
            (requests, resources.and_then(|it| it.limits.as_ref()))
        })
        .collect();
    class_of(&all)
}

type List<'a> = Option<&'a BTreeMap<String, Text>>;

fn class_of(all: &[(List<'_>, List<'_>)]) -> Class {
    let set = |list: List<'_>, name| amount(list, name).filter(|amount| !amount.is_zero());
    let asks = |(requests, limits): &(List<'_>, List<'_>)| {
        ["cpu", "memory"].iter().any(|name| set(*requests, name).is_some() || set(*limits, name).is_some())
    };
    if !all.iter().any(asks) {
        return Class::BestEffort;
    }
    let firm = |(requests, limits): &(List<'_>, List<'_>)| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = set(*limits, name);
            limit.is_some() && set(*requests, name).is_none_or(|request| Some(request) == limit)
        })
    };
    if all.iter().all(firm) { Class::Guaranteed } else { Class::Burstable }
}

/// The amount of a resource in a list; nothing when it is absent or no quantity.
#[must_use]
pub fn amount(list: List<'_>, name: &str) -> Option<Quantity> {
    list?.get(name)?.0.parse().ok()
}

/// Priority from which a pod counts as critical for its node.
const CRITICAL: i32 = 2_000_000_000;

/// Whether a pod must not be evicted by its node: static pods and mirror pods, and those of a critical
/// priority (kubelet: pkg/kubelet/types/pod_update.go).
#[must_use]
pub fn is_critical(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let has = |name: &str| annotations.is_some_and(|all| all.contains_key(name));
    let is_static = annotations
        .and_then(|all| all.get("kubernetes.io/config.source"))
        .is_some_and(|source| source != "api");
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
    is_static || has("kubernetes.io/config.mirror") || priority.is_some_and(|it| it >= CRITICAL)
}

/// Whether a pod's priority makes it critical.
#[must_use]
pub fn is_critical_priority(spec: &PodSpec) -> bool {
    spec.priority.is_some_and(|priority| priority >= CRITICAL)
}

/// The class of pods without which a node does not work.
const NODE_CRITICAL: &str = "system-node-critical";

/// How readily the kernel kills a container when memory runs out: -1000 never, 1000 first
/// (kubelet: pkg/kubelet/qos/policy.go). `memory` is that of the machine, in bytes.
///
/// The less of the memory a burstable container asks for, the earlier it goes; a sidecar never goes before
/// the containers that need it.
#[must_use]
pub fn oom_score_adj(spec: &PodSpec, container: &Container, memory: i64) -> i64 {
    if spec.priority_class_name.as_deref() == Some(NODE_CRITICAL) {
        return -997;
    }
    match class(spec) {
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let unnamed = unnamed_request(spec);
            let own = memory_request(container) + unnamed;
            let least = spec.containers.iter().map(memory_request).min().unwrap_or(0) + unnamed;
            let request = if is_sidecar(container) { own.max(least) } else { own };
            let share = i64::try_from(1000 * i128::from(request) / i128::from(memory.max(1))).unwrap_or(1000);
            // 1000 is for best effort, and below 2 for the guaranteed.
            (1000 - share).clamp(2, 999)
        }
    }
}

fn memory_request(container: &Container) -> i64 {
    let requests = container.resources.as_ref().and_then(|it| it.requests.as_ref());
    amount(requests, "memory").map_or(0, |amount| amount.value())
}

/// Each container's part of what only the pod as a whole asks for.
fn unnamed_request(spec: &PodSpec) -> i64 {
    let own = spec.resources.as_ref().and_then(|it| amount(it.requests.as_ref(), "memory"));
    let Some(own) = own.map(|amount| amount.value()) else { return 0 };
    let sidecars = spec.init_containers.iter().flatten().filter(|it| is_sidecar(it));
    let all: Vec<i64> = spec.containers.iter().chain(sidecars).map(memory_request).collect();
    let count = i64::try_from(all.len()).unwrap_or(i64::MAX).max(1);
    (own - all.iter().sum::<i64>()).max(0) / count
}
