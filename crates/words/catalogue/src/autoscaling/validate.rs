//! What is wrong with an autoscaler (upstream: `pkg/apis/autoscaling/validation`).

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::Access;
use crate::label_selector;
use crate::pod_spec::resources;
use crate::quantities;
use crate::report::{POSITIVE, Report};

/// All of a `v2` object; what was wrong with the API versions of `old` may stay.
pub(super) fn check(object: &Value, old: Option<&Value>, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
    let (min, max) = (spec.int("minReplicas"), spec.count("maxReplicas"));
    if let Some(min) = min.filter(|min| *min < 0) {
        report.invalid(&path.child("minReplicas"), min, "must be greater than or equal to 0");
    }
    if max < 1 {
        report.invalid(&path.child("maxReplicas"), max, "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        report.invalid(&path.child("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
    }
    let (target, at) = (spec.at("scaleTargetRef").unwrap_or(&null), path.child("scaleTargetRef"));
    check_reference(target, &at, report);
    let same = |field: &str| {
        let field = format!("spec.scaleTargetRef.{field}");
        old.is_some_and(|old| old.text(&field) == object.text(&field))
    };
    if !(same("apiVersion") && same("kind")) {
        let group = if target.text("kind") == "ReplicationController" { Group::Any } else { Group::Named };
        check_version(target, group, &at, report);
    }
    let described = |spec: &Value| -> Vec<Value> {
        let metrics = spec.list("metrics").iter();
        metrics.filter_map(|metric| metric.at("object.describedObject").cloned()).collect()
    };
    let old_ones = old.and_then(|old| old.at("spec")).map(described).unwrap_or_default();
    let is_strict = old_ones.iter().all(|object| wrong_version(object, Group::Any).is_none());
    for (at, metric) in spec.list("metrics").iter().enumerate() {
        let path = path.child("metrics").index(at);
        check_metric(metric, &path, report);
        if let Some(object) = metric.at("object.describedObject").filter(|_| is_strict) {
            check_version(object, Group::Any, &path.child("object").child("describedObject"), report);
        }
    }
    let has_outer =
        spec.list("metrics").iter().any(|metric| matches!(metric.text("type"), "Object" | "External"));
    if min == Some(0) && !has_outer {
        let message =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        report.forbidden(&path.child("metrics"), message);
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec.at("behavior").and_then(|behavior| behavior.at(direction)) {
            check_rules(rules, &path.child("behavior").child(direction), report);
        }
    }
}

fn check_reference(reference: &Value, path: &Path, report: &mut Report) {
    for field in ["kind", "name"] {
        if report.need(reference, field, path) {
            let text = reference.text(field);
            report.rule(&path.child(field), text, name::is_path_segment(text));
        }
    }
}

/// Whether a reference must name a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Any,
    Named,
}

fn check_version(reference: &Value, group: Group, path: &Path, report: &mut Report) {
    if let Some(message) = wrong_version(reference, group) {
        report.invalid(&path.child("apiVersion"), reference.text("apiVersion"), message);
    }
}

fn wrong_version(reference: &Value, group: Group) -> Option<String> {
    let text = reference.text("apiVersion");
    let slashes = text.matches('/').count();
    let is_named = slashes == 1 && !text.starts_with('/');
    match slashes {
        2.. => Some(format!("unexpected GroupVersion string: {text}")),
        _ if group == Group::Named && !is_named => Some("apiVersion must specify API group".to_owned()),
        _ => None,
    }
}

