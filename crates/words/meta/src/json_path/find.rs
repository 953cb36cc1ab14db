//! Steps through values.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::{Filter, Slice, Step};

type Found<'v> = Vec<Cow<'v, Value>>;

/// How many values a path may come by: some double what they lead to with each step.
const MOST: usize = 1_000_000;

/// Takes all steps from these values.
pub(super) fn walk<'v>(steps: &[Step], values: Found<'v>) -> Result<Found<'v>, String> {
    let mut room = MOST;
    walk_within(steps, values, &mut room)
}

/// [`walk`] that may come by `room` values, and leaves what it did not need of them.
fn walk_within<'v>(steps: &[Step], mut values: Found<'v>, room: &mut usize) -> Result<Found<'v>, String> {
    for step in steps {
        values = take(step, values, room)?;
    }
    Ok(values)
}

fn take<'v>(step: &Step, values: Found<'v>, room: &mut usize) -> Result<Found<'v>, String> {
    let mut found = Vec::new();
    for value in values {
        match step {
            Step::Literal(literal) => found.push(Cow::Owned(literal.clone())),
            Step::Field(name) => found.extend(get(value, |value| value.get(name))),
            Step::Wildcard => found.extend(children(&value)),
            Step::Recursive => descend(value, &mut found),
            Step::Slice(slice) => found.extend(sliced(*slice, &value)?),
            Step::Union(parts) => {
                for part in parts {
                    found.extend(walk_within(part, vec![value.clone()], room)?);
                }
            }
            Step::Filter(filter) => filtered(filter, value, room, &mut found)?,
        }
        *room = room.checked_sub(1).filter(|left| found.len() <= *left).unwrap_or(0);
        if *room == 0 {
            return Err("the path leads to too many values".to_owned());
        }
    }
    Ok(found)
}

/// A part of a value, borrowed where the value is.
fn get<'v>(value: Cow<'v, Value>, part: impl Fn(&Value) -> Option<&Value>) -> Option<Cow<'v, Value>> {
    match value {
        Cow::Borrowed(value) => part(value).map(Cow::Borrowed),
        Cow::Owned(value) => part(&value).cloned().map(Cow::Owned),
    }
}

fn children<'v>(value: &Cow<'v, Value>) -> Found<'v> {
    fn of(value: &Value) -> Vec<&Value> {
        match value {
            Value::Object(map) => map.values().collect(),
            Value::Array(items) => items.iter().collect(),
            _ => Vec::new(),
        }
    }
    match value {
        Cow::Borrowed(value) => of(value).into_iter().map(Cow::Borrowed).collect(),
        Cow::Owned(value) => of(value).into_iter().cloned().map(Cow::Owned).collect(),
    }
}

/// The value and everything below it that has parts.
fn descend<'v>(value: Cow<'v, Value>, found: &mut Found<'v>) {
    let below = children(&value);
    if below.is_empty() {
        return;
    }
    found.push(value);
    for child in below {
        descend(child, found);
    }
}

fn sliced<'v>(slice: Slice, value: &Cow<'v, Value>) -> Result<Found<'v>, String> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    if !value.is_array() {
        return Err(format!("{} is not array or slice", name(value)));
    }
    let items = children(value);
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let from_end = |at: i64| if at < 0 { at + length } else { at };
    let start = from_end(slice.start.unwrap_or(0));
    let end = match slice.one {
        true if slice.start.is_some() => start.wrapping_add(1),
        _ => from_end(slice.end.unwrap_or(length)),
    };
    if start == end {
        return Ok(Vec::new());
    }
    if start >= length || start < 0 {
        return Err(format!("array index out of bounds: index {start}, length {length}"));
    }
    if end > length || end < 0 {
        return Err(format!("array index out of bounds: index {}, length {length}", end - 1));
    }
    if start > end {
        return Err(format!("starting index {start} is greater than ending index {end}"));
    }
    let step = match slice.step.unwrap_or(1) {
        ..=0 => return Err("step must be > 0".to_owned()),
        step => usize::try_from(step).unwrap_or(usize::MAX),
    };
    let place = |at: i64| usize::try_from(at).unwrap_or_default();
    Ok(items.into_iter().skip(place(start)).take(place(end - start)).step_by(step).collect())
}

fn filtered<'v>(
    filter: &Filter,
    value: Cow<'v, Value>,
    room: &mut usize,
    found: &mut Found<'v>,
) -> Result<(), String> {
    if !value.is_array() {
        return Err(format!("{} is not array or slice and cannot be filtered", name(&value)));
    }
    for item in children(&value) {
        let left = walk_within(&filter.left, vec![item.clone()], room);
        if filter.operator.is_empty() {
            if left.is_ok_and(|left| !left.is_empty()) {
                found.push(item);
            }
            continue;
        }
        let right = walk_within(&filter.right, vec![item.clone()], room)?;
        match (&left?[..], &right[..]) {
            ([], _) | (_, []) => {}
            ([left], [right]) => {
                if compare(&filter.operator, left, right)? {
                    found.push(item);
                }
            }
            _ => return Err("can only compare one element at a time".to_owned()),
        }
    }
    Ok(())
}

fn compare(operator: &str, left: &Value, right: &Value) -> Result<bool, String> {
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => {
            left.as_f64().partial_cmp(&right.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::Bool(left), Value::Bool(right)) if matches!(operator, "==" | "!=") => left.cmp(right),
        _ => return Err("incompatible types for comparison".to_owned()),
    };
    match operator {
        "<" => Ok(order.is_lt()),
        ">" => Ok(order.is_gt()),
        "==" => Ok(order.is_eq()),
        "!=" => Ok(order.is_ne()),
        "<=" => Ok(order.is_le()),
        ">=" => Ok(order.is_ge()),
        _ => Err(format!("unrecognized filter operator {operator}")),
    }
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}
