//! What differs between two versions of an object, as sets of paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::fields::{element, elements};
use crate::paths::{Element, Node, Set};
use crate::typed::{Fields, Shape, Typed};

/// The difference of two versions.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Added or modified.
    pub(crate) changed: Set,
    /// Present only in the old version.
    pub(crate) removed: Set,
}

/// Fields that nobody owns: the server sets them or they say which object it is.
const NEVER_OWNED: [&str; 2] = ["apiVersion", "kind"];
const NEVER_OWNED_METADATA: [&str; 9] = [
    "creationTimestamp",
    "clusterName",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The paths that nobody owns.
pub(crate) fn never_owned() -> Set {
    let mut paths: Vec<Vec<&str>> = NEVER_OWNED.iter().map(|name| vec![*name]).collect();
    paths.push(vec!["metadata"]);
    paths.extend(NEVER_OWNED_METADATA.iter().map(|name| vec!["metadata", *name]));
    Set::of_fields(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Compares two versions of an object (`old` is none if it is being created), leaving out the
/// fields that nobody owns.
pub(crate) fn compare(old: Option<&Value>, new: &Value, typed: Typed<'_>) -> Comparison {
    let both = Walk { old, new: Some(new), there: true };
    let node = match typed.shape(new) {
        Shape::Fields(fields) => both.fields(fields, &NEVER_OWNED, true),
        _ => Delta::default(),
    };
    Comparison { changed: node.changed.below, removed: node.removed.below }
}

/// One place in both versions.
#[derive(Clone, Copy)]
struct Walk<'v> {
    old: Option<&'v Value>,
    new: Option<&'v Value>,
    /// The old version counts as having an empty value here.
    there: bool,
}

#[derive(Default)]
struct Delta {
    changed: Node,
    removed: Node,
}

impl Delta {
    const CHANGED: Delta = Delta { changed: Node::MEMBER, removed: NOTHING };
    const REMOVED: Delta = Delta { changed: NOTHING, removed: Node::MEMBER };
    const NONE: Delta = Delta { changed: NOTHING, removed: NOTHING };

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    fn put(&mut self, element: Element, child: Delta) {
        if !child.removed.is_empty() {
            self.removed.below.put(element.clone(), child.removed);
        }
        self.changed.below.put(element, child.changed);
    }
}

const NOTHING: Node = Node { member: false, below: Set::EMPTY };

impl<'v> Walk<'v> {
    fn value(self, typed: Typed<'_>) -> Delta {
        let Some(sample) = self.new.filter(|new| !new.is_null()).or(self.old).or(self.new) else {
            return Delta::NONE;
        };
        if is_hollow(self.old) && is_hollow(self.new) {
            return self.leaf();
        }
        let shape = typed.shape(sample);
        let mut delta = match shape {
            _ if !self.alike() => return self.leaf(),
            Shape::Leaf => return self.leaf(),
            Shape::Fields(fields) => self.fields(fields, &[], false),
            Shape::Keyed { item, keys } => match self.keyed(shape, item, keys) {
                Some(delta) => delta,
                None => return self.leaf(),
            },
            Shape::Set => match self.by_identity(shape, Typed::DEDUCED) {
                Some(delta) => delta,
                None => return self.leaf(),
            },
        };
        delta.changed.member |= self.old.is_none() && !self.there;
        delta.removed.member |= self.new.is_none();
        delta
    }

    /// Both versions are of the same JSON type, or one has nothing to compare.
    fn alike(self) -> bool {
        match (self.old, self.new) {
            (Some(Value::Object(_)), Some(Value::Array(_)))
            | (Some(Value::Array(_)), Some(Value::Object(_))) => false,
            (Some(old), Some(new)) => {
                old.is_null() || new.is_null() || (is_container(old) == is_container(new))
            }
            _ => true,
        }
    }

    fn leaf(self) -> Delta {
        match (self.old, self.new) {
            (None, Some(new)) if self.there && is_hollow(Some(new)) => Delta::NONE,
            (None, Some(_)) => Delta::CHANGED,
            (Some(_), None) => Delta::REMOVED,
            (Some(old), Some(new)) if !same(old, new) => Delta::CHANGED,
            _ => Delta::NONE,
        }
    }

    fn fields(self, fields: Fields<'_>, skip: &[&str], root: bool) -> Delta {
        let (old, new) = (self.old.and_then(Value::as_object), self.new.and_then(Value::as_object));
        let mut delta = Delta::NONE;
        for (key, value) in new.into_iter().flatten() {
            if skip.contains(&key.as_str()) {
                continue;
            }
            let before = old.and_then(|old| old.get(key));
            let there = self.there && self.old.is_none() && fields.always_there(key);
            let child = Walk { old: before, new: Some(value), there };
            let child = match fields.child(key) {
                typed if root && key == "metadata" => child.metadata(typed),
                typed => child.value(typed),
            };
            if !child.is_empty() {
                delta.put(Element::field(key), child);
            }
        }
        for (key, value) in old.into_iter().flatten() {
            if new.is_some_and(|new| new.contains_key(key)) || skip.contains(&key.as_str()) {
                continue;
            }
            let child = Walk { old: Some(value), new: None, there: false }.value(fields.child(key));
            delta.put(Element::field(key), child);
        }
        delta
    }

    fn metadata(self, typed: Typed<'_>) -> Delta {
        match typed.shape(&Value::Null) {
            Shape::Fields(fields) => self.fields(fields, &NEVER_OWNED_METADATA, false),
            _ => self.fields(Fields::Map(Typed::DEDUCED), &NEVER_OWNED_METADATA, false),
        }
    }

    /// Elements in the same places are compared as they are; only a list whose elements moved
    /// needs their identities.
    fn keyed(self, shape: Shape<'_>, item: Typed<'_>, keys: &[String]) -> Option<Delta> {
        let (Some(Value::Array(old)), Some(Value::Array(new))) = (self.old, self.new) else {
            return self.by_identity(shape, item);
        };
        let aligned =
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same_keys(old, new, keys));
        if !aligned {
            return self.by_identity(shape, item);
        }
        let mut delta = Delta::NONE;
        for (old, new) in old.iter().zip(new) {
            let child = Walk { old: Some(old), new: Some(new), there: false }.value(item);
            if !child.is_empty() {
                delta.put(element(new, item, keys)?, child);
            }
        }
        Some(delta)
    }

    fn by_identity(self, shape: Shape<'_>, item: Typed<'_>) -> Option<Delta> {
        let mut places: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (element, value) in elements(self.old.unwrap_or(&Value::Null), shape)? {
            places.entry(element).or_default().0.push(value);
        }
        for (element, value) in elements(self.new.unwrap_or(&Value::Null), shape)? {
            places.entry(element).or_default().1.push(value);
        }
        let mut delta = Delta::NONE;
        for (element, (old, new)) in places {
            let child = match (old.as_slice(), new.as_slice()) {
                // Elements that share an identity are one thing.
                (old, new) if old.len() > 1 || new.len() > 1 => match (old.is_empty(), new.is_empty()) {
                    (_, true) => Delta::REMOVED,
                    _ if old == new => Delta::NONE,
                    _ => Delta::CHANGED,
                },
                (old, new) => {
                    Walk { old: old.first().copied(), new: new.first().copied(), there: false }.value(item)
                }
            };
            delta.put(element, child);
        }
        Some(delta)
    }
}

/// Nothing in it: absent, null, an empty map or list.
fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => Map::is_empty(map),
        Some(Value::Array(list)) => list.is_empty(),
        _ => false,
    }
}

fn is_container(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn same_keys(old: &Value, new: &Value, keys: &[String]) -> bool {
    keys.iter().all(|key| old.get(key) == new.get(key))
}

/// Equal values; numbers are compared as numbers, so that `1` equals `1.0`.
fn same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Number(old), Value::Number(new)) => old == new || old.as_f64() == new.as_f64(),
        _ => old == new,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deduced() {
        let old = json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"a": 1, "l": [1], "gone": {"b": 1}, "n": 1}});
        let new = json!({"metadata": {"name": "b", "labels": {"x": "1", "y": "2"}}, "spec": {"a": 2, "l": [1, 2], "n": 1.0}});
        let comparison = compare(Some(&old), &new, Typed::DEDUCED);
        assert_eq!(
            comparison.changed.encode(),
            json!({"f:metadata": {"f:labels": {"f:y": {}}}, "f:spec": {"f:a": {}, "f:l": {}}})
        );
        assert_eq!(comparison.removed.encode(), json!({"f:spec": {"f:gone": {".": {}, "f:b": {}}}}));
        let none = compare(Some(&old), &old, Typed::DEDUCED);
        assert!(none.changed.is_empty() && none.removed.is_empty());
    }
}
