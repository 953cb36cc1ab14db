//! What is wrong with a Service (upstream: `pkg/apis/core/validation`).

use std::net::IpAddr;

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::service_change::{has_external_traffic, needs_health_check};
use crate::access::Access;
use crate::addresses;
use crate::object_meta;
use crate::report::{Report, VALID_IP, names_of};

pub(super) fn check(service: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (service.at("spec").unwrap_or(&null), Path::root("spec"));
    let kind = spec.text("type");
    if spec.list("ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        report.required(&path.child("ports"), "");
    }
    check_type(spec, kind, &path, report);
    check_ports(spec, kind, &path.child("ports"), report);
    object_meta::check_labels(spec.map("selector"), &path.child("selector"), report.errors());
    check_affinity(spec, &path, report);
    if kind != "ExternalName" {
        check_addresses(spec, &path, report);
    }
    for (at, address) in spec.texts("externalIPs").iter().enumerate() {
        addresses::check_external(address, &path.child("externalIPs").index(at), report);
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    report.choice(&path.child("type"), kind, &types);
    check_load_balancer(service, spec, kind, &path, report);
    check_traffic(service, spec, &path, report);
}

/// What is wrong with the addresses and families that a Service asks for.
pub fn service_address_errors(service: &Value) -> Vec<FieldError> {
    let mut report = Report::new();
    if let Some(spec) = service.at("spec").filter(|spec| spec.text("type") != "ExternalName") {
        check_addresses(spec, &Path::root("spec"), &mut report);
    }
    report.into_errors()
}

fn is_headless(spec: &Value) -> bool {
    spec.texts("clusterIPs") == ["None"]
}

fn check_type(spec: &Value, kind: &str, path: &Path, report: &mut Report) {
    if is_headless(spec) && matches!(kind, "LoadBalancer" | "NodePort") {
        let message = format!("may not be set to 'None' for {kind} services");
        report.invalid(&path.child("clusterIPs").index(0), "None", message);
    }
    if kind == "LoadBalancer" {
        for (at, port) in spec.list("ports").iter().enumerate() {
            if port.count("port") == 10250 {
                let message = "may not expose port 10250 externally since it is used by kubelet";
                report.invalid(&path.child("ports").index(at), 10250, message);
            }
        }
    }
    if kind != "ExternalName" {
        return;
    }
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !crate::access::same(spec.at(field), None) {
            report.forbidden(&path.child(field), "may not be set for ExternalName services");
        }
    }
    let target = spec.text("externalName");
    let domain = target.strip_suffix('.').unwrap_or(target);
    match domain {
        "" => report.required(&path.child("externalName"), ""),
        _ => report.rule(&path.child("externalName"), domain, name::is_dns1123_subdomain(domain)),
    }
}

