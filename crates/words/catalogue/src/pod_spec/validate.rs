//! What is wrong with a pod specification (upstream: `pkg/apis/core/validation/validation.go`).

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use super::{containers, dns, placement, resources, security, volumes};
use crate::access::Access;
use crate::object_meta;
use crate::report::Report;

/// Whose specification is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A pod itself.
    Pod,
    /// The template of a workload, which is laxer where its pods are checked again.
    Template,
}

/// The template of a workload: metadata, then the specification.
pub(crate) fn template(template: &Value, path: &Path, report: &mut Report) {
    let metadata = template.at("metadata").unwrap_or(&Value::Null);
    // Upstream leaves `metadata` out of these two paths.
    object_meta::check_labels(metadata.map("labels"), &path.child("labels"), report.errors());
    let annotations = path.child("annotations");
    object_meta::check_annotations(metadata.map("annotations"), &annotations, report.errors());
    let null = Value::Null;
    let inner = template.at("spec").unwrap_or(&null);
    spec(inner, Owner::Template, &path.child("spec"), report);
    if !inner.list("ephemeralContainers").is_empty() {
        report.forbidden(
            &path.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// All of a specification.
pub(crate) fn spec(spec: &Value, owner: Owner, path: &Path, report: &mut Report) {
    volumes::check(spec, path, report);
    resources::check_claims(spec.list("resourceClaims"), &path.child("resourceClaims"), report);
    containers::check(spec, owner, path, report);
    host_network_ports(spec, owner, path, report);
    report.choice(
        &path.child("restartPolicy"),
        spec.text("restartPolicy"),
        &["Always", "OnFailure", "Never"],
    );
    dns::check(spec, path, report);
    object_meta::check_labels(spec.map("nodeSelector"), &path.child("nodeSelector"), report.errors());
    security::check_pod(spec, path, report);
    pull_secrets(spec, path, report);
    placement::check(spec, path, report);
    gates(spec, path, report);
    names(spec, path, report);
    if let Some(seconds) = spec.int("activeDeadlineSeconds") {
        report.range(&path.child("activeDeadlineSeconds"), seconds, 1, i64::from(i32::MAX));
    }
    report.choice_if_set(spec, "preemptionPolicy", path, &["PreemptLowerPriority", "Never"]);
    if spec.has("overhead") {
        resources::check_list(spec.map("overhead"), &path.child("overhead").child("limits"), report);
    }
    if let Some(pod_level) = spec.at("resources") {
        resources::check_pod_level(pod_level, spec, &path.child("resources"), report);
    }
    security::check_os(spec, path, report);
}

/// With the node's network, the port of the node is that of the container.
fn host_network_ports(spec: &Value, owner: Owner, path: &Path, report: &mut Report) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for (at, container) in spec.list("containers").iter().enumerate() {
        for (index, port) in container.list("ports").iter().enumerate() {
            let (host, own) = (port.count("hostPort"), port.count("containerPort"));
            if (owner == Owner::Pod || host != 0) && host != own {
                let at = path.child("containers").index(at).child("ports").index(index).child("hostPort");
                report.invalid(&at, host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn pull_secrets(spec: &Value, path: &Path, report: &mut Report) {
    for (at, secret) in spec.list("imagePullSecrets").iter().enumerate() {
        if secret.as_object().is_some_and(|map| map.keys().any(|key| key != "name")) {
            report.invalid(&path.child("imagePullSecrets").index(at), secret.clone(), "only name may be set");
        }
    }
}

fn gates(spec: &Value, path: &Path, report: &mut Report) {
    for (at, gate) in spec.list("readinessGates").iter().enumerate() {
        let name = gate.text("conditionType");
        let at = path.child("readinessGates").index(at).child("conditionType");
        report.rule(&at, name, name::is_qualified_name(name));
    }
    let gates = spec.list("schedulingGates");
    for (index, gate) in gates.iter().enumerate() {
        let at = path.child("schedulingGates").index(index);
        let name = gate.text("name");
        report.rule(&at, name, name::is_qualified_name(name));
        if gates[..index].iter().any(|other| other.text("name") == name) {
            report.duplicate(&at, name);
        }
    }
}

/// Names of other objects and of the pod in the network.
fn names(spec: &Value, path: &Path, report: &mut Report) {
    let subdomain: fn(&str) -> Result<(), Vec<String>> = name::is_dns1123_subdomain;
    for (field, rule) in [
        ("serviceAccountName", subdomain),
        ("nodeName", subdomain),
        ("hostname", name::is_dns1123_label),
        ("subdomain", name::is_dns1123_label),
        ("priorityClassName", subdomain),
    ] {
        let value = spec.text(field);
        if !value.is_empty() {
            report.rule(&path.child(field), value, rule(value));
        }
    }
    if spec.has("runtimeClassName") {
        let value = spec.text("runtimeClassName");
        report.rule(&path.child("runtimeClassName"), value, subdomain(value));
    }
}
