//! JSON objects as messages, written from the end (see [`Writer`]).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::error::ProtobufError;
use crate::table::{Count, Field, Message, Shape, Zero, table};
use crate::time;
use crate::wire::Writer;

type Object = Map<String, Value>;

/// Writes the fields of a message; without an object those that are always written.
pub(crate) fn message(
    message: &Message,
    object: Option<&Object>,
    writer: &mut Writer,
) -> Result<(), ProtobufError> {
    for field in message.fields.iter().rev() {
        put(field, object, writer)?;
    }
    Ok(())
}

fn put(field: &Field, object: Option<&Object>, writer: &mut Writer) -> Result<(), ProtobufError> {
    if let (Count::Flat, Shape::Message(id)) = (field.count, field.shape) {
        let open = writer.open();
        message(table().message(id), object, writer)?;
        writer.close(field.number, open);
        return Ok(());
    }
    let value = object.and_then(|object| object.get(field.name)).filter(|value| !value.is_null());
    let written = match (field.count, value) {
        (Count::List, Some(value)) => list(field.number, field.shape, value, writer),
        (Count::Map, Some(value)) => map(field, value, writer),
        (_, None) if field.zero == Zero::Absent => Ok(()),
        (_, value) => single(field.number, field.shape, value, writer),
    };
    written.map_err(|error| error.within(field.name))
}

fn list(number: u32, shape: Shape, value: &Value, writer: &mut Writer) -> Result<(), ProtobufError> {
    let items = value.as_array().ok_or_else(|| mismatch(value, "a list"))?;
    for (at, item) in items.iter().enumerate().rev() {
        single(number, shape, Some(item), writer).map_err(|error| error.within(&format!("[{at}]")))?;
    }
    Ok(())
}

/// One message for each entry, `{1: key, 2: value}`, keys in order of their bytes.
fn map(field: &Field, value: &Value, writer: &mut Writer) -> Result<(), ProtobufError> {
    let object = value.as_object().ok_or_else(|| mismatch(value, "an object"))?;
    let mut entries: Vec<(&String, &Value)> = object.iter().collect();
    entries.sort_unstable_by_key(|&(key, _)| key);
    for (key, value) in entries.into_iter().rev() {
        let open = writer.open();
        single(2, field.shape, Some(value), writer).map_err(|error| error.within(key))?;
        writer.bytes(1, key.as_bytes());
        writer.close(field.number, open);
    }
    Ok(())
}

/// One value with its tag; absent and null are zero.
pub(crate) fn single(
    number: u32,
    shape: Shape,
    value: Option<&Value>,
    writer: &mut Writer,
) -> Result<(), ProtobufError> {
    let value = value.filter(|value| !value.is_null());
    match shape {
        Shape::Bool => writer.number(number, u64::from(boolean(value)?)),
        Shape::Int32 | Shape::Int64 => writer.number(number, integer(value, shape)?.cast_unsigned()),
        Shape::Double => writer.double(number, double(value)?),
        Shape::Text => writer.bytes(number, text(value)?.as_bytes()),
        Shape::Bytes => {
            let bytes = STANDARD
                .decode(text(value)?)
                .map_err(|error| ProtobufError::value(format!("malformed base64: {error}")))?;
            writer.bytes(number, &bytes);
        }
        _ => {
            let open = writer.open();
            composite(shape, value, writer)?;
            writer.close(number, open);
        }
    }
    Ok(())
}

/// The fields of values that are messages.
fn composite(shape: Shape, value: Option<&Value>, writer: &mut Writer) -> Result<(), ProtobufError> {
    match (shape, value) {
        (Shape::Message(id), None) => message(table().message(id), None, writer)?,
        (Shape::Message(id), Some(value)) => {
            let object = value.as_object().ok_or_else(|| mismatch(value, "an object"))?;
            message(table().message(id), Some(object), writer)?;
        }
        (Shape::IntOrString, value) => {
            let text = value.and_then(Value::as_str);
            writer.bytes(3, text.unwrap_or_default().as_bytes());
            let number = if text.is_some() { 0 } else { integer(value, Shape::Int32)? };
            writer.number(2, number.cast_unsigned());
            writer.number(1, u64::from(text.is_some()));
        }
        (Shape::Quantity, None) => writer.bytes(1, b"0"),
        (Shape::Quantity, Some(Value::Number(number))) => writer.bytes(1, number.to_string().as_bytes()),
        (Shape::Quantity, value) => writer.bytes(1, text(value)?.as_bytes()),
        (Shape::Time(precision), Some(_)) => time::encode(text(value)?, precision, writer)?,
        (Shape::Json, Some(value)) => writer.bytes(1, value.to_string().as_bytes()),
        (Shape::Texts, Some(value)) => list(1, Shape::Text, value, writer)?,
        (Shape::BoolOr(_), Some(Value::Bool(allows))) => writer.number(1, u64::from(*allows)),
        (Shape::BoolOr(_), None) => writer.number(1, 0),
        (Shape::BoolOr(id), value) => {
            single(2, Shape::Message(id), value, writer)?;
            writer.number(1, 1);
        }
        (Shape::OneOrList(id), Some(value @ Value::Array(_))) => list(2, Shape::Message(id), value, writer)?,
        (Shape::TextsOr(_), Some(value @ Value::Array(_))) => list(2, Shape::Text, value, writer)?,
        (Shape::OneOrList(id) | Shape::TextsOr(id), Some(_)) => {
            single(1, Shape::Message(id), value, writer)?;
        }
        (_, None) => {}
        (shape, Some(value)) => return Err(mismatch(value, &format!("{shape:?}"))),
    }
    Ok(())
}

fn boolean(value: Option<&Value>) -> Result<bool, ProtobufError> {
    value.map_or(Ok(false), |value| value.as_bool().ok_or_else(|| mismatch(value, "a boolean")))
}

fn double(value: Option<&Value>) -> Result<f64, ProtobufError> {
    value.map_or(Ok(0.0), |value| value.as_f64().ok_or_else(|| mismatch(value, "a number")))
}

fn text(value: Option<&Value>) -> Result<&str, ProtobufError> {
    value.map_or(Ok(""), |value| value.as_str().ok_or_else(|| mismatch(value, "text")))
}

fn integer(value: Option<&Value>, shape: Shape) -> Result<i64, ProtobufError> {
    let Some(value) = value else { return Ok(0) };
    let fits = |number: &i64| shape == Shape::Int64 || i32::try_from(*number).is_ok();
    value.as_i64().filter(fits).ok_or_else(|| mismatch(value, "a whole number in range"))
}

fn mismatch(value: &Value, wanted: &str) -> ProtobufError {
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    ProtobufError::value(format!("{got} where {wanted} is expected"))
}
