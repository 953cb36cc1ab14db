//! Request bodies as objects of a kind.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use serde_json::Value;

use crate::custom::Definition;
use crate::query::Query;
use crate::shape::Shape;
use plimsoll_document::{Document, Duplicates};

/// Media types of objects that are read.
const READABLE: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// How deep objects may nest. Stored objects carry the paths of their fields as well, some levels deeper,
/// and must come back through the same parser, whose own limit is 128.
const DEPTH: usize = 100;

/// The media type of a body, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Reads JSON, YAML or protobuf, whichever the media type says.
pub(crate) fn value(headers: &HeaderMap, bytes: &[u8]) -> Result<Document, Status> {
    let document = match media_type(headers) {
        "" | "application/json" => json(bytes),
        "application/yaml" => yaml(bytes),
        plimsoll_protobuf::MEDIA_TYPE => protobuf(bytes),
        _ => Err(Status::unsupported_media_type(READABLE)),
    }?;
    crate::audit::request_object(&document.value);
    Ok(document)
}

/// [`value`] of a kind that may have no protobuf form.
pub(crate) fn value_of(kind: &Kind, headers: &HeaderMap, bytes: &[u8]) -> Result<Document, Status> {
    if kind.is_custom() && media_type(headers) == plimsoll_protobuf::MEDIA_TYPE {
        return Err(Status::unsupported_media_type("application/json, application/yaml"));
    }
    value(headers, bytes)
}

/// Reads JSON.
pub(crate) fn json(bytes: &[u8]) -> Result<Document, Status> {
    Document::json(bytes).map_err(|error| unreadable(&syntax_error(&error, bytes)))
}

/// What is wrong with a text that is no JSON, in Go's words where they are known.
pub(crate) fn syntax_error(error: &serde_json::Error, bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let letter = line.get(error.column().saturating_sub(1)).map(|byte| char::from(*byte));
    match letter {
        _ if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Some(letter) if error.to_string().starts_with("expected value") => {
            format!("invalid character {letter:?} looking for beginning of value")
        }
        _ => error.to_string(),
    }
}

/// What Go's decoder calls the type of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn unreadable(cause: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!("couldn't get version/kind; json parse error: {cause}"))
}

/// Reads YAML; JSON is YAML, too.
pub(crate) fn yaml(bytes: &[u8]) -> Result<Document, Status> {
    if let Ok(document) = Document::json(bytes) {
        return Ok(document);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Status::bad_request("yaml: invalid UTF-8"))?;
    Document::yaml(text)
        .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))
}

/// Reads the encoding that typed clients write built-in kinds in.
fn protobuf(bytes: &[u8]) -> Result<Document, Status> {
    let value = plimsoll_protobuf::decode(bytes).map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(Document { value, duplicates: Duplicates::default() })
}

/// What a request does about fields that the kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    /// The query's choice; none if it is not one that exists.
    pub(crate) fn read(query: &Query) -> Option<Self> {
        match query.get("fieldValidation") {
            "" | "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            "Ignore" => Some(Self::Ignore),
            _ => None,
        }
    }
}

/// Which type a body must have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) shape: &'a Shape,
}

/// Holds an object against its kind: wrong types are refused, unknown fields removed and reported, as
/// are the fields that its text gave twice (`duplicates`).
pub(crate) fn check(
    expected: Expected<'_>,
    validation: FieldValidation,
    duplicates: Duplicates,
    object: &mut Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if is_deeper(object, DEPTH) {
        return Err(unreadable(&"exceeded max depth"));
    }
    same_type(expected, object)?;
    let Expected { api_version, kind, shape } = expected;
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let refused = |cause: &str| {
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {cause}"))
    };
    let unknown = match shape {
        Shape::Builtin(root) => {
            plimsoll_schema::check(shape.schemas(), *root, object).map(|found| found.unknown)
        }
        Shape::Custom(definition) => custom(definition, object),
    }
    .map_err(|error| refused(&error))?;
    let strict = match shape {
        Shape::Builtin(_) => duplicates.with_unknown(unknown),
        // Pruned after they are read.
        Shape::Custom(_) => duplicates.told().chain(unknown).collect(),
    };
    match validation {
        _ if strict.is_empty() => {}
        FieldValidation::Ignore => {}
        FieldValidation::Warn => warnings.extend(strict),
        FieldValidation::Strict => {
            return Err(refused(&format!("strict decoding error: {}", strict.join(", "))));
        }
    }
    Ok(())
}

