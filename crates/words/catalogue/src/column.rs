//! The columns of tables and what several kinds show alike.

use jiff::Timestamp;
use serde_json::Value;

use crate::access::Access;
use crate::age;

/// Computes one cell from the object and the time of the request.
pub type Cell = fn(&Value, Timestamp) -> Value;

/// One column of a `meta.k8s.io` Table.
#[derive(Clone, Copy)]
pub struct Column {
    /// Heading; kubectl prints it in capitals.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `boolean` or `date`.
    pub data_type: &'static str,
    /// OpenAPI format: `name` marks the column that identifies the row, else empty.
    pub format: &'static str,
    /// What the column shows.
    pub description: &'static str,
    /// 0 is always shown, 1 only by `-o wide`.
    pub priority: i32,
    /// The value for an object.
    pub cell: Cell,
}

impl Column {
    /// A column of text.
    pub const fn text(name: &'static str, description: &'static str, cell: Cell) -> Column {
        Column { name, data_type: "string", format: "", description, priority: 0, cell }
    }

    /// A column of whole numbers.
    pub const fn integer(name: &'static str, description: &'static str, cell: Cell) -> Column {
        Column { data_type: "integer", ..Column::text(name, description, cell) }
    }

    /// A column of `true` and `false`.
    pub const fn boolean(name: &'static str, description: &'static str, cell: Cell) -> Column {
        Column { data_type: "boolean", ..Column::text(name, description, cell) }
    }

    /// Shown by `-o wide` only.
    pub const fn wide(self) -> Column {
        Column { priority: 1, ..self }
    }
}

impl std::fmt::Debug for Column {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

/// The object's name.
pub const NAME: Column = Column {
    format: "name",
    ..Column::text("Name", "name of the object", |object, _| object.text("metadata.name").into())
};

/// Time since creation.
pub const AGE: Column = Column::text("Age", "time since the object was created", |object, now| {
    age::since(object.at("metadata.creationTimestamp"), now).into()
});

/// Kinds without a table of their own show their name and the moment of creation.
pub const DEFAULT: &[Column] = &[
    NAME,
    Column {
        data_type: "date",
        ..Column::text("Created At", "when the object was created", |object, _| {
            object.at("metadata.creationTimestamp").cloned().unwrap_or(Value::Null)
        })
    },
];

/// Names of the containers of a workload's template.
pub(crate) const CONTAINERS: Column =
    Column::text("Containers", "names of the containers in the template", |object, _| {
        joined(object.list("spec.template.spec.containers"), "name").into()
    })
    .wide();

/// Images of the containers of a workload's template.
pub(crate) const IMAGES: Column =
    Column::text("Images", "images of the containers in the template", |object, _| {
        joined(object.list("spec.template.spec.containers"), "image").into()
    })
    .wide();

/// A workload's label selector.
pub(crate) const SELECTOR: Column =
    Column::text("Selector", "selector of the pods", |object, _| selector(object.at("spec.selector")).into())
        .wide();

/// One field of each element, joined by commas.
pub(crate) fn joined(items: &[Value], field: &str) -> String {
    items.iter().map(|item| item.text(field)).collect::<Vec<_>>().join(",")
}

/// `text`, or `otherwise` when it is empty.
pub(crate) fn or(text: impl Into<String>, otherwise: &str) -> Value {
    let text = text.into();
    Value::String(if text.is_empty() { otherwise.to_owned() } else { text })
}

/// The first `limit` entries; how many more there are is told behind them.
pub(crate) fn at_most(items: &[String], limit: usize, separator: &str, empty: &str) -> String {
    match items.len() {
        0 => empty.to_owned(),
        len if len > limit => format!("{} + {} more...", items[..limit].join(separator), len - limit),
        _ => items.join(separator),
    }
}

/// A map of labels as `a=b,c=d` in the order of keys, `<none>` when it is empty.
pub(crate) fn labels(value: Option<&Value>) -> String {
    let mut pairs: Vec<(&str, &str)> = value
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("")))
        .collect();
    if pairs.is_empty() {
        return "<none>".to_owned();
    }
    pairs.sort_unstable();
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// A label selector as kubectl writes it: requirements in the order of keys, `<none>` for one
/// that selects everything.
pub(crate) fn selector(value: Option<&Value>) -> String {
    let Some(value) = value else { return "<none>".to_owned() };
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in value.map("matchLabels") {
        parts.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))));
    }
    for expression in value.list("matchExpressions") {
        let key = expression.text("key");
        let mut values = expression.texts("values");
        values.sort_unstable();
        let values = values.join(",");
        let text = match expression.text("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => "<error>".to_owned(),
        };
        parts.push((key.to_owned(), text));
    }
    if parts.is_empty() {
        return "<none>".to_owned();
    }
    parts.sort();
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}
