//! Reading and filling JSON objects by dotted paths.
//!
//! A missing field, a `null` and a value of another type are all "nothing here": types were
//! checked against the schema before, and odd values must never stop the caller.

use std::sync::LazyLock;

use serde_json::{Map, Value};

static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// Typed reads; paths are field names joined by dots and never pass through lists.
pub trait Access {
    /// The value there, unless it is missing or null.
    fn at(&self, path: &str) -> Option<&Value>;

    /// Whether there is a value.
    fn has(&self, path: &str) -> bool {
        self.at(path).is_some()
    }

    /// Text, empty when there is none.
    fn text(&self, path: &str) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or("")
    }

    /// A whole number.
    fn int(&self, path: &str) -> Option<i64> {
        self.at(path).and_then(Value::as_i64)
    }

    /// A whole number, 0 when there is none.
    fn count(&self, path: &str) -> i64 {
        self.int(path).unwrap_or(0)
    }

    /// Whether the value is `true`.
    fn flag(&self, path: &str) -> bool {
        self.at(path).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The elements of a list, none when there is no list.
    fn list(&self, path: &str) -> &[Value] {
        self.at(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The entries of a map, none when there is no map.
    fn map(&self, path: &str) -> &Map<String, Value> {
        self.at(path).and_then(Value::as_object).unwrap_or(&NOTHING)
    }

    /// The texts of a list.
    fn texts(&self, path: &str) -> Vec<&str> {
        self.list(path).iter().filter_map(Value::as_str).collect()
    }
}

impl Access for Value {
    fn at(&self, path: &str) -> Option<&Value> {
        let found = match path {
            "" => self,
            _ => path.split('.').try_fold(self, |value, key| value.get(key))?,
        };
        (!found.is_null()).then_some(found)
    }
}

/// Filling and changing. Keys are single keys, whatever characters they have; only paths have
/// dots.
pub trait Fill {
    /// Gives a field a value unless it has one.
    fn fill(&mut self, key: &str, value: impl Into<Value>);

    /// Gives a field a value unless it has one that is neither empty text nor zero.
    fn fill_zero(&mut self, key: &str, value: impl Into<Value>);

    /// The object in a field, made when it is missing; `None` when `self` is no object.
    fn object(&mut self, key: &str) -> Option<&mut Value>;

    /// The object at a dotted path, if it is there.
    fn inside(&mut self, path: &str) -> Option<&mut Value>;

    /// The elements of a list at a dotted path.
    fn elements(&mut self, path: &str) -> &mut [Value];

    /// Sets a field.
    fn put(&mut self, key: &str, value: impl Into<Value>);

    /// Takes a field away.
    fn drop_key(&mut self, key: &str);
}

impl Fill for Value {
    fn fill(&mut self, key: &str, value: impl Into<Value>) {
        if self.get(key).is_none_or(Value::is_null) {
            self.put(key, value);
        }
    }

    fn fill_zero(&mut self, key: &str, value: impl Into<Value>) {
        let is_zero = match self.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Number(number)) => number.as_i64() == Some(0),
            Some(_) => false,
        };
        if is_zero {
            self.put(key, value);
        }
    }

    fn object(&mut self, key: &str) -> Option<&mut Value> {
        self.fill(key, Value::Object(Map::new()));
        self.get_mut(key).filter(|value| value.is_object())
    }

    fn inside(&mut self, path: &str) -> Option<&mut Value> {
        path.split('.').try_fold(self, |value, key| value.get_mut(key)).filter(|value| !value.is_null())
    }

    fn elements(&mut self, path: &str) -> &mut [Value] {
        match self.inside(path) {
            Some(Value::Array(items)) => items,
            _ => &mut [],
        }
    }

    fn put(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(map) = self.as_object_mut() {
            map.insert(key.to_owned(), value.into());
        }
    }

    fn drop_key(&mut self, key: &str) {
        if let Some(map) = self.as_object_mut() {
            map.remove(key);
        }
    }
}

/// Flags and numbers that say the same when they are left out.
const ZERO_IS_UNSET: [&str; 10] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "stdin",
    "stdinOnce",
    "tty",
    "readOnly",
    "hostPort",
    "initialDelaySeconds",
    "manualSelector",
];

/// Whether two values mean the same to typed clients, who leave empty text, lists and maps out
/// when they write back what they read.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.filter(|value| !is_unset(value)), b.filter(|value| !is_unset(value))) {
        (None, None) => true,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(key, value)| same_field(key, Some(value), b.get(key)))
                && b.iter().all(|(key, value)| a.contains_key(key) || same_field(key, None, Some(value)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(Value::Object(map)), None) | (None, Some(Value::Object(map))) => {
            map.iter().all(|(key, value)| same_field(key, Some(value), None))
        }
        (a, b) => a == b,
    }
}

fn same_field(key: &str, a: Option<&Value>, b: Option<&Value>) -> bool {
    let is_zero = |value: &Value| *value == Value::Bool(false) || value.as_i64() == Some(0);
    let strip = |value: Option<&Value>| -> Option<Value> { value.filter(|value| !is_zero(value)).cloned() };
    match ZERO_IS_UNSET.contains(&key) {
        true => strip(a) == strip(b),
        false => same(a, b),
    }
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_stands_for_missing_null_and_other_types() {
        let value = json!({"a": {"b": null, "c": 1, "d": "x"}});
        for path in ["a.b", "a.x", "x.y.z", "a.d.e"] {
            assert!(!value.has(path), "{path}");
        }
        assert_eq!((value.int("a.c"), value.text("a.c"), value.text("a.d")), (Some(1), "", "x"));
        assert!(value.list("a").is_empty() && value.map("a.d").is_empty());
    }

    #[test]
    fn what_typed_clients_leave_out_is_no_change() {
        for (a, b, expected) in [
            (json!({"env": [], "tty": false, "x": ""}), json!({}), true),
            (json!({"resources": {"limits": {}}}), json!({"resources": {}}), true),
            (json!({"runAsUser": 0}), json!({}), false),
            (json!({"privileged": false}), json!({}), false),
            (json!({"list": [{}]}), json!({"list": []}), false),
            (json!({"hostNetwork": true}), json!({"hostNetwork": false}), false),
        ] {
            assert_eq!(same(Some(&a), Some(&b)), expected, "{a} {b}");
            assert_eq!(same(Some(&b), Some(&a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn filling_keeps_what_is_there() {
        let mut value = json!({"a": "", "n": 0, "x": null});
        value.fill("a", "new");
        value.fill_zero("n", 3);
        value.fill("x", "filled");
        value.put("example.com/gpu", "1");
        value.fill("example.com/gpu", "2");
        assert_eq!(value, json!({"a": "", "n": 3, "x": "filled", "example.com/gpu": "1"}));
    }
}
