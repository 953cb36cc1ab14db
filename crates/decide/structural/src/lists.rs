//! Elements of sets and keys of list maps appear once.

use plimsoll_meta::field::{FieldError, Path};
use serde_json::{Map, Value};

use crate::schema::{Additional, ListType, Schema};

/// One error for each second appearance.
pub fn check(path: &Path, value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(path, value, schema, &mut errors);
    errors
}

fn visit(path: &Path, value: &Value, schema: &Schema, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (schema.properties.get(key), &schema.additional) {
                    (Some(child), _) => visit(&path.child(key), value, child, errors),
                    (None, Some(Additional::Schema(child))) => visit(&path.key(key), value, child, errors),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            match &schema.list {
                Some(ListType::Set) => report(path, items.iter().cloned(), errors),
                Some(ListType::Map(keys)) => map(path, items, keys, errors),
                Some(ListType::Atomic) | None => {}
            }
            let Some(item) = &schema.items else { return };
            for (at, value) in items.iter().enumerate() {
                visit(&path.index(at), value, item, errors);
            }
        }
        _ => {}
    }
}

fn map(path: &Path, items: &[Value], keys: &[String], errors: &mut Vec<FieldError>) {
    if let Some(at) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let detail = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&path.index(at), &items[at], detail));
        return;
    }
    let identity = |item: &Value| {
        let found = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
        Value::Object(found.collect::<Map<String, Value>>())
    };
    report(path, items.iter().map(identity), errors);
}

/// Each value that appears more than once is told at its second appearance.
fn report(path: &Path, values: impl Iterator<Item = Value>, errors: &mut Vec<FieldError>) {
    let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for (at, value) in values.enumerate() {
        let times = seen.entry(canonical(&value).to_string()).or_default();
        *times += 1;
        if *times == 2 {
            errors.push(FieldError::duplicate(&path.index(at), &value));
        }
    }
}

/// The value with the keys of its objects in order.
pub(crate) fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), canonical(value))).collect())
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicates_are_told_once() {
        let schema = Schema::read(&json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                    "items": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}},
        }}));
        for (object, expected) in [
            (json!({"set": ["x", "y"], "map": [{"a": "1", "b": 1}, {"a": "1", "b": 2}]}), vec![]),
            (json!({"set": ["x", "x", "x"]}), vec!["set[1]: Duplicate value: \"x\""]),
            (
                json!({"map": [{"a": "1", "b": 1, "c": 1}, {"b": 1, "a": "1", "c": 2}]}),
                vec![r#"map[1]: Duplicate value: {"a":"1","b":1}"#],
            ),
            (
                json!({"map": [{"a": "1"}, 5]}),
                vec!["map[1]: Invalid value: 5: must be an object for an array of list-type map"],
            ),
        ] {
            let found: Vec<String> =
                check(&Path::default(), &object, &schema).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        }
    }
}
