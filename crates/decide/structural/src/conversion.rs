//! What conversion webhooks are asked, and what their answers must be (upstream:
//! `apiextensions-apiserver/pkg/apiserver/conversion`).

use plimsoll_catalogue::object_meta;
use plimsoll_meta::field::Path;
use plimsoll_meta::go;
use serde_json::{Map, Value, json};

/// Versions of the review that are spoken here.
const KNOWN: [&str; 2] = ["v1", "v1beta1"];

/// The first of the versions that a webhook speaks and that is known here.
pub fn review_version<'v>(spoken: impl IntoIterator<Item = &'v str>) -> Option<&'v str> {
    spoken.into_iter().find(|version| KNOWN.contains(version))
}

/// The review that asks for objects in another version.
pub fn review(version: &str, uid: &str, desired: &str, objects: &[&Value]) -> Value {
    json!({
        "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
    })
}

/// The converted objects of an answer, as many as were asked for.
///
/// # Errors
/// Why the answer is none, as it stands behind `conversion webhook for …`.
pub fn answer(version: &str, uid: &str, asked: usize, answer: &Value) -> Result<Vec<Value>, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let response = &answer["response"];
    if version == "v1" {
        let found = (text(&answer["apiVersion"]), text(&answer["kind"]));
        if (found.0.as_str(), found.1.as_str()) != ("apiextensions.k8s.io/v1", "ConversionReview") {
            let wanted = "apiextensions.k8s.io/v1, Kind=ConversionReview";
            return Err(format!(
                "failed: expected webhook response of {wanted}, got {}, Kind={}",
                found.0, found.1
            ));
        }
    }
    if !response.is_object() {
        return Err("failed: no response provided".to_owned());
    }
    if version == "v1" && response["uid"] != uid {
        return Err(format!("failed: expected response.uid={uid:?}, got {:?}", text(&response["uid"])));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        return Err(match text(&result["message"]) {
            message if message.is_empty() => {
                format!("failed: response.result.status was '{}', not 'Success'", text(&result["status"]))
            }
            message => format!("failed: {message}"),
        });
    }
    let objects = response["convertedObjects"].as_array().cloned().unwrap_or_default();
    if objects.len() != asked {
        return Err(format!("returned {} objects, expected {asked}", objects.len()));
    }
    Ok(objects)
}

