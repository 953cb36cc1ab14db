//! A document of version 2 as one of version 3, for extension servers that know no other.

use serde_json::{Map, Value, json};

use super::Style;
use super::definitions::refer;
use super::operations::content;

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// The document in version 3.
pub(crate) fn convert(mut document: Value) -> Value {
    let mut paths = document["paths"].take();
    for item in paths.as_object_mut().into_iter().flat_map(Map::values_mut) {
        let shared = item.get_mut("parameters").map(Value::take);
        if let Some(shared) = shared {
            item["parameters"] = parameters(&shared).0;
        }
        for method in METHODS {
            if let Some(operation) = item.get_mut(method) {
                operate(operation);
            }
        }
    }
    let mut schemas = document["definitions"].take();
    refer(&mut paths, Style::V3);
    refer(&mut schemas, Style::V3);
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths, "components": {"schemas": schemas},
    })
}

fn operate(operation: &mut Value) {
    let Some(map) = operation.as_object_mut() else { return };
    let consumes = media(map.remove("consumes"));
    let produces = media(map.remove("produces"));
    map.remove("schemes");
    if let Some(given) = map.remove("parameters") {
        let (others, body) = parameters(&given);
        if let Some(mut body) = body {
            let mut request = json!({"content": content(&texts(&consumes), &body["schema"].take())});
            if body["required"] == true {
                request["required"] = json!(true);
            }
            map.insert("requestBody".to_owned(), request);
        }
        if others != json!([]) {
            map.insert("parameters".to_owned(), others);
        }
    }
    let responses = map.get_mut("responses").and_then(Value::as_object_mut).into_iter();
    for response in responses.flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        if let Some(schema) = response.remove("schema") {
            response.insert("content".to_owned(), content(&texts(&produces), &schema));
        }
    }
}

/// Media types; any where none is named.
fn media(named: Option<Value>) -> Vec<String> {
    let named: Vec<String> = named.and_then(|named| serde_json::from_value(named).ok()).unwrap_or_default();
    if named.is_empty() { vec!["*/*".to_owned()] } else { named }
}

fn texts(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// The parameters that are not the body, and the body.
fn parameters(given: &Value) -> (Value, Option<Value>) {
    let (mut others, mut body) = (Vec::new(), None);
    for one in given.as_array().into_iter().flatten() {
        if one["in"] == "body" {
            body = Some(one.clone());
            continue;
        }
        let (mut parameter, mut schema) = (Map::new(), Map::new());
        for (key, value) in one.as_object().into_iter().flatten() {
            let is_about = ["name", "in", "description", "required"].contains(&key.as_str());
            let place = if is_about { &mut parameter } else { &mut schema };
            place.insert(key.clone(), value.clone());
        }
        parameter.insert("schema".to_owned(), Value::Object(schema));
        others.push(Value::Object(parameter));
    }
    (Value::Array(others), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_answers_and_references_find_their_new_places() {
        let document = json!({
            "paths": {"/f": {
                "parameters": [{"name": "pretty", "in": "query", "type": "string", "uniqueItems": true}],
                "post": {
                    "operationId": "createFlunder", "consumes": ["application/json"], "schemes": ["https"],
                    "parameters": [{"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/F"}}],
                    "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/F"}}, "401": {"description": "Unauthorized"}},
                },
            }},
            "definitions": {"F": {"properties": {"spec": {"description": "What.", "$ref": "#/definitions/S"}}}, "S": {}},
        });
        let flunder = json!({"schema": {"$ref": "#/components/schemas/F"}});
        let converted = convert(document);
        assert_eq!(
            converted["paths"]["/f"],
            json!({
                "parameters": [{"name": "pretty", "in": "query", "schema": {"type": "string", "uniqueItems": true}}],
                "post": {
                    "operationId": "createFlunder",
                    "requestBody": {"required": true, "content": {"application/json": flunder}},
                    "responses": {"200": {"description": "OK", "content": {"*/*": flunder}}, "401": {"description": "Unauthorized"}},
                },
            })
        );
        assert_eq!(
            converted["components"]["schemas"]["F"]["properties"]["spec"],
            json!({"description": "What.", "allOf": [{"$ref": "#/components/schemas/S"}]})
        );
    }
}
