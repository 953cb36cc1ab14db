//! What may change in a pod that exists.

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::{self, Access, Fill};
use crate::report::Report;

const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set \
    to 1 if it was previously negative)";

/// A change of the pod itself.
pub(crate) fn check(new: &Value, old: &Value, report: &mut Report) {
    let path = Path::root("spec");
    let null = Value::Null;
    let (new, old) = (new.at("spec").unwrap_or(&null), old.at("spec").unwrap_or(&null));
    for list in ["containers", "initContainers"] {
        if new.list(list).len() != old.list(list).len() {
            report.forbidden(&path.child(list), "pod updates may not add or remove containers");
            return;
        }
    }
    if !check_deadline(new, old, &path.child("activeDeadlineSeconds"), report) {
        return;
    }
    check_tolerations(new, old, &path.child("tolerations"), report);
    check_gates(new, old, &path.child("schedulingGates"), report);
    let mut rest = new.clone();
    take_back(&mut rest, old);
    if !old.list("schedulingGates").is_empty() {
        check_gated(&mut rest, old, &path, report);
    }
    if !access::same(Some(&rest), Some(old)) {
        let changes = differences(&rest, old);
        report.forbidden(
            &path,
            format!("pod updates may not change fields other than {CHANGEABLE}\n{changes}"),
        );
    }
}

