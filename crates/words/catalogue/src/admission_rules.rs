//! What is wrong with webhook configurations (upstream: `pkg/apis/admissionregistration/validation`), and what
//! policies share with them. Whether CEL expressions compile is not seen here.

use std::collections::BTreeSet;

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::Access;
use crate::label_selector;
use crate::report::{Report, names_of};
use crate::webhook;

/// What a configuration may go on doing, because it did it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tolerance {
    /// Side effects that dry runs cannot avoid.
    effects: bool,
    /// Reviews in versions that are not known here.
    versions: bool,
    /// Names that several webhooks have.
    names: bool,
    /// Selectors with values that no label can have.
    values: bool,
    /// Conditions as they are.
    conditions: bool,
}

const EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];

impl Tolerance {
    fn of(object: &Value, old: Option<&Value>) -> Self {
        let hooks = old.map(|old| old.list("webhooks")).unwrap_or_default();
        let conditions = |object: &Value| -> Vec<Value> {
            object.list("webhooks").iter().map(|hook| hook["matchConditions"].clone()).collect()
        };
        Self {
            effects: hooks.iter().any(|hook| !EFFECTS[..2].contains(&hook.text("sideEffects"))),
            versions: hooks.iter().any(|hook| {
                let versions = hook.texts("admissionReviewVersions");
                !versions.is_empty() && !versions.iter().any(|version| ["v1", "v1beta1"].contains(version))
            }),
            names: (0..hooks.len()).any(|at| is_repeated(hooks, at)),
            values: hooks.iter().flat_map(selectors).any(|(_, selector)| !label_selector::is_valid(selector)),
            conditions: old.is_some_and(|old| conditions(old) == conditions(object)),
        }
    }
}

fn is_repeated(hooks: &[Value], at: usize) -> bool {
    let name = hooks[at].text("name");
    !name.is_empty() && names_of(&hooks[..at]).any(|other| other == name)
}

fn selectors(hook: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    ["namespaceSelector", "objectSelector"].into_iter().filter_map(|field| Some((field, hook.at(field)?)))
}

/// All webhooks of a configuration; `old` is its state before an update.
pub(crate) fn check_webhooks(object: &Value, old: Option<&Value>, mutating: bool, report: &mut Report) {
    let hooks = object.list("webhooks");
    let tolerance = Tolerance::of(object, old);
    for (at, hook) in hooks.iter().enumerate() {
        let path = Path::root("webhooks").index(at);
        check_webhook(hook, tolerance, mutating, &path, report);
        if !tolerance.names && is_repeated(hooks, at) {
            report.duplicate(&path.child("name"), hook.text("name"));
        }
    }
}

fn check_webhook(hook: &Value, tolerance: Tolerance, mutating: bool, path: &Path, report: &mut Report) {
    check_qualified(hook.text("name"), &path.child("name"), report);
    for (at, rule) in hook.list("rules").iter().enumerate() {
        check_rule(rule, &path.child("rules").index(at), report);
    }
    report.choice_if_set(hook, "failurePolicy", path, &["Fail", "Ignore"]);
    report.choice_if_set(hook, "matchPolicy", path, &["Equivalent", "Exact"]);
    let effects = if tolerance.effects { &EFFECTS[..] } else { &EFFECTS[..2] };
    match hook.at("sideEffects") {
        None => {
            report.required(&path.child("sideEffects"), format!("must specify one of {}", effects.join(", ")))
        }
        Some(_) => report.choice_if_set(hook, "sideEffects", path, effects),
    }
    if let Some(seconds) = hook.int("timeoutSeconds")
        && !(1..=30).contains(&seconds)
    {
        let message = "the timeout value must be between 1 and 30 seconds";
        report.invalid(&path.child("timeoutSeconds"), seconds, message);
    }
    for (field, selector) in selectors(hook) {
        let mut found = Report::new();
        label_selector::check(selector, &path.child(field), &mut found);
        let is_value = |field: &str| field.contains("].values[");
        report.extend(
            found.into_errors().into_iter().filter(|error| !tolerance.values || !is_value(&error.field)),
        );
    }
    if mutating {
        report.choice_if_set(hook, "reinvocationPolicy", path, &["IfNeeded", "Never"]);
    }
    webhook::check_client(
        hook.at("clientConfig").unwrap_or(&Value::Null),
        &path.child("clientConfig"),
        report,
    );
    if !tolerance.conditions {
        check_conditions(hook.list("matchConditions"), &path.child("matchConditions"), report);
    }
    let versions = hook.list("admissionReviewVersions");
    webhook::check_review_versions(
        versions,
        !tolerance.versions,
        &path.child("admissionReviewVersions"),
        report,
    );
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
pub(crate) fn check_rule(rule: &Value, path: &Path, report: &mut Report) {
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
            continue;
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

/// Expressions that all must hold, by name.
pub(crate) fn check_conditions(conditions: &[Value], path: &Path, report: &mut Report) {
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
