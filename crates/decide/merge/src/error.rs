//! What can be wrong with a patch, and how clients are told.

use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::json_patch::MAX_OPERATIONS;
use crate::paths::Element;

/// Why a patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is no patch, or contradicts itself.
    #[error("{0}")]
    Malformed(String),
    /// A JSON patch with this many operations.
    #[error(
        "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}"
    )]
    TooManyOperations(usize),
    /// Its directives or lists do not fit the object; upstream answers 500.
    #[error("{0}")]
    Unmergeable(String),
    /// It is well-formed but does not fit the object.
    #[error("{0}")]
    NotApplicable(String),
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Self {
        let text = error.to_string();
        match error {
            PatchError::Malformed(_) => Status::bad_request(text),
            PatchError::TooManyOperations(_) => Status::too_large(text),
            PatchError::Unmergeable(_) => Status::new(500, "", text),
            // Upstream hides the reason behind a fixed sentence. The sentence stays for clients
            // that look for it; the reason is the cause, which kubectl prints.
            PatchError::NotApplicable(_) => Status {
                details: json!({"causes": [{"reason": "UnexpectedServerResponse", "message": text}]}),
                ..Status::new(
                    422,
                    "Invalid",
                    "the server rejected our request due to an error in our request",
                )
            },
        }
    }
}

/// Why a configuration could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration cannot be applied to this kind at all.
    #[error("{0}")]
    Unfit(String),
    /// The configuration does not fit the types of its kind.
    #[error("failed to create typed patch object ({object}): {}", list(mistakes))]
    Mistyped {
        /// `namespace/name; group/version, Kind=Kind`.
        object: String,
        /// Each as `path: why`; at least one.
        mistakes: Vec<String>,
    },
    /// Others own fields that the configuration would change; sorted by manager.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

/// A field that someone else owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `"kubectl" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`.
    pub path: String,
    pub(crate) steps: Vec<Element>,
}

impl Conflict {
    pub(crate) fn new(manager: &str, steps: Vec<Element>) -> Self {
        let path = steps.iter().map(ToString::to_string).collect();
        Conflict { manager: manager.to_owned(), path, steps }
    }
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Self {
        let text = error.to_string();
        match error {
            ApplyError::Unfit(_) => Status::bad_request(text),
            ApplyError::Mistyped { .. } => Status::new(500, "", text),
            ApplyError::Conflicts(conflicts) => {
                let causes: Vec<Value> = conflicts.iter().map(cause).collect();
                Status { details: json!({"causes": causes}), ..Status::new(409, "Conflict", text) }
            }
        }
    }
}

fn cause(conflict: &Conflict) -> Value {
    json!({
        "reason": "FieldManagerConflict",
        "message": format!("conflict with {}", conflict.manager),
        "field": conflict.path,
    })
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.path);
    }
    let mut lines = Vec::new();
    let mut manager = None;
    for conflict in conflicts {
        if manager != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            manager = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

fn list(mistakes: &[String]) -> String {
    match mistakes {
        [only] => only.clone(),
        _ => format!("errors:\n  {}", mistakes.join("\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(manager: &str, path: &str) -> Conflict {
        let steps = path.split('.').skip(1).map(Element::field).collect();
        Conflict::new(manager, steps)
    }

    #[test]
    fn conflicts_as_clients_see_them() {
        let one = ApplyError::Conflicts(vec![conflict("\"mgr\" using v1", ".data.key")]);
        let status = Status::from(one);
        assert_eq!((status.code, &*status.reason), (409, "Conflict"));
        assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"mgr\" using v1: .data.key");
        assert_eq!(status.details["causes"][0]["reason"], "FieldManagerConflict");

        let several = ApplyError::Conflicts(vec![
            conflict("\"a\" using apps/v1", ".spec.replicas"),
            conflict("\"a\" using apps/v1", ".spec.paused"),
            conflict("\"b\"", ".spec.replicas"),
        ]);
        assert_eq!(
            several.to_string(),
            "Apply failed with 3 conflicts: conflicts with \"a\" using apps/v1:\n- .spec.replicas\n- .spec.paused\nconflicts with \"b\":\n- .spec.replicas"
        );
    }

    #[test]
    fn patch_errors() {
        let status = Status::from(PatchError::TooManyOperations(10_001));
        assert_eq!(
            status.message,
            "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
        );
        assert_eq!(status.code, 413);
        let status = Status::from(PatchError::NotApplicable("testing value /a failed: test failed".into()));
        assert_eq!((status.code, &*status.reason), (422, "Invalid"));
    }
}
