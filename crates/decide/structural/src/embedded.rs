//! Objects inside of objects: their metadata has the same types and rules as that of whole objects.

use plimsoll_catalogue::{Kind, object_meta};
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;
use serde_json::Value;

use crate::schema::{Additional, Schema};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Removes unknown fields of embedded metadata and tells them (`spec.pod.metadata.foo`); metadata of a
/// wrong type is refused.
pub fn coerce(value: &mut Value, schema: &Schema) -> Result<Vec<String>, FieldError> {
    let mut unknown = Vec::new();
    walk(&Path::default(), value, schema, &mut |path, value| coerce_one(path, value, &mut unknown))?;
    unknown.sort();
    Ok(unknown)
}

/// [`coerce`] for an object that has metadata itself.
pub(crate) fn coerce_at(path: &Path, value: &mut Value, schema: &Schema) -> Result<(), FieldError> {
    walk(path, value, schema, &mut |path, value| coerce_one(path, value, &mut Vec::new()))
}

/// What is wrong with embedded objects, their own schemas aside.
pub fn check(path: &Path, value: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut copy = value.clone();
    let collected = walk(path, &mut copy, schema, &mut |path, value| {
        check_one(path, value, &mut errors);
        Ok(())
    });
    errors.extend(collected.err());
    errors
}

/// Visits each embedded object.
fn walk(
    path: &Path,
    value: &mut Value,
    schema: &Schema,
    visit: &mut dyn FnMut(&Path, &mut Value) -> Result<(), FieldError>,
) -> Result<(), FieldError> {
    if !schema.has_embedded() {
        return Ok(());
    }
    if schema.embedded && value.is_object() {
        visit(path, value)?;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match (schema.properties.get(key), &schema.additional) {
                    (Some(child), _) => walk(&path.child(key), value, child, visit)?,
                    (None, Some(Additional::Schema(child))) => walk(&path.key(key), value, child, visit)?,
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(item) = &schema.items else { return Ok(()) };
            for (at, value) in items.iter_mut().enumerate() {
                walk(&path.index(at), value, item, visit)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn coerce_one(path: &Path, value: &mut Value, unknown: &mut Vec<String>) -> Result<(), FieldError> {
    for key in ["apiVersion", "kind"] {
        if let Some(given) = value.get(key).filter(|given| !given.is_string()) {
            return Err(FieldError::invalid(&path.child(key), given, "must be a string"));
        }
    }
    if let Some(metadata) = value.get_mut("metadata") {
        let given = metadata.clone();
        let at = path.child("metadata");
        let found = check_metadata(metadata).map_err(|error| FieldError::invalid(&at, &given, error))?;
        unknown.extend(found.iter().map(|field| format!("{at}.{field}")));
    }
    Ok(())
}

/// Holds metadata against its type; returns the paths of fields that were removed.
pub fn check_metadata(metadata: &mut Value) -> Result<Vec<String>, String> {
    let schemas = plimsoll_schema::builtin();
    let root = schemas.lookup(OBJECT_META).ok_or("no schema for metadata")?;
    let found = plimsoll_schema::check(schemas, root, metadata)?;
    let bare = |text: String| {
        text.strip_prefix("unknown field \"").and_then(|text| text.strip_suffix('"')).map(str::to_owned)
    };
    Ok(found.unknown.into_iter().filter_map(bare).collect())
}

fn check_one(path: &Path, value: &Value, errors: &mut Vec<FieldError>) {
    for key in ["apiVersion", "kind"] {
        let at = path.child(key);
        match value.get(key) {
            None => errors.push(FieldError::required(&at, "must not be empty")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&at, &value[key], "must not be empty"));
            }
            Some(Value::String(text)) => errors.extend(check_type(key, text, &at)),
            Some(other) => errors.push(FieldError::invalid(&at, other, "must be a string")),
        }
    }
    if value.get("metadata").is_some_and(Value::is_object) {
        errors.extend(check_object_meta(&path.child("metadata"), &value["metadata"]));
    }
}

fn check_type(key: &str, text: &str, at: &Path) -> Option<FieldError> {
    if key == "apiVersion" {
        return (text.matches('/').count() > 1).then(|| {
            FieldError::invalid(at, &text.into(), format!("unexpected GroupVersion string: {text}"))
        });
    }
    let messages = name::is_dns1035_label(&text.to_lowercase()).err()?;
    let detail = format!("may have mixed case, but should otherwise match: {}", messages.join(","));
    Some(FieldError::invalid(at, &text.into(), detail))
}

/// The rules of metadata; names may be anything that stands in a path, and may be absent.
fn check_object_meta(path: &Path, metadata: &Value) -> Vec<FieldError> {
    let mut object = serde_json::json!({"metadata": metadata});
    if metadata["name"].as_str().unwrap_or_default().is_empty() {
        object["metadata"]["name"] = "fakename".into();
    }
    let namespaced = !metadata["namespace"].as_str().unwrap_or_default().is_empty();
    let kind = Kind { namespaced, name_rule: |text, _| name::is_path_segment(text), ..Kind::CUSTOM };
    let mut errors = object_meta::validate(&kind, &object);
    for error in &mut errors {
        error.field = error.field.replacen("metadata", &path.to_string(), 1);
    }
    errors
}

impl Schema {
    /// Whether an embedded object is anywhere in this schema.
    fn has_embedded(&self) -> bool {
        self.embedded
            || self.properties.values().any(Schema::has_embedded)
            || self.items.as_deref().is_some_and(Schema::has_embedded)
            || matches!(&self.additional, Some(Additional::Schema(entry)) if entry.has_embedded())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::read(&json!({"type": "object", "properties": {"pod": {
            "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}))
    }

    #[test]
    fn metadata_has_its_types() {
        let mut object =
            json!({"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "odd": 1}}});
        assert_eq!(coerce(&mut object, &schema()), Ok(vec!["pod.metadata.odd".to_owned()]));
        assert_eq!(object["pod"]["metadata"], json!({"name": "a"}));
        let mut wrong = json!({"pod": {"metadata": {"labels": "x"}}});
        let error = coerce(&mut wrong, &schema()).expect_err("labels are a map").to_string();
        assert!(
            error.starts_with("pod.metadata: Invalid value: {\"labels\":\"x\"}: json: cannot unmarshal"),
            "{error}"
        );
        let mut wrong = json!({"pod": {"kind": 1}});
        assert_eq!(
            coerce(&mut wrong, &schema()).map_err(|error| error.to_string()),
            Err("pod.kind: Invalid value: 1: must be a string".to_owned())
        );
    }

    #[test]
    fn metadata_has_its_rules() {
        for (pod, expected) in [
            (json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "A_b"}}), vec![]),
            (
                json!({}),
                vec![
                    "pod.apiVersion: Required value: must not be empty",
                    "pod.kind: Required value: must not be empty",
                ],
            ),
            (
                json!({"apiVersion": "a/b/c", "kind": ""}),
                vec![
                    "pod.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                    "pod.kind: Invalid value: \"\": must not be empty",
                ],
            ),
        ] {
            let object = json!({"pod": pod});
            let found: Vec<String> =
                check(&Path::default(), &object, &schema()).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        }
        let object = json!({"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a/b"}}});
        assert!(
            check(&Path::default(), &object, &schema())[0]
                .to_string()
                .starts_with("pod.metadata.name: Invalid")
        );
    }
}
