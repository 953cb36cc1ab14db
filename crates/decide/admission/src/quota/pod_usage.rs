//! What a pod uses.

use std::time::Duration;

use jiff::Timestamp;
use plimsoll_meta::quantity::Quantity;
use serde_json::Value;

use super::usage::Amounts;
use super::{amounts, quantity};

/// Resources of which requests and limits are counted apart.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Adds what a pod uses beside its place in the store: nothing once it has come to its end, or should have long ago.
/// A pod of a node that is lost must not keep its successor away.
pub(super) fn add(pod: &Value, now: Timestamp, used: &mut Amounts) {
    if has_ended(pod) || overdue(pod).is_some_and(|time| now > time) {
        return;
    }
    used.insert("pods".to_owned(), Quantity::from_units(1));
    used.extend(named(&total(pod, "requests"), &total(pod, "limits")));
}

/// After which time a pod that is to end counts for nothing though it is still there; none if it is not to end, or has.
#[must_use]
pub fn overdue(pod: &Value) -> Option<Timestamp> {
    if has_ended(pod) {
        return None;
    }
    let end: Timestamp = pod["metadata"]["deletionTimestamp"].as_str()?.parse().ok()?;
    let grace = u64::try_from(pod["metadata"]["deletionGracePeriodSeconds"].as_i64()?).ok()?;
    end.checked_add(Duration::from_secs(grace)).ok()
}

fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Requests and limits under the names that quotas have for them.
pub(super) fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        if COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-") {
            used.insert(name.clone(), *amount);
            used.insert(format!("requests.{name}"), *amount);
        } else if name.contains('/') && !name.contains("kubernetes.io/") {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in COMPUTE {
        if let Some(amount) = limits.get(name) {
            used.insert(format!("limits.{name}"), *amount);
        }
    }
    used
}

/// Requests or limits of the whole pod with what the runtime takes on top.
fn total(pod: &Value, list: &str) -> Amounts {
    let mut sum = sum(pod, list);
    for (name, amount) in amounts(&pod["spec"]["overhead"]) {
        // A limit exists only where something else limits, too.
        if list == "requests" || sum.contains_key(&name) {
            let before = sum.get(&name).copied().unwrap_or_default();
            sum.insert(name, before + amount);
        }
    }
    sum
}

/// `requests` or `limits` of the whole pod: its own, else the sum of its containers or the largest moment of
/// its start.
pub(crate) fn sum(pod: &Value, list: &str) -> Amounts {
    let spec = &pod["spec"];
    let of = |container: &Value| effective(pod, container, list);
    let each = |name: &str| spec[name].as_array().into_iter().flatten();
    let mut sum = Amounts::new();
    each("containers").for_each(|container| merge(&mut sum, &of(container), |a, b| a + b));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in each("initContainers") {
        let own = of(container);
        if container["restartPolicy"] == "Always" {
            merge(&mut sidecars, &own, |a, b| a + b);
            merge(&mut peak, &sidecars, Ord::max);
        } else {
            let mut moment = sidecars.clone();
            merge(&mut moment, &own, |a, b| a + b);
            merge(&mut peak, &moment, Ord::max);
        }
    }
    merge(&mut sum, &sidecars, |a, b| a + b);
    merge(&mut sum, &peak, Ord::max);
    for (name, amount) in amounts(&spec["resources"][list]) {
        sum.insert(name, amount);
    }
    sum
}

