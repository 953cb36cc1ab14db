//! Parts of an encoded object, read without building the rest.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The object without managedFields; null when it is damaged.
pub(crate) fn object(bytes: &[u8]) -> Value {
    serde_json::from_slice::<Outer>(bytes).map(|outer| outer.0).unwrap_or_default()
}

/// The metadata as it stands.
pub(crate) fn metadata(bytes: &[u8]) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Whole<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    match stored_metadata(bytes) {
        Some(rest) => serde_json::Deserializer::from_slice(rest).into_iter().next()?.ok(),
        None => serde_json::from_slice::<Whole<'_>>(bytes).ok().map(|whole| whole.metadata),
    }
}

/// Stored objects begin with type and metadata (see [`crate::encode`]), so that nothing after them
/// needs to be looked at: the bytes from the metadata on.
fn stored_metadata(bytes: &[u8]) -> Option<&[u8]> {
    const MARK: &[u8] = b",\"metadata\":";
    let start = bytes.get(..bytes.len().min(512))?;
    let at = start.windows(MARK.len()).position(|window| window == MARK)?;
    let is_outer = start[1..at].iter().all(|byte| !matches!(byte, b'{' | b'[' | b'\\'));
    is_outer.then(|| &bytes[at + MARK.len()..])
}

/// The resourceVersion.
pub(crate) fn version(bytes: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Versioned {
        resource_version: String,
    }
    let versioned = metadata(bytes).and_then(|raw| serde_json::from_str::<Versioned>(raw.get()).ok());
    versioned.unwrap_or_default().resource_version
}

struct Outer(Value);

impl<'de> Deserialize<'de> for Outer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Outer;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outer, A::Error> {
                let mut object = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = match key.as_str() {
                        "metadata" => map.next_value::<Metadata>()?.0,
                        _ => map.next_value()?,
                    };
                    object.insert(key, value);
                }
                Ok(Outer(Value::Object(object)))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

struct Metadata(Value);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Metadata;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("metadata")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut metadata = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "managedFields" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        metadata.insert(key, map.next_value()?);
                    }
                }
                Ok(Metadata(Value::Object(metadata)))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_the_same_wherever_they_stand() {
        for text in [
            r#"{"apiVersion":"v1","kind":"A","metadata":{"resourceVersion":"7","managedFields":[{}],"name":"a"},"data":{"metadata":1}}"#,
            r#"{"data":{"x":{},"metadata":1},"kind":"A","metadata":{"resourceVersion":"7","managedFields":[{}],"name":"a"},"apiVersion":"v1"}"#,
        ] {
            let bytes = text.as_bytes();
            let found: Value = serde_json::from_str(metadata(bytes).expect("metadata").get()).expect("JSON");
            assert_eq!(found["name"], "a");
            assert_eq!(version(bytes), "7");
            let lean = object(bytes);
            assert_eq!(lean["metadata"], json!({"resourceVersion": "7", "name": "a"}));
            assert_eq!(lean["data"]["metadata"], 1);
        }
        assert_eq!(
            (object(b"{"), version(b"{"), metadata(b"{}").is_none()),
            (Value::Null, String::new(), true)
        );
    }
}
