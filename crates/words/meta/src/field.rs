//! Field paths and the errors that name them.
//!
//! Wording follows apimachinery's `pkg/util/validation/field`.

use std::fmt;

use serde_json::Value;

/// Where in an object a value stands: `spec.containers[0].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// A path of one field.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The field below this one; below the empty path it is a root.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::root(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The element of a list.
    pub fn index(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }

    /// The entry of a map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What is wrong with a field, as `Status.details.causes[].reason` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A value is missing.
    Required,
    /// A value breaks a rule.
    Invalid,
    /// A value is not one of the listed ones.
    NotSupported,
    /// A value appears twice.
    Duplicate,
    /// A field may not be set or changed.
    Forbidden,
    /// Text is too long.
    TooLong,
    /// A list or map has too many entries.
    TooMany,
    /// What a value refers to does not exist.
    NotFound,
    /// A value has the wrong type.
    TypeInvalid,
    /// Something went wrong while checking.
    Internal,
}

impl ErrorKind {
    /// The machine-readable reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Where.
    pub field: String,
    /// The offending value as it is shown; `None` where upstream shows none.
    pub value: Option<String>,
    /// The explanation.
    pub detail: String,
}

impl FieldError {
    /// A value is missing.
    pub fn required(field: &Path, detail: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Required, field: field.to_string(), value: None, detail: detail.into() }
    }

    /// A value breaks a rule.
    pub fn invalid(field: &Path, value: &Value, detail: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Invalid,
            field: field.to_string(),
            value: Some(shown(value)),
            detail: detail.into(),
        }
    }

    /// A value is not one of those supported.
    pub fn not_supported(field: &Path, value: &Value, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self { kind: ErrorKind::NotSupported, field: field.to_string(), value: Some(shown(value)), detail }
    }

    /// A value appears twice.
    pub fn duplicate(field: &Path, value: &Value) -> Self {
        Self {
            kind: ErrorKind::Duplicate,
            field: field.to_string(),
            value: Some(shown(value)),
            detail: String::new(),
        }
    }

    /// A field may not be set or changed.
    pub fn forbidden(field: &Path, detail: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Forbidden, field: field.to_string(), value: None, detail: detail.into() }
    }

    /// Text is longer than `limit` bytes.
    pub fn too_long(field: &Path, limit: usize) -> Self {
        let detail = format!("may not be more than {limit} bytes");
        Self { kind: ErrorKind::TooLong, field: field.to_string(), value: None, detail }
    }

    /// A list has more than `limit` entries.
    pub fn too_many(field: &Path, actual: usize, limit: usize) -> Self {
        let detail = format!("must have at most {limit} items");
        Self { kind: ErrorKind::TooMany, field: field.to_string(), value: Some(actual.to_string()), detail }
    }

    /// What a value refers to does not exist.
    pub fn not_found(field: &Path, value: &Value) -> Self {
        Self {
            kind: ErrorKind::NotFound,
            field: field.to_string(),
            value: Some(shown(value)),
            detail: String::new(),
        }
    }

    /// A value has the wrong type.
    pub fn type_invalid(field: &Path, value: &Value, detail: impl Into<String>) -> Self {
        Self { kind: ErrorKind::TypeInvalid, ..Self::invalid(field, value, detail) }
    }

    /// The message without the field, as causes carry it.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            text.push_str(value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// A value as messages show it: text quoted, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_read_as_upstream_words_them() {
        let path = Path::root("spec").child("containers").index(0).child("name");
        for (error, text) in [
            (FieldError::required(&path, ""), "spec.containers[0].name: Required value"),
            (
                FieldError::invalid(&path, &json!("A b"), "must be lower case"),
                r#"spec.containers[0].name: Invalid value: "A b": must be lower case"#,
            ),
            (
                FieldError::not_supported(&path, &json!("X"), &["Always", "Never"]),
                r#"spec.containers[0].name: Unsupported value: "X": supported values: "Always", "Never""#,
            ),
            (FieldError::duplicate(&path, &json!("a")), r#"spec.containers[0].name: Duplicate value: "a""#),
            (
                FieldError::invalid(
                    &Path::root("spec").child("replicas"),
                    &json!(-1),
                    "must be greater than or equal to 0",
                ),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                FieldError::too_many(&path, 3, 2),
                "spec.containers[0].name: Too many: 3: must have at most 2 items",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
