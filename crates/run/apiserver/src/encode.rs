//! Objects as bytes: encoded once, when they are committed.
//!
//! The resourceVersion is the first field of the metadata, so that the store can write the
//! revision it gives between two halves that are encoded before the revision is known.

use std::ops::Range;

use bytes::Bytes;
use plimsoll_catalogue::Kind;
use plimsoll_store::Value as Stored;
use serde_json::{Map, Value};

/// The two halves of an object around its resourceVersion.
pub(crate) fn halves(object: &Value) -> Stored {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let head = head(text("apiVersion"), text("kind"));
    let mut tail = Vec::with_capacity(1024);
    tail.push(b'"');
    let empty = Map::new();
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    members(&mut tail, metadata, &["resourceVersion"], true);
    tail.push(b'}');
    members(&mut tail, object.as_object().unwrap_or(&empty), &["apiVersion", "kind", "metadata"], true);
    tail.push(b'}');
    Stored::spliced(head, tail)
}

fn head(api_version: &str, kind: &str) -> Vec<u8> {
    // Versions and kinds are names, which need no escapes.
    format!("{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\",\"metadata\":{{\"resourceVersion\":\"")
        .into_bytes()
}

/// Where the digits of the revision are in bytes that this module made.
#[must_use]
pub fn place(bytes: &[u8]) -> Option<Range<usize>> {
    const FIELD: &[u8] = b"\",\"metadata\":{\"resourceVersion\":\"";
    /// Versions and kinds are no longer.
    const WITHIN: usize = 1024;
    bytes.strip_prefix(b"{\"apiVersion\":\"")?;
    let front = &bytes[..bytes.len().min(WITHIN)];
    let start = front.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    (bytes.get(start + digits) == Some(&b'"')).then_some(start..start + digits)
}

/// Whether bytes that this module made are an object of exactly this kind.
pub(crate) fn is_of(bytes: &[u8], kind: &Kind) -> bool {
    bytes.starts_with(&head(&kind.api_version(), kind.kind))
}

fn members(out: &mut Vec<u8>, object: &Map<String, Value>, skip: &[&str], mut comma: bool) {
    for (key, value) in object.iter().filter(|(key, _)| !skip.contains(&key.as_str())) {
        if comma {
            out.push(b',');
        }
        comma = true;
        write_json(out, key);
        out.push(b':');
        write_json(out, value);
    }
}

/// Writes anything as JSON.
pub(crate) fn write_json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(out, value)
        .expect("JSON values have text keys and writing to memory does not fail");
}

/// An object as bytes with the resourceVersion that it carries (answers that are not stored).
pub(crate) fn object(value: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    write_json(&mut out, value);
    out.into()
}

/// The opening of a list up to its first item.
pub(crate) fn list_head(api_version: &str, kind: &str, metadata: &Value) -> Bytes {
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_place_of_the_revision_is_found() {
        let bytes =
            whole(&json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}, "data": {}}), "77");
        let text = encode_again(&bytes, "77");
        assert_eq!(place(text.as_bytes()).map(|place| &text[place]), Some("77"));
        let empty = encode_again(&bytes, "");
        assert_eq!(place(empty.as_bytes()).map(|place| place.len()), Some(0));
        for foreign in [
            "",
            "k8s\0",
            "{\"kind\":\"A\"}",
            "{\"apiVersion\":\"v1\",\"kind\":\"A\",\"metadata\":{\"name\":\"a\"}}",
        ] {
            assert_eq!(place(foreign.as_bytes()), None, "{foreign}");
        }
    }

    fn encode_again(object: &Value, revision: &str) -> String {
        let plimsoll_store::Body::Spliced { head, tail } = halves(object).body else { panic!("not spliced") };
        String::from_utf8([&head[..], revision.as_bytes(), &tail[..]].concat()).expect("text")
    }

    fn whole(object: &Value, revision: &str) -> Value {
        let plimsoll_store::Body::Spliced { head, tail } = halves(object).body else { panic!("not spliced") };
        let bytes = [&head[..], revision.as_bytes(), &tail[..]].concat();
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
    }

    #[test]
    fn the_revision_is_the_only_difference() {
        for object in [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "1"}, "data": {"k": "\"v"}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap"}),
        ] {
            let mut expected = object.clone();
            expected["metadata"]["resourceVersion"] = json!("77");
            assert_eq!(whole(&object, "77"), expected);
        }
    }
}
