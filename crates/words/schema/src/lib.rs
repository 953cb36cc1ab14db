//! The shape of API types.
//!
//! What enters: the OpenAPI definitions that `k8s-openapi` carries (or a custom resource's
//! structural schema) and the published list and merge facts. What leaves: a compact graph of
//! [`Node`]s that decoding, pruning, defaulting, patches, server-side apply and OpenAPI share.
//! It never does I/O and knows nothing of single kinds.

mod base64;
mod builtin;
mod decode;
mod facts;
mod props;
mod time;

pub use builtin::{builtin, definitions};
pub use decode::{Decoded, Misfit, check, fit};
pub use props::props;

use std::collections::HashMap;

/// Position of a [`Node`] in its [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// A closed set of types that refer to each other.
#[derive(Debug, Default)]
pub struct Schemas {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
}

/// The shape of one value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Any JSON value, kept as it is (`RawExtension`, `JSON`, `FieldsV1`).
    Any,
    /// Any JSON value, whose parts are told apart by what they are: maps have entries, lists are whole.
    Deduced,
    /// `true` or `false`.
    Boolean,
    /// A whole number of 32 or 64 bits.
    Integer {
        /// 32 or 64.
        bits: u8,
    },
    /// A floating point number.
    Number,
    /// Text.
    String,
    /// Base64 text of bytes.
    Bytes,
    /// RFC 3339 time with seconds.
    Time,
    /// RFC 3339 time with microseconds.
    MicroTime,
    /// A whole number or text (ports, percentages).
    IntOrString,
    /// A resource quantity; JSON numbers are accepted and become text.
    Quantity,
    /// Text keys to values of one shape.
    Map {
        /// Shape of each value.
        value: NodeId,
        /// Ownership in server-side apply.
        kind: MapKind,
    },
    /// A list.
    List {
        /// Shape of each element.
        item: NodeId,
        /// Ownership in server-side apply.
        kind: ListKind,
    },
    /// A fixed set of fields.
    Struct(Struct),
}

/// A named set of fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Struct {
    /// OpenAPI definition name, for example `io.k8s.api.core.v1.Pod`; empty for anonymous types.
    pub name: String,
    /// Fields sorted by name.
    pub fields: Vec<Field>,
    /// Ownership in server-side apply.
    pub kind: MapKind,
    /// Shape of fields that are not listed; without it there are none.
    pub rest: Option<NodeId>,
}

impl Struct {
    /// The field of that JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|field| field.name.as_str().cmp(name)).ok().map(|at| &self.fields[at])
    }
}

/// A field of a [`Struct`].
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// JSON name.
    pub name: String,
    /// Shape of the value.
    pub node: NodeId,
    /// Listed as required in OpenAPI.
    pub required: bool,
    /// Strategic merge patch behaviour.
    pub patch: Patch,
    /// The value that it has when it is left out, if its kind says so in its schema.
    pub default: Option<serde_json::Value>,
}

/// How strategic merge patch treats a field (`x-kubernetes-patch-strategy`, `-merge-key`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    /// Lists are merged instead of replaced.
    pub merge: bool,
    /// Keys that the patch does not name are removed (`retainKeys`).
    pub retain_keys: bool,
    /// Field that identifies the elements of a merged list of objects.
    pub merge_key: Option<String>,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Owned and replaced as a whole; the default.
    #[default]
    Atomic,
    /// Each scalar element has its own owners.
    Set,
    /// Each element is identified by these fields.
    Map(Vec<String>),
}

/// `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapKind {
    /// Each entry has its own owners; the default.
    #[default]
    Granular,
    /// Owned and replaced as a whole.
    Atomic,
}

impl Schemas {
    /// The root of a named definition.
    pub fn lookup(&self, definition: &str) -> Option<NodeId> {
        self.names.get(definition).copied()
    }

    /// The node at a position of this set.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Names of all definitions, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Adds a node and tells its position.
    pub fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(u32::try_from(self.nodes.len() - 1).expect("fewer than 4 billion nodes"))
    }

    /// Names a node so that [`Schemas::lookup`] finds it.
    pub fn name(&mut self, definition: &str, id: NodeId) {
        self.names.insert(definition.to_owned(), id);
    }

    /// Copies a type of another set with all that it refers to.
    pub fn adopt(&mut self, other: &Schemas, id: NodeId) -> NodeId {
        let mut copied = HashMap::new();
        self.adopt_once(other, id, &mut copied)
    }

    fn adopt_once(&mut self, other: &Schemas, id: NodeId, copied: &mut HashMap<NodeId, NodeId>) -> NodeId {
        if let Some(there) = copied.get(&id) {
            return *there;
        }
        // The place comes first, because types refer to themselves.
        let place = self.push(Node::Any);
        copied.insert(id, place);
        let mut node = other.node(id).clone();
        match &mut node {
            Node::Map { value: inner, .. } | Node::List { item: inner, .. } => {
                *inner = self.adopt_once(other, *inner, copied);
            }
            Node::Struct(shape) => {
                let fields = shape.fields.iter_mut().map(|field| &mut field.node);
                for inner in fields.chain(shape.rest.as_mut()) {
                    *inner = self.adopt_once(other, *inner, copied);
                }
            }
            _ => {}
        }
        self.set(place, node);
        place
    }

    /// Replaces a node, for types that refer to themselves.
    pub(crate) fn set(&mut self, id: NodeId, node: Node) {
        self.nodes[id.0 as usize] = node;
    }
}
