//! One entry of managedFields.

use serde_json::{Map, Value};

use super::Writer;
use crate::paths::Set;

/// How a manager came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// Fields of one manager, told apart by manager, operation, subresource and, for updates,
/// API version.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
    pub(crate) time: Option<String>,
    /// `FieldsV1`, its steps in canonical form.
    pub(crate) fields: Value,
}

/// Do all keys below name a field, key, value, index or the place itself?
fn is_field_set(fields: &Value) -> bool {
    fields.as_object().is_some_and(|map| {
        map.iter().all(|(key, below)| {
            (key == "." || ["f:", "k:", "v:", "i:"].iter().any(|prefix| key.starts_with(prefix)))
                && is_field_set(below)
        })
    })
}

impl Entry {
    pub(crate) fn new(writer: &Writer<'_>, operation: Operation) -> Self {
        Entry {
            manager: name(writer).to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: None,
            fields: Value::Object(Map::new()),
        }
    }

    /// Reads entries that a client sent.
    pub(crate) fn read(sent: &Value) -> Result<Vec<Entry>, String> {
        let mut entries = Entry::trust(sent.clone())?;
        for entry in &mut entries {
            if !is_field_set(&entry.fields) {
                return Err("fieldsV1 is no set of fields".into());
            }
            entry.fields = Set::decode(&entry.fields).encode();
        }
        Ok(entries)
    }

    /// Reads entries that this server wrote.
    pub(crate) fn trust(stored: Value) -> Result<Vec<Entry>, String> {
        let Value::Array(list) = stored else { return Err("managedFields must be a list".into()) };
        list.into_iter().enumerate().map(|(at, entry)| Entry::from_value(at, entry)).collect()
    }

    fn from_value(at: usize, value: Value) -> Result<Entry, String> {
        let Value::Object(mut map) = value else {
            return Err("a managed fields entry must be an object".into());
        };
        let mut text = |field: &str| match map.remove(field) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        let entry = Entry {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: Some(text("time")).filter(|time| !time.is_empty()),
            fields: Value::Null,
        };
        if entry.api_version.is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match text("fieldsType").as_str() {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {at}")),
        }
        let fields = map.remove("fieldsV1").filter(Value::is_object);
        Ok(Entry { fields: fields.unwrap_or_else(|| Value::Object(Map::new())), ..entry })
    }

    fn into_value(self) -> Value {
        let operation = if self.operation == Operation::Apply { "Apply" } else { "Update" };
        let mut map = Map::new();
        let mut put = |field: &str, text: String| map.insert(field.to_owned(), Value::String(text));
        put("manager", self.manager);
        put("operation", operation.to_owned());
        put("apiVersion", self.api_version);
        if let Some(time) = self.time {
            put("time", time);
        }
        put("fieldsType", "FieldsV1".to_owned());
        if !self.subresource.is_empty() {
            put("subresource", self.subresource);
        }
        map.insert("fieldsV1".to_owned(), self.fields);
        Value::Object(map)
    }

    /// True if a write of this kind by `writer` belongs into this entry.
    pub(crate) fn is_of(&self, writer: &Writer<'_>, operation: Operation) -> bool {
        self.operation == operation
            && self.manager == name(writer)
            && self.subresource == writer.subresource
            && (operation == Operation::Apply || self.api_version == writer.api_version)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.as_object().is_none_or(Map::is_empty)
    }

    /// As in messages: `"kubelet" with subresource "status" using v1`; appliers have no version.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// Entries in upstream's order: appliers first, then by time and name.
pub(crate) fn encode(mut entries: Vec<Entry>) -> Value {
    let ordered = |a: &Entry, b: &Entry| {
        (a.operation, &a.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            &b.time,
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    };
    entries.sort_by(ordered);
    Value::Array(entries.into_iter().map(Entry::into_value).collect())
}

fn name<'a>(writer: &Writer<'a>) -> &'a str {
    if writer.manager.is_empty() { "unknown" } else { writer.manager }
}