/// A write of the status.
pub(crate) fn check_status(new: &Value, old: &Value, report: &mut Report) {
    check_conditions(new, report);
    let path = Path::root("status");
    if new.text("spec.nodeName") != old.text("spec.nodeName") {
        report.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    let policy = old.text("spec.restartPolicy");
    for (list, policy) in [
        ("containerStatuses", policy),
        ("initContainerStatuses", policy),
        ("ephemeralContainerStatuses", "Never"),
    ] {
        check_states(new, old, list, policy, &path.child(list), report);
    }
    for (list, single) in [("podIPs", "podIP"), ("hostIPs", "hostIP")] {
        check_addresses(new, list, single, &path.child(list), report);
    }
}

/// Types of conditions that are not the system's own; upstream's path says `metadata`.
fn check_conditions(pod: &Value, report: &mut Report) {
    let path = Path::root("metadata").child("conditions");
    for (at, condition) in pod.list("status.conditions").iter().enumerate() {
        let kind = condition.text("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            report.rule(&path.index(at).child("Type"), kind, name::is_qualified_name(kind));
        }
    }
}

/// Containers that are not to be started again stay ended.
fn check_states(new: &Value, old: &Value, list: &str, policy: &str, path: &Path, report: &mut Report) {
    if policy == "Always" {
        return;
    }
    let list = format!("status.{list}");
    for (at, before) in old.list(&list).iter().enumerate() {
        let Some(end) = before.at("state.terminated") else { continue };
        let name = before.text("name");
        if (end.count("exitCode") != 0 && policy == "OnFailure") || may_restart(old, name) {
            continue;
        }
        let after = new.list(&list).iter().find(|status| status.text("name") == name);
        if after.is_some_and(|after| !after.has("state.terminated")) {
            report
                .forbidden(&path.index(at).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

/// Sidecars and containers with rules of their own are restarted whatever the pod's policy is.
fn may_restart(pod: &Value, name: &str) -> bool {
    ["spec.initContainers", "spec.containers"].iter().flat_map(|list| pod.list(list)).any(|container| {
        container.text("name") == name
            && (matches!(container.text("restartPolicy"), "Always" | "OnFailure")
                || !container.list("restartPolicyRules").is_empty())
    })
}

fn check_addresses(pod: &Value, list: &str, single: &str, path: &Path, report: &mut Report) {
    let addresses: Vec<&str> = pod.list(&format!("status.{list}")).iter().map(|one| one.text("ip")).collect();
    let parsed: Vec<Option<std::net::IpAddr>> = addresses.iter().map(|text| text.parse().ok()).collect();
    for (at, address) in addresses.iter().enumerate() {
        if parsed[at].is_none() {
            report.invalid(&path.index(at), *address, crate::report::VALID_IP);
        }
        if addresses[..at].contains(address) {
            report.duplicate(&path.index(at), *address);
        }
    }
    let of_version_4 = parsed.iter().flatten().filter(|address| address.is_ipv4()).count();
    if addresses.len() > 2 || of_version_4 > 1 || addresses.len() - of_version_4.min(addresses.len()) > 1 {
        let shown = pod["status"][list].clone();
        report.invalid(path, shown, "may specify no more than one IP for each IP family");
    }
    if let (Some(first), true) = (addresses.first(), list == "hostIPs")
        && pod.text(&format!("status.{single}")) != *first
    {
        report.invalid(&path.index(0).child("ip"), *first, "must be equal to `hostIP`");
    }
}

/// A write of `ephemeralcontainers`: those that exist stay as they are.
pub(crate) fn check_ephemeral(new: &Value, old: &Value, report: &mut Report) {
    let path = Path::root("spec").child("ephemeralContainers");
    if old.map("metadata.annotations").contains_key("kubernetes.io/config.mirror") {
        report.forbidden(&Path::default(), "static pods do not support ephemeral containers");
        return;
    }
    for before in old.list("spec.ephemeralContainers") {
        let name = before.text("name");
        match new.list("spec.ephemeralContainers").iter().find(|one| one.text("name") == name) {
            None => report
                .forbidden(&path, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(after) if !access::same(Some(after), Some(before)) => {
                let changes = differences(after, before);
                let message = format!("existing ephemeral containers {name:?} may not be changed\n{changes}");
                report.forbidden(&path, message);
            }
            Some(_) => {}
        }
    }
}

/// Tells whether the rest is worth a look.
fn check_deadline(new: &Value, old: &Value, path: &Path, report: &mut Report) -> bool {
    match (new.int("activeDeadlineSeconds"), old.int("activeDeadlineSeconds")) {
        (Some(after), _) if !(0..=i64::from(i32::MAX)).contains(&after) => {
            report.range(path, after, 0, i64::from(i32::MAX));
            false
        }
        (Some(after), Some(before)) if before < after => {
            report.invalid(path, after, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            report.invalid(path, Value::Null, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn check_tolerations(new: &Value, old: &Value, path: &Path, report: &mut Report) {
    let bare = |toleration: &Value| {
        let mut bare = toleration.clone();
        bare.drop_key("tolerationSeconds");
        bare
    };
    let kept: Vec<Value> = new.list("tolerations").iter().map(bare).collect();
    if old.list("tolerations").iter().any(|toleration| !kept.contains(&bare(toleration))) {
        report.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn check_gates(new: &Value, old: &Value, path: &Path, report: &mut Report) {
    for (at, gate) in new.list("schedulingGates").iter().enumerate() {
        if !old.list("schedulingGates").contains(gate) {
            let message =
                format!("only deletion is allowed, but found new scheduling gate '{}'", gate.text("name"));
            report.forbidden(&path.index(at).child("name"), message);
        }
    }
}

/// Gives everything that may change its old value, so that what is left may not.
fn take_back(spec: &mut Value, old: &Value) {
    for list in ["containers", "initContainers"] {
        for (container, before) in spec.elements(list).iter_mut().zip(old.list(list)) {
            restore(container, before, "image");
        }
    }
    restore(spec, old, "activeDeadlineSeconds");
    restore(spec, old, "schedulingGates");
    restore(spec, old, "tolerations");
    if old.count("terminationGracePeriodSeconds") < 0 && spec.count("terminationGracePeriodSeconds") == 1 {
        restore(spec, old, "terminationGracePeriodSeconds");
    }
}

fn restore(object: &mut Value, old: &Value, field: &str) {
    match old.at(field) {
        Some(value) => object.put(field, value.clone()),
        None => object.drop_key(field),
    }
}

/// While a gate keeps the pod from being placed, its node selection may become narrower.
fn check_gated(spec: &mut Value, old: &Value, path: &Path, report: &mut Report) {
    let selector = spec.map("nodeSelector").clone();
    let kept = old.map("nodeSelector").iter().all(|(key, value)| selector.get(key) == Some(value));
    if !kept {
        let message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        report.invalid(&path.child("nodeSelector"), selector, message);
    }
    restore(spec, old, "nodeSelector");
    check_gated_affinity(spec, old, &path.child("affinity").child("nodeAffinity"), report);
    let before = old.at("affinity.nodeAffinity").cloned();
    if let Some(affinity) = spec.object("affinity") {
        match before {
            Some(before) => affinity.put("nodeAffinity", before),
            None => affinity.drop_key("nodeAffinity"),
        }
    }
    if !old.has("affinity") && spec.map("affinity").is_empty() {
        spec.drop_key("affinity");
    }
}

fn check_gated_affinity(spec: &Value, old: &Value, path: &Path, report: &mut Report) {
    const TERMS: &str =
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let (after, before) = (spec.list(TERMS), old.list(TERMS));
    let path = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
    if before.is_empty() {
        return;
    }
    if after.len() != before.len() {
        let message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        report.invalid(&path, after.to_vec(), message);
        return;
    }
    for (at, (after, before)) in after.iter().zip(before).enumerate() {
        let only_more = ["matchExpressions", "matchFields"].iter().all(|list| {
            let (after, before) = (after.list(list), before.list(list));
            after.len() >= before.len() && after[..before.len()] == *before
        });
        if !only_more {
            let message = "only additions are allowed (no mutations or deletions)";
            report.invalid(&path.index(at), after.clone(), message);
        }
    }
}

/// Lines `- path: before` and `+ path: after` for everything that differs.
pub(crate) fn differences(new: &Value, old: &Value) -> String {
    let mut lines = String::new();
    add_differences(Some(new), Some(old), "", &mut lines);
    lines
}

fn add_differences(new: Option<&Value>, old: Option<&Value>, path: &str, lines: &mut String) {
    match (new, old) {
        (Some(Value::Object(new)), Some(Value::Object(old))) => {
            let mut keys: Vec<&String> = new.keys().chain(old.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                add_differences(new.get(key), old.get(key), &format!("{path}.{key}"), lines);
            }
        }
        (Some(Value::Array(new)), Some(Value::Array(old))) => {
            for at in 0..new.len().max(old.len()) {
                add_differences(new.get(at), old.get(at), &format!("{path}[{at}]"), lines);
            }
        }
        (new, old) if new == old => {}
        (new, old) => {
            for (sign, value) in [('-', old), ('+', new)] {
                if let Some(value) = value {
                    lines.push_str(&format!("{sign} {}: {value}\n", path.trim_start_matches('.')));
                }
            }
        }
    }
}
