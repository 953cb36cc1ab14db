//! RFC 6902: a list of operations, all of which succeed or none.
//!
//! Two habits of upstream's library are kept because clients rely on them: `replace` of an
//! absent key of an object adds it, and negative list indexes count from the end.

use serde_json::{Map, Value};

use crate::PatchError;
use crate::go::json_type;

/// Most operations in one patch (apiserver: endpoints/handlers/patch.go).
pub const MAX_OPERATIONS: usize = 10_000;

/// Most bytes that all `copy` operations of one patch may add.
const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// Deepest nesting that a document may get, which is what JSON parsers accept.
const MAX_DEPTH: usize = 127;

/// Applies the operations of `patch` to `document`.
///
/// # Errors
/// [`PatchError::Malformed`] if `patch` is no list of operations,
/// [`PatchError::TooManyOperations`] over [`MAX_OPERATIONS`], [`PatchError::NotApplicable`] if an
/// operation does not fit the document or a `test` fails.
pub fn json_patch(mut document: Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = match patch {
        Value::Array(operations) => operations.as_slice(),
        // Go reads null as an empty list.
        Value::Null => &[],
        other => return Err(undecodable(other, "[]handlers.jsonPatchOp")),
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let mut copied = 0;
    for operation in operations {
        let Value::Object(operation) = operation else {
            return Err(undecodable(operation, "handlers.jsonPatchOp"));
        };
        perform(&mut document, operation, &mut copied)?;
    }
    Ok(document)
}

fn undecodable(value: &Value, wanted: &str) -> PatchError {
    PatchError::Malformed(format!(
        "error decoding patch: json: cannot unmarshal {} into Go value of type {wanted}",
        json_type(value)
    ))
}

fn perform(
    document: &mut Value,
    operation: &Map<String, Value>,
    copied: &mut usize,
) -> Result<(), PatchError> {
    match operation.get("op").and_then(Value::as_str) {
        Some("add") => add(document, operation),
        Some("remove") => {
            let path = text(operation, "remove", "path")?;
            take(document, path, "remove", path, "path: \"", "\"").map(drop)
        }
        Some("replace") => replace(document, operation),
        Some("move") => relocate(document, operation),
        Some("copy") => duplicate(document, operation, copied),
        Some("test") => test(document, operation),
        other => Err(failed(format!("Unexpected kind: {}", other.unwrap_or("unknown")))),
    }
}

fn add(document: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
    let path = text(operation, "add", "path")?;
    check_depth(path, &value(operation))?;
    let (parent, key) = container(document, path).ok_or_else(|| {
        failed(format!("add operation does not apply: doc is missing path: \"{path}\": missing value"))
    })?;
    insert(parent, &key, value(operation))
        .map_err(|why| failed(format!("error in add for path: '{path}': {why}")))
}

fn replace(document: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
    let path = text(operation, "replace", "path")?;
    let new = value(operation);
    check_depth(path, &new)?;
    if path.is_empty() {
        if !(new.is_object() || new.is_array()) {
            return Err(failed("replace operation value must be object or array"));
        }
        *document = new;
        return Ok(());
    }
    let (parent, key) = container(document, path).ok_or_else(|| {
        failed(format!("replace operation does not apply: doc is missing path: {path}: missing value"))
    })?;
    match parent {
        Value::Object(map) => {
            map.insert(key, new);
        }
        Value::Array(list) => {
            let at = index(&key, list.len(), list.len()).map_err(|_| {
                failed(format!("replace operation does not apply: doc is missing key: {path}: missing value"))
            })?;
            list[at] = new;
        }
        _ => unreachable!("container() answers with an object or a list"),
    }
    Ok(())
}

fn relocate(document: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
    let from = text(operation, "move", "from")?;
    let key = from.rsplit('/').next().unwrap_or_default();
    let moved = take(document, from, "move", key, "from path: ", "")?;
    let path = text(operation, "move", "path")?;
    check_depth(path, &moved)?;
    let (parent, key) = container(document, path).ok_or_else(|| {
        failed(format!(
            "move operation does not apply: doc is missing destination path: {path}: missing value"
        ))
    })?;
    insert(parent, &key, moved).map_err(|why| failed(format!("error in move for path: '{path}': {why}")))
}

fn duplicate(
    document: &mut Value,
    operation: &Map<String, Value>,
    copied: &mut usize,
) -> Result<(), PatchError> {
    let from = text(operation, "copy", "from")?;
    let (parent, key) = container(document, from).ok_or_else(|| {
        failed(format!("copy operation does not apply: doc is missing from path: {from}: missing value"))
    })?;
    let source = match parent {
        // A key that is not there copies as null, as upstream has it.
        Value::Object(map) => map.get(&key).cloned().unwrap_or_default(),
        _ => lookup(document, from).cloned().ok_or_else(|| {
            failed(format!("copy operation does not apply: doc is missing from path: {from}: missing value"))
        })?,
    };
    *copied += size(&source);
    if *copied > MAX_COPIED_BYTES {
        return Err(failed(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED_BYTES}"
        )));
    }
    let path = text(operation, "copy", "path")?;
    check_depth(path, &source)?;
    let (parent, key) = container(document, path).ok_or_else(|| {
        failed(format!(
            "copy operation does not apply: doc is missing destination path: {path}: missing value"
        ))
    })?;
    insert(parent, &key, source).map_err(|why| failed(format!("error while adding value during copy: {why}")))
}

