//! OpenAPI documents, v2 and v3, built from the catalogue and the schemas when they are asked for.
//!
//! They are large and rarely read, so none is kept: building one costs milliseconds.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::{Response, StatusCode};
use plimsoll_catalogue::{Kind, Verb};
use plimsoll_schema::{ListKind, MapKind, Node, Schemas, Struct};
use plimsoll_structural::publish::{self, Document, Names};
use serde_json::{Map, Value, json};

use crate::body::{self, ResponseBody};
use crate::custom::Definition;
use crate::openapi_corrections;
use crate::openapi_operations::paths;
use crate::openapi_proto;
use crate::registry;
use crate::server::Api;
use crate::stages::Asked;
use crate::version::VERSION;

/// Answers an OpenAPI path, or `None`.
pub(crate) fn answer(api: &Api, asked: &Asked) -> Option<Response<ResponseBody>> {
    let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    match parts[..] {
        ["openapi", "v2"] => Some(match accepted(asked) {
            accept
                if accept.contains(openapi_proto::ACCEPTED) || accept.contains(openapi_proto::MEDIA_TYPE) =>
            {
                body::encoded(StatusCode::OK, openapi_proto::MEDIA_TYPE, openapi_proto::encode(&v2(api)))
            }
            accept if takes_json(accept) => body::json(StatusCode::OK, &v2(api)),
            _ => body::failure(&plimsoll_meta::status::Status::not_acceptable(
                "application/json, application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
            )),
        }),
        ["openapi", "v3"] => Some(body::json(StatusCode::OK, &index(api))),
        ["openapi", "v3", "api", version] => v3(api, "", version),
        ["openapi", "v3", "apis", group, version] => v3(api, group, version),
        _ => None,
    }
}

fn accepted(asked: &Asked) -> &str {
    asked.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*")
}

fn takes_json(accept: &str) -> bool {
    ["json", "*/*", "application/*"].iter().any(|part| accept.contains(part))
}

/// The group versions and where their documents are; the hash changes with the release, and with the
/// definitions of custom kinds.
fn index(api: &Api) -> Value {
    let mut paths = Map::new();
    let source = Source::of(api);
    for group in plimsoll_catalogue::groups_of(source.kinds.iter().copied()) {
        for version in &group.versions {
            let path = if group.name.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{}/{version}", group.name)
            };
            let url = format!("/openapi/v3/{path}?hash={}", source.hash(group.name, version));
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn v3(api: &Api, group: &str, version: &str) -> Option<Response<ResponseBody>> {
    let source = Source::of(api);
    let kinds: Vec<&Kind> =
        source.kinds.iter().copied().filter(|kind| kind.group == group && kind.version == version).collect();
    if kinds.is_empty() {
        return None;
    }
    let style = Style::V3;
    let mut all = definitions(&source, style);
    let mut wanted: Vec<String> =
        kinds.iter().flat_map(|kind| [object_name(kind), list_name(kind)]).collect();
    wanted.extend(COMMON.iter().map(|name| (*name).to_owned()));
    wanted.extend(kinds.iter().flat_map(|kind| kind.subresources).filter_map(|sub| {
        plimsoll_catalogue::by_kind(sub.group, sub.version, sub.kind).map(|kind| kind.definition.to_owned())
    }));
    wanted.push("io.k8s.api.autoscaling.v1.Scale".to_owned());
    let mut schemas = Map::new();
    while let Some(name) = wanted.pop() {
        let Some(schema) = all.remove(&name) else { continue };
        references(&schema, &mut wanted);
        schemas.insert(name, schema);
    }
    let document = json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths(&kinds, style), "components": {"schemas": schemas},
    });
    Some(body::json(StatusCode::OK, &document))
}

fn v2(api: &Api) -> Value {
    let source = Source::of(api);
    let kinds: Vec<&Kind> = source.kinds.to_vec();
    json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths(&kinds, Style::V2), "definitions": definitions(&source, Style::V2),
        "securityDefinitions": {"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}},
        "security": [{"BearerToken": []}],
    })
}

/// Body of every patch.
pub(crate) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// One event of a watch.
const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

/// Answer to a deletion.
pub(crate) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

