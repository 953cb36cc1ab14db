//! The group `networking.k8s.io`.

mod ingress_rules;
mod policy_rules;

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::{Access, Fill};
use crate::addresses;
use crate::column::{self, Column};
use crate::core::{check_load_balancer_status, load_balancer};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::report::{IMMUTABLE, Report};
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
        let Some(parent) = object.at("spec.parentRef") else {
            report.required(&path, "");
            return report.into_errors();
        };
        // The group of Services is "", so it is never missing.
        if !parent.text("group").is_empty() {
            let group = parent.text("group");
            report.rule(&path.child("group"), group, name::is_dns1123_subdomain(group));
        }
        for field in ["resource", "name", "namespace"] {
            let text = parent.text(field);
            match text.is_empty() {
                true if field != "namespace" => report.required(&path.child(field), ""),
                true => {}
                false => report.rule(&path.child(field), text, name::is_path_segment(text)),
            }
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        report.immutable(new, old, "spec.parentRef");
        report.into_errors()
    }
}

struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let (ranges, path) = (object.texts("spec.cidrs"), Path::root("spec").child("cidrs"));
        match ranges.len() {
            0 => report.required(&path, "at least one CIDR required"),
            1 | 2 => addresses::check_strict_ranges(&ranges, &path, &mut report),
            _ => report.invalid(&path, json!({ "cidrs": ranges }), "may only hold up to 2 values"),
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        if subresource.is_some() {
            return report.into_errors();
        }
        let (now, then, path) =
            (new.texts("spec.cidrs"), old.texts("spec.cidrs"), Path::root("spec").child("cidrs"));
        // A range of a second family may come; nothing else may.
        let is_extended = then.len() == 1 && now.len() == 2;
        if now.len() != then.len() && !is_extended {
            report.invalid(&path, json!(now), IMMUTABLE);
            return report.into_errors();
        }
        for (at, _) in then.iter().enumerate().filter(|(at, range)| now[*at] != **range) {
            report.invalid(&path.index(at), now[at], IMMUTABLE);
        }
        if is_extended {
            report.extend(self.validate(new));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn service_ranges_are_strict_and_only_grow_by_a_family() {
        let range = |cidrs: &[&str]| json!({"spec": {"cidrs": cidrs}});
        let valid = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        let many = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        let cases: [(&[&str], String); 7] = [
            (&["10.0.0.0/16", "fd00::/112"], String::new()),
            (&[], "spec.cidrs: Required value: at least one CIDR required".to_owned()),
            (&["x"], format!("spec.cidrs[0]: Invalid value: \"x\": {valid}")),
            (
                &["10.0.0.1/16"],
                "spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length"
                    .to_owned(),
            ),
            (
                &["FD00::/112"],
                "spec.cidrs[0]: Invalid value: \"FD00::/112\": must be in canonical form (\"fd00::/112\")".to_owned(),
            ),
            (
                &["::ffff:10.0.0.0/112"],
                "spec.cidrs[0]: Invalid value: \"::ffff:10.0.0.0/112\": must not have an IPv4-mapped IPv6 address"
                    .to_owned(),
            ),
            (
                &["10.0.0.0/16", "10.1.0.0/16"],
                format!("spec.cidrs: Invalid value: {{\"cidrs\":[\"10.0.0.0/16\",\"10.1.0.0/16\"]}}: {many}"),
            ),
        ];
        for (cidrs, expected) in cases {
            assert_eq!(texts(ServiceCidr.validate(&range(cidrs))).join("; "), expected, "{cidrs:?}");
        }
        let four = "10.0.0.0/16";
        let changes: [(&[&str], &[&str], &str); 5] = [
            (&[four], &[four], ""),
            (&[four], &[four, "fd00::/112"], ""),
            (&[four], &["10.1.0.0/16"], "spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"),
            (
                &[four, "fd00::/112"],
                &[four],
                "spec.cidrs: Invalid value: [\"10.0.0.0/16\"]: field is immutable",
            ),
            (&[four], &[four, "x"], "spec.cidrs[1]: Invalid value: \"x\": must be a valid CIDR value"),
        ];
        for (old, new, expected) in changes {
            let found = texts(ServiceCidr.validate_update(&range(new), &range(old), None)).join("; ");
            assert!(
                found.starts_with(expected) && found.is_empty() == expected.is_empty(),
                "{new:?}: {found}"
            );
        }
    }

    #[test]
    fn addresses_name_who_holds_them() {
        let path = "spec.parentRef";
        for (parent, expected) in [
            (json!(null), vec![format!("{path}: Required value")]),
            (
                json!({}),
                vec![format!("{path}.resource: Required value"), format!("{path}.name: Required value")],
            ),
            (json!({"resource": "services", "name": "a", "namespace": "b"}), vec![]),
            (
                json!({"resource": "services", "name": "a/b"}),
                vec![format!("{path}.name: Invalid value: \"a/b\": may not contain '/'")],
            ),
        ] {
            assert_eq!(texts(IpAddress.validate(&json!({"spec": {"parentRef": parent}}))), expected);
        }
    }
}
