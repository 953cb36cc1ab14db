//! What is wrong with webhook configurations and admission policies (upstream:
//! `pkg/apis/admissionregistration/validation`). Whether CEL expressions compile is not seen here.

use std::collections::BTreeSet;

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::Access;
use crate::label_selector;
use crate::report::{Report, names_of};
use crate::webhook;

/// All webhooks of a configuration.
pub(crate) fn check_webhooks(object: &Value, mutating: bool, report: &mut Report) {
    let hooks = object.list("webhooks");
    for (at, hook) in hooks.iter().enumerate() {
        let path = Path::root("webhooks").index(at);
        check_webhook(hook, mutating, &path, report);
        let name = hook.text("name");
        if !name.is_empty() && names_of(&hooks[..at]).any(|other| other == name) {
            report.duplicate(&path.child("name"), name);
        }
    }
}

fn check_webhook(hook: &Value, mutating: bool, path: &Path, report: &mut Report) {
    check_qualified(hook.text("name"), &path.child("name"), report);
    for (at, rule) in hook.list("rules").iter().enumerate() {
        check_rule(rule, &path.child("rules").index(at), report);
    }
    report.choice_if_set(hook, "failurePolicy", path, &["Fail", "Ignore"]);
    report.choice_if_set(hook, "matchPolicy", path, &["Equivalent", "Exact"]);
    let effects = ["None", "NoneOnDryRun"];
    match hook.at("sideEffects") {
        None => {
            report.required(&path.child("sideEffects"), format!("must specify one of {}", effects.join(", ")))
        }
        Some(_) => report.choice_if_set(hook, "sideEffects", path, &effects),
    }
    if let Some(seconds) = hook.int("timeoutSeconds")
        && !(1..=30).contains(&seconds)
    {
        let message = "the timeout value must be between 1 and 30 seconds";
        report.invalid(&path.child("timeoutSeconds"), seconds, message);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = hook.at(field) {
            label_selector::check(selector, &path.child(field), report);
        }
    }
    if mutating {
        report.choice_if_set(hook, "reinvocationPolicy", path, &["IfNeeded", "Never"]);
    }
    webhook::check_client(
        hook.at("clientConfig").unwrap_or(&Value::Null),
        &path.child("clientConfig"),
        report,
    );
    check_conditions(hook.list("matchConditions"), &path.child("matchConditions"), report);
    let versions = hook.list("admissionReviewVersions");
    webhook::check_review_versions(versions, &path.child("admissionReviewVersions"), report);
}

/// A name with three segments at least.
fn check_qualified(text: &str, path: &Path, report: &mut Report) {
    if text.is_empty() {
        report.required(path, "");
        return;
    }
    match name::is_dns1123_subdomain(text) {
        Err(messages) => report.rule(path, text, Err(messages)),
        Ok(()) if text.split('.').count() < 3 => {
            report.invalid(path, text, "should be a domain with at least three segments separated by dots");
        }
        Ok(()) => {}
    }
}

/// Which requests: operations, groups, versions, resources, scope.
fn check_rule(rule: &Value, path: &Path, report: &mut Report) {
    const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    let operations = rule.texts("operations");
    report.need(rule, "operations", path);
    check_star(rule, "operations", "other operations", path, report);
    for (at, operation) in operations.iter().enumerate() {
        if !OPERATIONS.contains(operation) {
            report.not_supported(&path.child("operations").index(at), *operation, &OPERATIONS);
        }
    }
    report.need(rule, "apiGroups", path);
    check_star(rule, "apiGroups", "other API groups", path, report);
    report.need(rule, "apiVersions", path);
    check_star(rule, "apiVersions", "other API versions", path, report);
    for (at, version) in rule.texts("apiVersions").iter().enumerate() {
        if version.is_empty() {
            report.required(&path.child("apiVersions").index(at), "");
        }
    }
    check_resources(rule, &path.child("resources"), report);
    report.choice_if_set(rule, "scope", path, &["*", "Cluster", "Namespaced"]);
}

fn check_star(rule: &Value, field: &str, others: &str, path: &Path, report: &mut Report) {
    let texts = rule.texts(field);
    if texts.len() > 1 && texts.contains(&"*") {
        report.invalid(&path.child(field), texts, format!("if '*' is present, must not specify {others}"));
    }
}

fn check_resources(rule: &Value, path: &Path, report: &mut Report) {
    let resources = rule.texts("resources");
    if resources.is_empty() {
        report.required(path, "");
    }
    let (mut all_below, mut below_all) = (BTreeSet::new(), BTreeSet::new());
    for (at, text) in resources.iter().enumerate() {
        if text.is_empty() {
            report.required(&path.index(at), "");
        }
        let Some((resource, sub)) = text.split_once('/') else { continue };
        if all_below.contains(resource) {
            let message = format!("if '{resource}/*' is present, must not specify {text}");
            report.invalid(&path.index(at), *text, message);
        }
        if below_all.contains(sub) {
            report.invalid(
                &path.index(at),
                *text,
                format!("if '*/{sub}' is present, must not specify {text}"),
            );
        }
        if sub == "*" {
            all_below.insert(resource);
        }
        if resource == "*" {
            below_all.insert(sub);
        }
    }
    if resources.len() > 1 && resources.contains(&"*/*") {
        report.invalid(path, resources.clone(), "if '*/*' is present, must not specify other resources");
    }
    if resources.contains(&"*") && resources.iter().any(|text| *text != "*" && !text.contains('/')) {
        let message = "if '*' is present, must not specify other resources without subresources";
        report.invalid(path, resources, message);
    }
}

