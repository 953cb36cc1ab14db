//! Printer columns: what a table shows of a custom object.

use jiff::Timestamp;
use plimsoll_catalogue::age;
use plimsoll_meta::json_path::JsonPath;
use serde_json::Value;

/// One of `additionalPrinterColumns`.
#[derive(Clone, Debug)]
pub struct PrinterColumn {
    /// Heading.
    pub name: String,
    /// `integer`, `number`, `string`, `boolean` or `date`.
    pub kind: String,
    /// OpenAPI format.
    pub format: String,
    /// What the column shows.
    pub description: String,
    /// 0 is always shown.
    pub priority: i64,
    path: JsonPath,
}

const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The description of the first column of every table.
pub const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

impl PrinterColumn {
    /// The columns of a version besides the name; without any of its own, its age. One path that cannot be
    /// read ends the list, as it does upstream.
    pub fn of(version: &Value) -> Vec<PrinterColumn> {
        let columns = version["additionalPrinterColumns"].as_array().map_or(&[][..], Vec::as_slice);
        if columns.is_empty() {
            return JsonPath::parse(".metadata.creationTimestamp").map(Self::age).into_iter().collect();
        }
        columns.iter().map_while(Self::read).collect()
    }

    fn age(path: JsonPath) -> Self {
        let (name, kind) = ("Age".to_owned(), "date".to_owned());
        Self { name, kind, format: String::new(), description: CREATED.to_owned(), priority: 0, path }
    }

    fn read(column: &Value) -> Option<Self> {
        let text = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
        let path = text("jsonPath");
        let description = match text("description") {
            empty if empty.is_empty() => {
                format!("Custom resource definition column (in JSONPath format): {path}")
            }
            given => given,
        };
        Some(Self {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description,
            priority: column["priority"].as_i64().unwrap_or(0),
            path: JsonPath::parse(&path).ok()?,
        })
    }

    /// The value for an object.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.find(object).unwrap_or_default();
        let Some(value) = found.into_iter().next() else { return Value::Null };
        match self.kind.as_str() {
            "string" => text(&value).into(),
            "integer" => match (value.as_i64(), value.as_f64()) {
                (Some(whole), _) => whole.into(),
                (None, Some(number)) => (number as i64).into(),
                _ => Value::Null,
            },
            "number" if value.is_number() => value,
            "boolean" if value.is_boolean() => value,
            "date" if value.is_string() => date(&value, now).into(),
            _ => Value::Null,
        }
    }
}

/// Text as it is, lists and maps as JSON, the rest as Go prints it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<no value>".to_owned(),
        Value::Number(number) if number.is_f64() => {
            crate::validate::go_float(number.as_f64().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

fn date(value: &Value, now: Timestamp) -> String {
    match value.as_str() {
        Some(text) if !text.is_empty() && text != "null" && text.parse::<Timestamp>().is_err() => {
            "<invalid>".to_owned()
        }
        _ => age::since(Some(value), now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_have_the_types_of_their_columns() {
        let object = json!({"metadata": {"creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"n": 3, "f": 1.5, "s": "x", "b": true, "list": [1, {"a": 2}], "bad": "soon"}});
        let now: Timestamp = "2024-01-01T00:01:00Z".parse().expect("a time");
        for (kind, path, expected) in [
            ("integer", ".spec.n", json!(3)),
            ("integer", ".spec.f", json!(1)),
            ("integer", ".spec.s", json!(null)),
            ("number", ".spec.f", json!(1.5)),
            ("string", ".spec.s", json!("x")),
            ("string", ".spec.n", json!("3")),
            ("string", ".spec.list", json!(r#"[1,{"a":2}]"#)),
            ("string", ".spec.none", json!(null)),
            ("boolean", ".spec.b", json!(true)),
            ("date", ".metadata.creationTimestamp", json!("60s")),
            ("date", ".spec.bad", json!("<invalid>")),
            ("date", ".spec.n", json!(null)),
        ] {
            let version =
                json!({"additionalPrinterColumns": [{"name": "C", "type": kind, "jsonPath": path}]});
            let columns = PrinterColumn::of(&version);
            assert_eq!(columns[0].cell(&object, now), expected, "{kind} {path}");
        }
        let columns = PrinterColumn::of(&json!({}));
        assert_eq!((columns[0].name.as_str(), columns[0].cell(&object, now)), ("Age", json!("60s")));
    }
}
