//! JSON text as a value that remembers which keys stood in it twice.
//!
//! Parsers keep the last of several equal keys and say nothing; the API reports them when asked to be strict.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A document and the paths of the keys that it gives more than once, for example `spec.ports[0].name`.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed {
    /// The document; the last of several equal keys counts.
    pub value: Value,
    /// Paths in the order in which the second of each pair stands.
    pub duplicates: Vec<String>,
}

/// Reads a whole document.
///
/// # Errors
/// Those of the parser: no JSON, something behind it, or nested deeper than 128 levels.
pub fn parse(bytes: &[u8]) -> Result<Parsed, serde_json::Error> {
    let duplicates = RefCell::default();
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = Document(&duplicates).deserialize(&mut parser)?;
    parser.end()?;
    Ok(Parsed { value, duplicates: duplicates.into_inner() })
}

/// Reads one value and notes duplicates below it, each path relative to the value.
#[derive(Clone, Copy)]
struct Document<'a>(&'a RefCell<Vec<String>>);

impl Document<'_> {
    fn count(self) -> usize {
        self.0.borrow().len()
    }

    /// Puts the step to a value before the paths that were found below it.
    fn prefix(self, known: usize, step: &str) {
        for path in self.0.borrow_mut().iter_mut().skip(known) {
            let joint = if path.starts_with('[') { "" } else { "." };
            *path = format!("{step}{joint}{path}");
        }
    }
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any valid JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let known = self.count();
            let Some(item) = items.next_element_seed(self)? else { return Ok(Value::Array(list)) };
            if self.count() > known {
                self.prefix(known, &format!("[{}]", list.len()));
            }
            list.push(item);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let known = self.count();
            let value = entries.next_value_seed(self)?;
            if self.count() > known {
                self.prefix(known, &key);
            }
            if map.contains_key(&key) {
                self.0.borrow_mut().push(key.clone());
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_named_with_their_paths() {
        for (text, duplicates) in [
            (r#"{"a":1,"a":2}"#, vec!["a"]),
            (r#"{"data":{"a":"1","a":"2"},"b":[{"c":{"d":1,"d":2}}]}"#, vec!["data.a", "b[0].c.d"]),
            (r#"[{"op":"add","path":"/a","path":"/b"}]"#, vec!["[0].path"]),
            (r#"{"a":{"b":1},"c":{"b":1}}"#, vec![]),
        ] {
            let parsed = parse(text.as_bytes()).expect(text);
            assert_eq!(parsed.duplicates, duplicates, "{text}");
            assert_eq!(parsed.value, serde_json::from_str::<Value>(text).expect(text));
        }
    }

    #[test]
    fn values_are_those_of_the_plain_parser() {
        for text in
            [r#"{"z":1,"a":[-1,1.5,1e3,18446744073709551615,null,true,"\u00e9"]}"#, "1", "\"x\"", "[]"]
        {
            assert_eq!(
                parse(text.as_bytes()).expect(text).value,
                serde_json::from_str::<Value>(text).expect(text)
            );
        }
        for text in ["", "{", "{} x", "{\"a\":}", &"[".repeat(200), "nul"] {
            let (ours, plain) = (parse(text.as_bytes()), serde_json::from_str::<Value>(text));
            assert_eq!(ours.expect_err(text).to_string(), plain.expect_err(text).to_string());
        }
    }
}
