//! What clients are told about the kinds of metrics: their rows, schemas and tables, as metrics-server has them.

use plimsoll_catalogue::{Kind, Verb, Verbs};
use plimsoll_meta::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::{GROUP, VERSION};
use crate::negotiate::Form;
use crate::object::meta;
use crate::table::{self, Include};

const PACKAGE: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";
const META: &str = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1";

/// The kinds, for documents; they are in no catalogue, because nothing of them is kept.
pub(crate) const KINDS: [Kind; 2] = [
    Kind {
        kind: "NodeMetrics",
        plural: "nodes",
        singular: "node",
        namespaced: false,
        definition: "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
        ..BASE
    },
    Kind {
        kind: "PodMetrics",
        plural: "pods",
        singular: "pod",
        definition: "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
        ..BASE
    },
];

const BASE: Kind =
    Kind { group: GROUP, version: VERSION, verbs: Verbs::of(&[Verb::Get, Verb::List]), ..Kind::CUSTOM };

/// The schemas of the kinds, and of what they are made of.
pub(crate) fn definitions() -> Map<String, Value> {
    let usage = json!({"type": "object", "description": "What is used, by resource.",
        "additionalProperties": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"}});
    let referring = |to: String, description: &str| json!({"description": description, "$ref": to});
    let whole = |what: &str, own: &str, property: &Value| {
        let mut properties = json!({
            "apiVersion": {"type": "string", "description": "Version of the object's schema."},
            "kind": {"type": "string", "description": "Kind of the object."},
            "metadata": referring(format!("{META}.ObjectMeta"), "Metadata of the object."),
            "timestamp": referring(format!("{META}.Time"), "The end of the time over which this was measured."),
            "window": referring(format!("{META}.Duration"), "How long that time was."),
        });
        properties[own] = property.clone();
        json!({"type": "object", "description": format!("What {what} uses of each resource."),
            "required": ["timestamp", "window", own], "properties": properties})
    };
    let containers = json!({"type": "array", "description": "What each container uses in the same time.",
        "items": {"$ref": format!("#/definitions/{PACKAGE}.ContainerMetrics")},
        "x-kubernetes-list-type": "atomic"});
    let container = json!({"type": "object", "description": "What a container uses of each resource.",
        "required": ["name", "usage"],
        "properties": {"name": {"type": "string", "description": "The container's name."}, "usage": usage}});
    let duration = json!({"type": "string", "description": "A duration, such as 15s."});
    [
        (format!("{PACKAGE}.NodeMetrics"), whole("a node", "usage", &usage)),
        (format!("{PACKAGE}.PodMetrics"), whole("a pod", "containers", &containers)),
        (format!("{PACKAGE}.ContainerMetrics"), container),
        ("io.k8s.apimachinery.pkg.apis.meta.v1.Duration".to_owned(), duration),
    ]
    .into_iter()
    .collect()
}

/// Metrics in the form that the client asked for: one object, or a list.
pub(super) fn in_form(form: Form, include: Include, found: Value) -> Value {
    let items = |found: &Value| match &found["items"] {
        Value::Array(items) => items.clone(),
        _ => vec![found.clone()],
    };
    match form {
        Form::Object => found,
        Form::PartialMetadata if found["items"].is_array() => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": found["metadata"],
            "items": items(&found).into_iter().map(table::partial).collect::<Vec<_>>(),
        }),
        Form::PartialMetadata => table::partial(found),
        Form::Table => table_of(items(&found), include),
    }
}

/// Without rows there are no columns.
fn table_of(items: Vec<Value>, include: Include) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0});
    let columns = match items.is_empty() {
        true => Value::Null,
        false => json!([
            column("Name", "name", "Name of the resource"),
            column("cpu", "quantity", ""),
            column("memory", "quantity", ""),
            column("Window", "duration", ""),
        ]),
    };
    let row = |item: Value| {
        let cells = json!([meta(&item, "name"), total(&item, "cpu"), total(&item, "memory"), item["window"]]);
        match include {
            Include::Nothing => json!({"cells": cells, "object": null}),
            Include::Metadata => json!({"cells": cells, "object": table::partial(item)}),
            Include::Object => json!({"cells": cells, "object": item}),
        }
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
        "columnDefinitions": columns, "rows": items.into_iter().map(row).collect::<Vec<_>>(),
    })
}

/// What a node, or a pod with all its containers, uses of a resource.
fn total(item: &Value, resource: &str) -> String {
    let usage = |of: &Value| of["usage"][resource].as_str().and_then(|text| text.parse::<Quantity>().ok());
    let containers = item["containers"].as_array().into_iter().flatten();
    let sum = usage(item).into_iter().chain(containers.filter_map(usage)).reduce(|one, other| one + other);
    sum.map(|sum| sum.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_show_what_is_used_together() {
        let used = |cpu: &str, memory: &str| json!({"name": "c", "usage": {"cpu": cpu, "memory": memory}});
        let pod = json!({"kind": "PodMetrics", "metadata": {"name": "p"}, "window": "15.1s",
            "containers": [used("250000n", "2Mi"), used("1m", "512Ki")]});
        let list = json!({"metadata": {}, "items": [pod]});
        let table = in_form(Form::Table, Include::Metadata, list);
        let names: Vec<_> =
            table["columnDefinitions"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
        assert_eq!(names, ["Name", "cpu", "memory", "Window"]);
        assert_eq!(table["rows"][0]["cells"], json!(["p", "1250u", "2560Ki", "15.1s"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        let none = in_form(Form::Table, Include::Metadata, json!({"metadata": {}, "items": []}));
        assert_eq!((&none["columnDefinitions"], &none["rows"]), (&Value::Null, &json!([])));
    }
}
