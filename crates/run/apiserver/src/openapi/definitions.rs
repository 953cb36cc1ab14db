//! The definitions of types, with what clients merge by.

use std::sync::Arc;

use plimsoll_catalogue::{Kind, Verb};
use plimsoll_schema::{ListKind, MapKind, Node, Schemas, Struct};
use plimsoll_structural::publish::{self, Document, Names};
use serde_json::{Map, Value, json};

use super::Style;
use super::{corrections, defaults, kinds};
use crate::custom::Definition;
use crate::usage::published;

/// Body of every patch.
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// One event of a watch.
pub(super) const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

/// Answer to a deletion.
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

/// What may be sent with a deletion.
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Answer to `/version`.
pub(super) const VERSION_INFO: &str = "io.k8s.apimachinery.pkg.version.Info";

/// What a custom kind is made of, as long as it is served.
pub(super) type Custom = (&'static Kind, Arc<Definition>);

impl From<Style> for Document {
    fn from(style: Style) -> Self {
        match style {
            Style::V2 => Self::V2,
            Style::V3 => Self::V3,
        }
    }
}

/// Name of the definition of a kind.
pub(super) fn object_name(kind: &Kind) -> String {
    match kind.is_custom() {
        true => publish::definition_name(kind.group, kind.version, kind.kind),
        false => kind.definition.to_owned(),
    }
}

/// Name of the definition of its list.
pub(super) fn list_name(kind: &Kind) -> String {
    match kind.is_custom() {
        true => publish::definition_name(kind.group, kind.version, &kind.list_kind()),
        false => format!("{}List", kind.definition),
    }
}

/// All built-in definitions with their descriptions, merge facts and kinds.
pub(super) fn builtin(style: Style) -> Map<String, Value> {
    let schemas = plimsoll_schema::builtin();
    let mut all = plimsoll_schema::definitions();
    // The one type that no object has a field of.
    all.insert(PATCH.to_owned(), json!({"description": "Patch is provided to give a concrete name and type to the request body.", "type": "object"}));
    all.insert(WATCH_EVENT.to_owned(), watch_event());
    all.extend(published::definitions());
    for (name, definition) in &mut all {
        let shape = schemas.lookup(name).map(|id| schemas.node(id));
        let shape = match shape {
            Some(Node::Struct(shape)) => Some(shape),
            _ => None,
        };
        complete(definition, shape, schemas, style);
    }
    for kind in kinds() {
        let identity = json!([{"group": kind.group, "kind": kind.kind, "version": kind.version}]);
        if let Some(definition) = all.get_mut(kind.definition) {
            definition["x-kubernetes-group-version-kind"] = identity;
        }
        if kind.allows(Verb::List, None) {
            all.insert(list_name(kind), list_definition(kind, style));
        }
    }
    corrections::correct(&mut all);
    identify_everywhere(&mut all);
    if style == Style::V3 {
        defaults::fill(&mut all);
    }
    all
}

/// The definitions of custom kinds.
pub(super) fn custom(customs: &[Custom], style: Style) -> Map<String, Value> {
    let mut all = Map::new();
    for (kind, definition) in customs {
        let list_kind = kind.list_kind();
        let Kind { group, version, plural, .. } = **kind;
        let names = Names { group, version, kind: kind.kind, list_kind: &list_kind, plural };
        all.insert(object_name(kind), publish::object(definition.props.as_ref(), names, style.into()));
        all.insert(list_name(kind), publish::list(names, style.into()));
    }
    all
}

/// A reference with a description beside it, which v3 allows only around it.
fn described_reference(style: Style, name: &str, description: &str) -> Value {
    let reference = json!({"$ref": style.reference(name)});
    match style {
        Style::V2 => json!({"description": description, "$ref": reference["$ref"]}),
        Style::V3 => json!({"description": description, "allOf": [reference]}),
    }
}

fn watch_event() -> Value {
    json!({
        "description": "One event of a watch: what happened to an object, and the object after it.",
        "type": "object", "required": ["type", "object"],
        "properties": {
            "type": {"type": "string", "description": "ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."},
            "object": {
                "description": "The object; after an error a Status.",
                "$ref": "#/definitions/io.k8s.apimachinery.pkg.runtime.RawExtension",
            },
        },
    })
}

/// The types that every built-in group version has under its own name.
fn identify_everywhere(all: &mut Map<String, Value>) {
    let mut versions: Vec<(&str, &str)> =
        plimsoll_catalogue::kinds().iter().map(|kind| (kind.group, kind.version)).collect();
    versions.sort_unstable();
    versions.dedup();
    for (name, kind) in [(DELETE_OPTIONS, "DeleteOptions"), (WATCH_EVENT, "WatchEvent")] {
        let identities: Vec<Value> = versions
            .iter()
            .map(|(group, version)| json!({"group": group, "kind": kind, "version": version}))
            .collect();
        if let Some(definition) = all.get_mut(name) {
            definition["x-kubernetes-group-version-kind"] = Value::Array(identities);
        }
    }
    if let Some(status) = all.get_mut(STATUS) {
        status["x-kubernetes-group-version-kind"] = json!([{"group": "", "kind": "Status", "version": "v1"}]);
    }
}

fn list_definition(kind: &Kind, style: Style) -> Value {
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
    json!({
        "description": format!("{} is a list of {} objects.", kind.list_kind(), kind.kind),
        "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the list's schema."},
            "kind": {"type": "string", "description": "Kind of the list."},
            "items": {"type": "array", "description": "The objects.", "items": {"$ref": style.reference(kind.definition)}},
            "metadata": described_reference(style, meta, "Metadata of the list."),
        },
        "x-kubernetes-group-version-kind": [{"group": kind.group, "kind": kind.list_kind(), "version": kind.version}],
    })
}

