//! CBOR as upstream writes and reads it (`k8s.io/apimachinery/pkg/runtime/serializer/cbor`).
//!
//! Documents begin with the self-described tag. Text is written as byte strings, because Go's strings
//! need not be UTF-8; both kinds of strings are read. Bytes that expect base64 in JSON become it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ciborium::Value as Item;
use serde_json::{Map, Number, Value};

/// The media type of a document.
pub const MEDIA_TYPE: &str = "application/cbor";
/// The media type of watches.
pub const SEQUENCE_MEDIA_TYPE: &str = "application/cbor-seq";
/// The media type of server-side apply.
pub const APPLY_MEDIA_TYPE: &str = "application/apply-patch+cbor";

const SELF_DESCRIBED: u64 = 55799;
/// Tags of RFC 8949, 3.4.5.2: how bytes look in JSON.
const BASE64_URL: u64 = 21;
const BASE64: u64 = 22;
const BASE16: u64 = 23;
/// How deep documents may nest.
const DEPTH: usize = 128;

/// Writes a document.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    ciborium::into_writer(&Item::Tag(SELF_DESCRIBED, Box::new(item(value))), &mut out)
        .expect("writing to memory does not fail");
    out
}

/// Writes an event of a watch: the object in it is a document, too.
pub fn encode_event(event: &Value) -> Vec<u8> {
    let object = Item::Tag(SELF_DESCRIBED, Box::new(item(&event["object"])));
    let entries = vec![(text("type"), item(&event["type"])), (text("object"), object)];
    let mut out = Vec::with_capacity(512);
    ciborium::into_writer(&Item::Tag(SELF_DESCRIBED, Box::new(Item::Map(entries))), &mut out)
        .expect("writing to memory does not fail");
    out
}

fn item(value: &Value) -> Item {
    match value {
        Value::Null => Item::Null,
        Value::Bool(value) => Item::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Item::Integer(whole.into()),
            (None, Some(whole)) => Item::Integer(whole.into()),
            (None, None) => Item::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(value) => text(value),
        Value::Array(items) => Item::Array(items.iter().map(item).collect()),
        Value::Object(map) => Item::Map(map.iter().map(|(key, value)| (text(key), item(value))).collect()),
    }
}

fn text(text: &str) -> Item {
    Item::Bytes(text.as_bytes().to_vec())
}

/// Reads a document.
///
/// # Errors
/// What is wrong with the bytes, in the form `cbor: …`.
pub fn decode(bytes: &[u8]) -> Result<Value, String> {
    let mut rest = bytes;
    let item: Item = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH)
        .map_err(|error| format!("cbor: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("cbor: {} bytes of extraneous data", rest.len()));
    }
    value(item)
}

fn value(item: Item) -> Result<Value, String> {
    Ok(match item {
        Item::Null => Value::Null,
        Item::Bool(value) => value.into(),
        Item::Integer(whole) => {
            let whole = i128::from(whole);
            let number =
                i64::try_from(whole).map(Number::from).or_else(|_| u64::try_from(whole).map(Number::from));
            Value::Number(number.map_err(|_| format!("cbor: {whole} is out of range"))?)
        }
        Item::Float(value) => {
            Number::from_f64(value).map(Value::Number).ok_or_else(|| format!("cbor: {value} is no number"))?
        }
        Item::Text(text) => text.into(),
        Item::Bytes(bytes) => utf8(bytes)?.into(),
        Item::Tag(BASE64_URL, inner) => URL_SAFE_NO_PAD.encode(raw(*inner)?).into(),
        Item::Tag(BASE64, inner) => STANDARD.encode(raw(*inner)?).into(),
        Item::Tag(BASE16, inner) => {
            raw(*inner)?.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into()
        }
        // Times are text in any case, and the self-described tag says nothing more.
        Item::Tag(0 | SELF_DESCRIBED, inner) => value(*inner)?,
        Item::Tag(tag, _) => return Err(format!("cbor: unexpected tag {tag}")),
        Item::Array(items) => Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?),
        Item::Map(entries) => {
            let mut map = Map::new();
            for (key, item) in entries {
                let key = match key {
                    Item::Text(text) => text,
                    Item::Bytes(bytes) => utf8(bytes)?,
                    other => return Err(format!("cbor: {other:?} is no name of a field")),
                };
                let item = value(item)?;
                if map.insert(key.clone(), item).is_some() {
                    return Err(format!("cbor: found duplicate map key {key:?}"));
                }
            }
            Value::Object(map)
        }
        other => return Err(format!("cbor: unexpected {other:?}")),
    })
}

fn raw(item: Item) -> Result<Vec<u8>, String> {
    match item {
        Item::Bytes(bytes) => Ok(bytes),
        other => Err(format!("cbor: {other:?} is no byte string")),
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "cbor: invalid UTF-8 string".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_come_back() {
        let object = json!({
            "kind": "ConfigMap", "data": {"k": "v"}, "n": [1, -2, 1.5, true, null, u64::MAX], "e": {},
        });
        let bytes = encode(&object);
        assert_eq!(&bytes[..3], b"\xd9\xd9\xf7");
        assert_eq!(decode(&bytes), Ok(object));
        // {"a": h'01ff' to be base64} with a text key, and without the first tag.
        let value = json!({"a": "Af8="});
        assert_eq!(decode(b"\xa1\x61a\xd6\x42\x01\xff"), Ok(value));
        assert_eq!(encode(&json!({"a": "b"})), b"\xd9\xd9\xf7\xa1\x41a\x41b");
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = [&[0x81; 100_000][..], &[0xf6]].concat();
        for bytes in [
            &b""[..],
            b"\xa1\x41a",
            b"\xa2\x41a\x01\x41a\x02",
            b"\xa1\x01\x02",
            b"\x41\xff",
            b"\xf6\xf6",
            // A list that claims to have more items than memory has bytes.
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
            &deep,
        ] {
            assert!(decode(bytes).is_err(), "{:?}", &bytes[..bytes.len().min(9)]);
        }
    }
}
