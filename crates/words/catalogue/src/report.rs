//! Gathers what is wrong with an object, in upstream's words.

use serde_json::Value;

use plimsoll_meta::field::{ErrorKind, FieldError, Path};
use plimsoll_meta::name;

use crate::access::Access;

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const POSITIVE: &str = "must be greater than zero";
pub(crate) const IMMUTABLE: &str = "field is immutable";
pub(crate) const VALID_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Report(Vec<FieldError>);

impl Report {
    pub(crate) fn new() -> Report {
        Report::default()
    }

    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    pub(crate) fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    pub(crate) fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        self.0.extend(errors);
    }

    /// The list that functions of other modules add to.
    pub(crate) fn errors(&mut self) -> &mut Vec<FieldError> {
        &mut self.0
    }

    pub(crate) fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(FieldError::required(path, detail));
    }

    pub(crate) fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::invalid(path, &value.into(), detail));
    }

    /// Invalid, without showing the value.
    pub(crate) fn wrong(&mut self, path: &Path, detail: &str) {
        self.push(FieldError {
            kind: ErrorKind::Invalid,
            field: path.to_string(),
            value: None,
            detail: detail.to_owned(),
        });
    }

    pub(crate) fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(FieldError::forbidden(path, detail));
    }

    pub(crate) fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(FieldError::duplicate(path, &value.into()));
    }

    pub(crate) fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(FieldError::not_found(path, &value.into()));
    }

    pub(crate) fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        self.push(FieldError::not_supported(path, &value.into(), supported));
    }

    /// One error for each message of a name rule.
    pub(crate) fn rule(&mut self, path: &Path, value: &str, checked: Result<(), Vec<String>>) {
        for message in checked.err().unwrap_or_default() {
            self.invalid(path, value, message);
        }
    }

    /// The text of a field must not be empty; tells whether it is there.
    pub(crate) fn need(&mut self, holder: &Value, field: &str, path: &Path) -> bool {
        let missing = match holder.at(field) {
            None => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        };
        if missing {
            self.required(&path.child(field), "");
        }
        !missing
    }

    /// The text of a field must be one of these; an empty one is missing.
    pub(crate) fn choice(&mut self, path: &Path, value: &str, supported: &[&str]) {
        if value.is_empty() {
            self.required(path, "");
        } else if !supported.contains(&value) {
            self.not_supported(path, value, supported);
        }
    }

    /// The text of a field, if it has one, must be one of these.
    pub(crate) fn choice_if_set(&mut self, holder: &Value, field: &str, path: &Path, supported: &[&str]) {
        if let Some(value) = holder.at(field).and_then(Value::as_str)
            && !supported.contains(&value)
        {
            self.not_supported(&path.child(field), value, supported);
        }
    }

    /// A number, if there is one, must not be below 0.
    pub(crate) fn not_negative(&mut self, holder: &Value, field: &str, path: &Path) {
        if let Some(number) = holder.int(field)
            && number < 0
        {
            self.invalid(&path.child(field), number, NOT_NEGATIVE);
        }
    }

    /// A number, if there is one, must lie between these, both included.
    pub(crate) fn range(&mut self, path: &Path, number: i64, low: i64, high: i64) {
        if !(low..=high).contains(&number) {
            self.invalid(path, number, format!("must be between {low} and {high}, inclusive"));
        }
    }

    /// The number of a port.
    pub(crate) fn port(&mut self, path: &Path, number: i64) {
        self.range(path, number, 1, 65_535);
    }

    /// The number or the name of a port.
    pub(crate) fn port_or_name(&mut self, path: &Path, port: &Value) {
        match port {
            Value::String(text) => self.rule(path, text, name::is_port_name(text)),
            other => self.port(path, other.as_i64().unwrap_or(0)),
        }
    }

    /// A field may not differ from what it was.
    pub(crate) fn immutable(&mut self, new: &Value, old: &Value, path: &str) {
        if new.at(path) != old.at(path) {
            // Text that is gone is empty text.
            let gone = if old.at(path).is_some_and(Value::is_string) { "".into() } else { Value::Null };
            self.invalid(&dotted(path), new.at(path).cloned().unwrap_or(gone), IMMUTABLE);
        }
    }
}

/// The path of fields joined by dots.
pub(crate) fn dotted(path: &str) -> Path {
    path.split('.').fold(Path::default(), |path, field| path.child(field))
}

/// Whether every key exists in the given set, as text.
pub(crate) fn names_of(items: &[Value]) -> impl Iterator<Item = &str> {
    items.iter().map(|item| item.text("name"))
}
