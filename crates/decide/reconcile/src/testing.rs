//! Short ways to write and read tables.

use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::action::{Action, Note};

/// A second of a day long ago.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("in range")
}

/// An API object from JSON; nulls are left out.
pub(crate) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(without_nulls(value)).expect("a valid object")
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// An action in one line; versions and ids that only guard it are left out.
pub(crate) fn summary(action: &Action) -> String {
    let told =
        |note: &Option<Note>| note.as_ref().map(|note| format!(" · {}", note.reason)).unwrap_or_default();
    match action {
        Action::Create(create) => {
            let meta = &create.object["metadata"];
            let name = meta["name"].as_str().or(meta["generateName"].as_str()).unwrap_or_default();
            format!("create {} {name}{}", create.resource.kind, told(&create.made))
        }
        Action::Patch(patch) => {
            let mut body = patch.body.clone();
            if let Some(meta) = body["metadata"].as_object_mut() {
                meta.remove("resourceVersion");
                meta.remove("uid");
                if meta.is_empty() {
                    body.as_object_mut().expect("has metadata").remove("metadata");
                }
            }
            let door = patch.subresource.map(|door| format!("/{door}")).unwrap_or_default();
            format!("patch {}{door} {} {body}", patch.target.resource.kind, patch.target.name)
        }
        Action::Replace { target, subresource, .. } => {
            let door = subresource.map(|door| format!("/{door}")).unwrap_or_default();
            format!("replace {}{door} {}", target.resource.kind, target.name)
        }
        Action::Delete(delete) => {
            format!("delete {} {}{}", delete.target.resource.kind, delete.target.name, told(&delete.done))
        }
        Action::Event(note) => format!("event {} {}", note.reason, note.message),
        Action::RequeueAfter(wait) => format!("again {}s", wait.as_secs_f64()),
    }
}
