//! Load balancers without a cloud: a Service of the type LoadBalancer gets the addresses of the nodes, whose packet rules
//! lead from there to its endpoints (cloud-provider: controllers/service, v1.37, for when and how it is told).
//!
//! Services with a class are others' business. A port of the nodes belongs to the oldest Service that asks for it.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Node, Service, ServicePort, ServiceSpec, ServiceStatus,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::action::{Action, Severity};
use crate::{node, service};

/// The label that keeps a node out of load balancers.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The taint of nodes that an autoscaler is about to remove.
const DOOMED: &str = "ToBeDeletedByClusterAutoscaler";
/// So many addresses a Service gets at most: each is a rule for each port on each node.
const MOST: usize = 64;

/// What is known about a Service's load balancer.
pub struct Observed<'a> {
    /// The Service.
    pub service: &'a Service,
    /// All Services with load balancers of this kind, itself among them.
    pub balanced: &'a [Arc<Service>],
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// The Service's endpoints.
    pub slices: &'a [Arc<EndpointSlice>],
    /// TCP ports that nodes need themselves.
    pub reserved: &'a [u16],
}

/// Whether a Service has a load balancer of this kind.
pub fn is_balanced(service: &Service) -> bool {
    let asks = |spec: &ServiceSpec| {
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
    };
    service.metadata.deletion_timestamp.is_none() && service.spec.as_ref().is_some_and(asks)
}

/// Whether there is anything to decide: it has a load balancer of this kind, or had one.
pub fn is_concerned(service: &Service) -> bool {
    let has_class = service.spec.as_ref().is_some_and(|spec| spec.load_balancer_class.is_some());
    is_balanced(service) || (!has_class && !present(service).is_empty())
}

/// The addresses by which clients reach a node that can take part: external ones, else internal ones.
pub fn addresses(of: &Node) -> Vec<IpAddr> {
    let is_excluded = of.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
    let is_doomed = node::taints(of).iter().any(|taint| taint.key == DOOMED);
    if is_excluded || is_doomed || of.metadata.deletion_timestamp.is_some() || !node::ready(of) {
        return Vec::new();
    }
    let all = of.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let of_kind = |kind: &str| -> Vec<IpAddr> {
        let some = all.iter().filter(|address| address.type_ == kind);
        some.filter_map(|address| address.address.parse().ok()).collect()
    };
    let external = of_kind("ExternalIP");
    if external.is_empty() { of_kind("InternalIP") } else { external }
}

/// What to do about a Service's load balancer.
pub fn decide(observed: &Observed<'_>) -> Vec<Action> {
    let of = observed.service;
    let wanted = if is_balanced(of) { wanted(observed) } else { Ok(Vec::new()) };
    let tell = |severity, reason, message: String| Action::event(of, severity, reason, message);
    let before = present(of);
    let (now, told) = match wanted {
        Err(why) => {
            let message = format!("Error syncing load balancer: failed to ensure load balancer: {why}");
            (Vec::new(), Some(tell(Severity::Warning, "SyncLoadBalancerFailed", message)))
        }
        Ok(now) if now == before => (now, None),
        Ok(now) if !is_balanced(of) => {
            (now, Some(tell(Severity::Normal, "DeletedLoadBalancer", "Deleted load balancer".to_owned())))
        }
        Ok(now) if now.is_empty() => {
            let message = "There are no available nodes for LoadBalancer".to_owned();
            (now, Some(tell(Severity::Warning, "UnAvailableLoadBalancer", message)))
        }
        Ok(now) if before.is_empty() => {
            (now, Some(tell(Severity::Normal, "EnsuredLoadBalancer", "Ensured load balancer".to_owned())))
        }
        Ok(now) => {
            let message = "Updated load balancer with new hosts".to_owned();
            (now, Some(tell(Severity::Normal, "UpdatedLoadBalancer", message)))
        }
    };
    let old = of.status.clone().unwrap_or_default();
    let ingress = (!now.is_empty()).then_some(now);
    let new = ServiceStatus { load_balancer: Some(LoadBalancerStatus { ingress }), ..old.clone() };
    let old = ServiceStatus { load_balancer: Some(old.load_balancer.unwrap_or_default()), ..old };
    Action::update_status(of, &old, &new).into_iter().chain(told).collect()
}

