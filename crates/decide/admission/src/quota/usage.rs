//! What one object uses.

use std::collections::BTreeMap;

use jiff::Timestamp;
use plimsoll_meta::quantity::Quantity;
use serde_json::Value;

use super::{pod_usage, quantity};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// A resource whose objects are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// Group, empty for the core group.
    pub group: &'a str,
    /// Plural name.
    pub plural: &'a str,
}

/// Resources that quotas name without `count/`.
const BY_NAME: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];

/// The resource whose objects the limit `name` counts, if it counts objects and nothing else of them.
#[must_use]
pub fn counted(name: &str) -> Option<Counted<'_>> {
    if let Some(resource) = name.strip_prefix("count/") {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        return Some(Counted { group, plural });
    }
    BY_NAME.contains(&name).then_some(Counted { group: "", plural: name })
}

/// Everything that an object of `resource` uses.
#[must_use]
pub fn usage(resource: &Counted<'_>, object: &Value, now: Timestamp) -> Amounts {
    let one = Quantity::from_units(1);
    let mut used = Amounts::new();
    let count = match resource.group {
        "" => format!("count/{}", resource.plural),
        group => format!("count/{}.{group}", resource.plural),
    };
    used.insert(count, one);
    if !resource.group.is_empty() {
        return used;
    }
    if BY_NAME.contains(&resource.plural) {
        used.insert(resource.plural.to_owned(), one);
    }
    match resource.plural {
        "pods" => pod_usage::add(object, now, &mut used),
        "services" => service(object, &mut used),
        "persistentvolumeclaims" => claim(object, &mut used),
        _ => {}
    }
    used
}

fn service(service: &Value, used: &mut Amounts) {
    let spec = &service["spec"];
    let kind = spec["type"].as_str().unwrap_or("ClusterIP");
    let ports = spec["ports"].as_array().map_or(0, Vec::len);
    let node_ports = match kind {
        "NodePort" => ports,
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] != false => ports,
        // Ports that were given before the Service stopped asking for them count as long as it has them.
        "LoadBalancer" => {
            let all = spec["ports"].as_array().into_iter().flatten();
            all.filter(|port| port["nodePort"].as_u64().unwrap_or(0) != 0).count()
        }
        _ => 0,
    };
    let number = |count: usize| Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX));
    used.insert("services.nodeports".to_owned(), number(node_ports));
    used.insert("services.loadbalancers".to_owned(), number(usize::from(kind == "LoadBalancer")));
}

fn claim(claim: &Value, used: &mut Amounts) {
    let class = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"]
        .as_str()
        .or(claim["spec"]["storageClassName"].as_str())
        .unwrap_or_default();
    let of_class = |name: &str| format!("{class}.storageclass.storage.k8s.io/{name}");
    if !class.is_empty() {
        used.insert(of_class("persistentvolumeclaims"), Quantity::from_units(1));
    }
    // A claim that shrank again still holds what it was given for the larger wish.
    let wanted = quantity(&claim["spec"]["resources"]["requests"]["storage"]);
    let held = quantity(&claim["status"]["allocatedResources"]["storage"]);
    let Some(storage) = wanted.into_iter().chain(held).max() else { return };
    used.insert("requests.storage".to_owned(), storage);
    if !class.is_empty() {
        used.insert(of_class("requests.storage"), storage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(plural: &str, object: &Value) -> Vec<String> {
        let used = usage(&Counted { group: "", plural }, object, Timestamp::UNIX_EPOCH);
        used.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn services_and_claims_count_for_more_than_one_thing() {
        for (object, expected) in [
            (json!({"type": "ClusterIP", "ports": [{}]}), (0, 0)),
            (json!({"type": "NodePort", "ports": [{}, {}]}), (2, 0)),
            (json!({"type": "LoadBalancer", "ports": [{}]}), (1, 1)),
            (json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{}]}), (0, 1)),
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"nodePort": 30000}]}),
                (1, 1),
            ),
        ] {
            let found = shown("services", &json!({"spec": object}));
            let (node_ports, balancers) = expected;
            assert_eq!(
                found,
                [
                    "count/services=1".to_owned(),
                    "services=1".to_owned(),
                    format!("services.loadbalancers={balancers}"),
                    format!("services.nodeports={node_ports}"),
                ]
            );
        }
        let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"allocatedResources": {"storage": "2Gi"}}});
        assert_eq!(
            shown("persistentvolumeclaims", &claim),
            [
                "count/persistentvolumeclaims=1",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims=1",
                "gold.storageclass.storage.k8s.io/requests.storage=2Gi",
                "persistentvolumeclaims=1",
                "requests.storage=2Gi",
            ]
        );
    }

    #[test]
    fn limits_that_only_count_are_known_by_name() {
        for (name, expected) in [
            ("count/deployments.apps", Some(("apps", "deployments"))),
            ("count/pods", Some(("", "pods"))),
            ("secrets", Some(("", "secrets"))),
            ("pods", None),
            ("requests.cpu", None),
        ] {
            let found = counted(name).map(|one| (one.group, one.plural));
            assert_eq!(found, expected, "{name}");
        }
    }
}
