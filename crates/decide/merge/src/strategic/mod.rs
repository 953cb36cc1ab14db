//! Strategic merge patch: a merge patch whose lists are merged by key.
//!
//! Directives: `$patch: replace|merge|delete` in a map or list element,
//! `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`, `$retainKeys`.

mod list;

use plimsoll_meta::go;
use serde_json::{Map, Value};

use crate::go::{go_map, json_type};
use crate::{PatchError, Typed};
use list::{ListRule, merge_lists, order};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Applies `patch` to `document`, an object of the kind that `typed` describes.
///
/// # Errors
/// [`PatchError::Malformed`] for directives that contradict themselves and lists that cannot be
/// merged.
pub fn strategic_merge(document: Value, patch: &Value, typed: Typed<'_>) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(malformed(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_type(patch)
        )));
    };
    let document = if let Value::Object(map) = document { map } else { Map::new() };
    merge_maps(document, patch.clone(), typed).map(Value::Object)
}

fn merge_maps(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    typed: Typed<'_>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => {
            patch.remove(DIRECTIVE);
            return Ok(patch.into_iter().filter_map(|(key, value)| Some((key, cleaned(value)?))).collect());
        }
        Some(Value::String(directive)) if directive == "delete" => return Ok(Map::new()),
        Some(other) => return Err(unknown_directive(other, &patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    delete_from_lists(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, typed)?;
    for (key, value) in patch {
        merge_entry(&mut original, &key, value, typed)?;
    }
    Ok(original)
}

fn merge_entry(
    original: &mut Map<String, Value>,
    key: &str,
    value: Value,
    typed: Typed<'_>,
) -> Result<(), PatchError> {
    let Some(there) = original.get_mut(key).filter(|_| !value.is_null()) else {
        original.remove(key);
        original.extend(cleaned(value).map(|value| (key.to_owned(), value)));
        return Ok(());
    };
    let (rule, place) = typed.patch(key);
    let merged = match (there.take(), value) {
        (Value::Object(map), Value::Object(patch)) => Some(Value::Object(merge_maps(map, patch, place)?)),
        (Value::Array(list), Value::Array(patch)) if rule.merge => {
            let rule = ListRule { field: key, merge_key: rule.merge_key.as_deref(), item: place.item() };
            Some(Value::Array(merge_lists(list, patch, rule)?))
        }
        (_, value) => cleaned(value),
    };
    match merged {
        Some(value) => *there = value,
        None => drop(original.remove(key)),
    }
    Ok(())
}

/// `$retainKeys`: what the list does not name goes; what the patch sets must be named.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let keep = match patch.remove(RETAIN_KEYS) {
        None => return Ok(()),
        Some(Value::Array(keep)) => keep,
        Some(_) => return Err(malformed("invalid patch format of retainKeys")),
    };
    let kept = |key: &str| keep.iter().any(|name| name == key);
    let unnamed = |key: &String, value: &Value| {
        !value.is_null() && !key.starts_with(DELETE_FROM) && !key.starts_with(SET_ORDER) && !kept(key)
    };
    if patch.iter().any(|(key, value)| unnamed(key, value)) {
        return Err(malformed("invalid patch format of retainKeys"));
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// `$deleteFromPrimitiveList/<field>`: removes these scalars from the list.
fn delete_from_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    for (field, value) in directives(patch, DELETE_FROM) {
        let (Some(field), Value::Array(gone)) = (field, value) else {
            return Err(malformed("invalid patch format of primitive list"));
        };
        if let Some(Value::Array(list)) = original.get_mut(&field) {
            list.retain(|item| !gone.contains(item));
        }
    }
    Ok(())
}

/// `$setElementOrder/<field>`: merges the list and puts it in this order; elements that only
/// the original has keep their place among it.
fn merge_ordered_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    typed: Typed<'_>,
) -> Result<(), PatchError> {
    for (field, value) in directives(patch, SET_ORDER) {
        let Some(field) = field else {
            return Err(malformed("invalid patch format of setElementOrder list"));
        };
        let Value::Array(wanted) = value else { return Err(no_list(&value)) };
        let (rule, place) = typed.patch(&field);
        let rule_of_list =
            ListRule { field: &field, merge_key: rule.merge_key.as_deref(), item: place.item() };
        let before = take_list(original, &field)?;
        let change = take_list(patch, &field)?;
        if let Some(change) = &change {
            list::check_order(change, &wanted, rule_of_list.merge_key)?;
        }
        let merged = match (before.clone(), change) {
            (None, None) => continue,
            (Some(list), None) => list,
            (None, Some(change)) => change.into_iter().filter_map(cleaned).collect(),
            (Some(list), Some(change)) if rule.merge => merge_lists(list, change, rule_of_list)?,
            (Some(_), Some(change)) => change,
        };
        let ordered = order(merged, &wanted, before.as_deref().unwrap_or_default(), rule_of_list.merge_key)?;
        original.insert(field, Value::Array(ordered));
    }
    Ok(())
}

fn take_list(map: &mut Map<String, Value>, field: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match map.remove(field) {
        None => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => Err(no_list(&other)),
    }
}

/// Takes the entries `prefix/<field>` out of the patch; no field if the name is malformed.
fn directives(patch: &mut Map<String, Value>, prefix: &str) -> Vec<(Option<String>, Value)> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    keys.into_iter()
        .filter_map(|key| {
            let value = patch.remove(&key)?;
            let field = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
            Some((field, value))
        })
        .collect()
}

/// A new value without nulls and directives; `None` if it is nothing but a directive.
fn cleaned(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let plain = |key: &str| {
                key != RETAIN_KEYS && !key.starts_with(DELETE_FROM) && !key.starts_with(SET_ORDER)
            };
            let entries = map.into_iter().filter(|(key, _)| plain(key));
            Some(Value::Object(entries.filter_map(|(key, value)| Some((key, cleaned(value)?))).collect()))
        }
        Value::Array(list) => Some(Value::Array(
            list.into_iter()
                .filter_map(|item| if item.is_null() { Some(item) } else { cleaned(item) })
                .collect(),
        )),
        scalar => Some(scalar),
    }
}

fn unknown_directive(directive: &Value, map: &Map<String, Value>) -> PatchError {
    // Upstream formats what is no text with `%s`.
    let shown = directive.as_str().map_or_else(|| format!("%!s(int64={directive})"), str::to_owned);
    unmergeable(format!("unknown patch type: {shown} in map: {}", go_map(map)))
}

fn no_list(value: &Value) -> PatchError {
    unmergeable(format!("expected a []interface {{}}, but received a {}", go::type_name(value)))
}

fn unmergeable(why: impl Into<String>) -> PatchError {
    PatchError::Unmergeable(why.into())
}

fn malformed(why: impl Into<String>) -> PatchError {
    PatchError::Malformed(why.into())
}

#[cfg(test)]
mod tests;
