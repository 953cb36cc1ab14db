//! Objects of the built-in kinds, from their text to what a table shows.

use jiff::Timestamp;
use plimsoll_catalogue::{Kind, kinds};
use plimsoll_schema::{Node, NodeId, builtin};
use serde_json::{Map, Value, json};

use crate::Decoder;

pub(crate) const DECODERS: &[Decoder] = &[Decoder { name: "object", examples: objects, read: read_object }];

/// How deep the examples go.
const DEPTH: usize = 5;

/// An object of every kind that has a schema.
fn objects() -> Vec<Vec<u8>> {
    kinds().iter().map(|kind| filled(kind).to_string().into_bytes()).collect()
}

/// An object with most of its fields.
pub(crate) fn filled(kind: &Kind) -> Value {
    let mut object = match builtin().lookup(kind.definition) {
        Some(id) => value(id, 0),
        None => json!({}),
    };
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    object
}

fn value(id: NodeId, depth: usize) -> Value {
    match builtin().node(id) {
        Node::Any | Node::Deduced => json!({}),
        Node::Boolean => json!(true),
        Node::Integer { .. } => json!(1),
        Node::Number => json!(0.5),
        Node::String => json!("a"),
        Node::Bytes => json!("AA=="),
        Node::Time => json!("2024-01-01T00:00:00Z"),
        Node::MicroTime => json!("2024-01-01T00:00:00.000001Z"),
        Node::IntOrString => json!("10%"),
        Node::Quantity => json!("100m"),
        Node::Map { value: inner, .. } if depth < DEPTH => json!({"a": value(*inner, depth + 1)}),
        Node::List { item, .. } if depth < DEPTH => json!([value(*item, depth + 1)]),
        Node::Struct(shape) if depth < DEPTH => {
            let fields = shape.fields.iter().map(|field| (field.name.clone(), value(field.node, depth + 1)));
            fields.collect::<Map<_, _>>().into()
        }
        Node::List { .. } => json!([]),
        Node::Map { .. } | Node::Struct(_) => json!({}),
    }
}

/// What a create and an update do to an object.
fn read_object(bytes: &[u8]) {
    let Ok(mut object) = serde_json::from_slice::<Value>(bytes) else { return };
    let of_kind = |kind: &&Kind| object["kind"] == kind.kind && object["apiVersion"] == kind.api_version();
    let Some(kind) = kinds().iter().find(of_kind) else { return };
    let Some(id) = builtin().lookup(kind.definition) else { return };
    if plimsoll_schema::check(builtin(), id, &mut object).is_err() {
        return;
    }
    let old = object.clone();
    kind.default(&mut object);
    kind.prepare_create(&mut object);
    drop(kind.validate(&object));
    drop(kind.cells(&object, Timestamp::UNIX_EPOCH));
    for subresource in [None, Some("status")] {
        let mut new = object.clone();
        kind.prepare_update(&mut new, &old, subresource);
        drop(kind.validate_update(&new, &old, subresource));
    }
    drop(plimsoll_protobuf::encode(&object));
}
