//! A schema as OpenAPI documents publish it (upstream: `pkg/controller/openapi/builder`).
//!
//! Version 3 is faithful. Version 2 is what kubectl of old can read: no alternatives, no `nullable`, and
//! nothing said about objects that may have unknown fields.

use serde_json::{Map, Value, json};

/// Which generation of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// OpenAPI v2.
    V2,
    /// OpenAPI v3.
    V3,
}

/// The names of a published kind.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// API group.
    pub group: &'a str,
    /// Version.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Kind of lists.
    pub list_kind: &'a str,
    /// Plural, for the description of lists.
    pub plural: &'a str,
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// `com.example.stable.v1.CronTab`.
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// The definition of whole objects; `props` is the version's `openAPIV3Schema`.
pub fn object(props: Option<&Value>, names: Names<'_>, document: Document) -> Value {
    let mut schema = match props {
        Some(props) if document == Document::V3 || props[PRESERVE] != true => whole(props, document),
        _ => json!({"type": "object"}),
    };
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": names.group, "kind": names.kind, "version": names.version}]);
    schema
}

/// The definition of lists.
pub fn list(names: Names<'_>, document: Document) -> Value {
    let item = definition_name(names.group, names.version, names.kind);
    let items = format!(
        "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
        names.plural
    );
    json!({
        "description": format!("{} is a list of {}", names.list_kind, names.kind),
        "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"description": API_VERSION, "type": "string"},
            "items": {"description": items, "type": "array", "items": {"$ref": document.reference(&item)}},
            "kind": {"description": KIND, "type": "string"},
            "metadata": document.described("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta", LIST_METADATA),
        },
        "x-kubernetes-group-version-kind": [{"group": names.group, "kind": names.list_kind, "version": names.version}],
    })
}

impl Document {
    fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }

    /// A reference with a description of its own.
    fn described(self, name: &str, description: &str) -> Value {
        let target = self.reference(name);
        match self {
            Self::V2 => json!({"description": description, "$ref": target}),
            Self::V3 => json!({"description": description, "allOf": [{"$ref": target}]}),
        }
    }

    fn object_meta(self) -> Value {
        self.described("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", METADATA)
    }
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

fn whole(props: &Value, document: Document) -> Value {
    let mut schema = published(props, document);
    let properties = object_entry(&mut schema, "properties");
    properties.insert("apiVersion".to_owned(), json!({"description": API_VERSION, "type": "string"}));
    properties.insert("kind".to_owned(), json!({"description": KIND, "type": "string"}));
    properties.insert("metadata".to_owned(), document.object_meta());
    schema
}

/// The map in a field, made if it is missing.
fn object_entry<'v>(schema: &'v mut Value, key: &str) -> &'v mut Map<String, Value> {
    if !schema[key].is_object() {
        schema[key] = json!({});
    }
    schema[key].as_object_mut().expect("made above")
}

fn published(props: &Value, document: Document) -> Value {
    let mut schema = Value::Object(Map::new());
    for (key, value) in props.as_object().into_iter().flatten() {
        let shown = match key.as_str() {
            "properties" => {
                let below = |(name, value): (&String, &Value)| (name.clone(), published(value, document));
                Value::Object(value.as_object().into_iter().flatten().map(below).collect())
            }
            "items" | "additionalProperties" if value.is_object() => published(value, document),
            "externalDocs" | "example" | "id" | "$schema" => continue,
            _ => value.clone(),
        };
        schema[key] = shown;
    }
    if schema[INT_OR_STRING] == true {
        unfold(&mut schema);
    }
    if document == Document::V2 {
        reduce(&mut schema, props);
        if props[PRESERVE] == true {
            return schema;
        }
    }
    if props[EMBEDDED] == true {
        embed(&mut schema, document);
    }
    schema
}

/// Says of numbers or text that they are either, unless the schema does.
fn unfold(schema: &mut Value) {
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    if schema["anyOf"] == either || schema["allOf"][0]["anyOf"] == either {
        return;
    }
    if schema["anyOf"].is_null() {
        schema["anyOf"] = either;
        return;
    }
    let mut all = vec![json!({"anyOf": either})];
    all.extend(schema["allOf"].as_array().cloned().unwrap_or_default());
    schema["allOf"] = Value::Array(all);
}

