//! What a pod asks of a node's resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use plimsoll_meta::quantity::Quantity;

use crate::profile::Resource;

/// CPU that scoring assumes of a container that does not say (upstream: DefaultMilliCPURequest).
const SCORED_CPU: i64 = 100;
/// Memory that scoring assumes of a container that does not say (upstream: DefaultMemoryRequest).
const SCORED_MEMORY: i64 = 200 * 1024 * 1024;

/// Sum of what a pod requests: CPU in thousandths of a core, everything else in units or bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of local storage.
    pub storage: i64,
    /// Extended resources, huge pages and the like.
    pub extended: BTreeMap<String, i64>,
    /// CPU with a default for containers that do not say; only for scores.
    pub scored_cpu: i64,
    /// Memory with a default for containers that do not say; only for scores.
    pub scored_memory: i64,
}

type Amounts = BTreeMap<String, i64>;

impl Requests {
    /// The requests of a pod: the larger of its containers together and of any moment of its
    /// start, or what it says as a whole, plus overhead. Containers being resized count with the
    /// largest of what they want, have and were promised.
    pub fn of(pod: &Pod) -> Self {
        let plain = total(pod, false);
        let scored = total(pod, true);
        let mut extended = plain.clone();
        let mut take = |name: &str| extended.remove(name).unwrap_or(0);
        let (cpu, memory, storage) = (take("cpu"), take("memory"), take("ephemeral-storage"));
        extended.retain(|_, amount| *amount != 0);
        let scored = |name: &str| scored.get(name).copied().unwrap_or(0);
        Requests {
            cpu,
            memory,
            storage,
            extended,
            scored_cpu: scored("cpu"),
            scored_memory: scored("memory"),
        }
    }

    /// What is requested of a resource, without assumptions.
    pub(crate) fn plain(&self, resource: &Resource) -> i64 {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
            Resource::Storage => self.storage,
            Resource::Other(name) => self.extended.get(name).copied().unwrap_or(0),
        }
    }

    /// True if no CPU, memory, storage or other resource is requested.
    pub fn is_empty(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.storage == 0 && self.extended.is_empty()
    }
}

fn total(pod: &Pod, scored: bool) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let refused = resize_refused(pod);
    let mut sum = Amounts::new();
    for container in &spec.containers {
        let status = statuses.iter().find(|status| status.name == container.name);
        add(&mut sum, &with_default(of_container(container, status, refused), scored));
    }
    let (mut sidecars, mut start) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut now = with_default(of_container(container, None, false), scored);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sum, &now);
            add(&mut sidecars, &now);
            now.clone_from(&sidecars);
        } else {
            add(&mut now, &sidecars);
        }
        raise(&mut start, &now);
    }
    raise(&mut sum, &start);
    // What the pod says as a whole takes the place of the sum.
    sum.extend(spec.resources.as_ref().map(requested).unwrap_or_default());
    add(&mut sum, &spec.overhead.as_ref().map(amounts).unwrap_or_default());
    sum
}

fn of_container(container: &Container, status: Option<&ContainerStatus>, refused: bool) -> Amounts {
    let wanted = container.resources.as_ref().map(requested).unwrap_or_default();
    let Some(status) = status else { return wanted };
    let allocated = status.allocated_resources.as_ref().map(amounts).unwrap_or_default();
    let actual = status.resources.as_ref().map(requested).unwrap_or_default();
    if allocated.is_empty() && actual.is_empty() {
        return wanted;
    }
    let mut largest = if refused { Amounts::new() } else { wanted };
    raise(&mut largest, &allocated);
    raise(&mut largest, &actual);
    largest
}

/// The node will never grant the resize that the spec asks for.
fn resize_refused(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| {
        condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
    })
}

fn with_default(mut amounts: Amounts, scored: bool) -> Amounts {
    if scored {
        amounts.entry("cpu".to_owned()).or_insert(SCORED_CPU);
        amounts.entry("memory".to_owned()).or_insert(SCORED_MEMORY);
    }
    amounts
}

fn requested(resources: &ResourceRequirements) -> Amounts {
    resources.requests.as_ref().map(amounts).unwrap_or_default()
}

fn amounts(list: &BTreeMap<String, Text>) -> Amounts {
    list.iter().map(|(name, text)| (name.clone(), amount(name, text))).collect()
}

/// A quantity in the unit that [`Requests`] uses; text that is no quantity counts as nothing.
pub(crate) fn amount(name: &str, text: &Text) -> i64 {
    let quantity: Quantity = text.0.parse().unwrap_or_default();
    if name == "cpu" { quantity.milli() } else { quantity.value() }
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let there = sum.entry(name.clone()).or_insert(0);
        *there = there.saturating_add(*amount);
    }
}

fn raise(largest: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let there = largest.entry(name.clone()).or_insert(*amount);
        *there = (*there).max(*amount);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn requests(spec: Value, status: Value) -> Requests {
        Requests::of(
            &serde_json::from_value(json!({"metadata": {}, "spec": spec, "status": status})).unwrap(),
        )
    }

    fn container(name: &str, cpu: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn sums_and_starts() {
        let sidecar =
            json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}});
        let table = [
            (json!({"containers": [container("a", "100m"), container("b", "1")]}), 1100),
            (json!({"containers": [container("a", "100m")], "initContainers": [container("i", "2")]}), 2000),
            (
                json!({"containers": [container("a", "100m")], "initContainers": [sidecar, container("i", "1")]}),
                1050,
            ),
            (
                json!({"containers": [container("a", "100m")], "initContainers": [container("i", "120m"), sidecar]}),
                150,
            ),
            (json!({"containers": [container("a", "100m")], "overhead": {"cpu": "10m"}}), 110),
            (json!({"containers": [container("a", "100m")], "resources": {"requests": {"cpu": "3"}}}), 3000),
        ];
        for (spec, cpu) in table {
            assert_eq!(requests(spec.clone(), json!({})).cpu, cpu, "{spec}");
        }
    }

    #[test]
    fn defaults_are_only_for_scores() {
        let asked = requests(json!({"containers": [{"name": "a"}, {"name": "b"}]}), json!({}));
        assert!(asked.is_empty());
        assert_eq!((asked.scored_cpu, asked.scored_memory), (200, 400 * 1024 * 1024));
        let asked = requests(
            json!({"containers": [{"name": "a", "resources": {"requests": {"x.io/gpu": "2", "memory": "1Gi"}}}]}),
            json!({}),
        );
        assert_eq!(asked.extended, BTreeMap::from([("x.io/gpu".to_owned(), 2)]));
        assert_eq!(asked.memory, 1 << 30);
    }

    #[test]
    fn resizes_count_with_the_largest() {
        let spec = json!({"containers": [container("a", "3")]});
        let statuses = json!([{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "1"}}}]);
        assert_eq!(requests(spec.clone(), json!({"containerStatuses": statuses})).cpu, 3000);
        let refused = json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
        assert_eq!(requests(spec, json!({"containerStatuses": statuses, "conditions": refused})).cpu, 2000);
    }
}
