//! The smallest strategic merge patch from one pod status to another.

use serde_json::{Map, Value, json};

use crate::conditions::OWNED;

/// The patch of a pod whose status in the API is `old` and ought to be `new`; none when they agree.
///
/// Only changed fields and conditions are in it, so that what others write at the same time stays.
#[must_use]
pub fn status_patch(uid: &str, old: &Value, new: &Value) -> Option<Value> {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut changes = Map::new();
    for (name, value) in new {
        let before = old.get(name);
        if before == Some(value) {
            continue;
        }
        let change = match name.as_str() {
            "conditions" => conditions(before, value),
            "podIPs" | "hostIPs" => replaced(value),
            _ => Some(value.clone()),
        };
        changes.extend(change.map(|change| (name.clone(), change)));
    }
    let dropped = old.keys().filter(|name| !new.contains_key(*name));
    changes.extend(dropped.map(|name| (name.clone(), Value::Null)));
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changes}))
}

/// Conditions of the node's own that go away while pods live.
const PASSING: [&str; 2] = [crate::resize::PENDING, crate::resize::IN_PROGRESS];

/// The conditions that changed. Strategic merge joins them by type and keeps what is not named, so
/// fields that went away are named as null.
fn conditions(old: Option<&Value>, new: &Value) -> Option<Value> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let old = list(old);
    let changed = list(Some(new)).into_iter().filter_map(|condition| {
        let before = old.iter().find(|known| known["type"] == condition["type"]);
        if before == Some(&condition) {
            return None;
        }
        let mut condition = condition;
        let fields = condition.as_object_mut()?;
        for name in before.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            fields.entry(name.clone()).or_insert(Value::Null);
        }
        Some(condition)
    });
    let new = list(Some(new));
    let is_over = |known: &&Value| {
        let kind = &known["type"];
        let mut own = PASSING.iter().chain(&OWNED);
        own.any(|it| kind == it) && new.iter().all(|condition| condition["type"] != *kind)
    };
    let over = old.iter().filter(is_over).map(|known| json!({"$patch": "delete", "type": known["type"]}));
    let changed: Vec<_> = changed.chain(over).collect();
    (!changed.is_empty()).then_some(Value::Array(changed))
}

/// A list that strategic merge would join by key, replaced as a whole.
fn replaced(value: &Value) -> Option<Value> {
    let mut list = value.as_array()?.clone();
    list.push(json!({"$patch": "replace"}));
    Some(Value::Array(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_sent() {
        let cases = [
            (json!({"phase": "Running"}), json!({"phase": "Running"}), Value::Null),
            (
                json!({"phase": "Pending", "reason": "x"}),
                json!({"phase": "Running"}),
                json!({"phase": "Running", "reason": null}),
            ),
            (
                json!({"conditions": [{"type": "A", "status": "False", "reason": "r"}, {"type": "B", "status": "True"}]}),
                json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}),
                json!({"conditions": [{"type": "A", "status": "True", "reason": null}]}),
            ),
            (
                json!({"conditions": [{"type": "Foreign", "status": "True"}, {"type": "A", "status": "x"}]}),
                json!({"conditions": [{"type": "A", "status": "x"}]}),
                Value::Null,
            ),
            (
                json!({"podIPs": [{"ip": "1"}]}),
                json!({"podIPs": [{"ip": "2"}]}),
                json!({"podIPs": [{"ip": "2"}, {"$patch": "replace"}]}),
            ),
        ];
        for (old, new, expected) in cases {
            let patch = status_patch("u", &old, &new);
            let expected =
                (!expected.is_null()).then(|| json!({"metadata": {"uid": "u"}, "status": expected}));
            assert_eq!(patch, expected, "{old} -> {new}");
        }
    }
}