/// Definitions that every document has.
const COMMON: [&str; 5] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
    PATCH,
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    STATUS,
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
];

/// The two generations of the format.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    V2,
    V3,
}

impl Style {
    /// The text that refers to a definition.
    pub(crate) fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// Every kind that is served, with the schemas of those that users define.
struct Source {
    kinds: Vec<&'static Kind>,
    custom: Vec<(&'static Kind, Arc<Definition>)>,
}

impl Source {
    fn of(api: &Api) -> Self {
        let kinds = registry::kinds(api);
        let custom = kinds
            .iter()
            .filter(|kind| kind.is_custom())
            .filter_map(|kind| Some((*kind, api.customs.definition(kind)?)))
            .collect();
        Self { kinds, custom }
    }

    fn hash(&self, group: &str, version: &str) -> String {
        let mut hasher = DefaultHasher::new();
        let of_group = |kind: &Kind| (kind.group, kind.version) == (group, version);
        for (kind, definition) in self.custom.iter().filter(|(kind, _)| of_group(kind)) {
            (kind.plural, kind.kind, kind.subresources.len()).hash(&mut hasher);
            definition.props.as_ref().map(Value::to_string).hash(&mut hasher);
        }
        format!("{}{:X}", VERSION.replace('.', ""), hasher.finish())
    }
}

impl From<Style> for Document {
    fn from(style: Style) -> Self {
        match style {
            Style::V2 => Self::V2,
            Style::V3 => Self::V3,
        }
    }
}

/// Name of the definition of a kind.
pub(crate) fn object_name(kind: &Kind) -> String {
    match kind.is_custom() {
        true => publish::definition_name(kind.group, kind.version, kind.kind),
        false => kind.definition.to_owned(),
    }
}

/// Name of the definition of its list.
pub(crate) fn list_name(kind: &Kind) -> String {
    match kind.is_custom() {
        true => publish::definition_name(kind.group, kind.version, &kind.list_kind()),
        false => format!("{}List", kind.definition),
    }
}

/// All definitions with their descriptions, merge facts and kinds.
fn definitions(source: &Source, style: Style) -> Map<String, Value> {
    let schemas = plimsoll_schema::builtin();
    let mut all = plimsoll_schema::definitions();
    // The one type that no object has a field of.
    all.insert(PATCH.to_owned(), json!({"description": "Patch is provided to give a concrete name and type to the request body.", "type": "object"}));
    all.insert(WATCH_EVENT.to_owned(), watch_event());
    for (name, definition) in &mut all {
        let shape = schemas.lookup(name).map(|id| schemas.node(id));
        let shape = match shape {
            Some(Node::Struct(shape)) => Some(shape),
            _ => None,
        };
        complete(definition, shape, schemas, style);
    }
    for kind in plimsoll_catalogue::kinds() {
        let identity = json!([{"group": kind.group, "kind": kind.kind, "version": kind.version}]);
        if let Some(definition) = all.get_mut(kind.definition) {
            definition["x-kubernetes-group-version-kind"] = identity;
        }
        if kind.allows(Verb::List, None) {
            all.insert(list_name(kind), list_definition(kind, style));
        }
    }
    for (kind, definition) in &source.custom {
        let list_kind = kind.list_kind();
        let Kind { group, version, plural, .. } = **kind;
        let names = Names { group, version, kind: kind.kind, list_kind: &list_kind, plural };
        all.insert(object_name(kind), publish::object(definition.props.as_ref(), names, style.into()));
        all.insert(list_name(kind), publish::list(names, style.into()));
    }
    openapi_corrections::correct(&mut all);
    identify_everywhere(&mut all, &source.kinds);
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

/// The types that every group version has under its own name.
fn identify_everywhere(all: &mut Map<String, Value>, kinds: &[&Kind]) {
    let mut versions: Vec<(&str, &str)> = kinds.iter().map(|kind| (kind.group, kind.version)).collect();
    versions.sort_unstable();
    versions.dedup();
    for (name, kind) in [("DeleteOptions", "DeleteOptions"), ("WatchEvent", "WatchEvent")] {
        let identities: Vec<Value> = versions
            .iter()
            .map(|(group, version)| json!({"group": group, "kind": kind, "version": version}))
            .collect();
        if let Some(definition) = all.get_mut(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")) {
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
fn refer(value: &mut Value, style: Style) {
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

fn references(value: &Value, found: &mut Vec<String>) {
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
mod tests {
    use super::*;

    fn builtin() -> Source {
        Source { kinds: plimsoll_catalogue::kinds().iter().collect(), custom: Vec::new() }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for style in [Style::V2, Style::V3] {
            let all = definitions(&builtin(), style);
            let mut wanted = Vec::new();
            all.values().for_each(|definition| references(definition, &mut wanted));
            references(
                &Value::Object(paths(&plimsoll_catalogue::kinds().iter().collect::<Vec<_>>(), style)),
                &mut wanted,
            );
            wanted.sort();
            wanted.dedup();
            let missing: Vec<&String> = wanted.iter().filter(|name| !all.contains_key(*name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    }

    #[test]
    fn definitions_carry_what_clients_merge_by() {
        let all = definitions(&builtin(), Style::V3);
        let containers = &all["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-type"], "map");
        assert_eq!(all["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
        assert!(all["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["allOf"][0]["$ref"].is_string());
    }

    /// Differences that stay, and why.
    const EXPLAINED: [(&str, &str); 6] = [
        ("io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus", "changed in v1.37"),
        ("io.k8s.api.resource.v1.Device", "changed in v1.37"),
        ("io.k8s.api.resource.v1.NodeAllocatableResourceMapping", "gone in v1.37"),
        (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
            "a type keeps old clients from guessing",
        ),
        ("io.k8s.apimachinery.pkg.api.resource.Quantity", "numbers are quantities, too"),
        ("io.k8s.apimachinery.pkg.version.Info", "only /version has it, which no generated client asks"),
    ];

    fn facts(definition: &Value) -> Vec<String> {
        let mut found = Vec::new();
        let mut note = |place: &str, value: &Value| {
            for key in ["type", "format", "$ref", "required", "x-kubernetes-int-or-string"] {
                let mut value = value.get(key).cloned().unwrap_or_default();
                if let Some(list) = value.as_array_mut() {
                    list.sort_by_key(Value::to_string);
                }
                if !value.is_null() {
                    found.push(format!("{place} {key} {value}"));
                }
            }
            for (key, value) in value.as_object().into_iter().flatten() {
                let identity = key == "x-kubernetes-group-version-kind"
                    && value.as_array().is_some_and(|list| list.len() > 1);
                if key.starts_with("x-kubernetes-") && !identity {
                    found.push(format!("{place} {key} {value}"));
                }
            }
            if value.get("description").is_some() {
                found.push(format!("{place} is described"));
            }
        };
        note("", definition);
        for (name, property) in definition["properties"].as_object().into_iter().flatten() {
            note(name, property);
        }
        found.sort();
        found
    }

    #[test]
    fn definitions_are_those_that_upstream_publishes() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../../shared/reference/openapi-v2.json");
        let Ok(bytes) = std::fs::read(path) else { return };
        let published: Value = serde_json::from_slice(&bytes).expect("JSON");
        let ours = definitions(&builtin(), Style::V2);
        let mut differences = Vec::new();
        for (name, definition) in published["definitions"].as_object().into_iter().flatten() {
            if name.contains("alpha")
                || name.contains("beta")
                || EXPLAINED.iter().any(|(known, _)| known == name)
            {
                continue;
            }
            let Some(mine) = ours.get(name) else {
                differences.push(format!("{name} is missing"));
                continue;
            };
            let (theirs, mine) = (facts(definition), facts(mine));
            for fact in theirs.iter().filter(|fact| !mine.contains(fact)) {
                differences.push(format!("{name}: - {fact}"));
            }
            // What v1.36 has no field of came with v1.37.
            let old = |fact: &&String| {
                let field = fact.split(' ').next().unwrap_or_default();
                (field.is_empty() || definition["properties"].get(field).is_some())
                    && !fact.ends_with(" is described")
            };
            for fact in mine.iter().filter(|fact| !theirs.contains(fact)).filter(old) {
                differences.push(format!("{name}: + {fact}"));
            }
        }
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    }
}