fn test(document: &mut Value, operation: &Map<String, Value>) -> Result<(), PatchError> {
    let path = text(operation, "test", "path")?;
    if !path.is_empty() && container(document, path).is_none() {
        return Err(failed(format!("test operation does not apply: is missing path: {path}: missing value")));
    }
    // An absent key equals null, as upstream has it.
    let found = lookup(document, path).unwrap_or(&Value::Null);
    if *found == value(operation) {
        return Ok(());
    }
    Err(failed(format!("testing value {path} failed: test failed")))
}

/// Removes and returns the value at `path`; the texts are those of the operation that asks.
fn take(
    document: &mut Value,
    path: &str,
    operation: &str,
    place: &str,
    before: &str,
    after: &str,
) -> Result<Value, PatchError> {
    let (parent, key) = container(document, path).ok_or_else(|| {
        failed(format!(
            "{operation} operation does not apply: doc is missing {before}{path}{after}: missing value"
        ))
    })?;
    let removed = match parent {
        Value::Object(map) => {
            map.remove(&key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))
        }
        Value::Array(list) => index(&key, list.len(), list.len()).map(|at| list.remove(at)),
        _ => unreachable!("container() answers with an object or a list"),
    };
    removed.map_err(|why| failed(format!("error in {operation} for path: '{place}': {why}")))
}

fn insert(parent: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match parent {
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => {
            let at = index(key, list.len() + 1, list.len() + 1).map_err(|why| {
                if why.starts_with("Unable") {
                    why
                } else {
                    format!("value was not a proper array index: '{key}': {why}")
                }
            })?;
            list.insert(at, value);
        }
        _ => unreachable!("container() answers with an object or a list"),
    }
    Ok(())
}

/// The object or list that holds the last step of `path`, and that step.
fn container<'d>(document: &'d mut Value, path: &str) -> Option<(&'d mut Value, String)> {
    // What stands before the first slash is not looked at, as upstream has it.
    let mut steps = path.split('/').skip(1).map(unescape);
    let mut key = steps.next()?;
    let mut at = document;
    for next in steps {
        at = match at {
            Value::Object(map) => map.get_mut(&key)?,
            Value::Array(list) => {
                let place = index(&key, list.len(), list.len()).ok()?;
                &mut list[place]
            }
            _ => return None,
        };
        key = next;
    }
    (at.is_object() || at.is_array()).then_some((at, key))
}

fn lookup<'d>(document: &'d Value, path: &str) -> Option<&'d Value> {
    if path.is_empty() {
        return Some(document);
    }
    path.split('/').skip(1).map(unescape).try_fold(document, |at, key| match at {
        Value::Object(map) => map.get(&key),
        Value::Array(list) => index(&key, list.len(), list.len()).ok().map(|place| &list[place]),
        _ => None,
    })
}

/// Position that `key` names in a list of `length`; negative ones count back from `end`.
fn index(key: &str, length: usize, end: usize) -> Result<usize, String> {
    let number: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing \"{key}\": invalid syntax"))?;
    let place = if number < 0 { number + i64::try_from(end).unwrap_or(i64::MAX) } else { number };
    usize::try_from(place)
        .ok()
        .filter(|place| *place < length)
        .ok_or_else(|| format!("Unable to access invalid index: {number}: invalid index referenced"))
}

fn unescape(step: &str) -> String {
    if step.contains('~') { step.replace("~1", "/").replace("~0", "~") } else { step.to_owned() }
}

fn text<'o>(operation: &'o Map<String, Value>, name: &str, field: &str) -> Result<&'o str, PatchError> {
    operation
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| failed(format!("{name} operation failed to decode {field}: missing value")))
}

fn value(operation: &Map<String, Value>) -> Value {
    operation.get("value").cloned().unwrap_or_default()
}

/// About the bytes of the value as JSON text.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => list.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + 4 + size(value)).sum::<usize>() + 2,
        _ => 5,
    }
}

