//! Rules that the workloads share (upstream: `pkg/apis/apps/validation`).

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};

use crate::access::{self, Access};
use crate::label_selector;
use crate::pod_spec::validate;
use crate::report::{IMMUTABLE, NOT_NEGATIVE, Report};

/// A selector that selects something.
pub(crate) fn check_selector(spec: &Value, noun: &str, path: &Path, report: &mut Report) {
    let at = path.child("selector");
    let Some(selector) = spec.at("selector") else {
        report.required(&at, "");
        return;
    };
    label_selector::check(selector, &at, report);
    if label_selector::is_empty(selector) {
        report.invalid(&at, selector.clone(), format!("empty selector is invalid for {noun}"));
    }
}

/// The selector finds the pods that the template makes; none finds nothing.
pub(crate) fn check_match(spec: &Value, path: &Path, report: &mut Report) {
    let labels = spec.map("template.metadata.labels");
    let fits = |selector: &Value| {
        !label_selector::is_valid(selector)
            || label_selector::is_empty(selector)
            || label_selector::matches(selector, labels)
    };
    if !spec.at("selector").is_some_and(fits) {
        let at = path.child("template").child("metadata").child("labels");
        let shown = spec.at("template.metadata.labels").cloned().unwrap_or(Value::Null);
        report.invalid(&at, shown, "`selector` does not match template `labels`");
    }
}

/// Some kinds say once more, in these words, that the selector cannot be understood.
pub(crate) fn check_valid(spec: &Value, message: &str, path: &Path, report: &mut Report) {
    if let Some(selector) = spec.at("selector").filter(|selector| !label_selector::is_valid(selector)) {
        report.invalid(&path.child("selector"), selector.clone(), message);
    }
}

/// The template of pods that are always started again.
pub(crate) fn check_template(spec: &Value, noun: &str, path: &Path, report: &mut Report) {
    let null = Value::Null;
    let template = spec.at("template").unwrap_or(&null);
    validate::template(template, &path.child("template"), report);
    check_always(spec, noun, path, report);
}

pub(crate) fn check_always(spec: &Value, noun: &str, path: &Path, report: &mut Report) {
    let at = path.child("template").child("spec");
    let policy = spec.text("template.spec.restartPolicy");
    if policy != "Always" {
        report.not_supported(&at.child("restartPolicy"), policy, &["Always"]);
    }
    if spec.has("template.spec.activeDeadlineSeconds") {
        let message = format!("activeDeadlineSeconds in {noun} is not Supported");
        report.forbidden(&at.child("activeDeadlineSeconds"), message);
    }
}

/// The selector of an existing workload stays.
pub(crate) fn check_selector_kept(new: &Value, old: &Value, report: &mut Report) {
    if !access::same(new.at("spec.selector"), old.at("spec.selector")) {
        let value = new.at("spec.selector").cloned().unwrap_or(Value::Null);
        report.invalid(&Path::root("spec").child("selector"), value, IMMUTABLE);
    }
}

/// A number or a percentage, not below 0.
pub(crate) fn check_number_or_percent(value: &Value, path: &Path, report: &mut Report) {
    match value {
        Value::String(text) if percent(text).is_none() => report.invalid(
            path,
            text.as_str(),
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used \
             for validation is '[0-9]+%')",
        ),
        Value::String(_) => {}
        number if number.as_i64().unwrap_or(0) < 0 => report.invalid(path, number.clone(), NOT_NEGATIVE),
        _ => {}
    }
}

/// A percentage of at most 100.
pub(crate) fn check_at_most_all(value: &Value, path: &Path, report: &mut Report) {
    if value.as_str().and_then(percent).is_some_and(|share| share > 100) {
        report.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(i64::MAX))
}

/// The number, of things or of percent.
pub(crate) fn amount(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::String(text)) => percent(text).unwrap_or(0),
        Some(number) => number.as_i64().unwrap_or(0),
        None => 0,
    }
}

/// Counts of a status: none below 0, and parts not above their whole.
pub(crate) fn check_counts(object: &Value, counts: &[&str], parts: &[(&str, &str, &str)]) -> Vec<FieldError> {
    let mut report = Report::new();
    let path = Path::root("status");
    let null = Value::Null;
    let status = object.at("status").unwrap_or(&null);
    for count in counts {
        report.not_negative(status, count, &path);
    }
    for (part, whole, shown) in parts {
        if status.count(part) > status.count(whole) {
            report.invalid(&path.child(part), status.count(part), format!("cannot be greater than {shown}"));
        }
    }
    report.into_errors()
}

/// Like [`check_counts`], of a kind that counts collisions of names: their number only grows.
pub(crate) fn check_status(
    new: &Value,
    old: &Value,
    counts: &[&str],
    parts: &[(&str, &str, &str)],
) -> Vec<FieldError> {
    let mut errors = check_counts(new, counts, parts);
    let (after, before) = (new.count("status.collisionCount"), old.count("status.collisionCount"));
    if after < before {
        let at = Path::root("status").child("collisionCount");
        errors.push(FieldError::invalid(&at, &after.into(), "cannot be decremented"));
    }
    errors
}
