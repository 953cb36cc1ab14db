//! Tables and partial metadata: what `kubectl get` and metadata informers ask for.
//!
//! Both are written from an object's bytes: its metadata is copied as it stands, and a row reads the
//! rest without managedFields, at which no column looks.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::custom::Definition;
use crate::encode;
use crate::lean;
use crate::query::Query;
use crate::server::Api;

/// How much of the object a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    pub(crate) fn of(query: &Query) -> Self {
        match query.get("includeObject") {
            "None" => Self::Nothing,
            "Object" => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// What the rows of a kind's tables show.
#[derive(Clone, Debug)]
pub(crate) enum Columns {
    Builtin(&'static Kind),
    Custom(Arc<Definition>),
}

impl Columns {
    /// The columns of a kind's tables.
    pub(crate) fn of(api: &Api, kind: &'static Kind) -> Result<Self, Status> {
        Ok(if kind.is_custom() { Self::Custom(api.customs.require(kind)?) } else { Self::Builtin(kind) })
    }

    fn definitions(&self) -> Vec<Value> {
        match self {
            Self::Builtin(kind) => definitions(kind),
            Self::Custom(definition) => definition.columns(),
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match self {
            Self::Builtin(kind) => kind.cells(object, now),
            Self::Custom(definition) => definition.cells(object, now),
        }
    }

    fn conditions(&self, object: &Value) -> Vec<Value> {
        match self {
            Self::Builtin(kind) => kind.strategy.row_conditions(object),
            Self::Custom(_) => Vec::new(),
        }
    }
}

/// A table of one object.
pub(crate) fn of_object(columns: &Columns, object: &Value, query: &Query) -> Bytes {
    of_bytes(columns, &encode::object(object), Include::of(query), true)
}

/// A table of one encoded object; `first` says whether it carries the column definitions, as the
/// first event of a watch does.
pub(crate) fn of_bytes(columns: &Columns, object: &[u8], include: Include, first: bool) -> Bytes {
    let version = lean::version(object);
    let mut table = opening(&json!({"resourceVersion": version}), first.then_some(columns));
    write_row(columns, object, include, Timestamp::now(), &mut table);
    table.extend_from_slice(b"]}");
    table.into()
}

/// A table of many objects up to its first row.
pub(crate) fn head(columns: &Columns, metadata: &Value) -> Bytes {
    opening(metadata, Some(columns)).into()
}

fn opening(metadata: &Value, columns: Option<&Columns>) -> Vec<u8> {
    let columns = columns.map_or(Value::Null, |columns| Value::Array(columns.definitions()));
    format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{metadata},\"columnDefinitions\":{columns},\"rows\":["
    )
    .into_bytes()
}

fn definitions(kind: &Kind) -> Vec<Value> {
    kind.columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name, "type": column.data_type, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        })
        .collect()
}

/// One row.
pub(crate) fn write_row(
    columns: &Columns,
    bytes: &[u8],
    include: Include,
    now: Timestamp,
    out: &mut Vec<u8>,
) {
    let object = lean::object(bytes);
    out.extend_from_slice(b"{\"cells\":");
    encode::write_json(out, &columns.cells(&object, now));
    let conditions = columns.conditions(&object);
    if !conditions.is_empty() {
        out.extend_from_slice(b",\"conditions\":");
        encode::write_json(out, &conditions);
    }
    if include != Include::Nothing {
        out.extend_from_slice(b",\"object\":");
    }
    match include {
        Include::Nothing => {}
        Include::Metadata => write_partial(bytes, out),
        Include::Object => out.extend_from_slice(bytes),
    }
    out.push(b'}');
}

/// Only type and metadata of an encoded object.
pub(crate) fn write_partial(object: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":",
    );
    out.extend_from_slice(lean::metadata(object).map_or("{}", RawValue::get).as_bytes());
    out.push(b'}');
}

/// Only type and metadata.
pub(crate) fn partial(mut object: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"].take()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_carries_what_is_asked_for() {
        let kind = &Columns::Builtin(plimsoll_catalogue::find("", "v1", "configmaps").expect("a kind"));
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"metadata": "x"},
            "metadata": {"name": "a", "resourceVersion": "7", "managedFields": [{"manager": "m"}]},
        });
        let partial = partial(object.clone());
        for (include, expected) in
            [("None", None), ("Object", Some(&object)), ("Metadata", Some(&partial)), ("", Some(&partial))]
        {
            let query = Query::parse(Some(&format!("includeObject={include}")));
            let table: Value =
                serde_json::from_slice(&of_object(kind, &object, &query)).expect("a table in JSON");
            assert_eq!(table["metadata"]["resourceVersion"], "7");
            assert_eq!(table["rows"][0]["cells"][0], "a");
            assert_eq!(table["rows"][0].get("object"), expected, "{include}");
        }
        let later = of_bytes(kind, &encode::object(&object), Include::Nothing, false);
        let later: Value = serde_json::from_slice(&later).expect("a table in JSON");
        assert_eq!(later["columnDefinitions"], Value::Null);
    }
}
