//! JSON values as Go prints them, which is how they stand in upstream's messages about patches.

use serde_json::{Map, Value};

/// A value as `%v` prints it: `map[a:1 b:[x y]]`.
pub fn go_text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

pub(crate) fn go_map(map: &Map<String, Value>) -> String {
    let mut out = String::new();
    write_map(map, &mut out);
    out
}

/// A list as `%v` prints it.
pub(crate) fn go_list(list: &[Value]) -> String {
    let mut out = String::new();
    write_list(list, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Array(list) => write_list(list, out),
        Value::Object(map) => write_map(map, out),
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn write_list(list: &[Value], out: &mut String) {
    out.push('[');
    for (at, item) in list.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        write(item, out);
    }
    out.push(']');
}

fn write_map(map: &Map<String, Value>, out: &mut String) {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    out.push_str("map[");
    for (at, key) in keys.into_iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        out.push_str(key);
        out.push(':');
        write(&map[key], out);
    }
    out.push(']');
}

/// A scalar or tree as `%#v` prints what the typed merge holds: `&value.valueUnstructured{Value:1}`.
pub(crate) fn go_value(value: &Value) -> String {
    format!("&value.valueUnstructured{{Value:{}}}", literal(value))
}

fn literal(value: &Value) -> String {
    let all = |list: &[String]| list.join(", ");
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(list) => {
            format!("[]interface {{}}{{{}}}", all(&list.iter().map(literal).collect::<Vec<_>>()))
        }
        Value::Object(map) => {
            let mut entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", literal(value))).collect();
            entries.sort();
            format!("map[string]interface {{}}{{{}}}", all(&entries))
        }
        scalar => scalar.to_string(),
    }
}

/// What the value is called in complaints of Go's decoder.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_as_go_prints_them() {
        for (value, text, debug) in [
            (json!(1), "1", "1"),
            (json!("x"), "x", "\"x\""),
            (
                json!({"b": [1, "x"], "a": null}),
                "map[a:<nil> b:[1 x]]",
                "map[string]interface {}{\"a\":interface {}(nil), \"b\":[]interface {}{1, \"x\"}}",
            ),
        ] {
            assert_eq!(go_text(&value), text);
            assert_eq!(go_value(&value), format!("&value.valueUnstructured{{Value:{debug}}}"));
        }
    }
}
