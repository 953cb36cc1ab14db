//! The words of errors: upstream names the place twice, as a field and in the sentence.

use plimsoll_meta::field::{ErrorKind, FieldError, Path};
use serde_json::Value;

/// Where a value stands below `root`, as the sentence names it (`spec.list[0].name`, `.name` at the root).
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) root: &'a Path,
    pub(crate) name: &'a str,
}

impl Place<'_> {
    fn path(self) -> Path {
        match self.name.strip_prefix('.').unwrap_or(self.name) {
            "" => self.root.clone(),
            name => self.root.child(name),
        }
    }

    /// `NAME in body …`.
    pub(crate) fn invalid(self, value: &Value, what: String) -> FieldError {
        let value = if value.is_null() { Value::from("null") } else { value.clone() };
        FieldError::invalid(&self.path(), &value, format!("{} in body {what}", self.name))
    }

    /// The value shown is the type that was found, or the text that a format does not fit.
    pub(crate) fn mistyped(self, expected: &str, found: &str) -> FieldError {
        let detail = format!("{} in body must be of type {expected}: {found:?}", self.name);
        FieldError::type_invalid(&self.path(), &found.into(), detail)
    }

    pub(crate) fn missing(self) -> FieldError {
        FieldError::required(&self.path(), "")
    }

    pub(crate) fn too_long(self, most: i64) -> FieldError {
        FieldError::too_long(&self.path(), usize::try_from(most).unwrap_or_default())
    }

    pub(crate) fn too_many(self, actual: i64, most: i64) -> FieldError {
        let detail = format!("must have at most {most} items");
        FieldError {
            kind: ErrorKind::TooMany,
            field: self.path().to_string(),
            value: Some(actual.to_string()),
            detail,
        }
    }

    pub(crate) fn not_allowed(self, key: &str) -> FieldError {
        let detail = format!("{}.{key} in body is a forbidden property", self.name);
        FieldError::invalid(&self.path(), &key.into(), detail)
    }

    pub(crate) fn unsupported(self, value: &Value, choices: &[String]) -> FieldError {
        let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
        let value = if value.is_null() { Value::from("null") } else { value.clone() };
        FieldError::not_supported(&self.path(), &value, &choices)
    }

    /// What alternatives have in common belongs to no field of its own.
    pub(crate) fn composite(self, detail: String) -> FieldError {
        FieldError::invalid(self.root, &"".into(), detail)
    }
}

/// A choice of an enum: text as it is, the rest as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A number as Go's `%v` writes it.
pub(crate) fn float(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-4..1e21).contains(&size) {
        return format!("{number}");
    }
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_like_go() {
        for (number, text) in [(1.0, "1"), (0.5, "0.5"), (1e21, "1e+21"), (1e-5, "1e-05"), (-2.25, "-2.25")] {
            assert_eq!(float(number), text);
        }
    }
}
