//! What an evicted pod is told.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use plimsoll_meta::quantity::Quantity;

use super::threshold::Threshold;
use super::{ContainerUse, Figures, PodUse, Resource};
use crate::qos::amount;

/// The message of the pod's status and of the event about it, and the annotations of the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Prose.
    pub message: String,
    /// `starved_resource`, `offending_containers`, `offending_containers_usage`.
    pub annotations: BTreeMap<String, String>,
}

/// Why a pod is evicted: what the node is short of, and which of its containers use more than they asked for.
#[must_use]
pub fn notice(
    resource: Resource,
    pod: &Pod,
    usage: Option<&PodUse>,
    crossed: &[Threshold],
    figures: &Figures,
) -> Notice {
    let mut message = format!("The node was low on resource: {}. ", resource.as_str());
    let figure = |it: &Threshold| figures.get(&it.signal).map(|figure| (*it, *figure));
    if let Some((threshold, figure)) =
        crossed.iter().filter(|it| it.signal.resource() == resource).find_map(figure)
    {
        let least = shown(resource, threshold.least.of(figure.capacity));
        let available = shown(resource, figure.available);
        message.push_str(&format!("Threshold quantity: {least}, available: {available}. "));
    }
    let Some(usage) = usage else { return Notice { message, annotations: BTreeMap::new() } };
    let offending: Vec<_> =
        usage.containers.iter().filter_map(|container| offence(resource, pod, container)).collect();
    for (name, used, request) in &offending {
        let what = resource.as_str();
        let more = format!(
            "Container {name} was using {used}, request is {request}, has larger consumption of {what}. "
        );
        message.push_str(&more);
    }
    let joined = |parts: Vec<String>| parts.join(",");
    let annotations = BTreeMap::from([
        ("offending_containers".to_owned(), joined(offending.iter().map(|it| it.0.clone()).collect())),
        (
            "offending_containers_usage".to_owned(),
            joined(offending.iter().map(|it| it.1.to_string()).collect()),
        ),
        ("starved_resource".to_owned(), resource.as_str().to_owned()),
    ]);
    Notice { message, annotations }
}

fn shown(resource: Resource, amount: i64) -> Quantity {
    match resource {
        Resource::Memory | Resource::EphemeralStorage => Quantity::from_bytes(amount),
        Resource::Inodes | Resource::Pids => Quantity::from_units(amount),
    }
}

/// A container's name, what it uses and what it asked for, when that is less.
fn offence(resource: Resource, pod: &Pod, usage: &ContainerUse) -> Option<(String, Quantity, Quantity)> {
    let used = match resource {
        Resource::Memory => usage.memory,
        Resource::EphemeralStorage => usage.root.bytes + usage.logs.bytes,
        Resource::Inodes | Resource::Pids => return None,
    };
    let container = pod.spec.as_ref()?.containers.iter().find(|it| it.name == usage.name)?;
    let requests = container.resources.as_ref().and_then(|it| it.requests.as_ref());
    let request = amount(requests, resource.as_str()).unwrap_or_else(|| Quantity::from_units(0));
    (used > request.value()).then(|| (usage.name.clone(), Quantity::from_bytes(used), request))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::super::threshold::Settings;
    use super::super::{Figure, Signal};
    use super::*;

    #[test]
    fn pods_are_told_what_was_low_and_who_used_it() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"memory": "100Mi"}}}, {"name": "b"}, {"name": "c"},
        ]}}))
        .unwrap();
        let hard = BTreeMap::from([("memory.available".to_owned(), "100Mi".to_owned())]);
        let crossed = Settings { hard, ..Settings::default() }.thresholds().unwrap();
        let figure = Figure { available: 50 << 20, capacity: 8 << 30, at: jiff::Timestamp::UNIX_EPOCH };
        let figures = Figures::from([(Signal::MemoryAvailable, figure)]);
        let container =
            |name: &str, memory| ContainerUse { name: name.into(), memory, ..ContainerUse::default() };
        let usage = PodUse {
            containers: vec![container("a", 200 << 20), container("b", 1 << 20), container("c", 0)],
            ..PodUse::default()
        };
        let told = notice(Resource::Memory, &pod, Some(&usage), &crossed, &figures);
        assert_eq!(
            told.message,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container a was using 200Mi, request is 100Mi, has larger consumption of memory. \
             Container b was using 1Mi, request is 0, has larger consumption of memory. "
        );
        assert_eq!(told.annotations["offending_containers"], "a,b");
        assert_eq!(told.annotations["offending_containers_usage"], "200Mi,1Mi");
        assert_eq!(told.annotations["starved_resource"], "memory");
        let told = notice(Resource::Pids, &pod, None, &crossed, &figures);
        assert_eq!(
            told,
            Notice { message: "The node was low on resource: pids. ".into(), ..Notice::default() }
        );
    }
}
