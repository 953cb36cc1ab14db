//! OpenAPI documents, v2 and v3, built from the catalogue and the schemas when they are asked for.
//!
//! They are large and rarely read, so none is kept: building one costs milliseconds.

use http::{Response, StatusCode};
use plimsoll_catalogue::{Kind, Verb};
use plimsoll_schema::{ListKind, MapKind, Node, Schemas, Struct};
use serde_json::{Map, Value, json};

use crate::body::{self, ResponseBody};
use crate::openapi_proto;
use crate::stages::Asked;
use crate::version::VERSION;

/// Answers an OpenAPI path, or `None`.
pub(crate) fn answer(asked: &Asked) -> Option<Response<ResponseBody>> {
    let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    match parts[..] {
        ["openapi", "v2"] => Some(match accepted(asked) {
            accept
                if accept.contains(openapi_proto::ACCEPTED) || accept.contains(openapi_proto::MEDIA_TYPE) =>
            {
                body::encoded(StatusCode::OK, openapi_proto::MEDIA_TYPE, openapi_proto::encode(&v2()))
            }
            accept if takes_json(accept) => body::json(StatusCode::OK, &v2()),
            _ => body::failure(&plimsoll_meta::status::Status::not_acceptable(
                "application/json, application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
            )),
        }),
        ["openapi", "v3"] => Some(body::json(StatusCode::OK, &index())),
        ["openapi", "v3", "api", version] => v3("", version),
        ["openapi", "v3", "apis", group, version] => v3(group, version),
        _ => None,
    }
}

fn accepted(asked: &Asked) -> &str {
    asked.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*")
}

fn takes_json(accept: &str) -> bool {
    ["json", "*/*", "application/*"].iter().any(|part| accept.contains(part))
}

