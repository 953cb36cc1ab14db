//! Documents of version 2 from other servers, put into the one of this server.
//!
//! As upstream (`k8s.io/kube-openapi/pkg/aggregator`): paths that are there already stay; definitions of the same
//! name and another content come in under another name, `NAME_v2`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::definitions::references;

const IDENTITY: &str = "x-kubernetes-group-version-kind";
const DEFINITION: &str = "#/definitions/";

/// What a document says of the paths that begin so, with the definitions that they lead to. Parameters that
/// stand aside come to where they are used.
pub(crate) fn filtered(mut document: Value, prefix: &str) -> Value {
    let mut paths = take(&mut document, "paths");
    paths.retain(|path, _| path.starts_with(prefix));
    let parameters = take(&mut document, "parameters");
    paths.values_mut().for_each(|item| inline(item, &parameters));
    let definitions = used(&paths, take(&mut document, "definitions"));
    serde_json::json!({"paths": paths, "definitions": definitions})
}

/// Puts a filtered document into another one.
pub(super) fn merge(into: &mut Value, mut from: Value) {
    let mut paths = take(&mut from, "paths");
    paths.retain(|path, _| into["paths"].get(path).is_none());
    if paths.is_empty() {
        return;
    }
    let mut definitions = used(&paths, take(&mut from, "definitions"));
    let renames = renames(&into["definitions"], &definitions);
    paths.values_mut().for_each(|item| rename(item, &renames));
    definitions.values_mut().for_each(|definition| rename(definition, &renames));
    let Some(known) = into["definitions"].as_object_mut() else { return };
    for (name, definition) in definitions {
        let name = renames.get(&name).cloned().unwrap_or(name);
        match known.get_mut(&name) {
            Some(known) => identify(known, &definition),
            None => drop(known.insert(name, definition)),
        }
    }
    if let Some(known) = into["paths"].as_object_mut() {
        known.extend(paths);
    }
}

fn take(document: &mut Value, key: &str) -> Map<String, Value> {
    match document.get_mut(key).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The definitions that paths lead to.
fn used(paths: &Map<String, Value>, mut all: Map<String, Value>) -> Map<String, Value> {
    let mut wanted = Vec::new();
    paths.values().for_each(|item| references(item, &mut wanted));
    let mut found = Map::new();
    while let Some(name) = wanted.pop() {
        if let Some(definition) = all.remove(&name) {
            references(&definition, &mut wanted);
            found.insert(name, definition);
        }
    }
    found
}

fn inline(value: &mut Value, parameters: &Map<String, Value>) {
    let name = value.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/parameters/"));
    if let Some(parameter) = name.and_then(|name| parameters.get(name)) {
        *value = parameter.clone();
        return;
    }
    match value {
        Value::Object(map) => map.values_mut().for_each(|inner| inline(inner, parameters)),
        Value::Array(items) => items.iter_mut().for_each(|inner| inline(inner, parameters)),
        _ => {}
    }
}

/// New names for definitions whose names mean something else already.
fn renames(known: &Value, definitions: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut renames = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (name, definition) in definitions {
        let is_same = |name: &str| known.get(name).map(|known| same(known, definition));
        if is_same(name) != Some(false) {
            continue;
        }
        let free = |name: &String| match is_same(name) {
            Some(same) => same,
            None => !definitions.contains_key(name) && !taken.contains(name),
        };
        let mut candidates = (2u64..).map(|number| format!("{name}_v{number}"));
        if let Some(chosen) = candidates.find(free) {
            taken.insert(chosen.clone());
            renames.insert(name.clone(), chosen);
        }
    }
    renames
}

/// Are these the same but for the kinds that they are known by?
fn same(one: &Value, other: &Value) -> bool {
    let content = |value: &Value| -> BTreeMap<String, Value> {
        let fields = value.as_object().into_iter().flatten();
        fields.filter(|(key, _)| *key != IDENTITY).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    content(one) == content(other)
}

/// Makes a definition known by the kinds of its equal, too.
fn identify(known: &mut Value, equal: &Value) {
    let Some(more) = equal[IDENTITY].as_array() else { return };
    let mut all = known[IDENTITY].as_array().cloned().unwrap_or_default();
    let before = all.len();
    for one in more {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    if all.len() > before {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        all.sort_by_cached_key(|one| {
            format!("{}/{}.{}", text(one, "group"), text(one, "version"), text(one, "kind"))
        });
        known[IDENTITY] = Value::Array(all);
    }
}

fn rename(value: &mut Value, renames: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get_mut("$ref")
                && let Some(name) = target.strip_prefix(DEFINITION).and_then(|name| renames.get(name))
            {
                *target = format!("{DEFINITION}{name}");
            }
            map.values_mut().for_each(|inner| rename(inner, renames));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| rename(inner, renames)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn referring(name: &str) -> Value {
        json!({"get": {"responses": {"200": {"schema": {"$ref": format!("{DEFINITION}{name}")}}}}})
    }

    #[test]
    fn a_document_is_narrowed_to_paths_and_what_they_lead_to() {
        let document = json!({
            "paths": {"/apis/w.example.com/v1/f": {"parameters": [{"$ref": "#/parameters/p-1"}]}, "/version/": referring("Info")},
            "parameters": {"p-1": {"name": "pretty"}}, "definitions": {"Info": {}},
        });
        assert_eq!(
            filtered(document, "/apis/w.example.com/"),
            json!({"paths": {"/apis/w.example.com/v1/f": {"parameters": [{"name": "pretty"}]}}, "definitions": {}})
        );
    }

    #[test]
    fn definitions_of_another_content_get_another_name() {
        let identity = |group: &str| json!([{"group": group, "kind": "K", "version": "v1"}]);
        let mut into = json!({"paths": {"/a": {"ours": true}}, "definitions": {
            "Same": {"type": "object", IDENTITY: identity("b")}, "Other": {"type": "string"}, "Other_v2": {"type": "boolean"},
        }});
        let from = json!({
            "paths": {"/a": referring("Unused"), "/b": referring("Same"), "/c": referring("Other")},
            "definitions": {
                "Same": {"type": "object", IDENTITY: identity("a")}, "Unused": {},
                "Other": {"type": "integer", "items": {"$ref": "#/definitions/Other"}},
            },
        });
        merge(&mut into, from);
        assert_eq!(into["paths"]["/a"], json!({"ours": true}));
        assert_eq!(into["paths"]["/b"], referring("Same"));
        assert_eq!(into["paths"]["/c"], referring("Other_v3"));
        let known = into["definitions"].as_object().expect("definitions");
        assert_eq!(known.keys().collect::<Vec<_>>(), ["Other", "Other_v2", "Other_v3", "Same"]);
        assert_eq!(known["Other_v3"]["items"]["$ref"], "#/definitions/Other_v3");
        let groups: Vec<&Value> =
            known["Same"][IDENTITY].as_array().into_iter().flatten().map(|one| &one["group"]).collect();
        assert_eq!(groups, ["a", "b"]);
    }
}
