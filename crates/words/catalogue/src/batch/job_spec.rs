//! The specification of a job, alone or in a cron job (upstream: `pkg/apis/batch/validation`).

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};

use crate::access::{self, Access, Fill};
use crate::pod_spec::validate;
use crate::report::{IMMUTABLE, Report, names_of};

const MOST: i64 = 100_000;
const MOST_WITH_MANY_COMPLETIONS: i64 = 10_000;

pub(super) fn check(spec: &Value, path: &Path, report: &mut Report) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        report.not_negative(spec, field, path);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        report.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    check_managed_by(spec, &path.child("managedBy"), report);
    report.choice_if_set(spec, "completionMode", path, &["NonIndexed", "Indexed"]);
    if spec.text("completionMode") == "Indexed" {
        check_indexed(spec, path, report);
    } else {
        check_not_indexed(spec, path, report);
    }
    if let Some(policy) = spec.at("podFailurePolicy") {
        check_failure_policy(policy, spec, &path.child("podFailurePolicy"), report);
    }
    if let Some(policy) = spec.at("successPolicy") {
        check_success_policy(policy, spec, &path.child("successPolicy"), report);
    }
    let replacements: &[&str] =
        if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    report.choice_if_set(spec, "podReplacementPolicy", path, replacements);
    let null = Value::Null;
    validate::template(spec.at("template").unwrap_or(&null), &path.child("template"), report);
    check_restart_policy(spec, &path.child("template").child("spec").child("restartPolicy"), report);
}

fn check_managed_by(spec: &Value, path: &Path, report: &mut Report) {
    let manager = spec.text("managedBy");
    if !spec.has("managedBy") {
        return;
    }
    let is_path = manager.split_once('/').is_some_and(|(domain, rest)| {
        !rest.is_empty() && plimsoll_meta::name::is_dns1123_subdomain(domain).is_ok()
    });
    if !is_path {
        report.invalid(path, manager, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    }
    if manager.len() > 63 {
        report.push(FieldError::too_long(path, 63));
    }
}

fn check_indexed(spec: &Value, path: &Path, report: &mut Report) {
    let Some(completions) = spec.int("completions") else {
        report.required(&path.child("completions"), "when completion mode is Indexed");
        return;
    };
    let (parallelism, failures) = (spec.count("parallelism"), spec.int("maxFailedIndexes"));
    let mut most = |field: &str, number: i64, limit: i64, why: &str| {
        if number > limit {
            report.invalid(&path.child(field), number, format!("must be less than or equal to {limit}{why}"));
        }
    };
    most("parallelism", parallelism, MOST, " when completion mode is Indexed");
    let failed = failures.unwrap_or(0);
    most("maxFailedIndexes", failed, MOST, "");
    if completions > MOST && spec.has("backoffLimitPerIndex") {
        let why = format!(" when completions are above {MOST} and used with backoff limit per index");
        most("parallelism", parallelism, MOST_WITH_MANY_COMPLETIONS, &why);
        most("maxFailedIndexes", failed, MOST_WITH_MANY_COMPLETIONS, &why);
        if failures.is_none() {
            let message = format!("must be specified when completions is above {MOST}");
            report.required(&path.child("maxFailedIndexes"), message);
        }
    }
    if failed > completions {
        report.invalid(&path.child("maxFailedIndexes"), failed, "must be less than or equal to completions");
    }
}

fn check_not_indexed(spec: &Value, path: &Path, report: &mut Report) {
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if let Some(number) = spec.int(field) {
            report.invalid(&path.child(field), number, "requires indexed completion mode");
        }
    }
}

