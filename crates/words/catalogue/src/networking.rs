//! The group `networking.k8s.io`.

use serde_json::{Value, json};

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::core::load_balancer;
use crate::kind::{Generation, Kind, Storage, Subresource};
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
}

struct Ingress;

impl Strategy for Ingress {
    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"loadBalancer": {}}));
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
