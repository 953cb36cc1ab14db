//! Takes out of an object what its schema does not know, and tells what that was.

use serde_json::Value;

use crate::schema::{Additional, Schema};

/// The fields that every object has, whatever its schema says.
pub(crate) const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes unknown fields from a whole custom object; its metadata is left alone.
///
/// Returns the paths of what was removed (`spec.foo`, `spec.list[0].foo`), sorted.
pub fn prune(object: &mut Value, schema: &Schema) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.visit(object, Some(schema), true, false);
    pruner.unknown.sort();
    pruner.unknown
}

/// [`prune`] for a value below the root, such as a default.
pub(crate) fn prune_value(value: &mut Value, schema: &Schema) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.visit(value, Some(schema), schema.embedded, false);
    pruner.unknown
}

/// How many bytes of paths are noted.
const MOST: usize = 1 << 20;

#[derive(Default)]
struct Pruner {
    path: String,
    unknown: Vec<String>,
    /// Bytes of all that is unknown.
    told: usize,
}

impl Pruner {
    /// `resource` tells that the value has metadata of its own; `keeps` that it is an element of a list
    /// that keeps everything.
    fn visit(&mut self, value: &mut Value, schema: Option<&Schema>, resource: bool, keeps: bool) {
        let keeps = keeps || schema.is_some_and(|schema| schema.preserve);
        match value {
            Value::Object(map) => {
                let mut gone = Vec::new();
                for (key, value) in map.iter_mut() {
                    let is_meta = META_FIELDS.contains(&key.as_str());
                    if resource && is_meta {
                        continue;
                    }
                    match schema.and_then(|schema| known(schema, key)) {
                        Some(child) => {
                            self.below(&field(&self.path, key), |pruner| pruner.visit_child(value, child))
                        }
                        None if keeps => {}
                        None => {
                            if !is_meta || !self.path.is_empty() {
                                self.tell(key);
                            }
                            gone.push(key.clone());
                        }
                    }
                }
                for key in gone {
                    map.remove(&key);
                }
            }
            Value::Array(items) => {
                let item = schema.and_then(|schema| schema.items.as_deref());
                if keeps && item.is_none() {
                    return;
                }
                for (at, value) in items.iter_mut().enumerate() {
                    self.below(&format!("[{at}]"), |pruner| {
                        pruner.visit(value, item, item.is_some_and(|item| item.embedded), keeps);
                    });
                }
            }
            _ => {}
        }
    }

    /// Notes an unknown field, unless what was noted is more than anybody reads: paths can be much longer
    /// than the fields that they end with.
    fn tell(&mut self, key: &str) {
        if self.told < MOST {
            let path = format!("{}{}", self.path, field(&self.path, key));
            self.told += path.len();
            self.unknown.push(path);
        }
    }

    fn visit_child(&mut self, value: &mut Value, child: Child<'_>) {
        match child {
            Child::Schema(schema) => self.visit(value, Some(schema), schema.embedded, false),
            Child::Open => self.visit(value, None, false, false),
        }
    }

    fn below(&mut self, step: &str, visit: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        visit(self);
        self.path.truncate(length);
    }
}

/// What a schema says about an entry that it knows.
#[derive(Clone, Copy)]
enum Child<'s> {
    Schema(&'s Schema),
    /// Allowed, but nothing below it is.
    Open,
}

fn known<'s>(schema: &'s Schema, key: &str) -> Option<Child<'s>> {
    match (schema.properties.get(key), &schema.additional) {
        (Some(child), _) => Some(Child::Schema(child)),
        (None, Some(Additional::Schema(child))) => Some(Child::Schema(child)),
        (None, Some(Additional::Any(_))) => Some(Child::Open),
        (None, None) => None,
    }
}

fn field(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!(".{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_unknown_goes() {
        let schema = Schema::read(
            &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "integer"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"c": {"type": "string"}}}},
                "open": {"type": "object", "additionalProperties": true},
                "keep": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                         "properties": {"known": {"type": "object", "properties": {"d": {"type": "string"}}}}},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
            }}}}),
        );
        let mut object = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "odd": 1}, "extra": 1,
            "spec": {"a": "x", "b": 1, "list": [{"b": 1, "x": 2}], "map": {"k": {"c": "", "y": 1}},
                     "open": {"s": {"t": 1}, "u": 1},
                     "keep": {"any": {"thing": 1}, "known": {"d": "", "e": 1}},
                     "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {}, "spec": {"z": 1}}}});
        let unknown = prune(&mut object, &schema);
        assert_eq!(
            unknown,
            [
                "extra",
                "spec.b",
                "spec.keep.known.e",
                "spec.list[0].x",
                "spec.map.k.y",
                "spec.open.s.t",
                "spec.pod.spec.z",
                "spec.pod.status"
            ]
        );
        assert_eq!(
            object,
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "odd": 1},
                "spec": {"a": "x", "list": [{"b": 1}], "map": {"k": {"c": ""}}, "open": {"s": {}, "u": 1},
                         "keep": {"any": {"thing": 1}, "known": {"d": ""}},
                         "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}}}})
        );
    }

    #[test]
    fn a_root_that_keeps_everything() {
        let schema = Schema::read(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
        let mut object = json!({"spec": {"any": [1]}});
        assert!(prune(&mut object, &schema).is_empty());
        assert_eq!(object, json!({"spec": {"any": [1]}}));
    }
}
