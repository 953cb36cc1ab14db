//! APIServices of the group versions that this server serves itself.

use plimsoll_catalogue::Kind;
use serde_json::{Value, json};

use crate::usage;

/// Label of APIServices that the server keeps: `onstart` for built-in groups, `true` for custom ones.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Built-in groups with upstream's priority among groups (`apiVersionPriorities`, v1.37).
const GROUPS: &[(&str, i64)] = &[
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("internal.apiserver.k8s.io", 16000),
    ("resource.k8s.io", 15900),
    ("storagemigration.k8s.io", 15800),
    (usage::GROUP, 100),
];
/// The aggregation layer's own group stands first and is not registered with itself.
const OWN: &str = "apiregistration.k8s.io";
/// Groups of custom resources.
const CUSTOM: i64 = 1000;

/// The place of a group among all groups; higher ones come first.
pub(crate) fn group_priority(group: &str) -> i64 {
    let known = GROUPS.iter().find(|(name, _)| *name == group);
    known.map_or(if group == OWN { i64::MAX } else { CUSTOM }, |(_, priority)| *priority)
}

/// The place of a version within its group.
fn version_priority(group: &str, version: &str) -> i64 {
    match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        _ if version.contains("alpha") => 1,
        _ if version.contains("beta") => 9,
        _ => 15,
    }
}

/// The APIService of each group version among these kinds.
pub(crate) fn services<'k>(kinds: impl IntoIterator<Item = &'k Kind>) -> Vec<Value> {
    plimsoll_catalogue::groups_of(kinds)
        .iter()
        .filter(|group| group.name != OWN)
        .flat_map(|group| group.versions.iter().map(|version| service(group.name, version)))
        .collect()
}

/// The APIService of the metrics that this server serves unless somebody else does.
pub(crate) fn metrics() -> Value {
    service(usage::GROUP, usage::VERSION)
}

/// Whether an APIService is kept for a custom group.
pub(crate) fn is_custom(service: &Value) -> bool {
    service["metadata"]["labels"][MANAGED] == "true"
}

fn service(group: &str, version: &str) -> Value {
    let custom = group_priority(group) == CUSTOM;
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {
            "name": format!("{version}.{group}"),
            "labels": {MANAGED: if custom { "true" } else { "onstart" }},
        },
        "spec": {
            "group": group, "version": version, "groupPriorityMinimum": group_priority(group),
            "versionPriority": if custom { 100 } else { version_priority(group, version) },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_group_has_its_place() {
        for group in plimsoll_catalogue::groups() {
            assert_ne!(group_priority(group.name), CUSTOM, "{}", group.name);
        }
    }

    #[test]
    fn versions_are_named_and_placed() {
        let services = services(plimsoll_catalogue::kinds());
        let named =
            |name: &str| services.iter().find(|one| one["metadata"]["name"] == name).expect("a service");
        assert_eq!(named("v1.")["spec"]["groupPriorityMinimum"], 18000);
        assert_eq!(named("v2.autoscaling")["spec"]["versionPriority"], 30);
        assert_eq!(named("v1.apps")["metadata"]["labels"][MANAGED], "onstart");
    }
}
