//! What a Service asks for, made whole before anything is given out.
//!
//! What enters is the Service as its client wrote it and, if it changes, as it was; what leaves are addresses,
//! ports, policy and families that agree, or what is wrong with them (upstream:
//! `pkg/registry/core/service/storage`, patchAllocatedValues, normalizeClusterIPs, initIPFamilyFields).

use plimsoll_catalogue::service_address_errors;
use plimsoll_meta::field::{FieldError, Path};
use serde_json::{Value, json};

use crate::address::Family;

const MANY_ADDRESSES: &str =
    "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified";
const MANY_FAMILIES: &str =
    "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
const ONE_FAMILY: &str = "this cluster is not configured for dual-stack services";

/// Fills in what a change leaves out of what was given before, and keeps the two fields of addresses in step.
pub(crate) fn settle(service: &mut Value, old: Option<&Value>) {
    let Some(old) = old else {
        let (address, addresses) = (text(service, "clusterIP").to_owned(), texts(service, "clusterIPs"));
        if !address.is_empty() && addresses.is_empty() {
            service["spec"]["clusterIPs"] = json!([address]);
        }
        return;
    };
    if needs_address(service) && needs_address(old) {
        keep_addresses(service, old);
    }
    if needs_node_ports(service) && needs_node_ports(old) {
        keep_node_ports(service, old);
    }
    let health = |service: &Value| service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
    if needs_health_port(service) && needs_health_port(old) && health(service) == 0 {
        service["spec"]["healthCheckNodePort"] = json!(health(old));
    }
    same_addresses(service, old);
}

/// Whether load balancers ask for the health of a Service's nodes.
pub(crate) fn needs_health_port(service: &Value) -> bool {
    text(service, "type") == "LoadBalancer" && text(service, "externalTrafficPolicy") == "Local"
}

fn needs_address(service: &Value) -> bool {
    text(service, "type") != "ExternalName"
}

