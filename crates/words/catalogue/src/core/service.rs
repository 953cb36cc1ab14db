//! Services.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};

use super::{service_change, service_rules, stored};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::names;
use crate::report::Report;
use crate::strategy::Strategy;
use crate::warnings;

pub(super) const SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[Subresource::proxy("ServiceProxyOptions"), Subresource::status("Service")],
    definition: "io.k8s.api.core.v1.Service",
    storage: stored("/registry/services/specs"),
    columns: &[
        column::NAME,
        Column::text("Type", "how the service is reached", |service, _| service.text("spec.type").into()),
        Column::text("Cluster-IP", "address inside of the cluster", |service, _| {
            let first =
                service.texts("spec.clusterIPs").first().copied().unwrap_or(service.text("spec.clusterIP"));
            column::or(first, "<none>")
        }),
        Column::text("External-IP", "addresses outside of the cluster", |service, _| {
            external(service).into()
        }),
        Column::text("Port(s)", "ports and node ports", |service, _| column::or(ports(service), "<none>")),
        column::AGE,
        Column::text("Selector", "labels of the pods behind", |service, _| {
            column::labels(service.at("spec.selector")).into()
        })
        .wide(),
    ],
    name_rule: names::dns_1035_label,
    create_on_update: true,
    strategy: &Service,
    ..Kind::BASE
};

struct Service;

impl Strategy for Service {
    fn default(&self, service: &mut Value) {
        let Some(spec) = service.object("spec") else { return };
        spec.fill_zero("sessionAffinity", "None");
        affinity(spec);
        spec.fill_zero("type", "ClusterIP");
        for port in spec.elements("ports") {
            port.fill_zero("protocol", "TCP");
            if let Some(number) = port.int("port") {
                port.fill_zero("targetPort", number);
            }
        }
        let kind = spec.text("type").to_owned();
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            spec.fill_zero("externalTrafficPolicy", "Cluster");
        }
        if kind != "ExternalName" {
            spec.fill("internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            spec.fill("allocateLoadBalancerNodePorts", true);
        }
        address_modes(service);
    }

    fn prepare_create(&self, service: &mut Value) {
        service.put("status", json!({"loadBalancer": {}}));
        service_change::mirror_cluster_ip(service, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        if subresource.is_none() {
            service_change::settle(new, old);
        }
    }

    fn validate(&self, service: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        service_rules::check(service, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        if subresource == Some("status") {
            service_rules::check_load_balancer_status(new, &mut report);
            return report.into_errors();
        }
        service_rules::check_update(new, old, &mut report);
        service_rules::check(new, &mut report);
        report.into_errors()
    }

    fn warnings(&self, service: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        let hints = "service.kubernetes.io/topology-aware-hints";
        if service["metadata"]["annotations"].get(hints).is_some() {
            warnings.push(format!(
                "annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"
            ));
        }
        warn_of_addresses(service, &mut warnings);
        if service.text("spec.type") == "ExternalName" && !service.list("spec.externalIPs").is_empty() {
            warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
        }
        if service.text("spec.type") != "ExternalName" && !service.text("spec.externalName").is_empty() {
            warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
        }
        if service.text("spec.trafficDistribution") == "PreferClose" {
            warnings.push(
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
            );
        }
        warnings
    }

    fn fields(&self, service: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("spec.clusterIP", service.text("spec.clusterIP").to_owned()),
            ("spec.type", service.text("spec.type").to_owned()),
        ]
    }
}

fn warn_of_addresses(service: &Value, told: &mut Vec<String>) {
    let spec = Path::root("spec");
    let texts =
        |list: &str| service.list(list).iter().filter_map(Value::as_str).enumerate().collect::<Vec<_>>();
    let headless = service.text("spec.type") == "ClusterIP" && service.text("spec.clusterIP") == "None";
    let external = !service.list("spec.externalIPs").is_empty();
    if !headless {
        let at = spec.child("clusterIPs");
        told.extend(
            texts("spec.clusterIPs").iter().filter_map(|(place, ip)| warnings::ip(ip, &at.index(*place))),
        );
    } else {
        if !service.text("spec.loadBalancerIP").is_empty() {
            told.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if external {
            told.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if service.text("spec.sessionAffinity") == "ClientIP" {
            told.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    let at = spec.child("externalIPs");
    told.extend(
        texts("spec.externalIPs").iter().filter_map(|(place, ip)| warnings::ip(ip, &at.index(*place))),
    );
    if external && !headless && service.text("spec.type") != "ExternalName" {
        told.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    if let Some(ip) = service.at("spec.loadBalancerIP").and_then(Value::as_str).filter(|ip| !ip.is_empty()) {
        told.extend(warnings::ip(ip, &spec.child("loadBalancerIP")));
    }
    let at = spec.child("loadBalancerSourceRanges");
    for (place, range) in texts("spec.loadBalancerSourceRanges") {
        told.extend(warnings::network(range, &at.index(place)));
    }
}

fn affinity(spec: &mut Value) {
    if spec.text("sessionAffinity") == "None" {
        spec.drop_key("sessionAffinityConfig");
    }
    if spec.text("sessionAffinity") == "ClientIP"
        && !spec.has("sessionAffinityConfig.clientIP.timeoutSeconds")
    {
        spec.put("sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10_800}}));
    }
}

/// Addresses of load balancers are virtual unless the status says otherwise.
fn address_modes(service: &mut Value) {
    if service.text("spec.type") != "LoadBalancer" {
        return;
    }
    for ingress in service.elements("status.loadBalancer.ingress") {
        if !ingress.text("ip").is_empty() {
            ingress.fill("ipMode", "VIP");
        }
    }
}

fn ports(service: &Value) -> String {
    let shown = |port: &Value| match port.count("nodePort") {
        0 => format!("{}/{}", port.count("port"), port.text("protocol")),
        node => format!("{}:{node}/{}", port.count("port"), port.text("protocol")),
    };
    service.list("spec.ports").iter().map(shown).collect::<Vec<_>>().join(",")
}

fn external(service: &Value) -> String {
    let own = service.texts("spec.externalIPs");
    let (addresses, otherwise) = match service.text("spec.type") {
        "ClusterIP" | "NodePort" => (own, "<none>"),
        "LoadBalancer" => (load_balancer(service).into_iter().chain(own).collect(), "<pending>"),
        "ExternalName" => return service.text("spec.externalName").to_owned(),
        _ => return "<unknown>".to_owned(),
    };
    if addresses.is_empty() { otherwise.to_owned() } else { addresses.join(",") }
}

/// Addresses, or else host names, of the load balancer in order.
pub(crate) fn load_balancer(object: &Value) -> BTreeSet<&str> {
    let entries = object.list("status.loadBalancer.ingress").iter();
    entries
        .map(|one| if one.text("ip").is_empty() { one.text("hostname") } else { one.text("ip") })
        .filter(|text| !text.is_empty())
        .collect()
}
