//! The group `networking.k8s.io`.

mod ingress_rules;
mod policy_rules;

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};

use crate::access::{Access, Fill};
use crate::addresses;
use crate::column::{self, Column};
use crate::core::{check_load_balancer_status, load_balancer};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::report::Report;
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[INGRESS_CLASS, INGRESS, IP_ADDRESS, NETWORK_POLICY, SERVICE_CIDR];

const BASE: Kind = Kind { group: "networking.k8s.io", ..Kind::BASE };

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "networking.k8s.io", version: "v1" }
}

const INGRESS_CLASS: Kind = Kind {
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    definition: "io.k8s.api.networking.v1.IngressClass",
    storage: stored("/registry/ingressclasses"),
    columns: &[
        column::NAME,
        Column::text("Controller", "who serves ingresses of this class", |object, _| {
            object.text("spec.controller").into()
        }),
        Column::text("Parameters", "object with more settings", |object, _| parameters(object).into()),
        column::AGE,
    ],
    generation: Generation::Spec,
    strategy: &IngressClass,
    ..BASE
};

const INGRESS: Kind = Kind {
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    subresources: &[Subresource::status("Ingress")],
    definition: "io.k8s.api.networking.v1.Ingress",
    storage: stored("/registry/ingress"),
    columns: &[
        column::NAME,
        Column::text("Class", "class of the ingress", |object, _| match object.at("spec.ingressClassName") {
            Some(class) => class.clone(),
            None => "<none>".into(),
        }),
        Column::text("Hosts", "hosts that are served", |object, _| hosts(object).into()),
        Column::text("Address", "addresses of the load balancer", |object, _| {
            load_balancer(object).into_iter().collect::<Vec<_>>().join(",").into()
        }),
        Column::text("Ports", "open ports", |object, _| match object.list("spec.tls") {
            [] => "80".into(),
            _ => "80, 443".into(),
        }),
        column::AGE,
    ],
    generation: Generation::Spec,
    strategy: &Ingress,
    ..BASE
};

const IP_ADDRESS: Kind = Kind {
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    definition: "io.k8s.api.networking.v1.IPAddress",
    storage: stored("/registry/ipaddresses"),
    columns: &[
        column::NAME,
        Column::text("ParentRef", "object that holds the address", |object, _| {
            object.at("spec.parentRef").map_or_else(|| "<none>".into(), |parent| parent_ref(parent).into())
        }),
        column::AGE,
    ],
    name_rule: canonical_address,
    generation: Generation::Spec,
    strategy: &IpAddress,
    ..BASE
};

const NETWORK_POLICY: Kind = Kind {
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    definition: "io.k8s.api.networking.v1.NetworkPolicy",
    storage: stored("/registry/networkpolicies"),
    columns: &[
        column::NAME,
        Column::text("Pod-Selector", "pods that the policy is about", |object, _| {
            column::selector(object.at("spec.podSelector")).into()
        }),
        column::AGE,
    ],
    generation: Generation::Spec,
    strategy: &NetworkPolicy,
    ..BASE
};

const SERVICE_CIDR: Kind = Kind {
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    subresources: &[Subresource::status("ServiceCIDR")],
    definition: "io.k8s.api.networking.v1.ServiceCIDR",
    storage: stored("/registry/servicecidrs"),
    strategy: &ServiceCidr,
    columns: &[
        column::NAME,
        Column::text("CIDRs", "ranges of service addresses", |object, _| {
            object.texts("spec.cidrs").join(",").into()
        }),
        column::AGE,
    ],
    ..BASE
};

struct IngressClass;

impl Strategy for IngressClass {
    fn default(&self, object: &mut Value) {
        if let Some(parameters) = object.inside("spec.parameters") {
            parameters.fill("scope", "Cluster");
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        ingress_rules::check_ingress_class(object, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.immutable(new, old, "spec.controller");
        report.extend(self.validate(new));
        report.into_errors()
    }
}

struct Ingress;

impl Strategy for Ingress {
    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"loadBalancer": {}}));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        ingress_rules::check(object, &mut report);
        ingress_rules::check_class(object, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, _old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        match subresource {
            Some("status") => check_load_balancer_status(new, &mut report),
            _ => ingress_rules::check(new, &mut report),
        }
        report.into_errors()
    }
}

struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill("podSelector", json!({}));
        if spec.list("policyTypes").is_empty() {
            let types = if spec.list("egress").is_empty() {
                json!(["Ingress"])
            } else {
                json!(["Ingress", "Egress"])
            };
            spec.put("policyTypes", types);
        }
        for direction in ["ingress", "egress"] {
            for rule in spec.elements(direction) {
                rule.elements("ports").iter_mut().for_each(|port| port.fill("protocol", "TCP"));
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        policy_rules::check(object, &mut report);
        report.into_errors()
    }
}

struct IpAddress;

impl Strategy for IpAddress {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let path = Path::root("spec").child("parentRef");
        match object.at("spec.parentRef") {
            None => report.required(&path, ""),
            Some(parent) => {
                report.need(parent, "resource", &path);
                report.need(parent, "name", &path);
            }
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.immutable(new, old, "spec.parentRef");
        report.into_errors()
    }
}

struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let (ranges, path) = (object.texts("spec.cidrs"), Path::root("spec").child("cidrs"));
        if ranges.is_empty() {
            report.required(&path, "at least one CIDR required");
        }
        addresses::check_ranges(&ranges, &path, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        if subresource.is_none() {
            report.immutable(new, old, "spec.cidrs");
        }
        report.into_errors()
    }
}

/// Addresses are named as they are printed, so that no address has two names.
fn canonical_address(name: &str, _prefix: bool) -> Result<(), Vec<String>> {
    match name.parse::<std::net::IpAddr>() {
        Err(_) => Err(vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]),
        Ok(address) if address.to_string() != name => {
            Err(vec![format!("must be in canonical form ({:?})", address.to_string())])
        }
        Ok(_) => Ok(()),
    }
}

fn parameters(object: &Value) -> String {
    let Some(reference) = object.at("spec.parameters") else { return "<none>".to_owned() };
    match reference.text("apiGroup") {
        "" => format!("{}/{}", reference.text("kind"), reference.text("name")),
        group => format!("{}.{group}/{}", reference.text("kind"), reference.text("name")),
    }
}

/// Named hosts, three at most.
fn hosts(object: &Value) -> String {
    let rules = object.list("spec.rules");
    let named: Vec<&str> =
        rules.iter().map(|rule| rule.text("host")).filter(|host| !host.is_empty()).collect();
    match named.len() {
        0 => "*".to_owned(),
        len if len > 3 => format!("{} + {} more...", named[..3].join(","), rules.len() - 3),
        _ => named.join(","),
    }
}

fn parent_ref(parent: &Value) -> String {
    let mut text = parent.text("resource").to_lowercase();
    for (separator, field) in [(".", "group"), ("/", "namespace"), ("/", "name")] {
        if !parent.text(field).is_empty() {
            text.push_str(separator);
            text.push_str(parent.text(field));
        }
    }
    text
}
