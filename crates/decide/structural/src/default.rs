//! Fills in defaults; nulls where no null is allowed give way to them or go.

use serde_json::Value;

use crate::schema::{Additional, Schema};

/// Removes nulls of map entries that are neither nullable nor have a default.
pub fn prune_nulls(value: &mut Value, schema: Option<&Schema>) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                let child = schema.and_then(|schema| schema.child(key));
                !(value.is_null() && child.is_some_and(|child| !child.nullable && child.default.is_none()))
            });
            for (key, value) in map.iter_mut() {
                prune_nulls(value, schema.and_then(|schema| schema.child(key)));
            }
        }
        Value::Array(items) => {
            let item = schema.and_then(|schema| schema.items.as_deref());
            items.iter_mut().for_each(|value| prune_nulls(value, item));
        }
        _ => {}
    }
}

/// Gives absent fields their defaults, and nulls that are not allowed.
pub fn default(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (name, property) in &schema.properties {
                let Some(filled) = &property.default else { continue };
                if map.get(name).is_none_or(|there| there.is_null() && !property.nullable) {
                    map.insert(name.clone(), filled.clone());
                }
            }
            for (key, value) in map.iter_mut() {
                match (schema.properties.get(key), &schema.additional) {
                    (Some(property), _) => default(value, property),
                    (None, Some(Additional::Schema(entry))) => {
                        replace_null(value, entry);
                        default(value, entry);
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(item) = &schema.items else { return };
            for value in items {
                replace_null(value, item);
                default(value, item);
            }
        }
        _ => {}
    }
}

fn replace_null(value: &mut Value, schema: &Schema) {
    if let (Value::Null, false, Some(filled)) = (&*value, schema.nullable, &schema.default) {
        *value = filled.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nulls_and_defaults() {
        let schema = Schema::read(&json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "A"},
            "b": {"type": "string", "nullable": true, "default": "B"},
            "c": {"type": "string"},
            "d": {"type": "object", "default": {}, "properties": {"e": {"type": "integer", "default": 5}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"f": {"type": "string", "default": "F"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "default": 7}},
        }}));
        for (object, expected) in [
            (json!({}), json!({"a": "A", "b": "B", "d": {"e": 5}})),
            (json!({"a": null, "b": null, "c": null}), json!({"a": "A", "b": null, "d": {"e": 5}})),
            (
                json!({"a": "x", "b": "y", "d": {"e": 1}, "list": [{}, {"f": null}], "map": {"k": null}}),
                json!({"a": "x", "b": "y", "d": {"e": 1}, "list": [{"f": "F"}, {"f": "F"}], "map": {"k": 7}}),
            ),
        ] {
            let mut filled = object;
            prune_nulls(&mut filled, Some(&schema));
            default(&mut filled, &schema);
            assert_eq!(filled, expected);
        }
    }
}