/// Refuses what would nest so deep that nobody could read it back.
fn check_depth(path: &str, value: &Value) -> Result<(), PatchError> {
    if path.matches('/').count() + depth(value) > MAX_DEPTH {
        return Err(failed(format!("the patch would nest the document deeper than {MAX_DEPTH} levels")));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn failed(why: impl Into<String>) -> PatchError {
    PatchError::NotApplicable(why.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations() {
        let table = [
            (
                json!({"a": 1}),
                json!([{"op": "add", "path": "/b", "value": {"c": [1]}}]),
                json!({"a": 1, "b": {"c": [1]}}),
            ),
            (
                json!({"a": [1, 3]}),
                json!([{"op": "add", "path": "/a/1", "value": 2}]),
                json!({"a": [1, 2, 3]}),
            ),
            (json!({"a": [1]}), json!([{"op": "add", "path": "/a/-", "value": 2}]), json!({"a": [1, 2]})),
            (json!({"a": [1]}), json!([{"op": "add", "path": "/a/-1", "value": 2}]), json!({"a": [1, 2]})),
            (json!({"a": 1}), json!([{"op": "remove", "path": "/a"}]), json!({})),
            (json!({"a": [1, 2]}), json!([{"op": "remove", "path": "/a/0"}]), json!({"a": [2]})),
            (json!({"a": 1}), json!([{"op": "replace", "path": "/a", "value": 2}]), json!({"a": 2})),
            (json!({}), json!([{"op": "replace", "path": "/a", "value": 2}]), json!({"a": 2})),
            (json!({"a": 1}), json!([{"op": "replace", "path": "", "value": {"b": 1}}]), json!({"b": 1})),
            (json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/b"}]), json!({"b": 1})),
            (
                json!({"a": {"x": 1}}),
                json!([{"op": "copy", "from": "/a", "path": "/b"}]),
                json!({"a": {"x": 1}, "b": {"x": 1}}),
            ),
            (json!({"a/b~": 1}), json!([{"op": "test", "path": "/a~1b~0", "value": 1}]), json!({"a/b~": 1})),
            (json!({}), json!([{"op": "test", "path": "/a", "value": null}]), json!({})),
        ];
        for (before, patch, after) in table {
            assert_eq!(json_patch(before, &patch), Ok(after), "{patch}");
        }
    }

    #[test]
    fn refusals() {
        let table = [
            (
                json!([{"op": "remove", "path": "/x"}]),
                "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!([{"op": "add", "path": "/x/y", "value": 1}]),
                "add operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                json!([{"op": "add", "path": "/l/9", "value": 1}]),
                "error in add for path: '/l/9': Unable to access invalid index: 9: invalid index referenced",
            ),
            (
                json!([{"op": "add", "path": "/l/q", "value": 1}]),
                "error in add for path: '/l/q': value was not a proper array index: 'q': strconv.Atoi: parsing \"q\": invalid syntax",
            ),
            (
                json!([{"op": "replace", "path": "/l/9", "value": 1}]),
                "replace operation does not apply: doc is missing key: /l/9: missing value",
            ),
            (json!([{"op": "test", "path": "/a", "value": 2}]), "testing value /a failed: test failed"),
            (
                json!([{"op": "move", "from": "/a/b", "path": "/c"}]),
                "move operation does not apply: doc is missing from path: /a/b: missing value",
            ),
            (json!([{"op": "jump", "path": "/a"}]), "Unexpected kind: jump"),
            (json!([{"op": "add"}]), "add operation failed to decode path: missing value"),
        ];
        for (patch, message) in table {
            let answer = json_patch(json!({"a": 1, "l": [1]}), &patch);
            assert_eq!(answer, Err(PatchError::NotApplicable(message.into())), "{patch}");
        }
    }

    #[test]
    fn bounds() {
        let many = Value::Array(vec![json!({"op": "test", "path": "/a"}); MAX_OPERATIONS + 1]);
        assert_eq!(json_patch(json!({}), &many), Err(PatchError::TooManyOperations(MAX_OPERATIONS + 1)));
        assert!(matches!(json_patch(json!({}), &json!({})), Err(PatchError::Malformed(_))));
        for (operation, message) in [
            (json!({"op": "copy", "from": "/l", "path": "/l/-"}), "accumulated size"),
            (json!({"op": "copy", "from": "/a", "path": "/a/x"}), "deeper than"),
        ] {
            let answer =
                json_patch(json!({"a": {}, "l": ["0123456789"]}), &Value::Array(vec![operation; 200]));
            assert!(
                matches!(&answer, Err(PatchError::NotApplicable(why)) if why.contains(message)),
                "{answer:?}"
            );
        }
    }
}
