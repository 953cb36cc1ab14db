//! Values of expressions as JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use plimsoll_cel::Value;
use serde_json::{Map, Number, Value as Json};

/// The JSON of a value; an error tells what has none.
pub(crate) fn to_json(value: &Value<'_>) -> Result<Json, String> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Double(value) => number(*value)?,
        Value::String(text) => Json::from(&**text),
        Value::Bytes(bytes) => Json::from(BASE64_STANDARD.encode(bytes)),
        Value::Timestamp(time) => Json::from(time.0.to_string()),
        Value::Duration(span) => Json::from(seconds(span.0)),
        Value::List(list) => {
            let items = list.iter().map(|item| to_json(&item.map_err(|error| error.to_string())?));
            Json::Array(items.collect::<Result<_, String>>()?)
        }
        Value::Map(map) => {
            let mut object = Map::new();
            for key in map.keys() {
                let name =
                    key.as_str().ok_or_else(|| format!("unsupported key type {}", key.ty()))?.to_owned();
                if let Some(value) = map.get(&key) {
                    object.insert(name, to_json(&value.map_err(|error| error.to_string())?)?);
                }
            }
            Json::Object(object)
        }
        Value::Object(object) => {
            let mut fields = Map::new();
            for (name, value) in object.fields() {
                if let Some(value) = present(value) {
                    fields.insert(
                        plimsoll_cel::unescape(name).unwrap_or_else(|| name.to_owned()),
                        to_json(value)?,
                    );
                }
            }
            Json::Object(fields)
        }
        Value::Optional(Some(inner)) => to_json(inner)?,
        Value::Unknown(json) => (*json).clone(),
        Value::Optional(None) | Value::Type(_) | Value::Opaque(_) => {
            return Err(format!("unsupported type {}", value.ty()));
        }
    })
}

/// Fields that are optional and have no value are left out.
fn present<'v, 'a>(value: &'v Value<'a>) -> Option<&'v Value<'a>> {
    match value {
        Value::Optional(None) => None,
        Value::Optional(Some(inner)) => present(inner),
        value => Some(value),
    }
}

/// Whole numbers are written without a fraction.
fn number(value: f64) -> Result<Json, String> {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Ok(Json::from(value as i64));
    }
    Number::from_f64(value).map(Json::Number).ok_or_else(|| format!("unsupported number {value}"))
}

/// Nanoseconds as protobuf's JSON writes durations.
fn seconds(nanos: i64) -> String {
    let (whole, rest) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).abs());
    match rest {
        0 => format!("{whole}s"),
        rest => {
            let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
            format!("{sign}{whole}.{:09}", rest).trim_end_matches('0').to_owned() + "s"
        }
    }
}