/// A container's amounts; while it is being resized, the larger of what it has and what it shall have.
fn effective(pod: &Value, container: &Value, list: &str) -> Amounts {
    let mut own = amounts(&container["resources"][list]);
    let mut statuses = ["containerStatuses", "initContainerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    let Some(status) = statuses.find(|status| status["name"] == container["name"]) else { return own };
    if list == "requests" {
        for (name, amount) in own.iter_mut() {
            let allocated = quantity(&status["allocatedResources"][name.as_str()]);
            let actual = quantity(&status["resources"]["requests"][name.as_str()]);
            *amount = allocated.into_iter().chain(actual).fold(*amount, Ord::max);
        }
    }
    own
}

fn merge(into: &mut Amounts, more: &Amounts, join: impl Fn(Quantity, Quantity) -> Quantity) {
    for (name, amount) in more {
        let joined = into.get(name).map_or(*amount, |before| join(*before, *amount));
        into.insert(name.clone(), joined);
    }
}

/// Resources that each container must name when a quota limits them.
const REQUIRED: [&str; 6] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

/// What containers leave open of the limited resources, as upstream words it; `None` when nothing.
pub(super) fn missing<'q>(pod: &Value, limited: impl Iterator<Item = &'q str>) -> Option<String> {
    let mut limited: Vec<&str> = limited.filter(|name| REQUIRED.contains(name)).collect();
    limited.sort_unstable();
    let parts: Vec<String> = limited
        .into_iter()
        .filter_map(|resource| {
            let mut names: Vec<&str> = ["containers", "initContainers"]
                .into_iter()
                .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
                .filter(|container| {
                    let resources = &container["resources"];
                    !named(&amounts(&resources["requests"]), &amounts(&resources["limits"]))
                        .contains_key(resource)
                })
                .filter_map(|container| container["name"].as_str())
                .collect();
            names.sort_unstable();
            (!names.is_empty()).then(|| format!("{resource} for: {}", names.join(",")))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(pod: &Value) -> Vec<String> {
        let mut used = Amounts::new();
        add(pod, Timestamp::UNIX_EPOCH, &mut used);
        used.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    fn container(name: &str, cpu: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_counts_with_the_largest_moment_of_its_life() {
        let mut sidecar = container("s", "100m");
        sidecar["restartPolicy"] = json!("Always");
        for (spec, cpu) in [
            (json!({"containers": [container("a", "100m"), container("b", "200m")]}), "300m"),
            (json!({"containers": [container("a", "100m")], "initContainers": [container("i", "1")]}), "1"),
            (
                json!({"containers": [container("a", "100m")], "initContainers": [sidecar.clone(), container("i", "1")]}),
                "1100m",
            ),
            (
                json!({"containers": [container("a", "100m")], "initContainers": [sidecar], "overhead": {"cpu": "50m"}}),
                "250m",
            ),
            (
                json!({"containers": [container("a", "100m")], "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}}),
                "2",
            ),
        ] {
            let expected = [
                format!("cpu={cpu}"),
                format!("limits.cpu={cpu}"),
                "pods=1".to_owned(),
                format!("requests.cpu={cpu}"),
            ];
            assert_eq!(shown(&json!({"spec": spec})), expected);
        }
    }

    #[test]
    fn a_pod_at_its_end_uses_nothing() {
        let spec = json!({"containers": [container("a", "1")]});
        assert!(shown(&json!({"spec": spec, "status": {"phase": "Succeeded"}})).is_empty());
        assert_eq!(shown(&json!({"spec": spec, "status": {"phase": "Running"}})).len(), 4);
    }

    #[test]
    fn extended_resources_count_by_their_requests() {
        let pod = json!({"spec": {"containers": [{"name": "a", "resources": {
            "requests": {"example.com/gpu": "2", "hugepages-2Mi": "4Mi"}, "limits": {"example.com/gpu": "2"}}}]}});
        assert_eq!(
            shown(&pod),
            ["hugepages-2Mi=4Mi", "pods=1", "requests.example.com/gpu=2", "requests.hugepages-2Mi=4Mi"]
        );
    }

    #[test]
    fn containers_must_name_what_is_limited() {
        let pod = json!({"spec": {"containers": [container("b", "1"), {"name": "a"}]}});
        let limited = ["pods", "requests.memory", "limits.cpu", "requests.storage"];
        assert_eq!(
            missing(&pod, limited.into_iter()).as_deref(),
            Some("must specify limits.cpu for: a; requests.memory for: a,b")
        );
        assert_eq!(missing(&pod, ["pods"].into_iter()), None);
    }

    #[test]
    fn a_pod_that_should_be_gone_counts_for_nothing() {
        let mut pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30},
            "spec": {"containers": []}});
        let counts = |pod: &Value, now: &str| {
            let mut used = Amounts::new();
            add(pod, now.parse().expect("a time"), &mut used);
            !used.is_empty()
        };
        assert!(counts(&pod, "2026-01-01T00:00:45Z") && counts(&pod, "2026-01-01T00:01:00Z"));
        assert!(!counts(&pod, "2026-01-01T00:01:01Z"));
        pod["metadata"] = json!({});
        assert!(counts(&pod, "2026-01-01T00:01:01Z"));
    }
}