/// The group versions and where their documents are; the hash changes with the release.
fn index() -> Value {
    let mut paths = Map::new();
    for group in plimsoll_catalogue::groups() {
        for version in &group.versions {
            let path = if group.name.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{}/{version}", group.name)
            };
            let url = format!("/openapi/v3/{path}?hash={}", VERSION.replace('.', ""));
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn v3(group: &str, version: &str) -> Option<Response<ResponseBody>> {
    let kinds: Vec<&Kind> = plimsoll_catalogue::kinds()
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
        .collect();
    if kinds.is_empty() {
        return None;
    }
    let style = Style::V3;
    let mut all = definitions(style);
    let mut wanted: Vec<String> =
        kinds.iter().flat_map(|kind| [kind.definition.to_owned(), list_name(kind)]).collect();
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

fn v2() -> Value {
    let kinds: Vec<&Kind> = plimsoll_catalogue::kinds().iter().collect();
    json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths(&kinds, Style::V2), "definitions": definitions(Style::V2),
        "securityDefinitions": {"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}},
        "security": [{"BearerToken": []}],
    })
}

/// Body of every patch.
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Answer to a deletion.
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

/// Definitions that every document has.
const COMMON: [&str; 4] = [
    PATCH,
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    STATUS,
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
];

/// The two generations of the format.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    V2,
    V3,
}

impl Style {
    fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

fn list_name(kind: &Kind) -> String {
    format!("{}List", kind.definition)
}

/// All definitions with their descriptions, merge facts and kinds.
fn definitions(style: Style) -> Map<String, Value> {
    let schemas = plimsoll_schema::builtin();
    let mut all = plimsoll_schema::definitions();
    // The one type that no object has a field of.
    all.insert(PATCH.to_owned(), json!({"description": "Patch is provided to give a concrete name and type to the request body.", "type": "object"}));
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
    all
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
            "metadata": {"$ref": style.reference(meta)},
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

/// The paths of these kinds with their operations.
fn paths(kinds: &[&Kind], style: Style) -> Map<String, Value> {
    let mut paths = Map::new();
    for kind in kinds {
        let root = match kind.group {
            "" => format!("/api/{}", kind.version),
            group => format!("/apis/{group}/{}", kind.version),
        };
        let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{root}{scope}/{}", kind.plural);
        let object = format!("{collection}/{{name}}");
        let mut operations =
            Operations { kind, style, identity: (kind.group, kind.version, kind.kind), paths: &mut paths };
        operations.add(
            &collection,
            &[
                ("get", Verb::List, "list"),
                ("post", Verb::Create, "post"),
                ("delete", Verb::DeleteCollection, "deletecollection"),
            ],
            None,
        );
        operations.add(
            &object,
            &[
                ("get", Verb::Get, "get"),
                ("put", Verb::Update, "put"),
                ("patch", Verb::Patch, "patch"),
                ("delete", Verb::Delete, "delete"),
            ],
            None,
        );
        if kind.namespaced {
            operations.add(&format!("{root}/{}", kind.plural), &[("get", Verb::List, "list")], None);
        }
        for sub in kind.subresources {
            let (group, version) =
                if sub.version.is_empty() { (kind.group, kind.version) } else { (sub.group, sub.version) };
            operations.identity = (group, version, sub.kind);
            let verbs = [
                ("get", Verb::Get, "get"),
                ("post", Verb::Create, "post"),
                ("put", Verb::Update, "put"),
                ("patch", Verb::Patch, "patch"),
                ("delete", Verb::Delete, "delete"),
            ];
            operations.add(&format!("{object}/{}", sub.name), &verbs, Some(sub.name));
        }
    }
    paths
}

struct Operations<'a> {
    kind: &'a Kind,
    style: Style,
    identity: (&'a str, &'a str, &'a str),
    paths: &'a mut Map<String, Value>,
}

impl Operations<'_> {
    fn add(&mut self, path: &str, verbs: &[(&str, Verb, &str)], subresource: Option<&str>) {
        let mut item = Map::new();
        for (method, verb, action) in verbs {
            if self.kind.allows(*verb, subresource) {
                item.insert((*method).to_owned(), self.operation(method, action));
            }
        }
        if item.is_empty() {
            return;
        }
        let parameters: Vec<Value> = ["name", "namespace"]
            .into_iter()
            .filter(|name| path.contains(&format!("{{{name}}}")))
            .map(|name| self.parameter(name, "path", "string"))
            .collect();
        item.insert("parameters".to_owned(), json!(parameters));
        self.paths.insert(path.to_owned(), Value::Object(item));
    }

    fn operation(&self, method: &str, action: &str) -> Value {
        let (group, version, kind) = self.identity;
        let own = self.kind.kind == kind;
        let definition = match (action, own) {
            ("list", _) => list_name(self.kind),
            ("delete" | "deletecollection", _) => STATUS.to_owned(),
            (_, true) => self.kind.definition.to_owned(),
            _ => plimsoll_catalogue::by_kind(group, version, kind)
                .map_or_else(String::new, |kind| kind.definition.to_owned()),
        };
        let mut parameters: Vec<Value> = match method {
            "post" | "put" | "patch" => {
                let mut names =
                    vec![("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
                names.extend((method == "patch").then_some(("force", "boolean")));
                names.into_iter().map(|(name, kind)| self.parameter(name, "query", kind)).collect()
            }
            "delete" => {
                [("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string")]
                    .into_iter()
                    .map(|(name, kind)| self.parameter(name, "query", kind))
                    .collect()
            }
            _ if action == "list" => [
                ("continue", "string"),
                ("fieldSelector", "string"),
                ("labelSelector", "string"),
                ("limit", "integer"),
                ("resourceVersion", "string"),
                ("watch", "boolean"),
            ]
            .into_iter()
            .map(|(name, kind)| self.parameter(name, "query", kind))
            .collect(),
            _ => Vec::new(),
        };
        let schema = if definition.is_empty() {
            json!({"type": "string"})
        } else {
            json!({"$ref": self.style.reference(&definition)})
        };
        let mut operation = json!({
            "description": format!("{action} {kind}"),
            "operationId": format!("{action}{}{}{kind}", capital(group), capital(version)),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let body = match method {
            "post" | "put" => Some(
                json!({"$ref": self.style.reference(if definition.is_empty() { STATUS } else { &definition })}),
            ),
            "patch" => Some(json!({"$ref": self.style.reference(PATCH)})),
            _ => None,
        };
        match self.style {
            Style::V3 => {
                if let Some(body) = body {
                    operation["requestBody"] = json!({"content": {"*/*": {"schema": body}}});
                }
                operation["responses"] = json!({"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}});
            }
            Style::V2 => {
                parameters.extend(
                    body.map(|body| json!({"name": "body", "in": "body", "required": true, "schema": body})),
                );
                operation["consumes"] = json!(["application/json", "application/yaml"]);
                operation["produces"] = json!(["application/json", "application/yaml"]);
                operation["schemes"] = json!(["https"]);
                operation["responses"] = json!({"200": {"description": "OK", "schema": schema}});
            }
        }
        operation["parameters"] = json!(parameters);
        operation
    }

    fn parameter(&self, name: &str, place: &str, kind: &str) -> Value {
        let mut parameter = json!({"name": name, "in": place});
        if place == "path" {
            parameter["required"] = json!(true);
        }
        match self.style {
            Style::V2 => {
                parameter["type"] = json!(kind);
                parameter["uniqueItems"] = json!(true);
            }
            Style::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
        }
        parameter
    }
}

fn capital(text: &str) -> String {
    text.split(['.', '/'])
        .map(|word| word[..1.min(word.len())].to_uppercase() + &word[1.min(word.len())..])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        for style in [Style::V2, Style::V3] {
            let all = definitions(style);
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
        let all = definitions(Style::V3);
        let containers = &all["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-type"], "map");
        assert_eq!(all["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
        assert!(all["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["allOf"][0]["$ref"].is_string());
    }
}
