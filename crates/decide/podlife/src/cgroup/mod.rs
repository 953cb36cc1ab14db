//! The values that go into cgroups (kubelet: pkg/kubelet/cm/helpers_linux.go).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use plimsoll_meta::quantity::Quantity;

use crate::qos::{Class, amount, class};
use crate::spec::is_sidecar;

/// The period in which a quota counts, in microseconds.
pub const PERIOD: i64 = 100_000;
const SHARES_PER_CPU: i64 = 1024;
const LEAST_SHARES: i64 = 2;
const MOST_SHARES: i64 = 262_144;
const LEAST_QUOTA: i64 = 1000;

/// What a cgroup gets; absent values are left as the kernel has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Relative weight of processor time, in the scale of cgroup v1.
    pub shares: Option<i64>,
    /// Microseconds of processor time in each [`PERIOD`].
    pub quota: Option<i64>,
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Tasks.
    pub pids: Option<i64>,
    /// Bytes of huge pages by page size (`2MB`).
    pub huge_pages: BTreeMap<String, i64>,
}

/// Weight for a request in thousandths of a processor.
#[must_use]
pub fn shares(milli: i64) -> i64 {
    if milli <= 0 { LEAST_SHARES } else { (milli * SHARES_PER_CPU / 1000).clamp(LEAST_SHARES, MOST_SHARES) }
}

/// Quota for a limit in thousandths of a processor; none for no limit.
#[must_use]
pub fn quota(milli: i64) -> Option<i64> {
    (milli > 0).then(|| (milli * PERIOD / 1000).max(LEAST_QUOTA))
}

/// The path of a pod's cgroup under the root of pods.
#[must_use]
pub fn pod_path(spec: &PodSpec, uid: &str) -> String {
    match class(spec) {
        Class::Guaranteed => format!("pod{uid}"),
        Class::Burstable => format!("burstable/pod{uid}"),
        Class::BestEffort => format!("besteffort/pod{uid}"),
    }
}

/// The values of a pod's cgroup.
#[must_use]
pub fn pod(spec: &PodSpec, pids: Option<i64>) -> Values {
    let qos = class(spec);
    if qos == Class::BestEffort {
        return Values { shares: Some(LEAST_SHARES), pids, ..Values::default() };
    }
    let cpu = limit_sum(spec, "cpu", |amount| amount.milli());
    Values {
        shares: Some(shares(request_sum(spec, "cpu", |amount| amount.milli()))),
        quota: cpu.and_then(quota),
        memory: limit_sum(spec, "memory", |amount| amount.value()),
        pids,
        huge_pages: BTreeMap::new(),
    }
}

/// The values of a container's cgroup.
#[must_use]
pub fn container(spec: &PodSpec, container: &Container) -> Values {
    let none = ResourceRequirements::default();
    let resources = container.resources.as_ref().unwrap_or(&none);
    let (requests, limits) = (resources.requests.as_ref(), resources.limits.as_ref());
    let limit = amount(limits, "cpu");
    // A limit without a request is also the request.
    let request = amount(requests, "cpu").or(limit).map_or(0, |amount| amount.milli());
    let pod_memory = spec.resources.as_ref().and_then(|it| amount(it.limits.as_ref(), "memory"));
    let memory = amount(limits, "memory").or(pod_memory).map(|amount| amount.value());
    Values {
        shares: Some(shares(request)),
        quota: limit.and_then(|limit| quota(limit.milli())),
        memory: memory.filter(|bytes| *bytes > 0),
        pids: None,
        huge_pages: huge_pages(limits),
    }
}

/// Weight of all burstable pods together: the sum of what they ask for.
#[must_use]
pub fn burstable_shares<'a>(pods: impl Iterator<Item = &'a PodSpec>) -> i64 {
    let burstable = pods.filter(|spec| class(spec) == Class::Burstable);
    shares(burstable.map(|spec| request_sum(spec, "cpu", |amount| amount.milli())).sum())
}

type Read = fn(Quantity) -> i64;

/// What a pod asks for: main containers and sidecars together, or the largest moment of its
/// initialization, and its overhead (kubernetes: component-helpers/resource).
#[must_use]
pub fn request_sum(spec: &PodSpec, name: &str, read: Read) -> i64 {
    let of = |container: &Container| {
        let resources = container.resources.as_ref();
        let limit = resources.and_then(|it| amount(it.limits.as_ref(), name));
        resources.and_then(|it| amount(it.requests.as_ref(), name)).or(limit).map_or(0, read)
    };
    let own = spec.resources.as_ref().and_then(|it| amount(it.requests.as_ref(), name)).map(read);
    own.unwrap_or_else(|| total(spec, of)) + overhead(spec, name, read)
}

/// The sum of limits; none when a container has no limit of this kind.
fn limit_sum(spec: &PodSpec, name: &str, read: Read) -> Option<i64> {
    let of = |container: &Container| {
        container.resources.as_ref().and_then(|it| amount(it.limits.as_ref(), name)).map_or(0, read)
    };
    if let Some(own) = spec.resources.as_ref().and_then(|it| amount(it.limits.as_ref(), name)) {
        return Some(read(own) + overhead(spec, name, read));
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let unlimited = containers.into_iter().any(|container| of(container) == 0);
    (!unlimited).then(|| total(spec, of) + overhead(spec, name, read))
}

/// The sum of a pod's limits of one kind, of those containers that have one; none when none has.
#[must_use]
pub fn limit_total(spec: &PodSpec, name: &str) -> Option<Quantity> {
    let of = |container: &Container| amount(container.resources.as_ref()?.limits.as_ref(), name);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let any = containers.into_iter().any(|container| of(container).is_some());
    let bytes = |container: &Container| of(container).map_or(0, |amount| amount.value());
    any.then(|| Quantity::from_bytes(total(spec, bytes) + overhead(spec, name, |amount| amount.value())))
}

fn total(spec: &PodSpec, of: impl Fn(&Container) -> i64) -> i64 {
    let mains: i64 = spec.containers.iter().map(&of).sum();
    let (mut sidecars, mut peak) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        if is_sidecar(container) {
            sidecars += of(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + of(container));
        }
    }
    peak.max(mains + sidecars)
}

