//! What is wrong with admission policies and their bindings (upstream:
//! `pkg/apis/admissionregistration/validation`, v1.37). Whether CEL expressions compile is not seen here.

use serde_json::Value;

use plimsoll_meta::expression::is_keyword;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::json_path::JsonPath;
use plimsoll_meta::name;

use crate::access::Access;
use crate::admission_rules::{check_conditions, check_rule};
use crate::label_selector;
use crate::report::Report;

const MAX_AUDIT_ANNOTATIONS: usize = 20;
const MAX_VALUE_EXPRESSION: usize = 5 * 1024;

/// A policy that only says yes or no; `old` is its state before an update.
pub(crate) fn check_validating(object: &Value, old: Option<&Value>, report: &mut Report) {
    let spec = object.at("spec").unwrap_or(&Value::Null);
    let path = Path::root("spec");
    check_common(spec, old, &path, report);
    let (validations, annotations) = (spec.list("validations"), spec.list("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let message = "validations or auditAnnotations must contain at least one item";
        report.required(&path.child("validations"), message);
        report.required(&path.child("auditAnnotations"), message);
    }
    for (at, validation) in validations.iter().enumerate() {
        check_validation(validation, &path.child("validations").index(at), report);
    }
    check_annotations(object.text("metadata.name"), annotations, &path.child("auditAnnotations"), report);
}

/// A policy that changes objects; `old` is its state before an update.
pub(crate) fn check_mutating(object: &Value, old: Option<&Value>, report: &mut Report) {
    let spec = object.at("spec").unwrap_or(&Value::Null);
    let path = Path::root("spec");
    check_common(spec, old, &path, report);
    let mutations = spec.list("mutations");
    if mutations.is_empty() {
        report.required(&path.child("mutations"), "mutations must contain at least one item");
    }
    for (at, mutation) in mutations.iter().enumerate() {
        check_mutation(mutation, &path.child("mutations").index(at), report);
    }
    report.choice(&path.child("reinvocationPolicy"), spec.text("reinvocationPolicy"), &["IfNeeded", "Never"]);
    let constraints = path.child("matchConstraints");
    check_mutable(spec.at("matchConstraints").unwrap_or(&Value::Null), &constraints, report);
}

/// What both kinds of policies have.
fn check_common(spec: &Value, old: Option<&Value>, path: &Path, report: &mut Report) {
    report.choice_if_set(spec, "failurePolicy", path, &["Fail", "Ignore"]);
    if let Some(kind) = spec.at("paramKind") {
        check_param_kind(kind, &path.child("paramKind"), report);
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
    let keeps = |old: &Value| {
        ["paramKind", "matchConditions"].iter().all(|field| old["spec"].at(field) == spec.at(field))
    };
    if !old.is_some_and(keeps) {
        check_conditions(spec.list("matchConditions"), &path.child("matchConditions"), report);
    }
    for (at, variable) in spec.list("variables").iter().enumerate() {
        check_variable(variable, &path.child("variables").index(at), report);
    }
}

fn check_param_kind(kind: &Value, path: &Path, report: &mut Report) {
    let (text, at) = (kind.text("apiVersion"), path.child("apiVersion"));
    match text.split('/').collect::<Vec<_>>()[..] {
        _ if text.is_empty() => report.required(&at, ""),
        ["", ""] => report.invalid(&at, text, "version must be specified"),
        [version] => check_version(text, version, &at, report),
        [group, version] => {
            if let (false, Err(messages)) = (group.is_empty(), name::is_dns1123_subdomain(group)) {
                report.invalid(&at, group, messages.join(","));
            }
            check_version(text, version, &at, report);
        }
        _ => report.invalid(&at, text, format!("unexpected GroupVersion string: {text}")),
    }
    if report.need(kind, "kind", path) {
        let text = kind.text("kind");
        if let Err(messages) = name::is_dns1035_label(&text.to_lowercase()) {
            let message = format!("may have mixed case, but should otherwise match: {}", messages.join(","));
            report.invalid(&path.child("kind"), text, message);
        }
    }
}

fn check_version(whole: &str, version: &str, path: &Path, report: &mut Report) {
    if version.is_empty() {
        report.invalid(path, whole, "version must be specified");
    } else if let Err(messages) = name::is_dns1035_label(version) {
        report.invalid(path, version, messages.join(","));
    }
}

fn check_variable(variable: &Value, path: &Path, report: &mut Report) {
    let name = variable.text("name");
    if name.trim().is_empty() {
        report.required(&path.child("name"), "name is not specified");
    } else if !is_identifier(name) {
        report.invalid(&path.child("name"), name, "must be a valid CEL identifier");
    }
    check_specified(variable, "expression", path, report);
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && chars.all(|char| char == '_' || char.is_ascii_alphanumeric())
        && !is_keyword(text)
}

/// Tells whether there is anything but blanks.
fn check_specified(holder: &Value, field: &str, path: &Path, report: &mut Report) -> bool {
    let is_blank = holder.text(field).trim().is_empty();
    if is_blank {
        report.required(&path.child(field), format!("{field} is not specified"));
    }
    !is_blank
}

fn check_validation(validation: &Value, path: &Path, report: &mut Report) {
    check_specified(validation, "expression", path, report);
    for field in ["messageExpression", "message"] {
        let text = validation.text(field);
        if !text.is_empty() && text.trim().is_empty() {
            report.invalid(&path.child(field), text, "must be non-empty if specified");
        }
    }
    let message = validation.text("message");
    if message.trim().contains(['\n', '\r']) {
        report.invalid(&path.child("message"), message, "must not contain line breaks");
    }
    let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
    report.choice_if_set(validation, "reason", path, &reasons);
}

fn check_annotations(policy: &str, annotations: &[Value], path: &Path, report: &mut Report) {
    if annotations.len() > MAX_AUDIT_ANNOTATIONS {
        let message = format!("must not have more than {MAX_AUDIT_ANNOTATIONS} auditAnnotations");
        report.invalid(path, annotations.to_vec(), message);
    }
    for (at, annotation) in annotations.iter().enumerate() {
        let (path, key) = (path.index(at), annotation.text("key"));
        if policy.is_empty() {
            report.invalid(&path.child("key"), key, "requires metadata.name be non-empty");
        } else {
            let whole = format!("{policy}/{key}");
            report.rule(&path.child("key"), &whole, name::is_qualified_name(&whole));
        }
        if check_specified(annotation, "valueExpression", &path, report)
            && annotation.text("valueExpression").trim().len() > MAX_VALUE_EXPRESSION
        {
            let message = format!("must not exceed {MAX_VALUE_EXPRESSION} bytes in length");
            report.required(&path.child("valueExpression"), message);
        }
        if annotations[..at].iter().any(|other| other.text("key") == key) {
            report.duplicate(&path.child("key"), key);
        }
    }
}

fn check_mutation(mutation: &Value, path: &Path, report: &mut Report) {
    const FORMS: [(&str, &str); 2] =
        [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
    let kind = mutation.text("patchType");
    if kind.is_empty() {
        report.required(&path.child("patchType"), "");
        return;
    }
    if !FORMS.iter().any(|(known, _)| *known == kind) {
        report.not_supported(&path.child("patchType"), kind, &FORMS.map(|(known, _)| known));
        return;
    }
    for (form, field) in FORMS {
        match (form == kind, mutation.at(field)) {
            (true, None) => {
                report.required(&path.child(field), format!("must be specified when patchType is {kind}"));
            }
            (true, Some(patch)) if patch.text("expression").trim().is_empty() => {
                report.required(&path.child(field).child("expression"), "");
            }
            (false, Some(_)) => report.invalid(
                &path.child(field),
                format!("{{{field}}}"),
                format!("must not be specified when patchType is {kind}"),
            ),
            _ => {}
        }
    }
}

/// There is nothing to change in what is deleted. The path is upstream's, without the rule's index.
fn check_mutable(resources: &Value, path: &Path, report: &mut Report) {
    let path = path.child("resourceRules").child("operations");
    for operation in resources.list("resourceRules").iter().flat_map(|rule| rule.texts("operations")) {
        if !["*", "CONNECT", "CREATE", "UPDATE"].contains(&operation) {
            report.not_supported(&path, operation, &["*", "CONNECT", "CREATE", "UPDATE"]);
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
            let path = path.child(list).index(at);
            check_resource_names(&rule.texts("resourceNames"), &path.child("resourceNames"), report);
            check_rule(rule, &path, report);
        }
    }
}

fn check_resource_names(names: &[&str], path: &Path, report: &mut Report) {
    for (at, name) in names.iter().enumerate() {
        report.rule(&path.index(at), name, name::is_path_segment(name));
        if names[..at].contains(name) {
            report.duplicate(&path.index(at), *name);
        }
    }
}

/// What puts a policy into force.
pub(crate) fn check_binding(object: &Value, mutating: bool, report: &mut Report) {
    let spec = object.at("spec").unwrap_or(&Value::Null);
    let path = Path::root("spec");
    match spec.text("policyName") {
        "" => report.required(&path.child("policyName"), ""),
        policy => report.rule(&path.child("policyName"), policy, name::is_dns1123_subdomain(policy)),
    }
    if let Some(reference) = spec.at("paramRef") {
        check_param_ref(reference, &path.child("paramRef"), report);
    }
    if let Some(resources) = spec.at("matchResources") {
        check_match_resources(resources, &path.child("matchResources"), report);
        if mutating {
            check_mutable(resources, &path.child("matchResources"), report);
        }
    }
    if !mutating {
        check_actions(&spec.texts("validationActions"), &path.child("validationActions"), report);
    }
}

fn check_actions(actions: &[&str], path: &Path, report: &mut Report) {
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
        report.invalid(path, actions.to_vec(), message);
    }
    if actions.is_empty() {
        report.required(path, "at least one validation action is required");
    }
}

fn check_param_ref(reference: &Value, path: &Path, report: &mut Report) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (reference.text("name"), reference.at("selector"));
    let has_both = !name.is_empty() && selector.is_some();
    if !name.is_empty() {
        report.rule(&path.child("name"), name, name::is_path_segment(name));
    }
    if has_both {
        report.forbidden(&path.child("name"), EXCLUSIVE);
    }
    if let Some(selector) = selector {
        label_selector::check(selector, &path.child("selector"), report);
    }
    if has_both {
        report.forbidden(&path.child("selector"), EXCLUSIVE);
    }
    if name.is_empty() && selector.is_none() {
        report.required(path, "one of name or selector must be specified");
    }
    report.choice(
        &path.child("parameterNotFoundAction"),
        reference.text("parameterNotFoundAction"),
        &["Deny", "Allow"],
    );
}

/// What the server found out about a policy's expressions.
pub(crate) fn check_status(object: &Value) -> Vec<FieldError> {
    let mut report = Report::new();
    let path = Path::root("status").child("typeChecking").child("expressionWarnings");
    for (at, warning) in object.list("status.typeChecking.expressionWarnings").iter().enumerate() {
        let path = path.index(at);
        report.need(warning, "warning", &path);
        let field = warning.text("fieldRef").trim();
        if field.is_empty() {
            report.required(&path.child("fieldRef"), "");
        } else if let Err(why) = JsonPath::parse(&format!(".{}", field.trim_start_matches('.'))) {
            report.invalid(&path.child("fieldRef"), field, format!("invalid JSONPath: {why}"));
        }
    }
    report.into_errors()
}