fn check_restart_policy(spec: &Value, path: &Path, report: &mut Report) {
    match spec.text("template.spec.restartPolicy") {
        "" | "Always" => report.required(path, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.has("podFailurePolicy") => {
            report.invalid(
                path,
                "OnFailure",
                "only \"Never\" is supported when podFailurePolicy is specified",
            );
        }
        "OnFailure" | "Never" => {}
        other => report.not_supported(path, other, &["OnFailure", "Never"]),
    }
}

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

fn check_failure_policy(policy: &Value, spec: &Value, path: &Path, report: &mut Report) {
    let rules = policy.list("rules");
    if rules.len() > 20 {
        report.push(FieldError::too_many(&path.child("rules"), rules.len(), 20));
    }
    for (at, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(at);
        match rule.text("action") {
            "" => report.required(&path.child("action"), format!("valid values: [{}]", quoted(&ACTIONS))),
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                report.invalid(
                    &path.child("action"),
                    "FailIndex",
                    "requires the backoffLimitPerIndex to be set",
                );
            }
            action if !ACTIONS.contains(&action) => {
                report.not_supported(&path.child("action"), action, &ACTIONS)
            }
            _ => {}
        }
        if let Some(codes) = rule.at("onExitCodes") {
            check_exit_codes(codes, spec, &path.child("onExitCodes"), report);
        }
        for (at, condition) in rule.list("onPodConditions").iter().enumerate() {
            check_condition(condition, &path.child("onPodConditions").index(at), report);
        }
        match (rule.has("onExitCodes"), !rule.list("onPodConditions").is_empty()) {
            (true, true) => {
                let message = "specifying both OnExitCodes and OnPodConditions is not supported";
                report.wrong(&path, message);
            }
            (false, false) => {
                report.wrong(&path, "specifying one of OnExitCodes and OnPodConditions is required");
            }
            _ => {}
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
}

fn check_condition(condition: &Value, path: &Path, report: &mut Report) {
    let kind = condition.text("type");
    report.rule(&path.child("type"), kind, plimsoll_meta::name::is_qualified_name(kind));
    let states = ["False", "True", "Unknown"];
    match condition.text("status") {
        "" => report.required(&path.child("status"), format!("valid values: [{}]", quoted(&states))),
        status if !states.contains(&status) => report.not_supported(&path.child("status"), status, &states),
        _ => {}
    }
}

fn check_exit_codes(codes: &Value, spec: &Value, path: &Path, report: &mut Report) {
    let operators = ["In", "NotIn"];
    let operator = codes.text("operator");
    if operator.is_empty() {
        report.required(&path.child("operator"), format!("valid values: [{}]", quoted(&operators)));
    } else if !operators.contains(&operator) {
        report.not_supported(&path.child("operator"), operator, &operators);
    }
    let containers = ["template.spec.containers", "template.spec.initContainers"];
    let mut names = containers.iter().flat_map(|list| names_of(spec.list(list)));
    if let Some(name) = codes.at("containerName").and_then(Value::as_str)
        && !names.any(|other| other == name)
    {
        let message = "must be one of the container or initContainer names in the pod template";
        report.invalid(&path.child("containerName"), name, message);
    }
    let path = path.child("values");
    let values: Vec<i64> = codes.list("values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        report.invalid(&path, values.clone(), "at least one value is required");
    } else if values.len() > 255 {
        report.push(FieldError::too_many(&path, values.len(), 255));
    }
    for (at, value) in values.iter().enumerate() {
        if operator == "In" && *value == 0 {
            report.invalid(&path.index(at), 0, "must not be 0 for the In operator");
        }
        if values[..at].contains(value) {
            report.duplicate(&path.index(at), *value);
        }
    }
    if !values.is_sorted() {
        report.invalid(&path, values, "must be ordered");
    }
}

fn check_success_policy(policy: &Value, spec: &Value, path: &Path, report: &mut Report) {
    if spec.text("completionMode") != "Indexed" {
        report.invalid(path, policy.clone(), "requires indexed completion mode");
    }
    let rules = policy.list("rules");
    let path = path.child("rules");
    if rules.is_empty() {
        report.required(&path, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > 20 {
        report.push(FieldError::too_many(&path, rules.len(), 20));
    }
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at);
        if !rule.has("succeededCount") && !rule.has("succeededIndexes") {
            report.required(&path, "at least one of succeededCount or succeededIndexes must be specified");
        }
        if let Some(count) = rule.int("succeededCount")
            && (count <= 0 || count > spec.count("completions"))
        {
            let message = format!(
                "must be greater than 0 and at most {} (the number of specified completions)",
                spec.count("completions")
            );
            report.invalid(&path.child("succeededCount"), count, message);
        }
    }
}

/// What stays as it is once a job exists.
pub(super) fn check_update(new: &Value, old: &Value, report: &mut Report) {
    check_completions(new, old, report);
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        let (after, before) = (new["spec"].at(field), old["spec"].at(field));
        if !access::same(after, before) {
            let value = after.cloned().unwrap_or(Value::Null);
            report.invalid(&Path::root("spec").child(field), value, IMMUTABLE);
        }
    }
    let mut before = old["spec"]["template"].clone();
    let after = &new["spec"]["template"];
    if old.flag("spec.suspend") && !old.has("status.startTime") {
        forgive_placement(&mut before, after);
    }
    if old.flag("spec.suspend") && old.int("status.active").unwrap_or_default() == 0 {
        forgive_resources(&mut before, after);
    }
    if !access::same(Some(after), Some(&before)) {
        report.invalid(&Path::root("spec").child("template"), after.clone(), IMMUTABLE);
    }
}

/// Indexed jobs grow and shrink with their parallelism.
fn check_completions(new: &Value, old: &Value, report: &mut Report) {
    let (after, before) = (new.int("spec.completions"), old.int("spec.completions"));
    if after == before {
        return;
    }
    let path = Path::root("spec").child("completions");
    let shown = after.map_or(Value::Null, Value::from);
    if new.text("spec.completionMode") != "Indexed" {
        report.invalid(&path, shown, IMMUTABLE);
    } else if after.is_some() && after != new.int("spec.parallelism") {
        report.invalid(&path, shown, "can only be modified in tandem with spec.parallelism");
    }
}

/// A job that never started may still be told where to run.
fn forgive_placement(before: &mut Value, after: &Value) {
    for (parent, fields) in [
        ("spec", ["nodeSelector", "tolerations", "schedulingGates"].as_slice()),
        ("metadata", ["annotations", "labels"].as_slice()),
    ] {
        let Some(target) = before.inside(parent) else { continue };
        for field in fields {
            copy(target, after.at(parent), field);
        }
    }
    let wanted = after.at("spec.affinity.nodeAffinity").cloned();
    if let Some(affinity) = before.inside("spec").and_then(|spec| spec.object("affinity")) {
        match wanted {
            Some(wanted) => affinity.put("nodeAffinity", wanted),
            None => affinity.drop_key("nodeAffinity"),
        }
    }
}

/// A job that has no pods may still be told how much they ask for.
fn forgive_resources(before: &mut Value, after: &Value) {
    for list in ["containers", "initContainers"] {
        let pairs =
            before.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut).into_iter().flatten();
        for (old, new) in pairs.zip(after["spec"][list].as_array().into_iter().flatten()) {
            if old["name"] == new["name"] && old.at("resources.claims") == new.at("resources.claims") {
                copy(old, Some(new), "resources");
            }
        }
    }
}

fn copy(target: &mut Value, source: Option<&Value>, field: &str) {
    match source.and_then(|source| source.at(field)) {
        Some(value) => target.put(field, value.clone()),
        None => target.drop_key(field),
    }
}
