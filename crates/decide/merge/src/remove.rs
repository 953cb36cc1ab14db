//! Taking paths out of a value.

use serde_json::{Map, Value};

use crate::fields::elements;
use crate::paths::{Element, Set};
use crate::typed::{Fields, Shape, Typed};

/// The value without the paths of `set`; `None` if nothing is left of it.
pub(crate) fn remove(value: Value, set: &Set, typed: Typed<'_>) -> Option<Value> {
    if set.is_empty() {
        return Some(value);
    }
    let shape = typed.shape(&value);
    match (shape, value) {
        (Shape::Fields(fields), Value::Object(map)) => from_map(map, set, fields),
        (Shape::Keyed { item, .. }, value @ Value::Array(_)) => from_list(value, set, shape, item),
        (Shape::Set, value @ Value::Array(_)) => from_list(value, set, shape, Typed::DEDUCED),
        (_, value) => Some(value),
    }
}

fn from_map(map: Map<String, Value>, set: &Set, fields: Fields<'_>) -> Option<Value> {
    let mut left = Map::new();
    for (key, value) in map {
        let kept = match set.get_field(&key) {
            Some(node) if node.member => None,
            Some(node) => remove(value, &node.below, fields.child(&key)),
            None => Some(value),
        };
        if let Some(value) = kept {
            left.insert(key, value);
        }
    }
    (!left.is_empty()).then_some(Value::Object(left))
}

fn from_list(list: Value, set: &Set, shape: Shape<'_>, item: Typed<'_>) -> Option<Value> {
    let identities: Option<Vec<Element>> =
        elements(&list, shape).map(|elements| elements.into_iter().map(|(element, _)| element).collect());
    let (identities, list) = match (identities, list) {
        (Some(identities), Value::Array(list)) => (identities, list),
        (_, list) => return Some(list),
    };
    let left: Vec<Value> = identities
        .iter()
        .zip(list)
        .filter_map(|(element, value)| match set.get(element) {
            Some(node) if node.member => None,
            Some(node) => remove(value, &node.below, item),
            None => Some(value),
        })
        .collect();
    (!left.is_empty()).then_some(Value::Array(left))
}