fn needs_node_ports(service: &Value) -> bool {
    match text(service, "type") {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn keep_addresses(service: &mut Value, old: &Value) {
    if text(service, "clusterIP").is_empty() && !text(old, "clusterIP").is_empty() {
        service["spec"]["clusterIP"] = old["spec"]["clusterIP"].clone();
    }
    if texts(service, "clusterIPs").is_empty() && !texts(old, "clusterIPs").is_empty() {
        service["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
    }
}

/// Ports keep their numbers by their names, unless another port has taken one.
fn keep_node_ports(service: &mut Value, old: &Value) {
    let number = |port: &Value| port["nodePort"].as_u64().unwrap_or(0);
    let name = |port: &Value| port["name"].as_str().unwrap_or_default().to_owned();
    let before = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let Some(ports) = service["spec"]["ports"].as_array_mut() else { return };
    let used: Vec<u64> = ports.iter().map(number).collect();
    for port in ports.iter_mut().filter(|port| number(port) == 0) {
        // Of ports with one name, the last counts.
        let kept = before.iter().rev().find(|one| name(one) == name(port)).map_or(0, number);
        if kept != 0 && !used.contains(&kept) {
            port["nodePort"] = json!(kept);
        }
    }
}

/// A client that knows only one of the two fields has the other follow.
fn same_addresses(service: &mut Value, old: &Value) {
    let (now, then) = (text(service, "clusterIP").to_owned(), text(old, "clusterIP").to_owned());
    let is_same = texts(service, "clusterIPs") == texts(old, "clusterIPs");
    if now != then && is_same {
        match (then.is_empty(), now.is_empty()) {
            (false, true) => drop(service["spec"].as_object_mut().and_then(|spec| spec.remove("clusterIPs"))),
            _ => service["spec"]["clusterIPs"] = json!([now]),
        }
    }
}

/// Policy and families of a Service, where the cluster has addresses of these families.
pub(crate) fn settle_families(
    service: &mut Value,
    old: Option<&Value>,
    configured: &[Family],
) -> Result<(), Vec<FieldError>> {
    // Who prefers both has what there was when the Service was made, until its families change.
    if old.is_some_and(|old| prefers_the_same(service, old)) {
        return Ok(());
    }
    let own: Vec<&str> = configured.iter().map(|family| family.name()).collect();
    let is_open = text(service, "clusterIP") == "None" && has_no_selector(service);
    if !service["spec"]["ipFamilyPolicy"].is_string() {
        let before = old.map(|old| text(old, "ipFamilyPolicy")).unwrap_or_default();
        let policy = match (before, is_open) {
            ("", true) => "RequireDualStack",
            ("", false) => "SingleStack",
            (before, _) => before,
        };
        service["spec"]["ipFamilyPolicy"] = json!(policy);
    }
    refuse(service_address_errors(service))?;
    let policy = text(service, "ipFamilyPolicy").to_owned();
    let is_single = policy == "SingleStack";
    if let Some(old) = old.filter(|_| is_single) {
        release_second(service, old);
    }
    let wrong = |field: &str, value: Value, why: &str| {
        FieldError::invalid(&Path::root("spec").child(field), &value, why)
    };
    let mut errors = Vec::new();
    if let Some(old) = old.filter(|_| !is_single) {
        for (field, noun) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
            if (1..texts(old, field).len()).contains(&texts(service, field).len()) {
                let why = format!("must be 'SingleStack' to release the secondary {noun}");
                errors.push(wrong("ipFamilyPolicy", json!(policy), &why));
            }
        }
    }
    if is_single && texts(service, "clusterIPs").len() == 2 {
        errors.push(wrong("ipFamilyPolicy", json!(policy), MANY_ADDRESSES));
    }
    if is_single && texts(service, "ipFamilies").len() == 2 {
        errors.push(wrong("ipFamilyPolicy", json!(policy), MANY_FAMILIES));
    }
    errors.extend(infer_families(service, &own));
    refuse(errors)?;
    let mut families = texts(service, "ipFamilies");
    if is_open {
        if families.is_empty() {
            families.extend(own.first().map(|family| (*family).to_owned()));
        }
        // Who looks for the backends elsewhere may have them of either family.
        if families.len() < 2 && !is_single {
            families.push(second(&families));
        }
        service["spec"]["ipFamilies"] = json!(families);
        return Ok(());
    }
    let mut errors = Vec::new();
    if policy == "RequireDualStack" && own.len() < 2 {
        errors.push(wrong("ipFamilyPolicy", json!(policy), ONE_FAMILY));
    }
    for (at, family) in families.iter().enumerate().filter(|(_, family)| !own.contains(&family.as_str())) {
        let path = Path::root("spec").child("ipFamilies").index(at);
        errors.push(FieldError::invalid(&path, &json!(family), "not configured on this cluster"));
    }
    refuse(errors)?;
    if families.is_empty() {
        families.extend(own.first().map(|family| (*family).to_owned()));
    }
    if !is_single && families.len() == 1 && own.len() == 2 {
        families.push(second(&families));
    }
    service["spec"]["ipFamilies"] = json!(families);
    Ok(())
}

/// The family that the first of these is not.
fn second(families: &[String]) -> String {
    let first = if families[0] == "IPv4" { Family::Ipv4 } else { Family::Ipv6 };
    first.other().name().to_owned()
}

fn prefers_the_same(service: &Value, old: &Value) -> bool {
    let prefers = |service| text(service, "ipFamilyPolicy") == "PreferDualStack";
    let same = |field| texts(service, field) == texts(old, field);
    let same_type = text(service, "type") == text(old, "type");
    prefers(service) && prefers(old) && same_type && same("clusterIPs") && same("ipFamilies")
}

/// Whoever asks for one stack again gives up what belongs to the second.
fn release_second(service: &mut Value, old: &Value) {
    for field in ["clusterIPs", "ipFamilies"] {
        let now = texts(service, field);
        if now.len() > 1 && now == texts(old, field) {
            service["spec"][field] = json!([now[0]]);
        }
    }
}

/// Families follow from addresses.
fn infer_families(service: &mut Value, own: &[&str]) -> Vec<FieldError> {
    let (addresses, mut families) = (texts(service, "clusterIPs"), texts(service, "ipFamilies"));
    let mut errors = Vec::new();
    for (at, address) in addresses.iter().enumerate().skip(families.len()) {
        if address == "None" {
            break;
        }
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        if own.contains(&family) {
            families.push(family.to_owned());
        } else {
            let path = Path::root("spec").child("clusterIPs").index(at);
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(&path, &json!(addresses), why));
        }
    }
    if !families.is_empty() {
        service["spec"]["ipFamilies"] = json!(families);
    }
    errors
}

fn has_no_selector(service: &Value) -> bool {
    service["spec"]["selector"].as_object().is_none_or(serde_json::Map::is_empty)
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn text<'a>(service: &'a Value, field: &str) -> &'a str {
    service["spec"][field].as_str().unwrap_or_default()
}

