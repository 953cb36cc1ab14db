//! The group `discovery.k8s.io`: slices of the addresses behind a Service.

use std::net::IpAddr;

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::{Access, Fill};
use crate::addresses;
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage};
use crate::report::{Report, names_of};
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    definition: "io.k8s.api.discovery.v1.EndpointSlice",
    storage: Storage::Stored { prefix: "/registry/endpointslices", group: "discovery.k8s.io", version: "v1" },
    columns: &[
        column::NAME,
        Column::text("AddressType", "family of the addresses", |slice, _| slice.text("addressType").into()),
        Column::text("Ports", "ports of each endpoint", |slice, _| {
            let shown: Vec<String> = slice.list("ports").iter().map(port).collect();
            column::at_most(&shown, 3, ",", "<unset>").into()
        }),
        Column::text("Endpoints", "addresses", |slice, _| {
            let endpoints = slice.list("endpoints").iter();
            let shown: Vec<String> =
                endpoints.flat_map(|endpoint| endpoint.texts("addresses")).map(str::to_owned).collect();
            column::at_most(&shown, 3, ",", "<unset>").into()
        }),
        column::AGE,
    ],
    generation: Generation::Content,
    strategy: &EndpointSlice,
    ..Kind::BASE
}];

struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, slice: &mut Value) {
        for endpoint in slice.elements("endpoints") {
            endpoint.object("conditions");
        }
        for port in slice.elements("ports") {
            port.fill("name", "");
            port.fill("protocol", "TCP");
        }
    }

    fn validate(&self, slice: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let family = slice.text("addressType");
        report.choice(&Path::root("addressType"), family, &["FQDN", "IPv4", "IPv6"]);
        check_endpoints(slice.list("endpoints"), family, &Path::root("endpoints"), &mut report);
        check_ports(slice.list("ports"), &Path::root("ports"), &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        report.immutable(new, old, "addressType");
        report.into_errors()
    }

    /// Labels choose the service, so they count.
    fn counts_generation(&self, new: &Value, old: &Value) -> bool {
        new.map("metadata.labels") != old.map("metadata.labels")
    }
}

fn port(port: &Value) -> String {
    match (port.int("port"), port.text("name")) {
        (Some(number), _) => number.to_string(),
        (None, name) if port.has("name") => name.to_owned(),
        (None, _) => "*".to_owned(),
    }
}

const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_HINTS: usize = 8;

fn check_endpoints(endpoints: &[Value], family: &str, path: &Path, report: &mut Report) {
    if endpoints.len() > MOST_ENDPOINTS {
        report.push(FieldError::too_many(path, endpoints.len(), MOST_ENDPOINTS));
        return;
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(at);
        let found = endpoint.texts("addresses");
        match found.len() {
            0 => report.required(&path.child("addresses"), "must contain at least 1 address"),
            len if len > MOST_ADDRESSES => {
                report.push(FieldError::too_many(&path.child("addresses"), len, MOST_ADDRESSES));
            }
            _ => {}
        }
        for (index, address) in found.iter().enumerate() {
            check_address(address, family, &path.child("addresses").index(index), report);
        }
        if let Some(node) = endpoint.at("nodeName").and_then(Value::as_str) {
            report.rule(&path.child("nodeName"), node, name::is_dns1123_subdomain(node));
        }
        if let Some(host) = endpoint.at("hostname").and_then(Value::as_str) {
            report.rule(&path.child("hostname"), host, name::is_dns1123_label(host));
        }
        for hints in ["forZones", "forNodes"] {
            check_hints(endpoint, hints, &path.child("hints").child(hints), report);
        }
    }
}

fn check_address(text: &str, family: &str, path: &Path, report: &mut Report) {
    let parsed = text.parse::<IpAddr>();
    match (family, parsed) {
        ("IPv4", Ok(address)) if address.is_ipv4() => {
            addresses::check_not_special(text, address, path, report)
        }
        ("IPv6", Ok(address)) if address.is_ipv6() => {
            addresses::check_not_special(text, address, path, report)
        }
        ("IPv4" | "IPv6", parsed) => {
            report.invalid(path, text, format!("must be a valid {family} address"));
            match parsed {
                Ok(address) => addresses::check_not_special(text, address, path, report),
                Err(_) => report.invalid(path, text, "must be a valid IP address"),
            }
        }
        ("FQDN", _) => {
            let domain = text.strip_suffix('.').unwrap_or(text);
            match name::is_dns1123_subdomain(domain) {
                Err(messages) => report.rule(path, text, Err(messages)),
                Ok(()) if !domain.contains('.') => {
                    report.invalid(
                        path,
                        text,
                        "should be a domain with at least two segments separated by dots",
                    );
                }
                Ok(()) => {}
            }
        }
        _ => {}
    }
}

fn check_hints(endpoint: &Value, field: &str, path: &Path, report: &mut Report) {
    let Some(hints) = endpoint.at("hints").map(|hints| hints.list(field)) else { return };
    if hints.len() > MOST_HINTS {
        report.push(FieldError::too_many(path, hints.len(), MOST_HINTS));
        return;
    }
    for (at, hint) in hints.iter().enumerate() {
        let (at_name, text) = (path.index(at).child("name"), hint.text("name"));
        if names_of(&hints[..at]).any(|other| other == text) {
            report.duplicate(&at_name, text);
        }
        let checked =
            if field == "forZones" { name::is_label_value(text) } else { name::is_dns1123_subdomain(text) };
        report.rule(&at_name, text, checked);
    }
}

fn check_ports(ports: &[Value], path: &Path, report: &mut Report) {
    if ports.len() > MOST_PORTS {
        report.push(FieldError::too_many(path, ports.len(), MOST_PORTS));
        return;
    }
    let mut names = std::collections::BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = path.index(at);
        let name = port.text("name");
        if !name.is_empty() {
            report.rule(&path.child("name"), name, name::is_dns1123_label(name));
        }
        if !names.insert(name) {
            report.duplicate(&path.child("name"), name);
        }
        report.choice(&path.child("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
        if let Some(protocol) = port.at("appProtocol").and_then(Value::as_str) {
            report.rule(&path.child("appProtocol"), protocol, name::is_qualified_name(protocol));
        }
    }
}