/// Brings a definition into the form that clients know: references alone or in `allOf`, merge facts beside them.
fn complete(definition: &mut Value, shape: Option<&Struct>, schemas: &Schemas, style: Style) {
    if shape.is_some_and(|shape| shape.kind == MapKind::Atomic) {
        definition["x-kubernetes-map-type"] = json!("atomic");
    }
    refer(definition, style);
    if style == Style::V2 && definition.get("x-kubernetes-int-or-string").is_some() {
        *definition =
            json!({"description": definition["description"], "type": "string", "format": "int-or-string"});
    }
    let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (name, property) in properties {
        let Some(field) = shape.and_then(|shape| shape.field(name)) else { continue };
        match schemas.node(field.node) {
            Node::List { kind, .. } => {
                let (word, keys) = match kind {
                    ListKind::Atomic => ("atomic", None),
                    ListKind::Set => ("set", None),
                    ListKind::Map(keys) => ("map", Some(keys)),
                };
                property["x-kubernetes-list-type"] = json!(word);
                if let Some(keys) = keys {
                    property["x-kubernetes-list-map-keys"] = json!(keys);
                }
            }
            Node::Map { kind: MapKind::Atomic, .. } => property["x-kubernetes-map-type"] = json!("atomic"),
            _ => {}
        }
        let strategy = match (field.patch.merge, field.patch.retain_keys) {
            (true, true) => "merge,retainKeys",
            (true, false) => "merge",
            (false, true) => "retainKeys",
            (false, false) => continue,
        };
        property["x-kubernetes-patch-strategy"] = json!(strategy);
        if let Some(key) = &field.patch.merge_key {
            property["x-kubernetes-patch-merge-key"] = json!(key);
        }
    }
}

/// Rewrites every reference below.
pub(super) fn refer(value: &mut Value, style: Style) {
    match value {
        Value::Object(map) => {
            if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                let name = target.rsplit('/').next().unwrap_or_default().to_owned();
                if style == Style::V3 && map.len() > 1 {
                    map.remove("$ref");
                    map.insert("allOf".to_owned(), json!([{"$ref": style.reference(&name)}]));
                } else {
                    map.insert("$ref".to_owned(), json!(style.reference(&name)));
                }
                return;
            }
            map.values_mut().for_each(|inner| refer(inner, style));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| refer(inner, style)),
        _ => {}
    }
}

/// The names of the definitions that a value refers to.
pub(super) fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                found.push(target.rsplit('/').next().unwrap_or_default().to_owned());
            }
            map.values().for_each(|inner| references(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
