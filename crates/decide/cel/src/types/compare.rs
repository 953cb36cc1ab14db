//! Equality and order across types.

use std::cmp::Ordering;

use super::{Key, List, ListKind, Map, MapEntries, Value};
use crate::error::EvalError;

/// Whether `a == b`; values of different types are unequal, numbers compare by what they count.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, EvalError> {
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::List(a), Value::List(b)) => equal_lists(a, b)?,
        (Value::Map(a), Value::Map(b)) => equal_maps(a, b)?,
        (Value::Object(a), Value::Object(b)) => {
            a.name == b.name && a.fields.len() == b.fields.len() && {
                let mut same = true;
                for (name, value) in &a.fields {
                    same = same && b.fields.get(name).map_or(Ok(false), |other| equal(value, other))?;
                }
                same
            }
        }
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => equal(a, b)?,
            _ => false,
        },
        (Value::Type(a), Value::Type(b)) => a.runtime_name() == b.runtime_name(),
        (Value::Opaque(a), Value::Opaque(b)) => a == b,
        (Value::Unknown(a), Value::Unknown(b)) => a == b,
        _ => numbers(a, b) == Some(Ordering::Equal),
    })
}

fn equal_lists(a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match (&a.kind, &b.kind) {
        (ListKind::Map(keys), _) | (_, ListKind::Map(keys)) => equal_by_key(a, b, keys),
        (ListKind::Set, _) | (_, ListKind::Set) => Ok(all_in(a, b)? && all_in(b, a)?),
        _ => {
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal(&a?, &b?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

fn all_in(a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    for item in a.iter() {
        if !contains(b, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `list` has an element equal to `value`.
pub(crate) fn contains(list: &List<'_>, value: &Value<'_>) -> Result<bool, EvalError> {
    for item in list.iter() {
        if equal(&item?, value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal_by_key(a: &List<'_>, b: &List<'_>, keys: &[String]) -> Result<bool, EvalError> {
    let b: Vec<Value<'_>> = b.iter().collect::<Result<_, _>>()?;
    let mut by_key = std::collections::HashMap::new();
    for item in &b {
        by_key.insert(list_key(item, keys), item);
    }
    for item in a.iter() {
        let item = item?;
        match by_key.get(&list_key(&item, keys)) {
            Some(other) if equal(&item, other)? => {}
            _ => return Ok(false),
        }
    }
    Ok(by_key.len() == b.len())
}

/// The values of an element's key fields.
pub(crate) fn list_key(item: &Value<'_>, keys: &[String]) -> Vec<Option<Key>> {
    let field = |name: &String| match item {
        Value::Map(map) => {
            let escaped = super::escape::escape(name)?;
            map.get(&Value::text(escaped))?.ok().as_ref().and_then(Key::of)
        }
        _ => None,
    };
    keys.iter().map(field).collect()
}

fn equal_maps(a: &Map<'_>, b: &Map<'_>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    if let (MapEntries::Object(a_fields, object), Some(b_fields)) = (&a.0, b.json()) {
        for (name, value) in
            a_fields.iter().filter(|(name, _)| !object.reachable.values().any(|n| n == *name))
        {
            if b_fields.get(name).is_some_and(|other| other != value) {
                return Ok(false);
            }
        }
    }
    for key in a.keys() {
        let Some(value) = a.get(&key) else { continue };
        let Some(other) = b.get(&key) else { return Ok(false) };
        if !equal(&value?, &other?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of `a` and `b`; none if they have none.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        _ => numbers(a, b),
    }
}

/// Whether `value` is a number.
pub(crate) fn is_number(value: &Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_))
}

fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => with_double(whole(b)?, *a).map(Ordering::reverse),
        (a, Value::Double(b)) => with_double(whole(a)?, *b),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(i) => Some((*i).into()),
        Value::Uint(u) => Some((*u).into()),
        _ => None,
    }
}

/// Compares without rounding the whole number.
fn with_double(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    if b.abs() > 1e30 {
        return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = b.floor();
    Some(a.cmp(&(floor as i128)).then(if b > floor { Ordering::Less } else { Ordering::Equal }))
}
