//! Messages as JSON objects.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::envelope;
use crate::error::ProtobufError;
use crate::table::{Count, Field, Message, MessageId, Shape, Zero, table};
use crate::time;
use crate::wire::{Reader, Wire};

/// Objects and lists nest this deep at most: what is decoded must also be readable as JSON, for
/// which `serde_json` allows 127.
const DEEPEST: usize = 120;

type Object = Map<String, Value>;

/// Reads the fields of a message into an object.
///
/// A field that comes twice is replaced; messages that come twice are merged, as protobuf asks.
pub(crate) fn message(
    message: &Message,
    bytes: &[u8],
    into: &mut Object,
    depth: usize,
) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if let Some(field) = message.field(number) {
            take(field, wire, into, depth).map_err(|error| error.within(field.name))?;
        }
    }
    Ok(())
}

fn take(field: &Field, wire: Wire<'_>, into: &mut Object, depth: usize) -> Result<(), ProtobufError> {
    match (field.count, field.shape) {
        (Count::Flat, Shape::Message(id)) => message(table().message(id), wire.bytes()?, into, depth),
        (Count::One, Shape::Message(id)) => {
            let inner = object(into, field.name);
            nested(id, wire, inner, depth)
        }
        (Count::Flat | Count::One, shape) => {
            let value = single(shape, wire, depth)?;
            if value.is_null() || field.zero == Zero::Hidden && is_zero(shape, &value) {
                into.remove(field.name);
            } else {
                into.insert(field.name.to_owned(), value);
            }
            Ok(())
        }
        (Count::List, shape) => {
            if !matches!(into.get(field.name), Some(Value::Array(_))) {
                into.insert(field.name.to_owned(), Value::Array(Vec::new()));
            }
            let Some(Value::Array(items)) = into.get_mut(field.name) else { unreachable!("inserted above") };
            list(shape, wire, items, depth + 1)
        }
        (Count::Map, shape) => {
            let inner = object(into, field.name);
            let (key, value) = entry(shape, wire, depth + 1)?;
            inner.insert(key, value);
            Ok(())
        }
    }
}

fn object<'a>(into: &'a mut Object, name: &str) -> &'a mut Object {
    if !matches!(into.get(name), Some(Value::Object(_))) {
        into.insert(name.to_owned(), Value::Object(Map::new()));
    }
    match into.get_mut(name) {
        Some(Value::Object(inner)) => inner,
        _ => unreachable!("inserted above"),
    }
}

fn nested(id: MessageId, wire: Wire<'_>, into: &mut Object, depth: usize) -> Result<(), ProtobufError> {
    room(depth + 1)?;
    message(table().message(id), wire.bytes()?, into, depth + 1)
}

/// Refuses what is nested too deep.
pub(crate) fn room(depth: usize) -> Result<(), ProtobufError> {
    if depth <= DEEPEST {
        return Ok(());
    }
    Err(ProtobufError::value(format!("nested deeper than {DEEPEST} levels")))
}

fn list(shape: Shape, wire: Wire<'_>, items: &mut Vec<Value>, depth: usize) -> Result<(), ProtobufError> {
    // Numbers may also come packed.
    if let (Shape::Int32 | Shape::Int64 | Shape::Bool, Wire::Bytes(bytes)) = (shape, wire) {
        let mut reader = Reader::new(bytes);
        while let Some(number) = reader.number()? {
            items.push(single(shape, Wire::Varint(number), depth)?);
        }
        return Ok(());
    }
    let at = items.len();
    items.push(single(shape, wire, depth).map_err(|error| error.within(&format!("[{at}]")))?);
    Ok(())
}

/// An entry of a map, `{1: key, 2: value}`.
fn entry(shape: Shape, wire: Wire<'_>, depth: usize) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut value) = ("", None);
    let mut reader = Reader::new(wire.bytes()?);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => key = wire.text()?,
            2 => value = Some(single(shape, wire, depth).map_err(|error| error.within(key))?),
            _ => {}
        }
    }
    Ok((key.to_owned(), value.unwrap_or_else(|| absent(shape))))
}

