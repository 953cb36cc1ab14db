//! What is wrong with conditions of the common form (upstream: apimachinery's
//! `pkg/apis/meta/v1/validation`).

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::Access;
use crate::report::Report;

/// Longest reason in bytes.
const LONGEST_REASON: usize = 1024;
/// Longest message in bytes.
const LONGEST_MESSAGE: usize = 32 << 10;

static REASON: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$").ok());

/// Each for itself, and that no type appears twice.
pub(crate) fn check(conditions: &[Value], path: &Path, report: &mut Report) {
    for (at, condition) in conditions.iter().enumerate() {
        let (path, kind) = (path.index(at), condition.text("type"));
        if conditions[..at].iter().any(|other| other.text("type") == kind) {
            report.duplicate(&path.child("type"), kind);
        }
        report.rule(&path.child("type"), kind, name::is_qualified_name(kind));
        let (status, states) = (condition.text("status"), ["False", "True", "Unknown"]);
        if !states.contains(&status) {
            report.not_supported(&path.child("status"), status, &states);
        }
        let generation = condition.count("observedGeneration");
        if generation < 0 {
            let message = "must be greater than or equal to zero";
            report.invalid(&path.child("observedGeneration"), generation, message);
        }
        if !condition.has("lastTransitionTime") {
            report.required(&path.child("lastTransitionTime"), "must be set");
        }
        check_reason(condition.text("reason"), &path.child("reason"), report);
        if condition.text("message").len() > LONGEST_MESSAGE {
            report.push(FieldError::too_long(&path.child("message"), LONGEST_MESSAGE));
        }
    }
}

fn check_reason(reason: &str, path: &Path, report: &mut Report) {
    const FORM: &str = "a condition reason must start with alphabetic character, optionally followed by a string \
        of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or \
        'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is \
        '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
    if reason.is_empty() {
        report.required(path, "must be set");
        return;
    }
    if REASON.as_ref().is_some_and(|form| !form.is_match(reason)) {
        report.invalid(path, reason, FORM);
    }
    if reason.len() > LONGEST_REASON {
        report.push(FieldError::too_long(path, LONGEST_REASON));
    }
}