fn overhead(spec: &PodSpec, name: &str, read: Read) -> i64 {
    amount(spec.overhead.as_ref(), name).map_or(0, read)
}

fn huge_pages(limits: Option<&BTreeMap<String, Text>>) -> BTreeMap<String, i64> {
    let sizes = limits.into_iter().flatten().filter_map(|(name, amount)| {
        let size = name.strip_prefix("hugepages-")?.strip_suffix('i')?;
        let bytes = amount.0.parse::<Quantity>().ok()?.value();
        Some((format!("{size}B"), bytes))
    });
    sizes.collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::qos::oom_score_adj;
    use serde_json::{Value, json};

    const GI: i64 = 1 << 30;

    fn resources(requests: [&str; 2], limits: [&str; 2]) -> Value {
        let list = |values: [&str; 2]| {
            let pairs = ["cpu", "memory"].into_iter().zip(values).filter(|(_, value)| !value.is_empty());
            pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect::<serde_json::Map<_, _>>()
        };
        json!({"requests": list(requests), "limits": list(limits)})
    }

    #[test]
    fn golden_values_of_one_container_pods() {
        let cases = [
            // requests, limits, class, shares, quota, memory, oom score on a machine of 8 Gi
            (["", ""], ["", ""], "BestEffort", 2, None, None, 1000),
            (["100m", "128Mi"], ["", ""], "Burstable", 102, None, None, 985),
            (["100m", "128Mi"], ["200m", "256Mi"], "Burstable", 102, Some(20_000), Some(GI / 4), 985),
            (["", ""], ["1", "1Gi"], "Guaranteed", 1024, Some(100_000), Some(GI), -997),
            (["500m", "1Gi"], ["500m", "1Gi"], "Guaranteed", 512, Some(50_000), Some(GI), -997),
            (["500m", "1Gi"], ["0.5", "1024Mi"], "Guaranteed", 512, Some(50_000), Some(GI), -997),
            (["", "8Gi"], ["", ""], "Burstable", 2, None, None, 2),
            (["1m", ""], ["", ""], "Burstable", 2, None, None, 999),
            (["", "1Gi"], ["5m", ""], "Burstable", 5, Some(1000), None, 875),
            (["", ""], ["", "64Mi"], "Burstable", 2, None, Some(64 << 20), 1000 - 1),
            (["300", ""], ["", ""], "Burstable", 262_144, None, None, 999),
        ];
        for (requests, limits, qos, shares, quota, memory, oom) in cases {
            let spec: PodSpec = serde_json::from_value(
                json!({"containers": [{"name": "c", "resources": resources(requests, limits)}]}),
            )
            .unwrap();
            let case = format!("{requests:?} {limits:?}");
            assert_eq!(class(&spec).as_str(), qos, "{case}");
            let values = container(&spec, &spec.containers[0]);
            assert_eq!((values.shares, values.quota, values.memory), (Some(shares), quota, memory), "{case}");
            assert_eq!(oom_score_adj(&spec, &spec.containers[0], 8 * GI), oom, "{case}");
            let values = pod(&spec, Some(100));
            assert_eq!((values.shares, values.quota, values.memory), (Some(shares), quota, memory), "{case}");
        }
    }

    #[test]
    fn pods_take_the_largest_moment_and_are_limited_only_when_all_are() {
        let spec: PodSpec = serde_json::from_value(json!({
            "overhead": {"cpu": "10m"},
            "initContainers": [
                {"name": "a", "resources": resources(["2", "1Mi"], ["2", "1Mi"])},
                {"name": "side", "restartPolicy": "Always", "resources": resources(["300m", "1Mi"], ["1", "1Mi"])},
                {"name": "b", "resources": resources(["1900m", "1Mi"], ["2", "1Mi"])},
            ],
            "containers": [
                {"name": "c", "resources": resources(["500m", "1Mi"], ["500m", ""])},
                {"name": "d", "resources": resources(["500m", "1Mi"], ["500m", "1Mi"])},
            ],
        }))
        .unwrap();
        let values = pod(&spec, None);
        assert_eq!(values.shares, Some(2210 * 1024 / 1000));
        assert_eq!(values.quota, Some(301_000));
        assert_eq!(values.memory, None);
        assert_eq!(pod_path(&spec, "u"), "burstable/podu");
        assert_eq!(burstable_shares([&spec, &spec].into_iter()), 4420 * 1024 / 1000);
    }

    #[test]
    fn pod_level_resources_and_huge_pages() {
        let spec: PodSpec = serde_json::from_value(json!({
            "resources": resources(["1", "1Gi"], ["1", "1Gi"]),
            "containers": [{"name": "c", "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}],
        }))
        .unwrap();
        assert_eq!(class(&spec), Class::Guaranteed);
        let values = pod(&spec, None);
        assert_eq!((values.shares, values.quota, values.memory), (Some(1024), Some(100_000), Some(GI)));
        let values = container(&spec, &spec.containers[0]);
        assert_eq!(values.memory, Some(GI));
        assert_eq!(values.huge_pages, BTreeMap::from([("2MB".to_owned(), 4 << 20)]));
    }
}