fn present(service: &Service) -> &[LoadBalancerIngress] {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_deref()).unwrap_or_default()
}

fn wanted(observed: &Observed<'_>) -> Result<Vec<LoadBalancerIngress>, String> {
    let Some(spec) = &observed.service.spec else { return Ok(Vec::new()) };
    check_ports(observed)?;
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let mut nodes: Vec<_> = observed.nodes.iter().map(Arc::as_ref).collect();
    nodes.retain(|one| !is_local || has_endpoint(observed.slices, node::name(one)));
    nodes.sort_by_key(|one| node::name(one));
    let all: Vec<_> = nodes.into_iter().flat_map(addresses).collect();
    let chosen = spec.load_balancer_ip.as_deref().filter(|chosen| !chosen.is_empty());
    if let Some(chosen) = chosen {
        let found = all.into_iter().find(|address| address.to_string() == chosen);
        return found
            .map(|address| vec![ingress(address)])
            .ok_or(format!("no node has the address {chosen}"));
    }
    let families = spec.ip_families.iter().flatten();
    let of_family = |family: &String| {
        let of = all.iter().filter(|address| address.is_ipv6() == (family == "IPv6")).copied();
        of.take(MOST).map(ingress).collect::<Vec<_>>()
    };
    Ok(families.flat_map(of_family).collect())
}

fn ingress(address: IpAddr) -> LoadBalancerIngress {
    LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    }
}

fn has_endpoint(slices: &[Arc<EndpointSlice>], node: &str) -> bool {
    slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()).any(|endpoint| {
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        ready && endpoint.node_name.as_deref() == Some(node)
    })
}

/// Refuses what a node needs itself, or an older Service has.
fn check_ports(observed: &Observed<'_>) -> Result<(), String> {
    let own = ports(observed.service);
    for port in own {
        let reserved = observed.reserved.iter().any(|taken| i32::from(*taken) == port.port);
        if reserved && service::protocol(port) == "TCP" {
            return Err(format!("port {}/TCP is needed by the nodes themselves", port.port));
        }
    }
    let older = observed.balanced.iter().filter(|other| age(other) < age(observed.service));
    for other in older {
        let held = |port: &&ServicePort| {
            ports(other)
                .iter()
                .any(|it| it.port == port.port && service::protocol(it) == service::protocol(port))
        };
        if let Some(port) = own.iter().find(held) {
            let (namespace, name) = names(other);
            let protocol = service::protocol(port);
            return Err(format!("port {}/{protocol} is that of Service {namespace}/{name}", port.port));
        }
    }
    Ok(())
}

fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

