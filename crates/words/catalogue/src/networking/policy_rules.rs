//! What is wrong with a NetworkPolicy (upstream: `pkg/apis/networking/validation`).

use ipnet::IpNet;
use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::Access;
use crate::label_selector;
use crate::report::Report;

pub(super) fn check(policy: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (policy.at("spec").unwrap_or(&null), Path::root("spec"));
    if let Some(selector) = spec.at("podSelector") {
        label_selector::check(selector, &path.child("podSelector"), report);
    }
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (at, rule) in spec.list(direction).iter().enumerate() {
            let path = path.child(direction).index(at);
            for (index, port) in rule.list("ports").iter().enumerate() {
                check_port(port, &path.child("ports").index(index), report);
            }
            for (index, peer) in rule.list(peers).iter().enumerate() {
                check_peer(peer, &path.child(peers).index(index), report);
            }
        }
    }
    let types = spec.texts("policyTypes");
    let path = path.child("policyTypes");
    if types.len() > 2 {
        report.invalid(&path, types, "may not specify more than two policyTypes");
        return;
    }
    for (at, kind) in types.iter().enumerate() {
        if !["Ingress", "Egress"].contains(kind) {
            report.not_supported(&path.index(at), *kind, &["Ingress", "Egress"]);
        }
    }
}

fn check_port(port: &Value, path: &Path, report: &mut Report) {
    report.choice_if_set(port, "protocol", path, &["TCP", "UDP", "SCTP"]);
    let (last, at_last) = (port.int("endPort"), path.child("endPort"));
    match port.at("port") {
        Some(Value::String(text)) => {
            if let Some(last) = last {
                report.invalid(&at_last, last, "may not be specified when `port` is non-numeric");
            }
            report.rule(&path.child("port"), text, name::is_port_name(text));
        }
        Some(number) => {
            let first = number.as_i64().unwrap_or(0);
            report.port(&path.child("port"), first);
            if let Some(last) = last {
                if last < first {
                    report.invalid(&at_last, first, "must be greater than or equal to `port`");
                }
                report.port(&at_last, last);
            }
        }
        None => {
            if let Some(last) = last {
                report.invalid(&at_last, last, "may not be specified when `port` is not specified");
            }
        }
    }
}

fn check_peer(peer: &Value, path: &Path, report: &mut Report) {
    let selectors = ["podSelector", "namespaceSelector"];
    for field in selectors {
        if let Some(selector) = peer.at(field) {
            label_selector::check(selector, &path.child(field), report);
        }
    }
    let has_selector = selectors.iter().any(|field| peer.has(field));
    match (has_selector, peer.at("ipBlock")) {
        (false, None) => report.required(path, "must specify a peer"),
        (true, Some(_)) => report.forbidden(path, "may not specify both ipBlock and another peer"),
        (_, Some(block)) => check_block(block, &path.child("ipBlock"), report),
        _ => {}
    }
}

fn check_block(block: &Value, path: &Path, report: &mut Report) {
    let text = block.text("cidr");
    if text.is_empty() {
        report.required(&path.child("cidr"), "");
        return;
    }
    let Ok(range) = text.parse::<IpNet>() else {
        report.invalid(&path.child("cidr"), text, "not a valid CIDR");
        return;
    };
    for (at, text) in block.texts("except").iter().enumerate() {
        let at = path.child("except").index(at);
        match text.parse::<IpNet>() {
            Err(_) => report.invalid(&at, *text, "not a valid CIDR"),
            Ok(except) if !range.contains(&except.addr()) || range.prefix_len() >= except.prefix_len() => {
                report.invalid(&at, *text, "must be a strict subset of `cidr`");
            }
            Ok(_) => {}
        }
    }
}
