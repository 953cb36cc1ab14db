//! Request bodies as objects of a kind.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use plimsoll_catalogue::Kind;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use serde_json::Value;

use crate::custom::Definition;
use crate::query::Query;
use crate::shape::Shape;
use crate::yaml_error;
use plimsoll_document::{Document, Duplicates};

/// Media types of objects that are read.
const READABLE: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// How deep objects may nest. Stored objects carry the paths of their fields as well, some levels deeper,
/// and must come back through the same parser, whose own limit is 128.
const DEPTH: usize = 100;

/// How much of a body is shown to whom it cannot be explained.
const SHOWN: usize = 30;

/// The media type of a body, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Reads JSON, YAML or protobuf, whichever the media type says. What leaves is an object whose type, if it
/// has one, is text.
pub(crate) fn value(headers: &HeaderMap, bytes: &[u8]) -> Result<Document, Status> {
    let mut document = match media_type(headers).to_ascii_lowercase().as_str() {
        "" | "application/json" => json(bytes),
        "application/yaml" => yaml(bytes).map_err(Status::bad_request),
        plimsoll_protobuf::MEDIA_TYPE => protobuf(bytes),
        _ => Err(Status::unsupported_media_type(READABLE)),
    }?;
    typed(&mut document.value).map_err(Status::bad_request)?;
    crate::audit::request_object(&document.value);
    Ok(document)
}

/// [`value`] of a kind that may have no protobuf form.
pub(crate) fn value_of(kind: &Kind, headers: &HeaderMap, bytes: &[u8]) -> Result<Document, Status> {
    if kind.is_custom() && media_type(headers) == plimsoll_protobuf::MEDIA_TYPE {
        return Err(Status::unsupported_media_type("application/json, application/yaml"));
    }
    let document = value(headers, bytes).map_err(|status| unrecognized(status, kind.kind, bytes))?;
    let given = document.value["kind"].as_str().unwrap_or_default();
    // Objects of kinds that users define are not known by the path alone.
    if kind.is_custom() && given.is_empty() {
        let cause = format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(bytes));
        return Err(unrecognized(Status::bad_request(cause), kind.kind, bytes));
    }
    Ok(document)
}

/// What a client is told whose body does not even say what it is.
pub(crate) fn unrecognized(status: Status, kind: &str, bytes: &[u8]) -> Status {
    if status.code != 400 {
        return status;
    }
    let (cause, shown) = (&status.message, summary(bytes));
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {cause} ({shown})"
    ))
}

/// How a body begins.
fn summary(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(SHOWN)];
    let more = if bytes.len() > SHOWN { " ..." } else { "" };
    match start {
        [] => "<empty>".to_owned(),
        [b'{', ..] => format!("{}{more}", String::from_utf8_lossy(start)),
        _ => {
            let hex: Vec<String> = start.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}{more}", hex.concat())
        }
    }
}

/// Takes nothing for an empty object, and refuses what cannot have a type.
fn typed(value: &mut Value) -> Result<(), String> {
    const TYPE: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let unfit = |value: &Value, place: &str| {
        let found = type_name(value);
        format!("couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go {place}")
    };
    if value.is_null() {
        *value = Value::Object(serde_json::Map::new());
    }
    let Some(map) = value.as_object() else { return Err(unfit(value, &format!("value of type {TYPE}"))) };
    for key in ["apiVersion", "kind"] {
        match map.get(key) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => return Err(unfit(other, &format!("struct field .{key} of type string"))),
        }
    }
    match map.get("apiVersion").and_then(Value::as_str) {
        Some(version) if version.matches('/').count() > 1 => {
            Err(format!("unexpected GroupVersion string: {version}"))
        }
        _ => Ok(()),
    }
}

/// Holds the body of a deletion against its type.
pub(crate) fn delete_options(mut value: Value) -> Result<Value, Status> {
    let given = value["kind"].as_str().unwrap_or_default();
    if !matches!(given, "" | "DeleteOptions") {
        let version = value["apiVersion"].as_str().filter(|version| !version.is_empty()).unwrap_or("v1");
        return Err(Status::bad_request(format!(
            "no kind {given:?} is registered for version {version:?} in scheme \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
        )));
    }
    let shape = Shape::named("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")?;
    if let Shape::Builtin(root) = shape {
        plimsoll_schema::check(shape.schemas(), root, &mut value).map_err(Status::bad_request)?;
    }
    Ok(value)
}