fn names(service: &Service) -> (&str, &str) {
    let meta = &service.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Orders Services by who was there first.
fn age(service: &Service) -> impl Ord + '_ {
    let made = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (made, names(service))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, ready: bool, addresses: &[&str], more: Value) -> Arc<Node> {
        let listed: Vec<_> =
            addresses.iter().map(|it| json!({"type": "InternalIP", "address": it})).collect();
        let status = if ready { "True" } else { "False" };
        let mut meta = json!({"name": name});
        meta.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let node = json!({"metadata": meta, "status": {"addresses": listed,
            "conditions": [{"type": "Ready", "status": status}]}});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn service(name: &str, second: u32, port: u16, more: Value) -> Arc<Service> {
        let mut spec = json!({"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{"port": port}]});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let made = format!("2026-01-01T00:00:{second:02}Z");
        let meta = json!({"name": name, "namespace": "ns", "creationTimestamp": made});
        Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap())
    }

    /// What a decision writes and says, in short.
    fn told(service: &Service, balanced: &[Arc<Service>]) -> String {
        let nodes = [
            node("b", true, &["192.0.2.2", "fd00::2"], json!({})),
            node("a", true, &["192.0.2.1", "fd00::1"], json!({})),
            node("silent", false, &["192.0.2.3"], json!({})),
            node("kept-out", true, &["192.0.2.4"], json!({"labels": {EXCLUDED: ""}})),
        ];
        let slice = json!({"metadata": {}, "addressType": "IPv4", "endpoints": [
            {"addresses": ["10.0.0.1"], "nodeName": "b"},
            {"addresses": ["10.0.0.2"], "nodeName": "a", "conditions": {"ready": false}}]});
        let observed = Observed {
            service,
            balanced,
            nodes: &nodes,
            slices: &[Arc::new(serde_json::from_value(slice).unwrap())],
            reserved: &[6443],
        };
        let told = decide(&observed).into_iter().map(|action| match action {
            Action::Patch(patch) => {
                let ingress = &patch.body["status"]["loadBalancer"]["ingress"];
                let all = ingress.as_array().into_iter().flatten();
                assert!(all.clone().all(|one| one["ipMode"] == "VIP"), "{ingress}");
                format!("={}", all.map(|one| one["ip"].as_str().unwrap()).collect::<Vec<_>>().join(","))
            }
            Action::Event(note) => format!("{} {}", note.reason, note.message),
            other => panic!("{other:?}"),
        });
        told.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn services_get_the_addresses_of_nodes() {
        let ensured = |addresses: &str| format!("={addresses}; EnsuredLoadBalancer Ensured load balancer");
        let failed = |why: &str| {
            format!(
                "SyncLoadBalancerFailed Error syncing load balancer: failed to ensure load balancer: {why}"
            )
        };
        let table = [
            (80, json!({}), ensured("192.0.2.1,192.0.2.2")),
            (80, json!({"ipFamilies": ["IPv6", "IPv4"]}), ensured("fd00::1,fd00::2,192.0.2.1,192.0.2.2")),
            (80, json!({"externalTrafficPolicy": "Local"}), ensured("192.0.2.2")),
            (80, json!({"loadBalancerIP": "192.0.2.2"}), ensured("192.0.2.2")),
            (80, json!({"loadBalancerIP": "192.0.2.9"}), failed("no node has the address 192.0.2.9")),
            (6443, json!({}), failed("port 6443/TCP is needed by the nodes themselves")),
            (6443, json!({"ports": [{"port": 6443, "protocol": "UDP"}]}), ensured("192.0.2.1,192.0.2.2")),
            (81, json!({}), failed("port 81/TCP is that of Service ns/older")),
            (82, json!({}), ensured("192.0.2.1,192.0.2.2")),
            (80, json!({"loadBalancerClass": "example.com/other"}), String::new()),
            (80, json!({"type": "NodePort"}), String::new()),
        ];
        let others = [service("older", 0, 81, json!({})), service("younger", 9, 82, json!({}))];
        for (port, spec, expected) in table {
            assert_eq!(told(&service("web", 5, port, spec.clone()), &others), expected, "{port} {spec}");
        }
    }

    #[test]
    fn what_changes_is_told() {
        let with = |spec: Value, ips: &[&str]| {
            let mut with = Arc::unwrap_or_clone(service("web", 5, 80, spec));
            let ingress: Vec<_> = ips.iter().map(|ip| ingress(ip.parse().unwrap())).collect();
            let load_balancer = Some(LoadBalancerStatus { ingress: Some(ingress) });
            with.status = Some(ServiceStatus { load_balancer, ..ServiceStatus::default() });
            with
        };
        let table = [
            (json!({}), vec!["192.0.2.1", "192.0.2.2"], ""),
            (
                json!({}),
                vec!["192.0.2.1"],
                "=192.0.2.1,192.0.2.2; UpdatedLoadBalancer Updated load balancer with new hosts",
            ),
            (json!({"type": "ClusterIP"}), vec!["192.0.2.1"], "=; DeletedLoadBalancer Deleted load balancer"),
        ];
        for (spec, ips, expected) in table {
            assert_eq!(told(&with(spec.clone(), &ips), &[]), expected, "{spec} {ips:?}");
            assert!(is_concerned(&with(spec, &ips)));
        }
        assert!(!is_concerned(&with(json!({"loadBalancerClass": "example.com/other"}), &["192.0.2.1"])));
        assert!(!is_concerned(&service("web", 5, 80, json!({"type": "NodePort"}))));
    }
}