pub(crate) fn texts(service: &Value, field: &str) -> Vec<String> {
    let list = service["spec"][field].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a change to a Service that has an address.
    fn changed(change: Value) -> Result<Value, String> {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "selector": {"a": "b"}}});
        let mut service = old.clone();
        for (field, value) in change.as_object().into_iter().flatten() {
            service["spec"][field] = value.clone();
        }
        settle(&mut service, Some(&old));
        let settled = settle_families(&mut service, Some(&old), &[Family::Ipv4]);
        settled.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))?;
        Ok(json!([
            service["spec"]["clusterIP"],
            service["spec"]["clusterIPs"],
            service["spec"]["ipFamilies"]
        ]))
    }

    #[test]
    fn addresses_are_kept_or_follow_each_other() {
        let kept = json!(["10.0.0.1", ["10.0.0.1"], ["IPv4"]]);
        for (change, expected) in [
            (json!({}), kept.clone()),
            (json!({"clusterIP": "", "clusterIPs": []}), kept.clone()),
            (json!({"clusterIP": null}), kept.clone()),
            (json!({"clusterIPs": null, "ipFamilies": null}), kept),
            (json!({"clusterIP": "10.0.0.2"}), json!(["10.0.0.2", ["10.0.0.2"], ["IPv4"]])),
        ] {
            assert_eq!(changed(change.clone()), Ok(expected), "{change}");
        }
        for (change, cause) in [
            (json!({"clusterIPs": ["10.0.0.2"]}), "first value must match `clusterIP`"),
            (
                json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
                "may specify no more than one IP for each IP family",
            ),
            (json!({"ipFamilies": ["IPv6"]}), "expected an IPv6 value as indicated by `ipFamilies[0]`"),
            (json!({"ipFamilies": ["IPv4", "IPv6"]}), MANY_FAMILIES),
            (json!({"ipFamilyPolicy": "RequireDualStack"}), ONE_FAMILY),
        ] {
            let error = changed(change.clone()).expect_err(cause);
            assert!(error.contains(cause), "{change}: {error}");
        }
    }

    #[test]
    fn headless_services_without_selector_are_of_both_families() {
        let mut service = json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
        assert_eq!(settle_families(&mut service, None, &[Family::Ipv4]), Ok(()));
        assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
        assert_eq!(service["spec"]["ipFamilyPolicy"], "RequireDualStack");
        let old = service.clone();
        service["spec"]["ipFamilyPolicy"] = json!("SingleStack");
        assert_eq!(settle_families(&mut service, Some(&old), &[Family::Ipv4]), Ok(()));
        assert_eq!(service["spec"]["ipFamilies"], json!(["IPv4"]));
    }

    #[test]
    fn ports_keep_their_numbers_by_name() {
        let port = |name: &str, number: u64| json!({"name": name, "port": 80, "nodePort": number});
        let service = |ports: Value| json!({"spec": {"type": "NodePort", "ports": ports}});
        let old = service(json!([port("a", 30001), port("b", 30002)]));
        let mut new = service(json!([port("b", 0), port("a", 0), port("c", 0)]));
        settle(&mut new, Some(&old));
        assert_eq!(new, service(json!([port("b", 30002), port("a", 30001), port("c", 0)])));
        let mut new = service(json!([port("a", 0), port("x", 30001)]));
        settle(&mut new, Some(&old));
        assert_eq!(new, service(json!([port("a", 0), port("x", 30001)])));
    }
}
