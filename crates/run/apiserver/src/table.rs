//! Tables and partial metadata: what `kubectl get` and metadata informers ask for.
//!
//! Both are written from an object's bytes: its metadata is copied as it stands, and a row reads the
//! rest without managedFields, at which no column looks.

use bytes::Bytes;
use jiff::Timestamp;
use plimsoll_catalogue::Kind;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::encode;
use crate::lean;
use crate::query::Query;

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

/// A table of one object.
pub(crate) fn of_object(kind: &Kind, object: &Value, query: &Query) -> Bytes {
    of_bytes(kind, &encode::object(object), Include::of(query), true)
}

/// A table of one encoded object; `columns` says whether it carries the column definitions, as the
/// first event of a watch does.
pub(crate) fn of_bytes(kind: &Kind, object: &[u8], include: Include, columns: bool) -> Bytes {
    let version = lean::version(object);
    let mut table = opening(&json!({"resourceVersion": version}), columns.then_some(kind));
    write_row(kind, object, include, Timestamp::now(), &mut table);
    table.extend_from_slice(b"]}");
    table.into()
}

/// A table of many objects up to its first row.
pub(crate) fn head(kind: &Kind, metadata: &Value) -> Bytes {
    opening(metadata, Some(kind)).into()
}

fn opening(metadata: &Value, columns: Option<&Kind>) -> Vec<u8> {
    let columns = columns.map_or(Value::Null, |kind| Value::Array(definitions(kind)));
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
pub(crate) fn write_row(kind: &Kind, bytes: &[u8], include: Include, now: Timestamp, out: &mut Vec<u8>) {
    let object = lean::object(bytes);
    out.extend_from_slice(b"{\"cells\":");
    encode::write_json(out, &kind.cells(&object, now));
    let conditions = kind.strategy.row_conditions(&object);
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
        let kind = plimsoll_catalogue::find("", "v1", "configmaps").expect("a kind");
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
