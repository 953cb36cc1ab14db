//! `x-kubernetes-validations`: what objects have to hold besides their schema (upstream:
//! `apiextensions-apiserver/pkg/apiserver/schema/cel`).
//!
//! Enters: a schema as JSON, once for each definition; then objects. Leaves: what is wrong with the rules,
//! and what the rules find wrong with objects. Programs are compiled once and kept.

mod audit;
mod evaluate;
mod message;
mod program;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use plimsoll_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) use audit::{Audit, Limit, Scope};

use program::Programs;

/// The rules of a whole schema, compiled.
#[derive(Debug)]
pub struct Rules(Node);

/// The rules of one place of a schema and of all below.
#[derive(Debug)]
struct Node {
    /// `type`, which errors show in place of the value.
    kind: String,
    programs: Option<Programs>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    /// What elements of a list map are told apart by.
    keys: Option<Vec<String>>,
    /// Parts of an atomic map have no past of their own.
    is_atomic: bool,
}

impl Rules {
    /// Compiles the rules of `openAPIV3Schema`; none if there are none.
    pub fn of(props: &Value) -> Option<Self> {
        Node::of(props, true).map(Self)
    }

    /// What the rules find wrong with a new object.
    pub fn check(&self, object: &Value) -> Vec<FieldError> {
        evaluate::check(&self.0, &Path::default(), object, None)
    }

    /// What the rules find wrong with a change; values that did not change are not held against it.
    pub fn check_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        evaluate::check(&self.0, &Path::default(), new, Some(old))
    }
}

/// What the rules of a schema find wrong with its own default, which counts as its predecessor, too; `path`
/// is the place of the schema.
pub(crate) fn check_default(path: &Path, props: &Value, is_root: bool) -> Vec<FieldError> {
    let default = &props["default"];
    match Node::of(props, is_root) {
        Some(node) if !default.is_null() => evaluate::check_default(&node, &path.child("default"), default),
        _ => Vec::new(),
    }
}

impl Node {
    fn of(props: &Value, is_root: bool) -> Option<Self> {
        if !props.is_object() {
            return None;
        }
        let properties = props["properties"].as_object().into_iter().flatten();
        let below = |key: &str| Node::of(&props[key], false).map(Box::new);
        let keys = props["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
        let node = Self {
            kind: props["type"].as_str().unwrap_or_default().to_owned(),
            programs: Programs::of(props, is_root),
            properties: properties
                .filter_map(|(name, property)| Some((name.clone(), Node::of(property, false)?)))
                .collect(),
            additional: below("additionalProperties"),
            items: below("items"),
            keys: (props["x-kubernetes-list-type"] == "map")
                .then(|| keys.filter_map(Value::as_str).map(str::to_owned).collect()),
            is_atomic: props["x-kubernetes-map-type"] == "atomic",
        };
        let is_empty = node.programs.is_none()
            && node.properties.is_empty()
            && node.additional.is_none()
            && node.items.is_none();
        (!is_empty).then_some(node)
    }
}
