//! Whole documents, encoded: one for everything in version 2, one for each place in version 3.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_catalogue::Kind;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::definitions::{self, Custom, references};
use super::packed::{Encoding, Packed, unpack};
use super::pages::pages;
use super::{Style, kinds, merge, operations, place};
use crate::version::VERSION;

/// A document of version 3, which borrows the definitions that it shares with others.
#[derive(Serialize)]
struct Document<'a> {
    components: Components<'a>,
    info: Value,
    openapi: &'static str,
    paths: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Components<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    schemas: BTreeMap<String, &'a Value>,
    security_schemes: Value,
}

/// The built-in documents of version 3 in JSON, by place, each handed to `keep` as soon as it is made.
pub(super) fn builtin_v3(mut keep: impl FnMut(String, Vec<u8>)) {
    let all = definitions::builtin(Style::V3);
    let mut places: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for page in pages() {
        page.describe(places.entry(page.place.clone()).or_default(), Style::V3);
    }
    for kind in kinds() {
        let paths = operations::paths(&[kind], Style::V3);
        places.entry(place(kind.group, kind.version)).or_default().extend(paths);
    }
    for (place, paths) in places {
        keep(place, encode(paths, &[&all], json!({"title": "Kubernetes", "version": VERSION})));
    }
}

/// The documents of version 3 of these custom kinds, which are all of their group versions.
pub(super) fn custom_v3(families: &[Vec<Custom>], mut keep: impl FnMut(usize, Vec<u8>)) {
    let all = definitions::builtin(Style::V3);
    for (at, family) in families.iter().enumerate() {
        let own = definitions::custom(family, Style::V3);
        let kinds: Vec<&Kind> = family.iter().map(|(kind, _)| *kind).collect();
        let info = json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"});
        keep(at, encode(operations::paths(&kinds, Style::V3), &[&own, &all], info));
    }
}

/// The document of version 2, with the parts of extension servers.
pub(super) fn v2(customs: &[Custom], extensions: &[Arc<Packed>]) -> Value {
    let kinds: Vec<&Kind> = kinds().chain(customs.iter().map(|(kind, _)| *kind)).collect();
    let mut paths = operations::paths(&kinds, Style::V2);
    pages().iter().for_each(|page| page.describe(&mut paths, Style::V2));
    let (all, own) = (definitions::builtin(Style::V2), definitions::custom(customs, Style::V2));
    let used: Map<String, Value> =
        used(&paths, &[&own, &all]).into_iter().map(|(name, schema)| (name, schema.clone())).collect();
    let mut document = json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths, "definitions": used, "securityDefinitions": security(), "security": [{"BearerToken": []}],
    });
    for extension in extensions {
        let part = serde_json::from_slice(&unpack(extension.get(Encoding::Json))).unwrap_or_default();
        merge::merge(&mut document, part);
    }
    document
}

fn security() -> Value {
    json!({"BearerToken": {
        "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header",
    }})
}

/// The document with these paths and the definitions that they lead to.
fn encode(paths: Map<String, Value>, known: &[&Map<String, Value>], info: Value) -> Vec<u8> {
    let schemas = used(&paths, known);
    let components = Components { schemas, security_schemes: security() };
    let document = Document { components, info, openapi: "3.0.0", paths };
    serde_json::to_vec(&document).expect("maps with text keys always encode")
}

/// The definitions that paths lead to.
fn used<'a>(paths: &Map<String, Value>, known: &[&'a Map<String, Value>]) -> BTreeMap<String, &'a Value> {
    let mut wanted = Vec::new();
    paths.values().for_each(|item| references(item, &mut wanted));
    let mut schemas = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if schemas.contains_key(&name) {
            continue;
        }
        let Some(schema) = known.iter().find_map(|all| all.get(&name)) else { continue };
        references(schema, &mut wanted);
        schemas.insert(name, schema);
    }
    schemas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_what_it_leads_to() {
        let mut found = BTreeMap::new();
        builtin_v3(|place, bytes| {
            let document: Value = serde_json::from_slice(&bytes).expect("JSON");
            let mut wanted = Vec::new();
            references(&document, &mut wanted);
            let schemas = &document["components"]["schemas"];
            assert!(wanted.iter().all(|name| schemas[name].is_object()), "{place}");
            found.insert(place, document);
        });
        for (place, path, definition) in [
            ("version", "/version/", "io.k8s.apimachinery.pkg.version.Info"),
            ("api", "/api/", "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions"),
            ("apis", "/apis/", "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList"),
            ("apis/apps", "/apis/apps/", "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup"),
            ("apis/apps/v1", "/apis/apps/v1/", "io.k8s.api.apps.v1.DeploymentList"),
            ("api/v1", "/api/v1/nodes", "io.k8s.api.core.v1.NodeSpec"),
        ] {
            assert!(found[place]["paths"][path].is_object(), "{path}");
            assert!(found[place]["components"]["schemas"][definition].is_object(), "{definition}");
        }
        assert!(found["api/v1"]["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_null());
        assert!(!found.contains_key("logs"), "logs of the server are not served");
        assert!(found["openid/v1/jwks"]["components"].get("schemas").is_none());
    }
}
