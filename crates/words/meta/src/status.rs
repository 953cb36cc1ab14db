//! Errors as clients see them: the API's `Status` object.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::field::FieldError;

/// A refusal or failure with its HTTP code, reason and message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason; empty for none.
    pub reason: Cow<'static, str>,
    /// Text for people.
    pub message: String,
    /// `Status.details`; null for none.
    pub details: Value,
}

/// `deployments.apps`, or `pods` for the core group.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn subject(group: &str, kind: &str, name: &str) -> Value {
    let mut details = json!({});
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details[key] = json!(value);
        }
    }
    details
}

impl Status {
    /// Any code and reason.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: Value::Null }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403, with the sentence upstream builds around the cause.
    pub fn forbidden(group: &str, resource: &str, name: &str, cause: impl std::fmt::Display) -> Self {
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {cause}"),
            (_, "") => format!("{} is forbidden: {cause}", qualified(group, resource)),
            _ => format!("{} {name:?} is forbidden: {cause}", qualified(group, resource)),
        };
        Self { details: subject(group, resource, name), ..Self::new(403, "Forbidden", message) }
    }

    /// 404 for an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        Self { details: subject(group, resource, name), ..Self::new(404, "NotFound", message) }
    }

    /// 404 for a path that nothing serves.
    pub fn no_such_path() -> Self {
        Self {
            details: json!({}),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    /// 405.
    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        let message = if resource.is_empty() {
            "the server does not allow this method on the requested resource".to_owned()
        } else {
            format!("{verb} is not supported on resources of kind {:?}", qualified(group, resource))
        };
        Self { details: subject(group, resource, ""), ..Self::new(405, "MethodNotAllowed", message) }
    }

    /// 406.
    pub fn not_acceptable(supported: &str) -> Self {
        let message = format!("only the following media types are accepted: {supported}");
        Self::new(406, "NotAcceptable", message)
    }

    /// 406 of a path that has no such representation at all.
    pub fn no_representation(available: &str) -> Self {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {available}");
        Self { details: json!({}), ..Self::new(406, "NotAcceptable", message) }
    }

    /// 409 because the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Self { details: subject(group, resource, name), ..Self::new(409, "AlreadyExists", message) }
    }

    /// 409 because the object changed or a precondition failed.
    pub fn conflict(group: &str, resource: &str, name: &str, cause: impl std::fmt::Display) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {cause}", qualified(group, resource));
        Self { details: subject(group, resource, name), ..Self::new(409, "Conflict", message) }
    }

    /// [`Status::conflict`] with the sentence for a stale resourceVersion.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let cause =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, cause)
    }

    /// 410 with reason Expired.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(supported: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {supported}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422 with one cause for each error.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for text in errors.iter().map(FieldError::to_string) {
            // What is wrong twice in the same words is told once; the causes have both.
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) };
        let message = format!("{} {name:?} is invalid: {list}", qualified(group, kind));
        let causes: Vec<Value> = errors
            .iter()
            .map(
                |error| json!({"reason": error.kind.reason(), "message": error.body(), "field": error.field}),
            )
            .collect();
        let mut details = subject(group, kind, name);
        details["causes"] = Value::Array(causes);
        Self { details, ..Self::new(422, "Invalid", message) }
    }

    /// 429 with the seconds after which to try again.
    pub fn too_many_requests(message: impl Into<String>, retry_after: u64) -> Self {
        let details = json!({"retryAfterSeconds": retry_after});
        Self { details, ..Self::new(429, "TooManyRequests", message) }
    }

    /// 500.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let details = json!({"causes": [{"message": cause.to_string()}]});
        Self { details, ..Self::new(500, "InternalError", format!("Internal error occurred: {cause}")) }
    }

    /// 500 without a reason: what upstream tells of errors that it has no name for.
    pub fn unnamed(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    /// The object on the wire.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            value["reason"] = json!(self.reason);
        }
        if !self.details.is_null() {
            value["details"] = self.details.clone();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn messages_read_as_users_know_them() {
        for (status, message) in [
            (Status::not_found("", "pods", "a"), r#"pods "a" not found"#),
            (Status::already_exists("apps", "deployments", "a"), r#"deployments.apps "a" already exists"#),
            (
                Status::invalid("apps", "Deployment", "a", &[FieldError::required(&Path::root("spec"), "")]),
                r#"Deployment.apps "a" is invalid: spec: Required value"#,
            ),
            (Status::forbidden("", "pods", "", "no"), "pods is forbidden: no"),
        ] {
            assert_eq!(status.message, message);
        }
    }

    #[test]
    fn two_errors_stand_in_brackets_with_their_causes() {
        let errors =
            [FieldError::required(&Path::root("a"), ""), FieldError::required(&Path::root("b"), "why")];
        let value = Status::invalid("", "Pod", "x", &errors).to_value();
        assert_eq!(value["message"], r#"Pod "x" is invalid: [a: Required value, b: Required value: why]"#);
        assert_eq!(value["details"]["causes"][1]["message"], "Required value: why");
        assert_eq!(value["code"], 422);
    }
}
