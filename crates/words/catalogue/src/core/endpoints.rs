//! Endpoints: the addresses behind a Service, as one object.

use std::net::IpAddr;

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::stored;
use crate::access::{Access, Fill};
use crate::addresses::check_external;
use crate::column::{self, Column};
use crate::kind::Kind;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    definition: "io.k8s.api.core.v1.Endpoints",
    storage: stored("/registry/services/endpoints"),
    columns: &[
        column::NAME,
        Column::text("Endpoints", "ready addresses and their ports", |object, _| addresses(object).into()),
        column::AGE,
    ],
    create_on_update: true,
    deprecation: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    strategy: &Endpoints,
    ..Kind::BASE
};

struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in object.elements("subsets") {
            for port in subset.elements("ports") {
                port.fill_zero("protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        for (at, subset) in object.list("subsets").iter().enumerate() {
            check_subset(subset, &Path::root("subsets").index(at), &mut report);
        }
        report.into_errors()
    }
}

fn addresses(object: &Value) -> String {
    let mut shown = Vec::new();
    for subset in object.list("subsets") {
        let hosts = || subset.list("addresses").iter().map(|address| address.text("ip"));
        match subset.list("ports") {
            [] => shown.extend(hosts().map(str::to_owned)),
            ports => {
                for port in ports {
                    shown.extend(hosts().map(|host| match host.contains(':') {
                        true => format!("[{host}]:{}", port.count("port")),
                        false => format!("{host}:{}", port.count("port")),
                    }));
                }
            }
        }
    }
    let empty = if object.list("subsets").is_empty() { "<none>" } else { "" };
    column::at_most(&shown, 3, ",", empty)
}

fn check_subset(subset: &Value, path: &Path, report: &mut Report) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists.iter().all(|list| subset.list(list).is_empty()) {
        report.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for list in lists {
        for (at, address) in subset.list(list).iter().enumerate() {
            let path = path.child(list).index(at);
            let ip = address.text("ip");
            check_external(ip, &path.child("ip"), report);
            if ip.parse::<IpAddr>().is_err() {
                report.invalid(&path.child("ip"), ip, "must be a valid IP address");
            }
            let host = address.text("hostname");
            if !host.is_empty() {
                report.rule(&path.child("hostname"), host, name::is_dns1123_label(host));
            }
            if let Some(node) = address.at("nodeName").and_then(Value::as_str) {
                report.rule(&path.child("nodeName"), node, name::is_dns1123_subdomain(node));
            }
        }
    }
    let ports = subset.list("ports");
    for (at, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(at);
        match port.text("name") {
            "" if ports.len() > 1 => report.required(&path.child("name"), ""),
            "" => {}
            name => report.rule(&path.child("name"), name, name::is_dns1123_label(name)),
        }
        report.port(&path.child("port"), port.count("port"));
        report.choice(&path.child("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}
