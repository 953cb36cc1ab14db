//! Upstream's published objects, each as JSON and as protobuf bytes, where they are at hand.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use plimsoll_protobuf::{decode, encode, encodes};
use plimsoll_schema::{builtin, check};
use serde_json::Value;

/// Kinds whose messages have got fields since v1.28 that are written even when zero.
const GROWN: &[&str] = &["core.v1.PodStatusResult", "storage.k8s.io.v1.CSINode"];

/// Pairs of `.json` and `.pb` files; none when the reference data is not there.
fn pairs() -> Vec<(PathBuf, PathBuf)> {
    let directory = std::env::var_os("PLIMSOLL_API_TESTDATA").map_or_else(
        || {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../../..")
                .join("shared/reference/api-testdata-1.28")
        },
        PathBuf::from,
    );
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pb"))
        .map(|path| (path.with_extension("json"), path))
        .collect();
    found.sort();
    found
}

fn definition(object: &Value) -> Option<&'static str> {
    let kind = object["kind"].as_str()?;
    let (group, version) = object["apiVersion"].as_str()?.rsplit_once('/').unwrap_or(("", "v1"));
    let group = match group.split('.').next()? {
        "" => "core",
        "internal" => "apiserverinternal",
        first => first,
    };
    let suffix = format!(".{group}.{version}.{kind}");
    builtin().names().find(|name| name.ends_with(&suffix))
}

/// Removes what protobuf cannot tell apart from absence, or does not carry: nulls, empty lists and
/// maps, and the types of nested objects that have metadata.
fn normal(value: Value, top: bool) -> Value {
    match value {
        Value::Object(fields) => {
            let typed = !top && fields.contains_key("metadata");
            let keep = |key: &String| !(typed && (key == "kind" || key == "apiVersion"));
            let fields = fields.into_iter().filter(|(key, _)| keep(key));
            let fields = fields.map(|(key, value)| (key, normal(value, false)));
            fields.filter(|(_, value)| !empty(value)).collect()
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| normal(item, false)).collect()),
        other => other,
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[test]
fn bytes_and_json_agree_with_upstream() {
    let mut differences = Vec::new();
    let mut tried = 0;
    for (json, bytes) in pairs() {
        let name = json.file_stem().unwrap().to_string_lossy().into_owned();
        let object: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        if encodes(text("apiVersion"), text("kind")) {
            tried += 1;
            let found = compare(&name, object, &std::fs::read(&bytes).unwrap());
            differences.extend(found.err().map(|difference| format!("{name}: {difference}")));
        }
    }
    println!("{tried} objects");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn compare(name: &str, mut expected: Value, bytes: &[u8]) -> Result<(), String> {
    let decoded = decode(bytes).map_err(|error| error.to_string())?;
    // Fields that are gone since are in neither.
    let mut changed = GROWN.contains(&name);
    let mut checked = normal(expected.clone(), true);
    if let Some(schema) = definition(&expected).and_then(|name| builtin().lookup(name))
        && !check(builtin(), schema, &mut checked)?.unknown.is_empty()
    {
        changed = true;
        expected = checked;
    }
    let (ours, theirs) = (normal(decoded.clone(), true), normal(expected.clone(), true));
    if ours != theirs {
        return Err(format!("{ours}\nis not\n{theirs}"));
    }
    for object in [&decoded, &expected] {
        let encoded = encode(object).map_err(|error| error.to_string())?;
        if encoded != bytes && !changed {
            return Err(difference(&encoded, bytes));
        }
        let again = decode(&encoded).map_err(|error| error.to_string())?;
        if normal(again, true) != ours {
            return Err("does not survive encoding".to_owned());
        }
    }
    Ok(())
}

fn difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let part = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 40)]).into_owned()
    };
    format!("at byte {at} of {} and {}: {:?} {:?}", ours.len(), theirs.len(), part(ours), part(theirs))
}