fn check_conditions(conditions: &[Value], path: &Path, report: &mut Report) {
    if conditions.len() > 64 {
        report.push(FieldError::too_many(path, conditions.len(), 64));
    }
    for (at, condition) in conditions.iter().enumerate() {
        let path = path.index(at);
        if condition.text("expression").trim().is_empty() {
            report.required(&path.child("expression"), "");
        }
        if report.need(condition, "name", &path) {
            let name = condition.text("name");
            report.rule(&path.child("name"), name, name::is_qualified_name(name));
            if names_of(&conditions[..at]).any(|other| other == name) {
                report.duplicate(&path.child("name"), name);
            }
        }
    }
}

/// A validating or mutating policy.
pub(crate) fn check_policy(object: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
    report.choice_if_set(spec, "failurePolicy", &path, &["Fail", "Ignore"]);
    if let Some(kind) = spec.at("paramKind") {
        report.need(kind, "apiVersion", &path.child("paramKind"));
        report.need(kind, "kind", &path.child("paramKind"));
    }
    let constraints = path.child("matchConstraints");
    match spec.at("matchConstraints") {
        None => report.required(&constraints, ""),
        Some(found) => {
            check_match_resources(found, &constraints, report);
            if found.list("resourceRules").is_empty() {
                report.required(&constraints.child("resourceRules"), "");
            }
        }
    }
    check_conditions(spec.list("matchConditions"), &path.child("matchConditions"), report);
    for (list, field) in
        [("validations", "expression"), ("variables", "expression"), ("auditAnnotations", "valueExpression")]
    {
        for (at, entry) in spec.list(list).iter().enumerate() {
            if entry.text(field).trim().is_empty() {
                report
                    .required(&path.child(list).index(at).child(field), format!("{field} is not specified"));
            }
        }
    }
    if object.text("kind") == "ValidatingAdmissionPolicy"
        && spec.list("validations").is_empty()
        && spec.list("auditAnnotations").is_empty()
    {
        let message = "validations or auditAnnotations must contain at least one item";
        report.required(&path.child("validations"), message);
        report.required(&path.child("auditAnnotations"), message);
    }
    if object.text("kind") == "MutatingAdmissionPolicy" {
        check_mutations(spec, &path, report);
    }
}

fn check_mutations(spec: &Value, path: &Path, report: &mut Report) {
    report.choice(&path.child("reinvocationPolicy"), spec.text("reinvocationPolicy"), &["IfNeeded", "Never"]);
    let mutations = spec.list("mutations");
    if mutations.is_empty() {
        report.required(&path.child("mutations"), "mutations must contain at least one item");
    }
    for (at, mutation) in mutations.iter().enumerate() {
        let path = path.child("mutations").index(at);
        let (kind, field) = match mutation.text("patchType") {
            "" => {
                report.required(&path.child("patchType"), "");
                continue;
            }
            "ApplyConfiguration" => ("ApplyConfiguration", "applyConfiguration"),
            "JSONPatch" => ("JSONPatch", "jsonPatch"),
            other => {
                report.not_supported(&path.child("patchType"), other, &["ApplyConfiguration", "JSONPatch"]);
                continue;
            }
        };
        if !mutation.has(field) {
            report.required(&path.child(field), format!("must be specified when patchType is {kind}"));
        }
    }
}

fn check_match_resources(resources: &Value, path: &Path, report: &mut Report) {
    report.choice_if_set(resources, "matchPolicy", path, &["Equivalent", "Exact"]);
    for field in ["namespaceSelector", "objectSelector"] {
        match resources.at(field) {
            None => report.required(&path.child(field), ""),
            Some(selector) => label_selector::check(selector, &path.child(field), report),
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for (at, rule) in resources.list(list).iter().enumerate() {
            check_rule(rule, &path.child(list).index(at), report);
        }
    }
}

/// What puts a policy into force.
pub(crate) fn check_binding(object: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
    let policy = spec.text("policyName");
    match policy {
        "" => report.required(&path.child("policyName"), ""),
        _ => report.rule(&path.child("policyName"), policy, name::is_dns1123_subdomain(policy)),
    }
    if let Some(reference) = spec.at("paramRef") {
        check_param_ref(reference, &path.child("paramRef"), report);
    }
    if let Some(resources) = spec.at("matchResources") {
        check_match_resources(resources, &path.child("matchResources"), report);
    }
    if object.text("kind") != "ValidatingAdmissionPolicyBinding" {
        return;
    }
    let (actions, path) = (spec.texts("validationActions"), path.child("validationActions"));
    if actions.is_empty() {
        report.required(&path, "at least one validation action is required");
    }
    for (at, action) in actions.iter().enumerate() {
        if !["Audit", "Deny", "Warn"].contains(action) {
            report.not_supported(&path.index(at), *action, &["Audit", "Deny", "Warn"]);
        }
        if actions[..at].contains(action) {
            report.duplicate(&path.index(at), *action);
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let message = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                       response and headers serves no purpose)";
        report.invalid(&path, actions, message);
    }
}

fn check_param_ref(reference: &Value, path: &Path, report: &mut Report) {
    match (reference.text("name"), reference.at("selector")) {
        ("", None) => report.required(path, "one of name or selector must be specified"),
        ("", Some(selector)) => label_selector::check(selector, &path.child("selector"), report),
        (name, None) => report.rule(&path.child("name"), name, name::is_path_segment(name)),
        (_, Some(_)) => report.forbidden(&path.child("name"), "name and selector are mutually exclusive"),
    }
    report.choice(
        &path.child("parameterNotFoundAction"),
        reference.text("parameterNotFoundAction"),
        &["Allow", "Deny"],
    );
}
