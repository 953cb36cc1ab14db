//! Where a pod may run: affinity, tolerations, spread.

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::Access;
use crate::label_selector;
use crate::report::{POSITIVE, Report};

pub(super) fn check(spec: &Value, path: &Path, report: &mut Report) {
    if let Some(affinity) = spec.at("affinity") {
        check_affinity(affinity, &path.child("affinity"), report);
    }
    check_tolerations(spec.list("tolerations"), &path.child("tolerations"), report);
    let constraints = spec.list("topologySpreadConstraints");
    for (at, constraint) in constraints.iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(at);
        check_spread(constraint, &constraints[at + 1..], &path, report);
    }
}

fn check_affinity(affinity: &Value, path: &Path, report: &mut Report) {
    if let Some(node) = affinity.at("nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(required) = node.at(REQUIRED) {
            check_node_selector(required, &path.child(REQUIRED), report);
        }
        for (at, term) in node.list(PREFERRED).iter().enumerate() {
            let path = path.child(PREFERRED).index(at);
            check_weight(term, &path, report);
            let preference = term.at("preference").unwrap_or(&Value::Null);
            check_node_term(preference, &path.child("preference"), report);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pod) = affinity.at(kind) else { continue };
        for (at, term) in pod.list(REQUIRED).iter().enumerate() {
            check_pod_term(term, &path.child(kind).child(REQUIRED).index(at), report);
        }
        for (at, weighted) in pod.list(PREFERRED).iter().enumerate() {
            let path = path.child(kind).child(PREFERRED).index(at);
            check_weight(weighted, &path, report);
            let term = weighted.at("podAffinityTerm").unwrap_or(&Value::Null);
            check_pod_term(term, &path.child("podAffinityTerm"), report);
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn check_weight(term: &Value, path: &Path, report: &mut Report) {
    let weight = term.count("weight");
    if !(1..=100).contains(&weight) {
        report.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// A node selector; persistent volumes have one, too.
pub(crate) fn check_node_selector(selector: &Value, path: &Path, report: &mut Report) {
    let terms = selector.list("nodeSelectorTerms");
    let path = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        report.required(&path, "must have at least one node selector term");
    }
    for (at, term) in terms.iter().enumerate() {
        check_node_term(term, &path.index(at), report);
    }
}

fn check_node_term(term: &Value, path: &Path, report: &mut Report) {
    for (at, requirement) in term.list("matchExpressions").iter().enumerate() {
        check_node_requirement(requirement, &path.child("matchExpressions").index(at), report);
    }
    for (at, requirement) in term.list("matchFields").iter().enumerate() {
        check_field_requirement(requirement, &path.child("matchFields").index(at), report);
    }
}

fn check_node_requirement(requirement: &Value, path: &Path, report: &mut Report) {
    let values = requirement.list("values");
    let at = path.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            report.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            report.forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            report.required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => report.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    let key = requirement.text("key");
    report.rule(&path.child("key"), key, name::is_qualified_name(key));
}

fn check_field_requirement(requirement: &Value, path: &Path, report: &mut Report) {
    let values = requirement.list("values");
    match requirement.text("operator") {
        "In" | "NotIn" if values.len() != 1 => report.required(
            &path.child("values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        "In" | "NotIn" => {}
        other => report.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    if requirement.text("key") != "metadata.name" {
        report.invalid(&path.child("key"), requirement.text("key"), "not a valid field selector key");
        return;
    }
    for (at, value) in requirement.texts("values").iter().enumerate() {
        report.rule(&path.child("values").index(at), value, name::is_dns1123_subdomain(value));
    }
}

fn check_pod_term(term: &Value, path: &Path, report: &mut Report) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.at(field) {
            label_selector::check(selector, &path.child(field), report);
        }
    }
    for namespace in term.texts("namespaces") {
        report.rule(&path.child("namespace"), namespace, name::is_dns1123_label(namespace));
    }
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        check_label_keys(term, field, path, report);
    }
    let key = term.text("topologyKey");
    if key.is_empty() {
        report.required(&path.child("topologyKey"), "can not be empty");
    }
    report.rule(&path.child("topologyKey"), key, name::is_qualified_name(key));
}

/// Keys whose values are taken from the pod need a selector that they are added to.
fn check_label_keys(holder: &Value, field: &str, path: &Path, report: &mut Report) {
    let keys = holder.texts(field);
    if !keys.is_empty() && !holder.has("labelSelector") {
        report.forbidden(&path.child(field), "must not be specified when labelSelector is not set");
    }
    for (at, key) in keys.iter().enumerate() {
        let at = path.child(field).index(at);
        report.rule(&at, key, name::is_qualified_name(key));
        if holder.map("labelSelector.matchLabels").contains_key(*key) {
            report.invalid(&at, *key, format!("exists in both {field} and labelSelector"));
        }
    }
}

/// Each for itself; nothing forbids the same one twice.
pub(crate) fn check_tolerations(tolerations: &[Value], path: &Path, report: &mut Report) {
    for (at, toleration) in tolerations.iter().enumerate() {
        check_toleration(toleration, &path.index(at), report);
    }
}

fn check_toleration(toleration: &Value, path: &Path, report: &mut Report) {
    let (key, operator) = (toleration.text("key"), toleration.text("operator"));
    let (value, effect) = (toleration.text("value"), toleration.text("effect"));
    if !key.is_empty() {
        report.rule(&path.child("key"), key, name::is_qualified_name(key));
    } else if operator != "Exists" {
        let message =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        report.invalid(&path.child("operator"), operator, message);
    }
    if toleration.has("tolerationSeconds") && effect != "NoExecute" {
        report.invalid(
            &path.child("effect"),
            effect,
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    match operator {
        "" | "Equal" => {
            if let Err(messages) = name::is_label_value(value) {
                report.invalid(&path.child("operator"), value, messages.join(";"));
            }
        }
        "Exists" if !value.is_empty() => {
            report.invalid(
                &path.child("operator"),
                toleration.clone(),
                "value must be empty when `operator` is 'Exists'",
            );
        }
        "Exists" => {}
        "Gt" | "Lt" => {
            if value.parse::<i64>().is_err() {
                report.invalid(
                    &path.child("value"),
                    value,
                    "must be a valid integer when `operator` is 'Lt' or 'Gt'",
                );
            }
        }
        other => report.not_supported(&path.child("operator"), other, &["Equal", "Exists", "Lt", "Gt"]),
    }
    if !effect.is_empty() {
        check_effect(effect, &path.child("effect"), report);
    }
}

/// The effect of a taint or toleration.
pub(crate) fn check_effect(effect: &str, path: &Path, report: &mut Report) {
    report.choice(path, effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

fn check_spread(constraint: &Value, later: &[Value], path: &Path, report: &mut Report) {
    let skew = constraint.count("maxSkew");
    if skew <= 0 {
        report.invalid(&path.child("maxSkew"), skew, POSITIVE);
    }
    let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
    if key.is_empty() {
        report.required(&path.child("topologyKey"), "can not be empty");
    } else {
        report.rule(&path.child("topologyKey"), key, name::is_qualified_name(key));
    }
    let actions = ["DoNotSchedule", "ScheduleAnyway"];
    if !actions.contains(&action) {
        report.not_supported(&path.child("whenUnsatisfiable"), action, &actions);
    }
    if later.iter().any(|other| (other.text("topologyKey"), other.text("whenUnsatisfiable")) == (key, action))
    {
        report.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
    }
    check_min_domains(constraint, action, &path.child("minDomains"), report);
    for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        report.choice_if_set(constraint, field, path, &["Honor", "Ignore"]);
    }
    check_label_keys(constraint, "matchLabelKeys", path, report);
    if let Some(selector) = constraint.at("labelSelector") {
        label_selector::check(selector, &path.child("labelSelector"), report);
    }
}

fn check_min_domains(constraint: &Value, action: &str, path: &Path, report: &mut Report) {
    let Some(domains) = constraint.int("minDomains") else { return };
    if domains <= 0 {
        report.invalid(path, domains, POSITIVE);
    }
    if action != "DoNotSchedule" {
        let message = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        report.invalid(path, domains, message);
    }
}
