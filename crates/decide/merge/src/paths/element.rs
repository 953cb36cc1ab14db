//! One step of a path, kept as the text that `FieldsV1` uses for it.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

/// One step of a path: `f:name`, `k:{"name":"web"}`, `v:"finalizer"` or `i:3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(Box<str>);

impl Element {
    /// The field or map entry of that name.
    pub fn field(name: &str) -> Self {
        let mut text = String::with_capacity(name.len() + 2);
        text.push_str("f:");
        text.push_str(name);
        Element(text.into())
    }

    /// The list element with these key fields.
    pub fn key<'v>(keys: impl IntoIterator<Item = (&'v str, &'v Value)>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_unstable_by_key(|(name, _)| *name);
        let mut text = String::from("k:{");
        for (at, (name, value)) in keys.into_iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            text.push_str(&Value::from(name).to_string());
            text.push(':');
            text.push_str(&value.to_string());
        }
        text.push('}');
        Element(text.into())
    }

    /// The set element of that value.
    pub fn value(value: &Value) -> Self {
        Element(format!("v:{value}").into())
    }

    /// Reads the text of a step; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Element(text.into())),
            "i" => rest.parse::<u32>().ok().map(|_| Element(text.into())),
            "v" => serde_json::from_str(rest).ok().map(|value| Element::value(&value)),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Element::key(keys.iter().map(|(name, value)| (name.as_str(), value))))
            }
            _ => None,
        }
    }

    /// The text that `FieldsV1` uses.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, if this is a field.
    pub fn field_name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    /// Order relative to the field `name`, without building its element.
    pub(crate) fn cmp_field(&self, name: &str) -> Ordering {
        match self.field_name() {
            Some(mine) => mine.cmp(name),
            None => self.as_str().cmp("f:"),
        }
    }
}

/// As in messages: `.name`, `[name="web"]`, `[="finalizer"]`, `[3]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, rest) = self.0.split_once(':').expect("every constructor writes the kind");
        match kind {
            "f" => write!(f, ".{rest}"),
            "v" => write!(f, "[={rest}]"),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            _ => write!(f, "[{rest}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts() {
        let (port, protocol) = (json!(80), json!("TCP"));
        let table = [
            (Element::field("spec"), "f:spec", ".spec"),
            (Element::field("a.b/c"), "f:a.b/c", ".a.b/c"),
            (
                Element::key([("protocol", &protocol), ("port", &port)]),
                r#"k:{"port":80,"protocol":"TCP"}"#,
                r#"[port=80,protocol="TCP"]"#,
            ),
            (Element::value(&json!("x")), r#"v:"x""#, r#"[="x"]"#),
        ];
        for (element, text, shown) in table {
            assert_eq!(element.as_str(), text);
            assert_eq!(element.to_string(), shown);
            assert_eq!(Element::parse(text), Some(element));
        }
        assert_eq!(Element::parse(r#"k:{"b": 1, "a":"\u003c"}"#), Element::parse(r#"k:{"a":"<","b":1}"#));
        assert_eq!(Element::parse("x:1"), None);
        assert_eq!(Element::parse("i:1").map(|element| element.to_string()), Some("[1]".to_owned()));
    }
}
