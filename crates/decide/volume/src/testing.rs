//! Short ways to write objects.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// An API object from JSON.
pub(crate) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a valid object")
}

/// `base` with the fields of `change`.
pub(crate) fn merged(mut base: Value, change: &Value) -> Value {
    match (&mut base, change) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (key, value) in changes {
                let old = fields.remove(key).unwrap_or_default();
                fields.insert(key.clone(), merged(old, value));
            }
            base
        }
        _ => change.clone(),
    }
}
