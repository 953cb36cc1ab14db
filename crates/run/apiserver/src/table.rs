//! Tables and partial metadata: what `kubectl get` and metadata informers ask for.

use jiff::Timestamp;
use plimsoll_catalogue::Kind;
use serde_json::{Value, json};

use crate::query::Query;

/// A table of one object.
pub(crate) fn of_object(kind: &Kind, object: &Value, query: &Query) -> Value {
    let version = object["metadata"]["resourceVersion"].clone();
    of_list(kind, std::slice::from_ref(object), json!({"resourceVersion": version}), query)
}

/// A table of many objects.
pub(crate) fn of_list(kind: &Kind, objects: &[Value], metadata: Value, query: &Query) -> Value {
    let now = Timestamp::now();
    let include = query.get("includeObject");
    let rows: Vec<Value> = objects.iter().map(|object| row(kind, object, include, now)).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns(kind), "rows": rows,
    })
}

/// One row as a table, for watch events; `first` carries the column definitions.
pub(crate) fn of_event(kind: &Kind, object: &Value, query: &Query, first: bool) -> Value {
    let mut table = of_object(kind, object, query);
    if !first {
        table["columnDefinitions"] = Value::Null;
    }
    table
}

fn columns(kind: &Kind) -> Vec<Value> {
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

fn row(kind: &Kind, object: &Value, include: &str, now: Timestamp) -> Value {
    let mut row = json!({"cells": kind.cells(object, now)});
    let conditions = kind.strategy.row_conditions(object);
    if !conditions.is_empty() {
        row["conditions"] = json!(conditions);
    }
    match include {
        "None" => {}
        "Object" => row["object"] = object.clone(),
        _ => row["object"] = partial(object.clone()),
    }
    row
}

/// Only type and metadata.
pub(crate) fn partial(mut object: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"].take()})
}
