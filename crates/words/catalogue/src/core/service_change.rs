//! What an update of a Service keeps of the old one and what it gives up.

use serde_json::{Value, json};

use crate::access::{self, Access, Fill};

/// Completes what the client left out and takes away what the new type has no use for.
pub(super) fn settle(new: &mut Value, old: &Value) {
    keep_allocated(new, old);
    mirror_cluster_ip(new, Some(old));
    drop_unused(new, old);
}

fn needs_address(service: &Value) -> bool {
    service.text("spec.type") != "ExternalName"
}

pub(super) fn needs_node_ports(service: &Value) -> bool {
    match service.text("spec.type") {
        "NodePort" => true,
        "LoadBalancer" => service.at("spec.allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)),
        _ => false,
    }
}

pub(super) fn needs_health_check(service: &Value) -> bool {
    service.text("spec.type") == "LoadBalancer" && service.text("spec.externalTrafficPolicy") == "Local"
}

pub(super) fn has_external_traffic(service: &Value) -> bool {
    matches!(service.text("spec.type"), "NodePort" | "LoadBalancer")
}

/// Addresses and ports were given for good: an update that does not name them means the same.
fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_address(old) && needs_address(new) && new.text("spec.clusterIP").is_empty() {
        let has_many = !new.list("spec.clusterIPs").is_empty();
        if let Some(spec) = new.inside("spec") {
            copy(spec, old, "clusterIP");
            if !has_many {
                copy(spec, old, "clusterIPs");
            }
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        keep_node_ports(new, old);
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && new.count("spec.healthCheckNodePort") == 0
        && let Some(spec) = new.inside("spec")
    {
        copy(spec, old, "healthCheckNodePort");
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let named: Vec<i64> = new.list("spec.ports").iter().map(|port| port.count("nodePort")).collect();
    for port in new.elements("spec.ports") {
        let name = port.text("name").to_owned();
        let before = old.list("spec.ports").iter().rfind(|other| other.text("name") == name);
        let number = before.map_or(0, |before| before.count("nodePort"));
        if number != 0 && !named.contains(&number) {
            port.fill_zero("nodePort", number);
        }
    }
}

fn copy(spec: &mut Value, old: &Value, field: &str) {
    if let Some(value) = old.at("spec").and_then(|spec| spec.at(field)) {
        spec.put(field, value.clone());
    }
}

/// `clusterIP` is the first of `clusterIPs`: whichever the client changed wins.
pub(super) fn mirror_cluster_ip(service: &mut Value, old: Option<&Value>) {
    let before = old.map_or("", |old| old.text("spec.clusterIP")).to_owned();
    let before_all = old.and_then(|old| old.at("spec.clusterIPs")).cloned();
    let Some(spec) = service.inside("spec") else { return };
    let one = spec.text("clusterIP").to_owned();
    let all = spec.at("clusterIPs").filter(|_| !spec.list("clusterIPs").is_empty()).cloned();
    match (one.is_empty(), all) {
        (false, None) if one == before && before_all.is_some() => {
            spec.put("clusterIPs", before_all.unwrap_or(Value::Null));
        }
        (false, None) => spec.put("clusterIPs", json!([one])),
        (_, all) if one == before || old.is_none() || !access::same(all.as_ref(), before_all.as_ref()) => {}
        (true, _) => spec.drop_key("clusterIPs"),
        (false, _) => spec.put("clusterIPs", json!([one])),
    }
}

const ADDRESS_FIELDS: &[&str] =
    &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"];

/// What only the old type needed goes, unless the client changed it, too, and shall hear of it.
fn drop_unused(new: &mut Value, old: &Value) {
    let lost = |needs: fn(&Value) -> bool, new: &Value| needs(old) && !needs(new);
    let is_balanced: fn(&Value) -> bool = |service| service.text("spec.type") == "LoadBalancer";
    let groups: [(bool, &[&str]); 4] = [
        (lost(needs_address, new), ADDRESS_FIELDS),
        (lost(needs_health_check, new), &["healthCheckNodePort"]),
        (lost(is_balanced, new), &["allocateLoadBalancerNodePorts", "loadBalancerClass"]),
        (lost(has_external_traffic, new), &["externalTrafficPolicy"]),
    ];
    let ports_lost = lost(needs_node_ports, new) && same_node_ports(new, old);
    if let Some(spec) = new.inside("spec") {
        for field in groups.iter().filter(|(lost, _)| *lost).flat_map(|(_, fields)| *fields) {
            if access::same(spec.at(field), old.at("spec").and_then(|spec| spec.at(field))) {
                spec.drop_key(field);
            }
        }
        if spec.text("clusterIP").is_empty() {
            spec.drop_key("clusterIP");
        }
        if ports_lost {
            spec.elements("ports").iter_mut().for_each(|port| port.drop_key("nodePort"));
        }
    }
    if !is_balanced(new)
        && let Some(status) = new.object("status")
    {
        status.put("loadBalancer", json!({}));
    }
}

fn same_node_ports(new: &Value, old: &Value) -> bool {
    let ports = |service: &Value| -> Vec<i64> {
        let mut ports: Vec<i64> =
            service.list("spec.ports").iter().map(|port| port.count("nodePort")).collect();
        ports.retain(|port| *port != 0);
        ports.sort_unstable();
        ports
    };
    let before = ports(old);
    ports(new).iter().all(|port| before.contains(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_without_addresses_keeps_them() {
        let old = json!({"spec": {
            "type": "NodePort", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30001}],
        }});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"name": "http", "port": 81}]}});
        settle(&mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.5"]));
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
    }

    #[test]
    fn a_type_without_node_ports_gives_them_up() {
        let old = json!({"spec": {
            "type": "NodePort", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"], "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "nodePort": 30001}],
        }});
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        settle(&mut new, &old);
        assert_eq!(
            new["spec"],
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"], "ports": [{"port": 80}]})
        );
        new["spec"]["type"] = "ExternalName".into();
        let before =
            json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"]}});
        settle(&mut new, &before);
        assert_eq!(new["spec"], json!({"type": "ExternalName", "ports": [{"port": 80}]}));
    }
}