fn check_ports(spec: &Value, kind: &str, path: &Path, report: &mut Report) {
    let ports = spec.list("ports");
    for (at, port) in ports.iter().enumerate() {
        let at_port = path.index(at);
        let name = port.text("name");
        if !name.is_empty() {
            report.rule(&at_port.child("name"), name, name::is_dns1123_label(name));
            if names_of(&ports[..at]).any(|other| other == name) {
                report.duplicate(&at_port.child("name"), name);
            }
        } else if ports.len() > 1 {
            report.required(&at_port.child("name"), "");
        }
        report.port(&at_port.child("port"), port.count("port"));
        report.choice(&at_port.child("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
        report.port_or_name(&at_port.child("targetPort"), port.at("targetPort").unwrap_or(&Value::Null));
        if let Some(protocol) = port.at("appProtocol").and_then(Value::as_str) {
            report.rule(&at_port.child("appProtocol"), protocol, name::is_qualified_name(protocol));
        }
        let (protocol, number, node) = (port.text("protocol"), port.count("port"), port.count("nodePort"));
        if kind == "ClusterIP" && node != 0 {
            report.forbidden(&at_port.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        let clash = |field: &str, value: i64| {
            ports[..at].iter().any(|other| (other.text("protocol"), other.count(field)) == (protocol, value))
        };
        if node != 0 && clash("nodePort", node) {
            report.duplicate(&at_port.child("nodePort"), node);
        }
        if clash("port", number) {
            report.duplicate(&at_port, json!({"port": number, "protocol": protocol}));
        }
    }
}

fn check_affinity(spec: &Value, path: &Path, report: &mut Report) {
    let affinity = spec.text("sessionAffinity");
    report.choice(&path.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let at = path.child("sessionAffinityConfig");
    match (affinity, spec.int("sessionAffinityConfig.clientIP.timeoutSeconds")) {
        ("None", _) if spec.has("sessionAffinityConfig") => {
            report.forbidden(&at, "must not be set when session affinity is None");
        }
        ("ClientIP", None) => report.required(&at, "when session affinity type is ClientIP"),
        ("ClientIP", Some(seconds)) if !(1..=86_400).contains(&seconds) => {
            let at = at.child("clientIP").child("timeoutSeconds");
            report.invalid(&at, seconds, "must be greater than 0 and less than 86400");
        }
        _ => {}
    }
}

fn check_addresses(spec: &Value, path: &Path, report: &mut Report) {
    let (one, all) = (spec.text("clusterIP"), spec.texts("clusterIPs"));
    let at = path.child("clusterIPs");
    match (one.is_empty(), all.first()) {
        (false, None) => report.required(&at, ""),
        (false, Some(first)) if *first != one => {
            report.invalid(&at, all.clone(), "first value must match `clusterIP`")
        }
        (true, Some(_)) => {
            report.invalid(&at, all.clone(), "must be empty when `clusterIP` is not specified")
        }
        _ => {}
    }
    let families = spec.texts("ipFamilies");
    for (index, family) in families.iter().enumerate() {
        let at = path.child("ipFamilies").index(index);
        if !["IPv4", "IPv6"].contains(family) {
            report.not_supported(&at, *family, &["IPv4", "IPv6"]);
        }
        if families[..index].contains(family) {
            report.duplicate(&at, *family);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    report.choice_if_set(spec, "ipFamilyPolicy", path, &policies);
    let known = families.iter().all(|family| ["IPv4", "IPv6"].contains(family));
    check_cluster_ips(&all, if known { &families } else { &[] }, &at, report);
}

fn check_cluster_ips(all: &[&str], families: &[&str], path: &Path, report: &mut Report) {
    let mut is_broken = false;
    for (at, address) in all.iter().enumerate() {
        if at == 0 && *address == "None" {
            if all.len() > 1 {
                is_broken = true;
                report.invalid(path, all.to_vec(), "'None' must be the first and only value");
            }
        } else if address.parse::<IpAddr>().is_err() {
            is_broken = true;
            report.invalid(&path.index(at), *address, VALID_IP);
        }
    }
    if all.len() > 2 {
        report.invalid(path, all.to_vec(), "may only hold up to 2 values");
    }
    if is_broken {
        return;
    }
    let parsed: Vec<IpAddr> = all.iter().filter_map(|text| text.parse().ok()).collect();
    if parsed.len() > 1 && parsed.iter().all(|address| address.is_ipv4() == parsed[0].is_ipv4()) {
        report.invalid(path, all.to_vec(), "may specify no more than one IP for each IP family");
    }
    for (at, (address, family)) in parsed.iter().zip(families).enumerate() {
        if (*family == "IPv4") != address.is_ipv4() {
            let message = format!("expected an {family} value as indicated by `ipFamilies[{at}]`");
            report.invalid(&path.index(at), all[at], message);
        }
    }
}

fn check_load_balancer(service: &Value, spec: &Value, kind: &str, path: &Path, report: &mut Report) {
    const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let own = spec.texts("loadBalancerSourceRanges");
    let annotation = service.map("metadata.annotations").get(RANGES).and_then(Value::as_str);
    let (at, ranges, shown) = match annotation {
        _ if !own.is_empty() => {
            (path.child("LoadBalancerSourceRanges"), own.clone(), format!("[{}]", own.join(" ")))
        }
        Some(text) => {
            let at = Path::root("metadata").child("annotations").key(RANGES);
            (at, text.trim().split(',').filter(|one| !one.is_empty()).collect(), text.to_owned())
        }
        None => (path.clone(), Vec::new(), String::new()),
    };
    if at != *path {
        if kind != "LoadBalancer" {
            report.forbidden(&at, ONLY);
        }
        if ranges.iter().any(|range| range.trim().parse::<ipnet::IpNet>().is_err()) {
            report.invalid(
                &at,
                shown,
                "must be a list of IP ranges. For example, 10.240.0.0/24,10.250.0.0/24 ",
            );
        }
    }
    if kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec.has(field) {
                report.forbidden(&path.child(field), ONLY);
            }
        }
    } else if let Some(class) = spec.at("loadBalancerClass").and_then(Value::as_str) {
        report.rule(&path.child("loadBalancerClass"), class, name::is_qualified_name(class));
    }
}

fn check_traffic(service: &Value, spec: &Value, path: &Path, report: &mut Report) {
    let (policy, at) = (spec.text("externalTrafficPolicy"), path.child("externalTrafficPolicy"));
    if has_external_traffic(service) {
        report.choice(&at, policy, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        report.invalid(&at, policy, "may only be set when `type` is 'NodePort' or 'LoadBalancer'");
    }
    let (port, at) = (spec.count("healthCheckNodePort"), path.child("healthCheckNodePort"));
    if port != 0 && needs_health_check(service) {
        report.port(&at, port);
    } else if port != 0 {
        let message = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        report.invalid(&at, port, message);
    }
    report.choice_if_set(spec, "internalTrafficPolicy", path, &["Cluster", "Local"]);
    let distributions = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    report.choice_if_set(spec, "trafficDistribution", path, &distributions);
}

/// Addresses and families are kept once given.
pub(super) fn check_update(new: &Value, old: &Value, report: &mut Report) {
    let is_external = |service: &Value| service.text("spec.type") == "ExternalName";
    if !is_external(new) && !is_external(old) {
        let headless = (is_headless(&new["spec"]), is_headless(&old["spec"]));
        if headless != (true, true) {
            check_kept(new, old, "clusterIPs", "clusterIP", report);
        }
        let known = |family: &&str| ["IPv4", "IPv6"].contains(family);
        if headless == (false, false) && new.texts("spec.ipFamilies").iter().all(known) {
            check_kept(new, old, "ipFamilies", "ipFamily", report);
        }
    }
    let path = Path::root("spec");
    let is_balanced = |service: &Value| service.text("spec.type") == "LoadBalancer";
    if is_balanced(new)
        && is_balanced(old)
        && new.at("spec.loadBalancerClass") != old.at("spec.loadBalancerClass")
    {
        let class = new.at("spec.loadBalancerClass").cloned().unwrap_or(Value::Null);
        report.invalid(&path.child("loadBalancerClass"), class, "may not change once set");
    }
    if needs_health_check(new)
        && needs_health_check(old)
        && new.count("spec.healthCheckNodePort") != old.count("spec.healthCheckNodePort")
    {
        report.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
}

/// A second address or family may come and go; the first stays.
fn check_kept(new: &Value, old: &Value, field: &str, noun: &str, report: &mut Report) {
    const CHANGED: &str = "may not change once set";
    let path = format!("spec.{field}");
    let (after, before) = (new.texts(&path), old.texts(&path));
    let at = Path::root("spec").child(field);
    if after.len() == before.len() {
        for index in (0..after.len()).filter(|index| after[*index] != before[*index]) {
            report.invalid(&at.index(index), after.clone(), CHANGED);
        }
        return;
    }
    match (after.first(), before.first()) {
        (None, Some(_)) => {
            report.invalid(&at.index(0), after.clone(), format!("primary {noun} can not be unset"))
        }
        (Some(now), Some(then)) if now != then => report.invalid(&at.index(0), after.clone(), CHANGED),
        _ => {}
    }
    if before.len() > after.len() && after.len() == 1 && new.text("spec.ipFamilyPolicy") != "SingleStack" {
        let policy = new.at("spec.ipFamilyPolicy").cloned().unwrap_or(Value::Null);
        let message = format!("must be set to 'SingleStack' when releasing the secondary {noun}");
        report.invalid(&Path::root("spec").child("ipFamilyPolicy"), policy, message);
    }
}

/// Addresses of load balancers in a status.
pub(crate) fn check_load_balancer_status(object: &Value, report: &mut Report) {
    let path = Path::root("status").child("loadBalancer").child("ingress");
    for (at, ingress) in object.list("status.loadBalancer.ingress").iter().enumerate() {
        let path = path.index(at);
        let (address, host) = (ingress.text("ip"), ingress.text("hostname"));
        if !address.is_empty() && address.parse::<IpAddr>().is_err() {
            report.invalid(&path.child("ip"), address, "must be a valid IP address");
        }
        if !host.is_empty() {
            report.rule(&path.child("hostname"), host, name::is_dns1123_subdomain(host));
            if host.parse::<IpAddr>().is_ok() {
                report.invalid(&path.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
        report.choice_if_set(ingress, "ipMode", &path, &["Proxy", "VIP"]);
    }
}
