//! `FieldsV1`: a set of paths as nested JSON objects; `{}` or `"."` marks a member.

use serde_json::{Map, Value};

use super::{Element, Node, Set};

impl Set {
    /// Reads `FieldsV1`; steps of an unknown kind are left out, as upstream does.
    pub fn decode(fields: &Value) -> Set {
        let mut set = Set::default();
        for (text, below) in fields.as_object().into_iter().flatten() {
            if let Some(element) = Element::parse(text) {
                set.put(element, Node { member: is_member(below), below: Set::decode(below) });
            }
        }
        set
    }

    /// Writes `FieldsV1`.
    pub fn encode(&self) -> Value {
        Value::Object(self.encode_into(Map::new()))
    }

    fn encode_into(&self, mut map: Map<String, Value>) -> Map<String, Value> {
        for (element, node) in self.entries() {
            let mut below = Map::new();
            if node.member && !node.below.is_empty() {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(element.as_str().to_owned(), Value::Object(node.below.encode_into(below)));
        }
        map
    }
}

/// True if encoded `fields` and `set` share a path, found without decoding.
pub(crate) fn touches(fields: &Value, set: &Set) -> bool {
    let Value::Object(map) = fields else { return false };
    set.entries().any(|(element, node)| {
        map.get(element.as_str())
            .is_some_and(|below| (node.member && is_member(below)) || touches(below, &node.below))
    })
}

/// True if every path of `set` is in encoded `fields`, found without decoding.
pub(crate) fn covers(fields: &Value, set: &Set) -> bool {
    set.entries().all(|(element, node)| {
        fields
            .get(element.as_str())
            .is_some_and(|below| (!node.member || is_member(below)) && covers(below, &node.below))
    })
}

fn is_member(below: &Value) -> bool {
    below.as_object().is_none_or(|map| map.is_empty() || map.contains_key("."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn round_trip_and_questions() {
        let fields = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {".": {}, "v:\"x\"": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}}, "f:replicas": {}},
        });
        let set = Set::decode(&fields);
        assert_eq!(set.encode(), fields);
        assert!(covers(&fields, &set));
        assert!(touches(&fields, &set));

        let replicas = Set::of_fields(&[&["spec", "replicas"]]);
        assert!(touches(&fields, &replicas));
        assert!(covers(&fields, &replicas));
        let spec = Set::of_fields(&[&["spec"], &["other"]]);
        assert!(!touches(&fields, &spec));
        assert!(!covers(&fields, &spec));
        assert!(Set::decode(&json!({})).is_empty());
        assert_eq!(Set::decode(&json!({"f:a": {"f:b": {}}, "q:?": {}})), Set::of_fields(&[&["a", "b"]]));
    }
}
