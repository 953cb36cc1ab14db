//! Merging lists by key, and the order of the result.

use serde_json::{Map, Value};

use super::{DIRECTIVE, cleaned, merge_maps, unknown_directive, unmergeable};
use crate::go::{go_list, go_text};
use crate::{PatchError, Typed};

/// How the list in a field is merged.
#[derive(Clone, Copy)]
pub(super) struct ListRule<'s> {
    pub(super) field: &'s str,
    pub(super) merge_key: Option<&'s str>,
    pub(super) item: Typed<'s>,
}

/// Elements of both lists: those of the patch in its order, the others around them.
pub(super) fn merge_lists(
    original: Vec<Value>,
    patch: Vec<Value>,
    rule: ListRule<'_>,
) -> Result<Vec<Value>, PatchError> {
    let Some(first) = original.first().or(patch.first()) else { return Ok(original) };
    let maps = first.is_object();
    check_alike(first, [&original, &patch])?;
    if !maps {
        let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
        for item in original.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return order(merged, &patch, &original, None);
    }
    let Some(key) = rule.merge_key else {
        return Err(unmergeable(format!("cannot merge lists without merge key for {}", rule.field)));
    };
    let (original, patch) = special_elements(original, patch, key)?;
    let merged = merge_elements(original.clone(), &patch, key, rule.item)?;
    order(merged, &patch, &original, Some(key))
}

/// Carries out `$patch` elements: what is left of the original, and the ordinary elements.
fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let (mut plain, mut replace) = (Vec::new(), false);
    for item in patch {
        match item.get(DIRECTIVE) {
            None => plain.push(item),
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "delete" => {
                let gone = item.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                original.retain(|there| there.get(key) != Some(gone));
            }
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(unmergeable("merging lists cannot yet be specified in the patch"));
            }
            Some(other) => {
                let map = item.as_object().cloned().unwrap_or_default();
                return Err(unknown_directive(other, &map));
            }
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

fn merge_elements(
    mut merged: Vec<Value>,
    patch: &[Value],
    key: &str,
    item: Typed<'_>,
) -> Result<Vec<Value>, PatchError> {
    for change in patch {
        let wanted = change.get(key).ok_or_else(|| no_merge_key(change, key))?;
        let fields: Map<String, Value> = change.as_object().cloned().unwrap_or_default();
        match merged.iter_mut().find(|there| there.get(key) == Some(wanted)) {
            Some(there) => {
                let before = there.as_object_mut().map(std::mem::take).unwrap_or_default();
                *there = Value::Object(merge_maps(before, fields, item)?);
            }
            None => merged.extend(cleaned(Value::Object(fields))),
        }
    }
    Ok(merged)
}

/// Puts the elements that `wanted` names in its order, and the others before the first of them
/// that followed in `before`.
pub(super) fn order(
    merged: Vec<Value>,
    wanted: &[Value],
    before: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    if let Some(key) = key
        && let Some(nameless) = merged.iter().find(|item| item.get(key).is_none())
    {
        return Err(no_merge_key(nameless, key));
    }
    let place = |list: &[Value], item: &Value| {
        list.iter().position(|there| identity(there, key) == identity(item, key))
    };
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|item| place(wanted, item).is_some());
    named.sort_by_key(|item| place(wanted, item));
    others.sort_by_key(|item| place(before, item).unwrap_or(usize::MAX));

    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        let here = place(before, &item);
        while let (Some(here), Some(next)) = (here, others.peek().and_then(|next| place(before, next)))
            && next < here
        {
            out.extend(others.next());
        }
        out.push(item);
    }
    out.extend(others);
    Ok(out)
}

/// Refuses a patch whose elements are not in the order that it asks for.
pub(super) fn check_order(patch: &[Value], wanted: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if wanted.is_empty() {
        return Ok(());
    }
    if let Some(key) = key
        && let Some(nameless) = wanted.iter().find(|item| item.get(key).is_none())
    {
        return Err(no_merge_key(nameless, key));
    }
    let mut order = wanted.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        if let Some(key) = key
            && item.get(key).is_none()
        {
            return Err(no_merge_key(item, key));
        }
        if !order.any(|there| identity(there, key) == identity(item, key)) {
            return Err(unmergeable(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                go_list(patch),
                go_list(wanted)
            )));
        }
    }
    Ok(())
}

fn identity<'v>(item: &'v Value, key: Option<&str>) -> Option<&'v Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

fn check_alike(first: &Value, lists: [&[Value]; 2]) -> Result<(), PatchError> {
    if first.is_array() {
        return Err(unmergeable("lists of lists are not supported"));
    }
    if lists.into_iter().flatten().any(|item| std::mem::discriminant(item) != std::mem::discriminant(first)) {
        let all: Vec<String> = lists.iter().map(|list| go_list(list)).collect();
        return Err(unmergeable(format!("list element types are not identical: [{}]", all.join(" "))));
    }
    Ok(())
}

fn no_merge_key(map: &Value, key: &str) -> PatchError {
    unmergeable(format!("map: {} does not contain declared merge key: {key}", go_text(map)))
}
