//! OpenAPI documents in protobuf, as kubectl asks for them.
//!
//! The messages are those of gnostic's packages `openapi.v2` and `openapi.v3`; only fields that documents
//! of kinds have got a row in the tables ([`v2`], [`v3`]).

mod v2;
mod v3;

use serde_json::Value;

use super::Style;

/// A message: its fields, and the number of the field that takes keys beginning with `x-`.
pub(super) struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    extensions: Option<u32>,
}

/// How a JSON value becomes a field.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Flag,
    Number,
    Double,
    /// A value of any type, as YAML text.
    Any,
    Anys,
    One(&'static Message),
    Many(&'static Message),
    /// An object whose keys are names: repeated (name, value) at this number of a message of its own.
    Named(u32, &'static Message),
    /// The same, with the value in field 1 of another message.
    Chosen(&'static Message),
    /// A string or a list of strings, in a message of its own.
    Type,
    /// A schema in field 1 of a message of its own.
    Schema,
    /// A schema or a boolean.
    Additional,
    Parameters,
    /// One of version 3 that may be a reference.
    Referable(&'static Message),
    /// A list of them.
    Referables(&'static Message),
    /// A list whose one item is of this kind.
    Item(&'static Message),
    /// An object whose keys are names of things that may be references, at this number.
    NamedReferable(u32, &'static Message),
    /// A schema of version 3 or a boolean.
    Allowed(&'static Message),
    /// A number, boolean or text; other values have no place.
    Scalar,
}

/// A document of this generation in protobuf.
pub(super) fn encode(document: &Value, style: Style) -> Vec<u8> {
    match style {
        Style::V2 => message(&v2::DOCUMENT, document),
        Style::V3 => message(&v3::DOCUMENT, document),
    }
}

fn message(shape: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Some((_, number, kind)) = shape.fields.iter().find(|(name, ..)| name == key) {
            field(&mut out, *number, *kind, value);
        } else if let Some(number) = shape.extensions.filter(|_| key.starts_with("x-")) {
            bytes(&mut out, number, &named(key, &any(value)));
        }
    }
    out
}

fn field(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value) {
    let items = || value.as_array().into_iter().flatten();
    match kind {
        Kind::Text => text(out, number, value),
        Kind::Texts => items().for_each(|item| text(out, number, item)),
        Kind::Flag => varint_field(out, number, u64::from(value.as_bool().unwrap_or_default())),
        Kind::Number => varint_field(out, number, value.as_i64().unwrap_or_default().cast_unsigned()),
        Kind::Double => double(out, number, value),
        Kind::Any => bytes(out, number, &any(value)),
        Kind::Anys => items().for_each(|item| bytes(out, number, &any(item))),
        Kind::One(shape) => bytes(out, number, &message(shape, value)),
        Kind::Many(shape) => items().for_each(|item| bytes(out, number, &message(shape, item))),
        Kind::Named(inner, shape) => bytes(out, number, &map(inner, value, |item| message(shape, item))),
        Kind::Chosen(shape) => bytes(out, number, &map(1, value, |item| wrapped(1, &message(shape, item)))),
        Kind::Type => {
            let mut inner = Vec::new();
            text(&mut inner, 1, value);
            items().for_each(|item| text(&mut inner, 1, item));
            bytes(out, number, &inner);
        }
        Kind::Schema => bytes(out, number, &wrapped(1, &message(&v2::SCHEMA, value))),
        Kind::Additional => {
            let mut inner = Vec::new();
            match value.as_bool() {
                Some(flag) => varint_field(&mut inner, 2, u64::from(flag)),
                None => bytes(&mut inner, 1, &message(&v2::SCHEMA, value)),
            }
            bytes(out, number, &inner);
        }
        Kind::Referable(shape) => bytes(out, number, &referable(shape, value)),
        Kind::Referables(shape) => items().for_each(|item| bytes(out, number, &referable(shape, item))),
        Kind::Item(shape) => bytes(out, number, &wrapped(1, &referable(shape, value))),
        Kind::NamedReferable(inner, shape) => {
            bytes(out, number, &map(inner, value, |item| referable(shape, item)));
        }
        Kind::Allowed(shape) => {
            let mut inner = Vec::new();
            match value.as_bool() {
                Some(flag) => varint_field(&mut inner, 2, u64::from(flag)),
                None => bytes(&mut inner, 1, &referable(shape, value)),
            }
            bytes(out, number, &inner);
        }
        Kind::Scalar => bytes(out, number, &scalar(value)),
        Kind::Parameters => items().for_each(|item| bytes(out, number, &wrapped(1, &parameter(item)))),
    }
}

/// A thing in field 1, or a reference in field 2.
fn referable(shape: &Message, value: &Value) -> Vec<u8> {
    match value.get("$ref") {
        Some(_) => wrapped(2, &message(&v3::REFERENCE, value)),
        None => wrapped(1, &message(shape, value)),
    }
}

fn scalar(value: &Value) -> Vec<u8> {
    let mut inner = Vec::new();
    match value {
        Value::Number(_) => double(&mut inner, 1, value),
        Value::Bool(flag) => varint_field(&mut inner, 2, u64::from(*flag)),
        _ => text(&mut inner, 3, value),
    }
    inner
}

fn double(out: &mut Vec<u8>, number: u32, value: &Value) {
    varint(out, u64::from(number << 3 | 1));
    out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
}

fn parameter(value: &Value) -> Vec<u8> {
    match value["in"].as_str() {
        Some("body") => wrapped(1, &message(&v2::BODY, value)),
        Some("path") => wrapped(2, &wrapped(4, &message(&v2::IN_PATH, value))),
        _ => wrapped(2, &wrapped(3, &message(&v2::QUERY, value))),
    }
}

fn map(number: u32, value: &Value, encode: impl Fn(&Value) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        bytes(&mut out, number, &named(name, &encode(value)));
    }
    out
}

fn named(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, name.as_bytes());
    bytes(&mut out, 2, value);
    out
}

/// JSON is YAML.
fn any(value: &Value) -> Vec<u8> {
    wrapped(2, value.to_string().as_bytes())
}

fn wrapped(number: u32, inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, number, inner);
    out
}

fn text(out: &mut Vec<u8>, number: u32, value: &Value) {
    if let Some(text) = value.as_str() {
        bytes(out, number, text.as_bytes());
    }
}

fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number << 3 | 2));
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number << 3));
    varint(out, value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_have_gnostics_numbers() {
        let table: [(Value, &[u8]); 5] = [
            (json!({"swagger": "2.0"}), b"\x0a\x032.0"),
            (
                json!({"definitions": {"a": {"type": "string"}}}),
                b"\x4a\x12\x0a\x10\x0a\x01a\x12\x0b\xb2\x01\x08\x0a\x06string",
            ),
            (json!({"paths": {"/x": {}}}), b"\x42\x08\x12\x06\x0a\x02/x\x12\x00"),
            (json!({"x-n": 1}), b"\x82\x01\x0a\x0a\x03x-n\x12\x03\x12\x011"),
            (json!({"unknown": 1}), b""),
        ];
        for (document, expected) in table {
            assert_eq!(encode(&document, Style::V2), expected, "{document}");
        }
    }

    #[test]
    fn version_3_tells_references_from_things() {
        let table: [(Value, &[u8]); 4] = [
            (json!({"openapi": "3.0.0"}), b"\x0a\x053.0.0"),
            (
                json!({"components": {"schemas": {"a": {"type": "string"}}}}),
                b"\x2a\x14\x0a\x12\x0a\x10\x0a\x01a\x12\x0b\x0a\x09\xca\x01\x06string",
            ),
            (
                json!({"components": {"schemas": {"a": {"$ref": "#/b"}}}}),
                b"\x2a\x10\x0a\x0e\x0a\x0c\x0a\x01a\x12\x07\x12\x05\x0a\x03#/b".as_slice(),
            ),
            (json!({"unknown": 1}), b""),
        ];
        for (document, expected) in table {
            assert_eq!(encode(&document, Style::V3), expected, "{document}");
        }
    }
}