/// Whether a value nests more than `levels` deep.
fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(map) => levels == 0 || map.values().any(|item| is_deeper(item, levels - 1)),
        _ => false,
    }
}

/// Metadata has its type; the rest is pruned by the schema, and validated later.
pub(crate) fn custom(definition: &Definition, object: &mut Value) -> Result<Vec<String>, String> {
    let mut paths = match object.get_mut("metadata") {
        Some(metadata) if !metadata.is_null() => {
            let found = plimsoll_structural::embedded::check_metadata(metadata)?;
            found.iter().map(|field| format!("metadata.{field}")).collect()
        }
        _ => Vec::new(),
    };
    paths.extend(definition.prune(object).map_err(|error| error.to_string())?);
    Ok(paths.iter().map(|path| format!("unknown field {path:?}")).collect())
}

fn same_type(expected: Expected<'_>, object: &mut Value) -> Result<(), Status> {
    let Some(map) = object.as_object_mut() else {
        return Err(Status::bad_request(
            "couldn't get version/kind; json parse error: the body is not an object",
        ));
    };
    for (key, wanted) in [("apiVersion", expected.api_version), ("kind", expected.kind)] {
        match map.get(key).and_then(Value::as_str) {
            None | Some("") => drop(map.insert(key.to_owned(), wanted.into())),
            Some(given) if given == wanted => {}
            Some(given) if key == "apiVersion" => {
                return Err(Status::bad_request(format!(
                    "the API version in the data ({given}) does not match the expected API version ({wanted})"
                )));
            }
            Some(given) => {
                return Err(Status::bad_request(other_kind(expected.api_version, given, wanted)));
            }
        }
    }
    Ok(())
}

/// As upstream says it: decoding fails for kinds that it does not know, conversion for those it does.
fn other_kind(api_version: &str, given: &str, wanted: &str) -> String {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let cause = match plimsoll_catalogue::by_kind(group, version, given) {
        Some(_) => {
            let family = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) };
            format!("converting ({version}.{given}) to ({family}.{wanted}): unknown conversion")
        }
        None => format!(
            "no kind {given:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        ),
    };
    format!("{given} in version {version:?} cannot be handled as a {wanted}: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(object: Value, validation: FieldValidation) -> (Result<(), String>, Vec<String>) {
        let shape = Shape::named("io.k8s.api.apps.v1.Deployment").expect("schema");
        let expected = Expected { api_version: "apps/v1", kind: "Deployment", shape: &shape };
        let (mut object, mut warnings) = (object, Vec::new());
        (
            check(expected, validation, Duplicates::default(), &mut object, &mut warnings)
                .map_err(|status| status.message),
            warnings,
        )
    }

    #[test]
    fn unknown_fields_are_treated_as_asked() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"foo": 1}});
        let message = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\"";
        for (validation, expected, warnings) in [
            (FieldValidation::Strict, Err(message.to_owned()), vec![]),
            (FieldValidation::Warn, Ok(()), vec!["unknown field \"spec.foo\"".to_owned()]),
            (FieldValidation::Ignore, Ok(()), vec![]),
        ] {
            assert_eq!(checked(object.clone(), validation), (expected, warnings));
        }
    }

    #[test]
    fn other_types_are_refused() {
        for (object, part) in [
            (json!({"apiVersion": "v1"}), "does not match the expected API version (apps/v1)"),
            (
                json!({"kind": "Pod"}),
                "Pod in version \"v1\" cannot be handled as a Deployment: no kind \"Pod\" is registered for version \"apps/v1\"",
            ),
            (
                json!({"kind": "ReplicaSet"}),
                "converting (v1.ReplicaSet) to (apps.Deployment): unknown conversion",
            ),
            (json!([]), "not an object"),
            (
                json!({"spec": {"replicas": "x"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
        ] {
            let message = checked(object, FieldValidation::Warn).0.expect_err(part);
            assert!(message.contains(part), "{message}");
        }
    }
}
