//! Checks of selectors of nodes (component-helpers: scheduling/corev1/nodeaffinity).

use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm};
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name::{is_label_value, is_qualified_name};
use serde_json::json;

/// Tells what is wrong with node affinity.
pub(super) fn check(affinity: &NodeAffinity, path: &Path, problems: &mut Vec<FieldError>) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let path = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        for (at, one) in required.node_selector_terms.iter().enumerate() {
            term(one, &path.index(at), problems);
        }
    }
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (at, one) in preferred.enumerate().filter(|(_, one)| one.weight != 0) {
        term(&one.preference, &path.index(at), problems);
    }
}

fn term(term: &NodeSelectorTerm, path: &Path, problems: &mut Vec<FieldError>) {
    for (at, one) in term.match_expressions.iter().flatten().enumerate() {
        label(one, &path.child("matchExpressions").index(at), problems);
    }
    for (at, one) in term.match_fields.iter().flatten().enumerate() {
        field(one, &path.child("matchFields").index(at), problems);
    }
}

fn label(one: &NodeSelectorRequirement, path: &Path, problems: &mut Vec<FieldError>) {
    const OPERATORS: [&str; 6] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
    let values = one.values.as_deref().unwrap_or_default();
    if !OPERATORS.contains(&one.operator.as_str()) {
        let field = path.child("operator");
        problems.push(FieldError::not_supported(&field, &json!(one.operator), &OPERATORS));
        return;
    }
    if let Err(found) = is_qualified_name(&one.key) {
        problems.push(FieldError::invalid(&path.child("key"), &json!(one.key), found.join("; ")));
    }
    let field = path.child("values");
    let wrong = match one.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => "for 'in', 'notin' operators, values set can't be empty",
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            "values set must be empty for exists and does not exist"
        }
        "Gt" | "Lt" if values.len() != 1 => "for 'Gt', 'Lt' operators, exactly one value is required",
        _ => "",
    };
    if !wrong.is_empty() {
        problems.push(FieldError::invalid(&field, &json!(values), wrong));
    }
    for (at, value) in values.iter().enumerate() {
        if matches!(one.operator.as_str(), "Gt" | "Lt") && value.parse::<i64>().is_err() {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            problems.push(FieldError::invalid(&field.index(at), &json!(value), detail));
        }
        if let Err(found) = is_label_value(value) {
            problems.push(FieldError::invalid(&field.index(at), &json!(value), found.join("; ")));
        }
    }
}

fn field(one: &NodeSelectorRequirement, path: &Path, problems: &mut Vec<FieldError>) {
    let values = one.values.as_deref().unwrap_or_default();
    if !["In", "NotIn"].contains(&one.operator.as_str()) {
        let field = path.child("operator");
        problems.push(FieldError::not_supported(&field, &json!(one.operator), &["In", "NotIn"]));
    } else if values.len() != 1 {
        problems.push(FieldError::required(&path.child("values"), "must have one element"));
    }
}
