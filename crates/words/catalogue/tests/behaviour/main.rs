//! What the rows do, seen through the public interface, as tables.

mod admission;
mod columns;
mod defaults;
mod messages;
mod updates;

use plimsoll_catalogue::{Kind, find};
use serde_json::Value;

fn kind(group: &str, plural: &str) -> &'static Kind {
    let version = if group == "autoscaling" { "v2" } else { "v1" };
    find(group, version, plural).expect("a row")
}

/// The errors of a new object, defaults filled in, one a line.
fn errors(kind: &Kind, mut object: Value) -> Vec<String> {
    kind.default(&mut object);
    kind.prepare_create(&mut object);
    kind.validate(&object).iter().map(ToString::to_string).collect()
}

/// `spec` merged into a valid object: objects by key, everything else replaced.
fn merged(mut base: Value, patch: &Value) -> Value {
    match (&mut base, patch) {
        (Value::Object(target), Value::Object(source)) => {
            for (key, value) in source {
                let before = target.remove(key).unwrap_or(Value::Null);
                if !value.is_null() {
                    target.insert(key.clone(), merged(before, value));
                }
            }
            base
        }
        _ => patch.clone(),
    }
}
