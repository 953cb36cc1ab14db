//! From JSON to values (apiserver: pkg/cel/common/valuesunstructured.go).

use std::sync::Arc;

use base64::Engine;
use serde_json::Value as Json;

use super::{Declared, Duration, List, ListItems, ListKind, Map, MapEntries, Shape, Text, Timestamp, Value};
use crate::error::EvalError;

/// The value of JSON without a schema.
pub(crate) fn free(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, value) => Value::Double(value.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(Text::Borrowed(text)),
        Json::Array(items) => {
            Value::List(List { items: ListItems::Json(items, None), kind: ListKind::Atomic })
        }
        Json::Object(fields) => Value::Map(Map(MapEntries::Free(fields))),
    }
}

/// The value of JSON under its schema.
pub(crate) fn view<'a>(json: &'a Json, declared: &Arc<Declared>) -> Result<Value<'a>, EvalError> {
    if json.is_null() && !matches!(declared.shape, Shape::Any | Shape::Unknown) {
        return if declared.nullable {
            Ok(Value::Null)
        } else {
            Err(unfit("got null for schema with nullable=false"))
        };
    }
    match (&declared.shape, json) {
        (Shape::Any | Shape::Typed(_), _) => Ok(free(json)),
        (Shape::Unknown, _) => Ok(Value::Unknown(json)),
        (Shape::IntOrString, Json::String(_)) => Ok(free(json)),
        (Shape::IntOrString, Json::Number(n)) if n.is_i64() => Ok(free(json)),
        (Shape::IntOrString, _) => Err(unfit("expected XIntOrString value to be either a string or integer")),
        (Shape::Object(object), Json::Object(fields)) => {
            Ok(Value::Map(Map(MapEntries::Object(fields, Arc::clone(object)))))
        }
        (Shape::Map(value), Json::Object(fields)) => {
            Ok(Value::Map(Map(MapEntries::Json(fields, Arc::clone(value)))))
        }
        (Shape::Object(_) | Shape::Map(_), _) => {
            Err(unfit("expected a map for the provided schema with type=object"))
        }
        (Shape::List { item, kind }, Json::Array(items)) => Ok(Value::List(List {
            items: ListItems::Json(items, Some(Arc::clone(item))),
            kind: kind.clone(),
        })),
        (Shape::List { .. }, _) => Err(unfit("expected an array for the provided schema with type=array")),
        (Shape::Double, Json::Number(n)) => Ok(Value::Double(n.as_f64().unwrap_or(f64::NAN))),
        (Shape::Double, other) => Err(unfit(format!("expected float, got {}", go_type(other)))),
        (Shape::Int, Json::Number(n)) if n.is_i64() => Ok(free(json)),
        (Shape::Int, other) => Err(unfit(format!("expected int, got {}", go_type(other)))),
        (Shape::Bool, Json::Bool(b)) => Ok(Value::Bool(*b)),
        (Shape::Bool, other) => Err(unfit(format!("expected bool, got {}", go_type(other)))),
        (shape, Json::String(text)) => from_text(text, shape),
        (_, other) => Err(unfit(format!("expected string, got {}", go_type(other)))),
    }
}

fn from_text<'a>(text: &'a str, shape: &Shape) -> Result<Value<'a>, EvalError> {
    match shape {
        Shape::Duration => Duration::parse(text).map(Value::Duration).ok_or_else(|| {
            EvalError::failed(format!("Invalid duration {text}: unable to parse to duration"))
        }),
        Shape::DateTime => date_time(text).map(Value::Timestamp).ok_or_else(|| {
            EvalError::failed(format!("Invalid date-time formatted string {text}: invalid date-time"))
        }),
        Shape::Date => Timestamp::parse(&format!("{text}T00:00:00Z"))
            .map(Value::Timestamp)
            .ok_or_else(|| EvalError::failed(format!("Invalid date formatted string {text}: invalid date"))),
        Shape::Bytes => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|e| EvalError::failed(format!("Invalid byte formatted string {text}: {e}"))),
        _ => Ok(Value::String(Text::Borrowed(text))),
    }
}

/// RFC 3339, or with a blank or lower case letters as `strfmt` allows.
fn date_time(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| text.parse().ok().map(Timestamp))
}

fn unfit(what: impl std::fmt::Display) -> EvalError {
    EvalError::failed(format!("invalid data, {what}"))
}

/// The name of the type that upstream's decoder gives this JSON.
fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(n) if n.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}
