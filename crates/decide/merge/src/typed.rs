//! A place in a schema, and how the value there is taken apart.

use plimsoll_schema::{Field, ListKind, MapKind, Node, NodeId, Patch, Schemas, Struct};
use serde_json::Value;

/// A place in a schema, or none: then everything is deduced from the value itself (maps have
/// an owner for each entry, lists one owner).
#[derive(Clone, Copy, Debug)]
pub struct Typed<'s>(Option<(&'s Schemas, NodeId)>);

/// What the parts of a value are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape<'s> {
    /// One thing with one set of owners: scalars, atomic lists, maps and structs.
    Leaf,
    /// Named parts.
    Fields(Fields<'s>),
    /// Elements told apart by these fields.
    Keyed { item: Typed<'s>, keys: &'s [String] },
    /// Scalars that tell themselves apart.
    Set,
}

/// The parts of a map or struct.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fields<'s> {
    Struct(&'s Schemas, &'s Struct),
    Map(Typed<'s>),
}

impl<'s> Typed<'s> {
    /// Nothing is known: custom resources without a schema.
    pub const DEDUCED: Typed<'static> = Typed(None);

    /// The place `id` of `schemas`.
    pub fn of(schemas: &'s Schemas, id: NodeId) -> Self {
        Typed(Some((schemas, id)))
    }

    pub(crate) fn node(self) -> Option<&'s Node> {
        self.0.map(|(schemas, id)| schemas.node(id))
    }

    /// How a value is taken apart; of two versions, `sample` is the one that is not null.
    pub(crate) fn shape(self, sample: &Value) -> Shape<'s> {
        let Some((schemas, id)) = self.0 else {
            return if sample.is_object() { Shape::Fields(Fields::Map(Typed(None))) } else { Shape::Leaf };
        };
        match (schemas.node(id), sample) {
            (Node::Deduced, _) => Typed::DEDUCED.shape(sample),
            (Node::Struct(kind), Value::Object(_) | Value::Null) if kind.kind == MapKind::Granular => {
                Shape::Fields(Fields::Struct(schemas, kind))
            }
            (Node::Map { value, kind: MapKind::Granular }, Value::Object(_) | Value::Null) => {
                Shape::Fields(Fields::Map(Typed(Some((schemas, *value)))))
            }
            (Node::List { item, kind: ListKind::Map(keys) }, Value::Array(_) | Value::Null) => {
                Shape::Keyed { item: Typed(Some((schemas, *item))), keys }
            }
            (Node::List { kind: ListKind::Set, .. }, Value::Array(_) | Value::Null) => Shape::Set,
            _ => Shape::Leaf,
        }
    }

    /// Strategic merge rule and place of the entry `key`.
    pub(crate) fn patch(self, key: &str) -> (Patch, Typed<'s>) {
        match self.0.map(|(schemas, id)| (schemas, schemas.node(id))) {
            Some((schemas, Node::Struct(kind))) => match kind.field(key) {
                Some(field) => (field.patch.clone(), Typed(Some((schemas, field.node)))),
                None => (Patch::default(), Typed(kind.rest.map(|rest| (schemas, rest)))),
            },
            Some((schemas, Node::Map { value, .. })) => (Patch::default(), Typed(Some((schemas, *value)))),
            _ => (Patch::default(), Typed(None)),
        }
    }

    /// The place of each element of a list.
    pub(crate) fn item(self) -> Typed<'s> {
        match self.0.map(|(schemas, id)| (schemas, schemas.node(id))) {
            Some((schemas, Node::List { item, .. })) => Typed(Some((schemas, *item))),
            _ => Typed(None),
        }
    }

    /// The value that a key field of a list element has when it is left out.
    pub(crate) fn key_default(self, key: &str) -> Option<Value> {
        match self.node() {
            // The one key field with a default in the built-in API, whose schemas carry none.
            Some(Node::Struct(kind)) if key == "protocol" && PORTS.contains(&kind.name.as_str()) => {
                Some(Value::String("TCP".to_owned()))
            }
            Some(Node::Struct(kind)) => kind.field(key)?.default.clone(),
            _ => None,
        }
    }
}

const PORTS: [&str; 2] = ["io.k8s.api.core.v1.ContainerPort", "io.k8s.api.core.v1.ServicePort"];

impl<'s> Fields<'s> {
    /// The place of the entry `key`.
    pub(crate) fn child(self, key: &str) -> Typed<'s> {
        match self {
            Fields::Struct(schemas, kind) => {
                Typed(kind.field(key).map(|field| field.node).or(kind.rest).map(|node| (schemas, node)))
            }
            Fields::Map(value) => value,
        }
    }

    pub(crate) fn declared(self, key: &str) -> Option<&'s Field> {
        match self {
            Fields::Struct(_, kind) => kind.field(key),
            Fields::Map(_) => None,
        }
    }

    /// Whether upstream's Go type has the field even in an empty object, so that creating the
    /// object does not count as adding it: structs by value and lists without `omitempty`.
    pub(crate) fn always_there(self, key: &str) -> bool {
        let (Fields::Struct(schemas, parent), Some(field)) = (self, self.declared(key)) else { return false };
        // Custom resources have no Go type.
        if parent.name.is_empty() {
            return false;
        }
        match schemas.node(field.node) {
            Node::Struct(kind) if kind.kind == MapKind::Granular => field.required || BY_VALUE.contains(&key),
            Node::List { kind, .. } => field.required && *kind != ListKind::Atomic,
            _ => false,
        }
    }
}

const BY_VALUE: [&str; 7] =
    ["metadata", "spec", "status", "template", "jobTemplate", "strategy", "updateStrategy"];