/// Leaves out what version 2 cannot say.
fn reduce(schema: &mut Value, props: &Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for junctor in ["allOf", "oneOf", "anyOf", "not"] {
        map.remove(junctor);
    }
    let mut drop_keys = |keys: &[&str]| keys.iter().for_each(|key| drop(map.remove(*key)));
    if props["nullable"] == true {
        drop_keys(&["type", "nullable", "items", "properties"]);
    }
    if props[PRESERVE] == true {
        drop_keys(&["items", "properties"]);
    }
    let kind = props["type"].as_str().unwrap_or_default();
    let without_items = kind == "array" && !map.contains_key("items");
    if without_items || (kind == "object" && props[PRESERVE] == true) {
        map.remove("type");
    }
    let nullable =
        |name: &Value| name.as_str().is_some_and(|name| props["properties"][name]["nullable"] == true);
    if props["additionalProperties"]["nullable"] == true {
        map.remove("required");
    } else if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut)
        && props["properties"].is_object()
    {
        required.retain(|name| !nullable(name));
        if required.is_empty() {
            map.remove("required");
        }
    }
}

/// An embedded object has the fields of every object.
fn embed(schema: &mut Value, document: Document) {
    let properties = object_entry(schema, "properties");
    let text = |description: &str| json!({"description": description, "type": "string"});
    properties.insert("apiVersion".to_owned(), text(EMBEDDED_API_VERSION));
    properties.insert("kind".to_owned(), text(EMBEDDED_KIND));
    properties.insert("metadata".to_owned(), document.object_meta());
    let mut required = schema["required"].as_array().cloned().unwrap_or_default();
    for name in ["kind", "apiVersion"] {
        if !required.iter().any(|there| there == name) {
            required.push(name.into());
        }
    }
    schema["required"] = Value::Array(required);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names<'static> {
        Names {
            group: "stable.example.com",
            version: "v1",
            kind: "CronTab",
            list_kind: "CronTabList",
            plural: "crontabs",
        }
    }

    #[test]
    fn version_2_says_less() {
        let props = json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["a", "n"], "properties": {
            "a": {"type": "string", "oneOf": [{"pattern": "x"}]},
            "n": {"type": "object", "nullable": true, "properties": {"x": {"type": "string"}}},
            "p": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {"type": "string"}}},
            "i": {"x-kubernetes-int-or-string": true},
        }}}});
        let (two, three) =
            (object(Some(&props), names(), Document::V2), object(Some(&props), names(), Document::V3));
        let spec = &two["properties"]["spec"];
        assert_eq!(spec["required"], json!(["a"]));
        assert_eq!(
            spec["properties"],
            json!({"a": {"type": "string"}, "n": {}, "p": {"x-kubernetes-preserve-unknown-fields": true}, "i": {"x-kubernetes-int-or-string": true}})
        );
        assert_eq!(
            two["properties"]["metadata"]["$ref"],
            "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
        let spec = &three["properties"]["spec"]["properties"];
        assert_eq!(spec["n"], props["properties"]["spec"]["properties"]["n"]);
        assert_eq!(spec["i"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
        assert_eq!(three["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    }

    #[test]
    fn what_keeps_everything_says_nothing_in_version_2() {
        let props = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"spec": {"type": "object"}}});
        let two = object(Some(&props), names(), Document::V2);
        assert_eq!((&two["type"], two.get("properties")), (&json!("object"), None));
        assert!(object(Some(&props), names(), Document::V3)["properties"]["metadata"].is_object());
        assert_eq!(definition_name("stable.example.com", "v1", "CronTab"), "com.example.stable.v1.CronTab");
        let list = list(names(), Document::V2);
        assert_eq!(
            list["properties"]["items"]["items"]["$ref"],
            "#/definitions/com.example.stable.v1.CronTab"
        );
    }

    #[test]
    fn embedded_objects_have_the_fields_of_objects() {
        let props = json!({"type": "object", "properties": {"pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}}});
        let pod = &object(Some(&props), names(), Document::V3)["properties"]["pod"];
        assert_eq!(pod["required"], json!(["kind", "apiVersion"]));
        assert!(pod["properties"]["metadata"]["allOf"].is_array());
    }
}
