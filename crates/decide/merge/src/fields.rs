//! Which paths a value mentions.

use serde_json::{Map, Value};

use crate::paths::{Element, Node, Set};
use crate::typed::{Fields, Shape, Typed};

/// The path step of a list element; `None` if a key is missing or the element has no identity.
pub(crate) fn element(item: &Value, typed: Typed<'_>, keys: &[String]) -> Option<Element> {
    let Value::Object(map) = item else { return None };
    let missing: Vec<Option<Value>> =
        keys.iter().map(|key| if map.contains_key(key) { None } else { typed.key_default(key) }).collect();
    let mut pairs = Vec::with_capacity(keys.len());
    for (key, default) in keys.iter().zip(&missing) {
        pairs.push((key.as_str(), map.get(key).or(default.as_ref())?));
    }
    Some(Element::key(pairs))
}

/// The elements of a keyed list or set in order; `None` if one has no identity.
pub(crate) fn elements<'v>(list: &'v Value, shape: Shape<'_>) -> Option<Vec<(Element, &'v Value)>> {
    let Value::Array(list) = list else { return Some(Vec::new()) };
    list.iter()
        .map(|item| match shape {
            Shape::Keyed { item: typed, keys } => element(item, typed, keys).map(|element| (element, item)),
            _ if item.is_object() || item.is_array() || item.is_null() => None,
            _ => Some((Element::value(item), item)),
        })
        .collect()
}

/// Every path that `value` sets: leaves, elements of lists and entries of maps.
pub(crate) fn field_set(value: &Value, typed: Typed<'_>) -> Set {
    node(value, typed).below
}

fn node(value: &Value, typed: Typed<'_>) -> Node {
    let shape = typed.shape(value);
    match (shape, value) {
        (Shape::Fields(fields), Value::Object(map)) => Node { member: false, below: of_map(map, fields) },
        (Shape::Keyed { item, .. }, Value::Array(_)) => of_list(value, shape, item),
        (Shape::Set, Value::Array(_)) => of_list(value, shape, Typed::DEDUCED),
        (Shape::Leaf, _) => Node::MEMBER,
        _ => Node::default(),
    }
}

fn of_map(map: &Map<String, Value>, fields: Fields<'_>) -> Set {
    let mut set = Set::default();
    for (key, value) in map {
        let mut node = node(value, fields.child(key));
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        node.member |= empty || fields.declared(key).is_none();
        set.put(Element::field(key), node);
    }
    set
}

fn of_list(list: &Value, shape: Shape<'_>, item: Typed<'_>) -> Node {
    let Some(elements) = elements(list, shape) else { return Node::MEMBER };
    let mut set = Set::default();
    for (element, value) in elements {
        let below = if matches!(shape, Shape::Set) { Set::default() } else { node(value, item).below };
        set.put(element, Node { member: true, below });
    }
    Node { member: false, below: set }
}

/// The set with every declared field that has paths below it, so that removing a parent is
/// seen as removing what is in it.
pub(crate) fn with_named_fields(set: &Set, typed: Typed<'_>) -> Set {
    let mut all = Set::default();
    for (element, node) in set.entries() {
        let (declared, below) = step(element, typed);
        let named = declared && !node.below.is_empty();
        all.put(
            element.clone(),
            Node { member: node.member || named, below: with_named_fields(&node.below, below) },
        );
    }
    all
}

/// Whether the step is a declared field, and the place it leads to.
fn step<'s>(element: &Element, typed: Typed<'s>) -> (bool, Typed<'s>) {
    match (element.field_name(), typed.shape(&Value::Null)) {
        (Some(name), Shape::Fields(fields)) => (fields.declared(name).is_some(), fields.child(name)),
        (None, Shape::Keyed { item, .. }) => (false, item),
        _ => (false, Typed::DEDUCED),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deduced() {
        let set = field_set(&json!({"spec": {"a": 1, "l": [{"x": 1}], "m": {}, "n": null}}), Typed::DEDUCED);
        assert_eq!(set.encode(), json!({"f:spec": {".": {}, "f:a": {}, "f:l": {}, "f:m": {}, "f:n": {}}}));
    }
}
