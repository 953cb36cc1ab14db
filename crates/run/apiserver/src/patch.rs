//! The four kinds of patches: what enters is the body of a PATCH, what leaves is the object that it makes
//! of the present one, or the refusal in upstream's words.

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use serde_json::Value;

use crate::audit;
use crate::decode::{self, FieldValidation};
use crate::object::{meta, metadata_mut};
use crate::shape::Shape;
use crate::stages::Asked;
use crate::write::{Ownership, Proposal, WHATEVER, Write};
use plimsoll_document::Document;

/// A patch that was read.
pub(crate) struct Patch {
    pub(crate) change: Change,
    /// What strict decoding has against its text.
    strict: Vec<String>,
}

/// What it does.
pub(crate) enum Change {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply { config: Value, force: bool },
}

impl Patch {
    /// Reads the body as its media type says.
    pub(crate) fn read(asked: &Asked, bytes: &[u8]) -> Result<Self, Status> {
        audit::request_patch(bytes);
        match decode::media_type(&asked.headers) {
            "application/json-patch+json" => {
                let (patch, duplicates) = decoded(bytes, "error decoding patch: ")?;
                let mut strict: Vec<String> =
                    duplicates.iter().map(|one| format!("json patch {one}")).collect();
                strict.extend(unknown_in_operations(&patch));
                Ok(Self { change: Change::Json(patch), strict })
            }
            "application/merge-patch+json" => {
                let (patch, strict) = decoded(bytes, "error decoding patch: ")?;
                match &patch {
                    Value::Object(_) => Ok(Self { change: Change::Merge(patch), strict }),
                    Value::Null => Err(Status::bad_request("Invalid JSON Patch")),
                    other => Err(Status::bad_request(format!(
                        "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                        decode::type_name(other)
                    ))),
                }
            }
            "application/strategic-merge-patch+json" => {
                let (patch, strict) = decoded(bytes, "")?;
                let patch = if patch.is_null() { Value::Object(serde_json::Map::new()) } else { patch };
                Ok(Self { change: Change::Strategic(patch), strict })
            }
            "application/apply-patch+yaml" => {
                let (config, strict) = configuration(bytes)?;
                Ok(Self { change: Change::Apply { config, force: asked.query.flag("force") }, strict })
            }
            _ => Err(Status::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")),
        }
    }

    /// Is it server-side apply?
    pub(crate) fn is_apply(&self) -> bool {
        matches!(self.change, Change::Apply { .. })
    }

    /// The object that the patch makes of `old`.
    pub(crate) fn proposal(&self, write: &mut Write<'_>, old: &Value) -> Result<Proposal, Status> {
        if let Change::Apply { config, force } = &self.change {
            return self.applied(write, old, config, *force);
        }
        let mut object = self.patched(write, old)?;
        let shown = match &self.change {
            Change::Strategic(patch) => plimsoll_merge::go_text(patch),
            _ => object.to_string(),
        };
        self.fit(write, &mut object, &shown)?;
        immutable_uid(write, old, &object)?;
        // A patch that does not speak of the version is applied to whatever version there is.
        if object["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"] {
            metadata_mut(&mut object).insert("resourceVersion".to_owned(), WHATEVER.into());
        }
        Ok(Proposal { object, ownership: Ownership::Track })
    }

    fn patched(&self, write: &Write<'_>, old: &Value) -> Result<Value, Status> {
        Ok(match &self.change {
            Change::Json(patch) => plimsoll_merge::json_patch(old.clone(), patch)?,
            Change::Merge(patch) | Change::Apply { config: patch, .. } => {
                let mut object = old.clone();
                plimsoll_merge::merge_patch(&mut object, patch);
                object
            }
            Change::Strategic(patch) => {
                plimsoll_merge::strategic_merge(old.clone(), patch, write.shape.typed())?
            }
        })
    }

    /// Holds what came out against the kind. Upstream answers with the whole document, or with the patch
    /// if it is a strategic one.
    fn fit(&self, write: &mut Write<'_>, object: &mut Value, shown: &str) -> Result<(), Status> {
        let refused = |why: &str| {
            let error = FieldError::invalid(&Path::root("patch"), &shown.into(), why);
            Status::invalid("", "", "", &[error])
        };
        match self.change {
            // What it says of the type is lost on the way.
            Change::Strategic(_) => named(write, object),
            _ if write.kind.is_custom() => same_custom_type(write, object, refused)?,
            _ => same_type(write, object).map_err(|why| refused(&why))?,
        }
        let unknown = match &write.shape {
            Shape::Builtin(root) => plimsoll_schema::fit(plimsoll_schema::builtin(), *root, object)
                .map(|found| found.unknown)
                .map_err(|misfit| match self.change {
                    Change::Strategic(_) => misfit.restoring,
                    _ => misfit.decoding,
                }),
            Shape::Custom(definition) => decode::custom(definition, object),
        }
        .map_err(|why| refused(&why))?;
        let mut strict = self.strict.clone();
        strict.extend(unknown);
        match write.validation {
            FieldValidation::Strict if !strict.is_empty() => {
                Err(refused(&format!("strict decoding error: {}", strict.join(", "))))
            }
            FieldValidation::Warn => {
                write.warnings.extend(strict);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn applied(
        &self,
        write: &mut Write<'_>,
        old: &Value,
        config: &Value,
        force: bool,
    ) -> Result<Proposal, Status> {
        let (api_version, now) = (write.kind.api_version(), write.time());
        right_type(config, &api_version, write.kind.kind)?;
        right_object(config, write)?;
        let request =
            plimsoll_merge::apply::Request { config, writer: write.writer(&api_version, &now), force };
        let live = old["metadata"]["uid"].is_string().then_some(old);
        let mut object = plimsoll_merge::apply::apply(live, &request, write.shape.typed(), &write.ignored())?;
        match write.validation {
            FieldValidation::Strict if !self.strict.is_empty() => {
                let why = self.strict.join(", ");
                return Err(Status::bad_request(format!("error strict decoding YAML: {why}")));
            }
            FieldValidation::Warn => write.warnings.extend(self.strict.iter().cloned()),
            _ => {}
        }
        match &write.shape {
            Shape::Builtin(root) => {
                plimsoll_schema::check(plimsoll_schema::builtin(), *root, &mut object).map(drop)
            }
            Shape::Custom(definition) => decode::custom(definition, &mut object).map(drop),
        }
        .map_err(|error| unconvertible(config, &error))?;
        // What is not there yet has no version to insist on.
        let version = match (live, &config["metadata"]["resourceVersion"]) {
            (None, _) => Value::Null,
            (Some(_), Value::Null) => WHATEVER.into(),
            (Some(_), version) => version.clone(),
        };
        metadata_mut(&mut object).insert("resourceVersion".to_owned(), version);
        if live.is_some() {
            immutable_uid(write, old, config)?;
        }
        Ok(Proposal { object, ownership: Ownership::Applied })
    }
}

fn decoded(bytes: &[u8], prefix: &str) -> Result<(Value, Vec<String>), Status> {
    let document = Document::json(bytes)
        .map_err(|error| Status::bad_request(format!("{prefix}{}", decode::syntax_error(&error, bytes))))?;
    let twice = document.duplicates.told().collect();
    Ok((document.value, twice))
}

/// Reads an applied configuration; an empty one is an empty object.
fn configuration(bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    let wrong = |why: &str| Status::bad_request(format!("error decoding YAML: {why}"));
    let document =
        decode::yaml(bytes).map_err(|why| wrong(&format!("error converting YAML to JSON: {why}")))?;
    let key = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let lines = document.duplicates.lines(&String::from_utf8_lossy(bytes));
    let twice = document.duplicates.paths.iter().zip(lines).map(|(path, line)| {
        let (key, line) = (key(path), line.map_or_else(String::new, |line| format!("line {line}: ")));
        format!(
            "error converting YAML to JSON: yaml: unmarshal errors:\n  {line}key {key:?} already set in map"
        )
    });
    match document.value {
        Value::Null => Ok((Value::Object(serde_json::Map::new()), Vec::new())),
        Value::Object(map) => Ok((Value::Object(map), twice.collect())),
        other => Err(wrong(&format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            decode::type_name(&other)
        ))),
    }
}

/// Fields that an operation of a JSON patch does not have.
fn unknown_in_operations(patch: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (at, operation) in patch.as_array().into_iter().flatten().enumerate() {
        for key in operation.as_object().into_iter().flatten().map(|(key, _)| key) {
            if !["op", "path", "from", "value"].contains(&key.as_str()) {
                found.push(format!("json patch unknown field \"[{at}].{key}\""));
            }
        }
    }
    found
}

/// Gives an object the type of its kind.
fn named(write: &Write<'_>, object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), write.kind.api_version().into());
        map.insert("kind".to_owned(), write.kind.kind.into());
    }
}

/// A patch may not make another kind of the object; what it removes comes back.
fn same_type(write: &Write<'_>, object: &mut Value) -> Result<(), String> {
    let expected = (write.kind.api_version(), write.kind.kind);
    let Some(map) = object.as_object_mut() else {
        return Err("couldn't get version/kind; json parse error: the body is not an object".to_owned());
    };
    for (key, value) in [("apiVersion", expected.0.as_str()), ("kind", expected.1)] {
        if map.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
            map.insert(key.to_owned(), value.into());
        }
    }
    let given = |key: &str| map[key].as_str().unwrap_or_default();
    match (given("apiVersion"), given("kind")) {
        given if given == (&*expected.0, expected.1) => Ok(()),
        given => Err(decode::unconvertible(given, (&expected.0, expected.1))),
    }
}

/// Objects that users define must say what they are.
fn same_custom_type(
    write: &Write<'_>,
    object: &Value,
    refused: impl Fn(&str) -> Status,
) -> Result<(), Status> {
    let given = |key: &str| object[key].as_str().unwrap_or_default();
    if given("kind").is_empty() {
        return Err(refused(&format!("Object 'Kind' is missing in '{object}'")));
    }
    let (mut errors, api_version) = (Vec::new(), write.kind.api_version());
    for (key, wanted) in [("kind", write.kind.kind), ("apiVersion", api_version.as_str())] {
        if given(key) != wanted {
            let error =
                FieldError::invalid(&Path::root(key), &given(key).into(), format!("must be {wanted}"));
            errors.push(error);
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(write.kind.group, given("kind"), write.name, &errors)),
    }
}

/// An applied configuration says what it is.
fn right_type(config: &Value, api_version: &str, kind: &str) -> Result<(), Status> {
    let given = |key: &str| config[key].as_str().unwrap_or_default();
    if given("kind") == kind && given("apiVersion") == api_version {
        return Ok(());
    }
    Err(Status::bad_request(format!("invalid object type: {}", identity(config))))
}

/// A configuration is for the object that the path names.
fn right_object(config: &Value, write: &Write<'_>) -> Result<(), Status> {
    let (name, namespace) = (meta(config, "name"), meta(config, "namespace"));
    if !name.is_empty() && name != write.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            write.name
        )));
    }
    if write.kind.namespaced && !namespace.is_empty() && namespace != write.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// `apps/v1, Kind=Deployment`; without a group `/v1, Kind=Pod`.
fn identity(config: &Value) -> String {
    let given = |key: &str| config[key].as_str().unwrap_or_default();
    let version = given("apiVersion");
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{slash}{version}, Kind={}", given("kind"))
}

fn unconvertible(config: &Value, why: &str) -> Status {
    let meta = |key: &str| config["metadata"][key].as_str().unwrap_or_default();
    let message = format!(
        "failed to convert new object ({}/{}; {}) to proper version: {why}",
        meta("namespace"),
        meta("name"),
        identity(config)
    );
    Status::new(500, "", message)
}

/// A patch cannot be meant for another object, as a PUT can.
fn immutable_uid(write: &Write<'_>, old: &Value, new: &Value) -> Result<(), Status> {
    let (before, given) = (&old["metadata"]["uid"], &new["metadata"]["uid"]);
    if given.as_str().is_none_or(str::is_empty) || given == before {
        return Ok(());
    }
    let path = Path::root("metadata").child("uid");
    let error = FieldError::invalid(&path, given, "field is immutable");
    Err(Status::invalid(write.kind.group, write.kind.kind, write.name, &[error]))
}