/// A converted object with the metadata that only the server gives; labels and annotations may be new.
///
/// # Errors
/// Why it cannot be taken, as it stands behind `conversion webhook for …`.
pub fn accept(original: &Value, converted: Value, desired: &str) -> Result<Value, String> {
    right_type(original, &converted, desired)
        .map_err(|why| format!("returned invalid object at index 0: {why}"))?;
    right_identity(original, &converted).map_err(|why| format!("returned invalid object: {why}"))?;
    restored(original, converted).map_err(|why| format!("returned invalid metadata: {why}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn right_type(original: &Value, converted: &Value, desired: &str) -> Result<(), String> {
    let found = text(&converted["apiVersion"]);
    if found != desired {
        return Err(format!("invalid groupVersion (expected {desired}, received {found})"));
    }
    let (expected, received) = (text(&original["kind"]), text(&converted["kind"]));
    match expected == received {
        true => Ok(()),
        false => Err(format!("invalid kind (expected {expected}, received {received})")),
    }
}

fn right_identity(original: &Value, converted: &Value) -> Result<(), String> {
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (before, after) = (text(&original["metadata"][field]), text(&converted["metadata"][field]));
        if before != after {
            return Err(format!("must have the same {name}: {before} != {after}"));
        }
    }
    Ok(())
}

fn restored(original: &Value, mut converted: Value) -> Result<Value, String> {
    let given = match converted.get_mut("metadata").map(Value::take) {
        None => return Err("missing metadata in converted object".to_owned()),
        Some(Value::Object(given)) => given,
        Some(other) => {
            return Err(format!("invalid metadata of type {} in converted object", go::type_name(&other)));
        }
    };
    let mut metadata = original["metadata"].clone();
    for field in ["labels", "annotations"] {
        let Some(map) = metadata.as_object_mut() else { break };
        match given.get(field) {
            None | Some(Value::Null) => drop(map.remove(field)),
            Some(Value::Object(entries)) => {
                if map.get(field).and_then(Value::as_object) != Some(entries) {
                    right_entries(field, entries)?;
                }
                map.insert(field.to_owned(), entries.clone().into());
            }
            Some(other) => {
                return Err(format!(
                    "invalid metadata.{field} of type {} in converted object",
                    go::type_name(other)
                ));
            }
        }
    }
    converted["metadata"] = metadata;
    Ok(converted)
}

/// Labels or annotations that a webhook changed are held against their rules.
fn right_entries(field: &str, entries: &Map<String, Value>) -> Result<(), String> {
    if let Some((key, value)) = entries.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!(
            "metadata.{field}[{key}] must be a string, but is {} in converted object",
            go::type_name(value)
        ));
    }
    let path = Path::root("metadata");
    let mut errors = Vec::new();
    match field {
        "labels" => object_meta::check_labels(entries, &path.child(field), &mut errors),
        _ => object_meta::check_annotations(entries, &path.child("annotation"), &mut errors),
    }
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match &told[..] {
        [] => Ok(()),
        [one] => Err(one.clone()),
        more => Err(format!("[{}]", more.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_held_against_the_question() {
        let good = |response: Value| json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response});
        let success = json!({"status": "Success"});
        for (given, expected) in [
            (good(json!({"uid": "u", "result": success, "convertedObjects": [{}]})), Ok(vec![json!({})])),
            (
                good(json!({"uid": "x", "result": success})),
                Err("failed: expected response.uid=\"u\", got \"x\""),
            ),
            (good(json!({"uid": "u", "result": {"status": "Failed", "message": "no"}})), Err("failed: no")),
            (
                good(json!({"uid": "u", "result": {}})),
                Err("failed: response.result.status was '', not 'Success'"),
            ),
            (good(json!({"uid": "u", "result": success})), Err("returned 0 objects, expected 1")),
            (good(json!(null)), Err("failed: no response provided")),
            (
                json!({"apiVersion": "v1", "kind": "Pod"}),
                Err(
                    "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got v1, Kind=Pod",
                ),
            ),
        ] {
            assert_eq!(answer("v1", "u", 1, &given), expected.map_err(str::to_owned));
        }
        assert_eq!(review_version(["v2", "v1beta1", "v1"]), Some("v1beta1"));
    }

    #[test]
    fn metadata_stays_but_for_labels_and_annotations() {
        let original = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "uid": "u", "finalizers": ["f"], "labels": {"x": "1"}}});
        let converted = json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "a", "uid": "u", "labels": {"y": "2"}}, "spec": {}});
        assert_eq!(
            accept(&original, converted.clone(), "g/v2"),
            Ok(
                json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "a", "uid": "u", "finalizers": ["f"], "labels": {"y": "2"}}, "spec": {}})
            )
        );
        let object = "returned invalid object";
        let metadata = "returned invalid metadata";
        for (path, value, expected) in [
            (
                "/apiVersion",
                json!("g/v1"),
                format!("{object} at index 0: invalid groupVersion (expected g/v2, received g/v1)"),
            ),
            ("/kind", json!("L"), format!("{object} at index 0: invalid kind (expected K, received L)")),
            ("/metadata/name", json!("b"), format!("{object}: must have the same name: a != b")),
            ("/metadata", json!({}), format!("{object}: must have the same name: a != ")),
            (
                "/metadata/labels",
                json!({"y": 2}),
                format!("{metadata}: metadata.labels[y] must be a string, but is int64 in converted object"),
            ),
            (
                "/metadata/labels",
                json!([]),
                format!("{metadata}: invalid metadata.labels of type []interface {{}} in converted object"),
            ),
        ] {
            let mut wrong = converted.clone();
            *wrong.pointer_mut(path).expect("there") = value;
            assert_eq!(accept(&original, wrong, "g/v2"), Err(expected));
        }
    }
}