/// Reads JSON.
pub(crate) fn json(bytes: &[u8]) -> Result<Document, Status> {
    Document::json(bytes).map_err(|error| unreadable(&syntax_error(&error, bytes)))
}

/// What is wrong with a text that is no JSON, in Go's words.
pub(crate) fn syntax_error(error: &serde_json::Error, bytes: &[u8]) -> String {
    match plimsoll_document::complaint(bytes) {
        Some(complaint) => complaint,
        // Go reads deeper than this server does.
        None if error.is_syntax() => "exceeded max depth".to_owned(),
        None => error.to_string(),
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

/// Reads YAML; JSON is YAML, too. The error is in the words of Go's reader, as far as they are known.
pub(crate) fn yaml(bytes: &[u8]) -> Result<Document, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())?;
    match Document::json(bytes) {
        Ok(document) if document.duplicates.paths.is_empty() => return Ok(document),
        _ => {}
    }
    let text = yaml_error::first_document(text);
    Document::yaml(text).map_err(|error| yaml_error::in_words(&error.to_string(), text))
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
    // Unknown fields of kinds that users define are pruned after they are read.
    let is_apart = matches!(shape, Shape::Custom(_)) && !duplicates.is_yaml();
    match validation {
        _ if unknown.is_empty() && duplicates.paths.is_empty() => {}
        FieldValidation::Ignore => {}
        FieldValidation::Warn if is_apart => warnings.extend(duplicates.told().chain(unknown)),
        FieldValidation::Warn => warnings.extend(duplicates.with_unknown(unknown)),
        FieldValidation::Strict => {
            let strict = match is_apart {
                true => duplicates.told().chain(unknown).collect::<Vec<_>>().join(", "),
                false => duplicates.refusal(unknown),
            };
            return Err(refused(&format!("strict decoding error: {strict}")));
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
    let is_custom = matches!(expected.shape, Shape::Custom(_));
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let Some(map) = object.as_object_mut() else {
        return Err(Status::bad_request(
            "couldn't get version/kind; json parse error: the body is not an object",
        ));
    };
    let (api_version, kind) = (expected.api_version, expected.kind);
    for (key, wanted) in [("apiVersion", api_version), ("kind", kind)] {
        // What users define must say its version.
        let is_open = map.get(key).and_then(Value::as_str).is_none_or(str::is_empty);
        if is_open && !(is_custom && key == "apiVersion") {
            map.insert(key.to_owned(), wanted.into());
        }
    }
    let given = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version_given, kind_given) = (given("apiVersion"), given("kind"));
    let mismatch = || {
        Status::bad_request(format!(
            "the API version in the data ({version_given}) does not match the expected API version ({api_version})"
        ))
    };
    match (version_given == api_version, kind_given == kind) {
        (true, true) => Ok(()),
        (false, _) if is_custom => Err(mismatch()),
        (true, false) if is_custom => {
            let wrong =
                FieldError::invalid(&Path::root("kind"), &kind_given.into(), format!("must be {kind}"));
            let group = api_version.split_once('/').map_or("", |(group, _)| group);
            Err(Status::invalid(group, kind_given, &name, &[wrong]))
        }
        (false, true) if is_known(version_given, kind) && group(version_given) == group(api_version) => {
            Err(mismatch())
        }
        _ => Err(Status::bad_request(other_kind((version_given, kind_given), (api_version, kind)))),
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether a type is built in; lists are types, too, and so is what every group has.
fn is_known(api_version: &str, kind: &str) -> bool {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let known = |kind: &str| plimsoll_catalogue::by_kind(group, version, kind).is_some();
    known(kind) || kind.strip_suffix("List").is_some_and(known) || api_version == "v1" && kind == "Status"
}

fn other_kind(given: (&str, &str), (expected, wanted): (&str, &str)) -> String {
    let (version, kind) = (given.0.rsplit('/').next().unwrap_or_default(), given.1);
    let cause = unconvertible(given, (expected, wanted));
    format!("{kind} in version {version:?} cannot be handled as a {wanted}: {cause}")
}

/// As upstream says it: decoding fails for kinds that it does not know, conversion for those it does.
pub(crate) fn unconvertible((api_version, given): (&str, &str), (expected, wanted): (&str, &str)) -> String {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    if !is_known(api_version, given) {
        return format!(
            "no kind {given:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        );
    }
    let family = match group(expected) {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("converting ({version}.{given}) to ({family}.{wanted}): unknown conversion")
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
            (json!({"apiVersion": "v1"}), "no kind \"Deployment\" is registered for version \"v1\""),
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
