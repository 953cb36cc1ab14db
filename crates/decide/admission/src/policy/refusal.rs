//! What clients are told when a policy refuses a request.

use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::matching::Attributes;

/// A policy that refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Its name.
    pub policy: String,
    /// The binding that puts it into force; none if the policy itself is broken.
    pub binding: Option<String>,
    /// Why.
    pub message: String,
    /// Reason of the status; empty for the default one.
    pub reason: String,
}

/// The refusal by validating policies: the first one speaks.
pub fn forbidden_by_validating(attributes: &Attributes<'_>, denials: &[Denial]) -> Option<Status> {
    let first = denials.first()?;
    let Denial { policy, binding, message, reason } = first;
    let message = match binding {
        Some(binding) => {
            format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}")
        }
        None => format!("ValidatingAdmissionPolicy '{policy}' denied request: {message}"),
    };
    let reason = if reason.is_empty() { "Invalid" } else { reason };
    let code = match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    let mut status = forbidden(attributes, &message);
    status.code = code;
    status.reason = reason.to_owned().into();
    status.details["causes"] = json!([{"message": message}]);
    Some(status)
}

/// The refusal by mutating policies: all causes are told.
pub fn forbidden_by_mutating(attributes: &Attributes<'_>, denials: &[Denial]) -> Option<Status> {
    let told = |denial: &Denial| match &denial.binding {
        Some(binding) => {
            format!("policy '{}' with binding '{binding}' denied request: {}", denial.policy, denial.message)
        }
        None => format!("policy {:?} denied request: {}", denial.policy, denial.message),
    };
    let first = denials.first()?;
    let mut status = forbidden(attributes, "admission request denied by policy");
    status.message = told(first);
    if !first.reason.is_empty() {
        status.reason = first.reason.clone().into();
    }
    status.details["causes"] =
        Value::Array(denials.iter().map(|denial| json!({"message": told(denial)})).collect());
    Some(status)
}

/// The 403 about the object of a request.
pub(crate) fn forbidden(attributes: &Attributes<'_>, cause: &str) -> Status {
    let meta = |field: &str| {
        let object = attributes.object?;
        object["metadata"][field].as_str().filter(|text| !text.is_empty())
    };
    let name = match attributes.name {
        "" => meta("name").or_else(|| meta("generateName")).unwrap_or("Unknown"),
        name => name,
    };
    let resource = attributes.target.resource;
    Status::forbidden(resource.group, resource.resource, name, cause)
}