/// Sources: the type of the metric, its field.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn check_metric(metric: &Value, path: &Path, report: &mut Report) {
    let kind = metric.text("type");
    if kind.is_empty() {
        report.required(&path.child("type"), "must specify a metric source type");
    }
    let Some((_, expected)) = SOURCES.iter().find(|(name, _)| *name == kind) else {
        let types = ["ContainerResource", "External", "Object", "Pods", "Resource"];
        report.not_supported(&path.child("type"), kind, &types);
        return;
    };
    let present: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|field| metric.has(field)).collect();
    if let Some(first) = present.first() {
        check_source(first, &metric[*first], &path.child(first), report);
    }
    if !present.contains(expected) {
        report.required(&path.child(expected), "must populate information for the given metric source");
    }
    if present.len() != 1 {
        for field in present.iter().filter(|field| *field != expected) {
            report.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn check_source(field: &str, source: &Value, path: &Path, report: &mut Report) {
    let null = Value::Null;
    let (target, at) = (source.at("target").unwrap_or(&null), path.child("target"));
    if field == "object" {
        check_reference(
            source.at("describedObject").unwrap_or(&null),
            &path.child("describedObject"),
            report,
        );
    }
    if matches!(field, "resource" | "containerResource") {
        check_resource(field, source, path, report);
    } else {
        check_identifier(source.at("metric").unwrap_or(&null), &path.child("metric"), report);
    }
    check_target(target, &at, report);
    let has = |name: &str| target.has(name);
    match field {
        "object" if !has("value") && !has("averageValue") => {
            report.required(&at.child("averageValue"), "must set either a target value or averageValue");
        }
        "external" => match (has("value"), has("averageValue")) {
            (false, false) => report.required(
                &at.child("averageValue"),
                "must set either a target value for metric or a per-pod target",
            ),
            (true, true) => report.forbidden(
                &at.child("value"),
                "may not set both a target value for metric and a per-pod target",
            ),
            _ => {}
        },
        "pods" if !has("averageValue") => {
            report.required(&at.child("averageValue"), "must specify a positive target averageValue");
        }
        "resource" | "containerResource" => match (has("averageUtilization"), has("averageValue")) {
            (false, false) => report.required(
                &at.child("averageUtilization"),
                "must set either a target raw value or a target utilization",
            ),
            (true, true) => report.forbidden(
                &at.child("averageValue"),
                "may not set both a target raw value and a target utilization",
            ),
            _ => {}
        },
        _ => {}
    }
}

fn check_resource(field: &str, source: &Value, path: &Path, report: &mut Report) {
    let name = source.text("name");
    if name.is_empty() {
        report.required(&path.child("name"), "must specify a resource name");
    } else if field == "containerResource" {
        resources::check_container_name(name, &path.child("name"), report);
    }
    if field == "containerResource" {
        match source.text("container") {
            "" => report.required(&path.child("container"), "must specify a container"),
            container => report.rule(&path.child("container"), container, name::is_dns1123_label(container)),
        }
    }
}

fn check_identifier(metric: &Value, path: &Path, report: &mut Report) {
    match metric.text("name") {
        "" => report.required(&path.child("name"), "must specify a metric name"),
        name => report.rule(&path.child("name"), name, name::is_path_segment(name)),
    }
    if let Some(selector) = metric.at("selector") {
        label_selector::check(selector, &path.child("selector"), report);
    }
}

fn check_target(target: &Value, path: &Path, report: &mut Report) {
    let kind = target.text("type");
    if kind.is_empty() {
        report.required(&path.child("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        report.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for (field, message) in [("value", "must be positive"), ("averageValue", "must be positive")] {
        if let Some(quantity) = quantities::parse(target.at(field))
            && quantity.sign() != 1
        {
            report.invalid(&path.child(field), quantity.to_string(), message);
        }
    }
    if let Some(percent) = target.int("averageUtilization")
        && percent < 1
    {
        report.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
}

fn check_rules(rules: &Value, path: &Path, report: &mut Report) {
    let at = path.child("stabilizationWindowSeconds");
    match rules.int("stabilizationWindowSeconds") {
        Some(seconds) if seconds < 0 => report.invalid(&at, seconds, "must be greater than or equal to zero"),
        Some(seconds) if seconds > 3600 => report.invalid(&at, seconds, "must be less than or equal to 3600"),
        _ => {}
    }
    report.choice_if_set(rules, "selectPolicy", path, &["Disabled", "Max", "Min"]);
    let policies = rules.list("policies");
    if policies.is_empty() {
        report.required(&path.child("policies"), "must specify at least one Policy");
    }
    for (at, policy) in policies.iter().enumerate() {
        let path = path.child("policies").index(at);
        let kind = policy.text("type");
        if !["Percent", "Pods"].contains(&kind) {
            report.not_supported(&path.child("type"), kind, &["Percent", "Pods"]);
        }
        for field in ["value", "periodSeconds"] {
            let number = policy.count(field);
            if number <= 0 {
                report.invalid(&path.child(field), number, POSITIVE);
            }
        }
        let period = policy.count("periodSeconds");
        if period > 1800 {
            report.invalid(&path.child("periodSeconds"), period, "must be less than or equal to 1800");
        }
    }
    if let Some(tolerance) = quantities::parse(rules.at("tolerance"))
        && tolerance.sign() < 0
    {
        report.invalid(&path.child("tolerance"), tolerance.to_string(), "must be greater or equal to zero");
    }
}
