//! JSON and YAML text as values, with the fields that it gives twice.
//!
//! The last of them counts, as in Go; strict clients are told (see [`crate::decode`]).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What a text says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Paths of fields that were given more than once.
    pub(crate) duplicates: Vec<String>,
}

impl Document {
    /// Reads JSON; nesting is bounded by the parser.
    pub(crate) fn json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let document = Self::read(&mut reader)?;
        reader.end()?;
        Ok(document)
    }

    /// Reads YAML; nesting, aliases and sizes are bounded by the parser's usual budget.
    pub(crate) fn yaml(text: &str) -> Result<Self, serde_saphyr::Error> {
        let mut options = serde_saphyr::Options::default();
        options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| Self::read(reader))
    }

    fn read<'de, D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let mut duplicates = Vec::new();
        let value = Reader { found: &mut duplicates }.deserialize(reader)?;
        Ok(Self { value, duplicates })
    }
}

/// Builds a value. Paths grow from the inside out, so that they cost nothing where nothing is found.
struct Reader<'a> {
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let mut known = self.found.len();
        while let Some(item) = items.next_element_seed(Reader { found: self.found })? {
            self.found[known..]
                .iter_mut()
                .for_each(|path| *path = joined(&format!("[{}]", list.len()), path));
            known = self.found.len();
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mut known = self.found.len();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Reader { found: self.found })?;
            self.found[known..].iter_mut().for_each(|path| *path = joined(&key, path));
            if map.contains_key(&key) {
                self.found.push(key.clone());
            }
            known = self.found.len();
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

fn joined(outer: &str, inner: &str) -> String {
    if inner.starts_with('[') { format!("{outer}{inner}") } else { format!("{outer}.{inner}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_of_two_counts_and_is_told() {
        let text = r#"{"a":1,"b":[{"c":{"d":1,"d":2}},{"e":true,"e":null}],"a":"x","f":-1.5}"#;
        let expected = Document {
            value: json!({"a": "x", "b": [{"c": {"d": 2}}, {"e": null}], "f": -1.5}),
            duplicates: vec!["b[0].c.d".to_owned(), "b[1].e".to_owned(), "a".to_owned()],
        };
        assert_eq!(Document::json(text.as_bytes()).expect("JSON"), expected);
        assert_eq!(
            Document::yaml("a: 1\nb:\n- c: {d: 1, d: 2}\n- {e: true, e: null}\na: x\nf: -1.5\n")
                .expect("YAML"),
            expected
        );
    }

    #[test]
    fn hostile_texts_are_refused() {
        let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
        for text in
            [deep("[", "]"), deep("{\"a\":", "}"), "{\"a\":\"\\ud800\"}".to_owned(), "{} {}".to_owned()]
        {
            assert!(Document::json(text.as_bytes()).is_err());
        }
        assert!(Document::json(b"{\"a\":\"\xff\"}").is_err());
        assert!(Document::yaml(&deep("[", "]")).is_err());
        // Each level doubles what the one before stands for.
        let bomb: String =
            (1..64).map(|level| format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1)).collect();
        assert!(Document::yaml(&format!("a0: &a0 x\n{bomb}")).is_err());
    }
}
