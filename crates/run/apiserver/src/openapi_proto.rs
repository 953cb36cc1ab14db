//! OpenAPI v2 in protobuf, as kubectl asks for it when it does not know a kind.
//!
//! The messages are those of gnostic's `openapi.v2` package; only fields that [`crate::openapi`] writes
//! have a row here.

use serde_json::Value;

/// What kubectl sends in `Accept`.
pub(crate) const ACCEPTED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What the answer says; `@` may not stand in a media type.
pub(crate) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A message: its fields, and the number of the field that takes keys beginning with `x-`.
struct Message {
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
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Kind::Text),
        ("info", 2, Kind::One(&INFO)),
        ("paths", 8, Kind::Named(2, &PATH)),
        ("definitions", 9, Kind::Named(1, &SCHEMA)),
    ],
    extensions: Some(16),
};

static INFO: Message =
    Message { fields: &[("title", 1, Kind::Text), ("version", 2, Kind::Text)], extensions: Some(7) };

static PATH: Message = Message {
    fields: &[
        ("get", 2, Kind::One(&OPERATION)),
        ("put", 3, Kind::One(&OPERATION)),
        ("post", 4, Kind::One(&OPERATION)),
        ("delete", 5, Kind::One(&OPERATION)),
        ("options", 6, Kind::One(&OPERATION)),
        ("head", 7, Kind::One(&OPERATION)),
        ("patch", 8, Kind::One(&OPERATION)),
        ("parameters", 9, Kind::Parameters),
    ],
    extensions: Some(10),
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("produces", 6, Kind::Texts),
        ("consumes", 7, Kind::Texts),
        ("parameters", 8, Kind::Parameters),
        ("responses", 9, Kind::Chosen(&RESPONSE)),
        ("schemes", 10, Kind::Texts),
    ],
    extensions: Some(13),
};

static RESPONSE: Message =
    Message { fields: &[("description", 1, Kind::Text), ("schema", 2, Kind::Schema)], extensions: Some(5) };

static BODY: Message = Message {
    fields: &[
        ("description", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 5, Kind::One(&SCHEMA)),
    ],
    extensions: Some(6),
};

static QUERY: Message = Message {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: Some(23),
};

static IN_PATH: Message = Message {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: Some(22),
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Kind::Text),
        ("format", 2, Kind::Text),
        ("title", 3, Kind::Text),
        ("description", 4, Kind::Text),
        ("default", 5, Kind::Any),
        ("maximum", 7, Kind::Double),
        ("minimum", 9, Kind::Double),
        ("maxLength", 11, Kind::Number),
        ("minLength", 12, Kind::Number),
        ("pattern", 13, Kind::Text),
        ("maxItems", 14, Kind::Number),
        ("minItems", 15, Kind::Number),
        ("required", 19, Kind::Texts),
        ("enum", 20, Kind::Anys),
        ("additionalProperties", 21, Kind::Additional),
        ("type", 22, Kind::Type),
        ("items", 23, Kind::Schema),
        ("allOf", 24, Kind::Many(&SCHEMA)),
        ("properties", 25, Kind::Named(1, &SCHEMA)),
    ],
    extensions: Some(31),
};

/// The document in protobuf.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    message(&DOCUMENT, document)
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
        Kind::Double => {
            varint(out, u64::from(number << 3 | 1));
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
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
        Kind::Schema => bytes(out, number, &wrapped(1, &message(&SCHEMA, value))),
        Kind::Additional => {
            let mut inner = Vec::new();
            match value.as_bool() {
                Some(flag) => varint_field(&mut inner, 2, u64::from(flag)),
                None => bytes(&mut inner, 1, &message(&SCHEMA, value)),
            }
            bytes(out, number, &inner);
        }
        Kind::Parameters => items().for_each(|item| bytes(out, number, &wrapped(1, &parameter(item)))),
    }
}

fn parameter(value: &Value) -> Vec<u8> {
    match value["in"].as_str() {
        Some("body") => wrapped(1, &message(&BODY, value)),
        Some("path") => wrapped(2, &wrapped(4, &message(&IN_PATH, value))),
        _ => wrapped(2, &wrapped(3, &message(&QUERY, value))),
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
            assert_eq!(encode(&document), expected, "{document}");
        }
    }
}