fn single(shape: Shape, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match shape {
        Shape::Bool => Value::Bool(wire.varint()? != 0),
        // The low half counts, as in Go.
        Shape::Int32 => Value::from(wire.varint()? as i32),
        Shape::Int64 => Value::from(wire.varint()?.cast_signed()),
        Shape::Double => Value::from(wire.double()?),
        Shape::Text => Value::from(wire.text()?),
        Shape::Bytes => Value::String(STANDARD.encode(wire.bytes()?)),
        Shape::Time(precision) => time::decode(wire.bytes()?, precision)?,
        Shape::IntOrString => int_or_string(wire.bytes()?)?,
        Shape::Quantity => Value::from(quantity(wire.bytes()?)?),
        Shape::Json => json(wire.bytes()?, depth)?,
        Shape::Texts => Value::Array(texts(wire.bytes()?)?),
        Shape::OneOrList(_) | Shape::BoolOr(_) | Shape::TextsOr(_) => union(shape, wire, depth)?,
        Shape::Message(id) => {
            let mut inner = Map::new();
            nested(id, wire, &mut inner, depth)?;
            Value::Object(inner)
        }
    })
}

/// What Go shows for the value of a map entry that carries none.
fn absent(shape: Shape) -> Value {
    match shape {
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::from(0),
        Shape::Text | Shape::Bytes => Value::from(""),
        Shape::Quantity => Value::from("0"),
        Shape::Message(_) => Value::Object(Map::new()),
        Shape::Texts => Value::Array(Vec::new()),
        Shape::Time(_) | Shape::Json | Shape::OneOrList(_) | Shape::BoolOr(_) | Shape::TextsOr(_) => {
            Value::Null
        }
    }
}

fn is_zero(shape: Shape, value: &Value) -> bool {
    match shape {
        Shape::Bool => value == &Value::Bool(false),
        Shape::Int32 | Shape::Int64 => value.as_i64() == Some(0),
        Shape::Double => value.as_f64() == Some(0.0),
        Shape::Text => value.as_str() == Some(""),
        // The rest are structs in Go, which always show.
        _ => false,
    }
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((field, wire)) = reader.field()? {
        match field {
            1 => is_text = wire.varint()? != 0,
            2 => number = wire.varint()? as i32,
            3 => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { Value::from(text) } else { Value::from(number) })
}

fn quantity(bytes: &[u8]) -> Result<&str, ProtobufError> {
    let mut text = "0";
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            text = wire.text()?;
        }
    }
    Ok(if text.is_empty() { "0" } else { text })
}

fn texts(bytes: &[u8]) -> Result<Vec<Value>, ProtobufError> {
    let mut texts = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            texts.push(Value::from(wire.text()?));
        }
    }
    Ok(texts)
}

/// JSON text, or an object in an envelope of its own.
fn json(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut raw: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            raw = wire.bytes()?;
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    if raw.starts_with(&envelope::MAGIC) {
        return envelope::decode_at(raw, depth);
    }
    let value: Value = serde_json::from_slice(raw)
        .map_err(|error| ProtobufError::value(format!("malformed JSON: {error}")))?;
    room(depth + levels(&value))?;
    Ok(value)
}

fn levels(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

/// The unions of custom resources' schemas.
fn union(shape: Shape, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    let (mut allows, mut one, mut list) = (false, None, Vec::new());
    let schema = |id, wire, depth| {
        let mut inner = Map::new();
        nested(id, wire, &mut inner, depth).map(|()| Value::Object(inner))
    };
    let mut reader = Reader::new(wire.bytes()?);
    while let Some((number, wire)) = reader.field()? {
        match (shape, number) {
            (Shape::BoolOr(_), 1) => allows = wire.varint()? != 0,
            (Shape::BoolOr(id), 2) | (Shape::OneOrList(id) | Shape::TextsOr(id), 1) => {
                one = Some(schema(id, wire, depth)?);
            }
            (Shape::OneOrList(id), 2) => list.push(schema(id, wire, depth + 1)?),
            (Shape::TextsOr(_), 2) => list.push(Value::from(wire.text()?)),
            _ => {}
        }
    }
    Ok(match (shape, one) {
        (Shape::BoolOr(_), None) => Value::Bool(allows),
        (Shape::BoolOr(_), Some(schema)) => schema,
        (_, one) if list.is_empty() => one.unwrap_or(Value::Null),
        _ => Value::Array(list),
    })
}
