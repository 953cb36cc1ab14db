//! Is a schema structural: does it say the type of everything it speaks of, outside of alternatives?

use plimsoll_meta::field::{FieldError, Path};
use serde_json::{Map, Value, json};

/// Where in a schema: messages differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// The message of the condition `NonStructuralSchema`, if a definition deserves it, with its reason.
pub fn non_structural(object: &Value) -> Option<(&'static str, String)> {
    let mut errors = Vec::new();
    let spec = Path::root("spec");
    if object["spec"]["preserveUnknownFields"] == true {
        errors.push(FieldError::invalid(&spec.child("preserveUnknownFields"), &true.into(), "must be false"));
    }
    for (at, version) in object["spec"]["versions"].as_array().into_iter().flatten().enumerate() {
        let props = &version["schema"]["openAPIV3Schema"];
        if !props.is_object() {
            continue;
        }
        if let Some(why) = unsupported(props) {
            let name = version["name"].as_str().unwrap_or_default();
            return Some((
                "StructuralError",
                format!("failed to check validation schema for version {name}: {why}"),
            ));
        }
        let path = spec.child("versions").index(at).child("schema").child("openAPIV3Schema");
        errors.extend(structural(props, &path));
    }
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => None,
        [one] => Some(("Violations", one.clone())),
        many => Some(("Violations", format!("[{}]", many.join(", ")))),
    }
}

/// What makes a schema unreadable as a structural one.
pub(crate) fn unsupported(props: &Value) -> Option<String> {
    for keyword in ["id", "$schema", "$ref"] {
        if !props[keyword].as_str().unwrap_or_default().is_empty() {
            let keyword = keyword.trim_start_matches(if keyword == "$schema" { "$" } else { "" });
            return Some(format!("OpenAPIV3Schema '{keyword}' is not supported"));
        }
    }
    for keyword in ["patternProperties", "dependencies", "definitions"] {
        if props[keyword].as_object().is_some_and(|map| !map.is_empty()) {
            return Some(format!("OpenAPIV3Schema '{keyword}' is not supported"));
        }
    }
    if !props["additionalItems"].is_null() {
        return Some("OpenAPIV3Schema 'additionalItems' is not supported".to_owned());
    }
    if props["items"].is_array() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    if props["x-kubernetes-preserve-unknown-fields"] == false {
        return Some(
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned(),
        );
    }
    let below = |value: &Value| value.is_object().then(|| unsupported(value)).flatten();
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| props[key].as_array()).flatten();
    let maps = props["properties"].as_object().into_iter().flatten().map(|(_, value)| value);
    ["items", "not", "additionalProperties"]
        .into_iter()
        .map(|key| &props[key])
        .chain(lists)
        .chain(maps)
        .find_map(below)
}

/// What keeps a schema from being structural, in the order of the texts.
pub(crate) fn structural(props: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(props, Level::Root, path, &mut errors);
    complete(props, props, path, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn kind(props: &Value) -> &str {
    props["type"].as_str().unwrap_or_default()
}

fn is_set(props: &Value, key: &str) -> bool {
    props[key] == true
}

fn entries(props: &Value) -> impl Iterator<Item = (&String, &Value)> {
    props["properties"].as_object().into_iter().flatten()
}

fn list<'v>(props: &'v Value, key: &str) -> &'v [Value] {
    props[key].as_array().map_or(&[], Vec::as_slice)
}

fn invariants(props: &Value, level: Level, path: &Path, errors: &mut Vec<FieldError>) {
    if kind(props) == "array" && !props["items"].is_object() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if props["items"].is_object() {
        invariants(&props["items"], Level::Item, &path.child("items"), errors);
    }
    for (name, property) in entries(props) {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    additional(props, level, path, errors);
    exclusive(props, path, errors);
    let any_of = is_int_or_string(list(props, "anyOf"));
    let all_of = list(props, "allOf").first().is_some_and(|first| is_int_or_string(list(first, "anyOf")));
    values(props, any_of, all_of, path, errors);
    types(props, level, path, errors);
    metadata(props, level, path, errors);
}

fn additional(props: &Value, level: Level, path: &Path, errors: &mut Vec<FieldError>) {
    let additional = &props["additionalProperties"];
    if additional.is_null() {
        return;
    }
    let at = path.child("additionalProperties");
    if level == Level::Root {
        errors.push(FieldError::forbidden(&at, "must not be used at the root"));
    }
    if additional.is_object() {
        invariants(additional, Level::Field, &at, errors);
    }
    if is_set(props, "x-kubernetes-embedded-resource") {
        errors.push(FieldError::forbidden(&at, "must not be used if x-kubernetes-embedded-resource is set"));
    }
}

/// Extensions that exclude each other.
fn exclusive(props: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if !is_set(props, "x-kubernetes-int-or-string") {
        return;
    }
    for other in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if is_set(props, other) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(other), &true.into(), detail));
        }
    }
}

fn types(props: &Value, level: Level, path: &Path, errors: &mut Vec<FieldError>) {
    let at = path.child("type");
    let embedded = is_set(props, "x-kubernetes-embedded-resource");
    match kind(props) {
        "" if embedded => {
            errors.push(FieldError::required(&at, "must be object if x-kubernetes-embedded-resource is true"))
        }
        found if embedded && found != "object" => errors.push(FieldError::invalid(
            &at,
            &found.into(),
            "must be object if x-kubernetes-embedded-resource is true",
        )),
        "" if !is_set(props, "x-kubernetes-int-or-string")
            && !is_set(props, "x-kubernetes-preserve-unknown-fields") =>
        {
            errors.push(FieldError::required(
                &at,
                match level {
                    Level::Root => "must not be empty at the root",
                    Level::Item => "must not be empty for specified array items",
                    Level::Field => "must not be empty for specified object fields",
                },
            ));
        }
        _ => {}
    }
    if level == Level::Root && !matches!(kind(props), "" | "object") {
        errors.push(FieldError::invalid(&at, &kind(props).into(), "must be object at the root"));
    }
}

/// `apiVersion`, `kind` and `metadata` have types of their own; schemas may say little about them.
fn metadata(props: &Value, level: Level, path: &Path, errors: &mut Vec<FieldError>) {
    let embedded = is_set(props, "x-kubernetes-embedded-resource");
    let properties = &props["properties"];
    let is_resource = level == Level::Root || embedded;
    for key in ["kind", "apiVersion"] {
        if is_resource && properties[key].is_object() && kind(&properties[key]) != "string" {
            let at = path.child("properties").key(key).child("type");
            errors.push(FieldError::invalid(&at, &kind(&properties[key]).into(), "must be string"));
        }
    }
    if properties["metadata"].is_object() {
        let at = path.child("properties").key("metadata");
        if is_resource && kind(&properties["metadata"]) != "object" {
            let found = kind(&properties["metadata"]).into();
            errors.push(FieldError::invalid(&at.child("type"), &found, "must be object"));
        }
        if level == Level::Root && says_more_than_names(&properties["metadata"]) {
            errors.push(FieldError::forbidden(
                &at,
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            ));
        }
    }
    let is_empty = properties.as_object().is_none_or(Map::is_empty);
    if embedded && is_empty && !is_set(props, "x-kubernetes-preserve-unknown-fields") {
        errors.push(FieldError::required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
}

fn says_more_than_names(metadata: &Value) -> bool {
    let names = |value: &Value| {
        value.as_object().is_some_and(|map| map.keys().all(|key| key == "name" || key == "generateName"))
    };
    metadata.as_object().into_iter().flatten().any(|(key, value)| match key.as_str() {
        "type" | "default" => false,
        "properties" => !names(value),
        _ => !is_zero(value),
    })
}

/// Go's zero value.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) => false,
    }
}

/// The one place where alternatives may name types.
fn is_int_or_string(alternatives: &[Value]) -> bool {
    *alternatives == [json!({"type": "integer"}), json!({"type": "string"})]
}

/// The part of a schema that restricts values.
fn values(props: &Value, skip_any_of: bool, skip_all_of: bool, path: &Path, errors: &mut Vec<FieldError>) {
    for keyword in ["anyOf", "allOf", "oneOf"] {
        if keyword == "anyOf" && skip_any_of {
            continue;
        }
        for (at, branch) in list(props, keyword).iter().enumerate() {
            let skip = keyword == "allOf" && skip_all_of && at == 0;
            nested(branch, skip, &path.child(keyword).index(at), errors);
        }
    }
    if props["not"].is_object() {
        nested(&props["not"], false, &path.child("not"), errors);
    }
    if let Some(pattern) = props["pattern"].as_str().filter(|pattern| !pattern.is_empty())
        && let Err(why) = crate::pattern::compiled(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}");
        errors.push(FieldError::invalid(&path.child("pattern"), &pattern.into(), detail));
    }
}

/// An alternative restricts values and says nothing about structure.
fn nested(props: &Value, skip_any_of: bool, path: &Path, errors: &mut Vec<FieldError>) {
    const FORBIDDEN: [(&str, &str); 13] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    values(props, skip_any_of, false, path, errors);
    if props["items"].is_object() {
        nested(&props["items"], false, &path.child("items"), errors);
    }
    for (name, property) in entries(props) {
        nested(property, false, &path.child("properties").key(name), errors);
    }
    for (keyword, detail) in FORBIDDEN {
        let undefined = detail.starts_with("must be undefined");
        if if undefined { props[keyword].is_null() } else { is_zero(&props[keyword]) } {
            continue;
        }
        errors.push(FieldError::forbidden(&path.child(keyword), detail));
    }
    if props["properties"]["metadata"].is_object() {
        let at = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(&at, "must not be specified in a nested context"));
    }
}

/// Everything that alternatives speak of has its place outside of them: `structure` at `path` is held
/// against the alternatives of `props` at `from`.
fn complete(props: &Value, structure: &Value, path: &Path, from: &Path, errors: &mut Vec<FieldError>) {
    if props["not"].is_object() {
        branch(&props["not"], structure, path, &from.child("not"), errors);
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (at, alternative) in list(props, keyword).iter().enumerate() {
            branch(alternative, structure, path, &from.child(keyword).index(at), errors);
        }
    }
}

/// One alternative, or what it says about a part.
fn branch(props: &Value, structure: &Value, path: &Path, from: &Path, errors: &mut Vec<FieldError>) {
    complete(props, structure, path, from, errors);
    if props["items"].is_object() {
        part(&props["items"], &structure["items"], &path.child("items"), &from.child("items"), errors);
    }
    for (name, property) in entries(props) {
        let (path, from) = (path.child("properties").key(name), from.child("properties").key(name));
        part(property, &structure["properties"][name], &path, &from, errors);
    }
}

fn part(props: &Value, structure: &Value, path: &Path, from: &Path, errors: &mut Vec<FieldError>) {
    if structure.is_object() {
        branch(props, structure, path, from, errors);
    } else {
        errors.push(FieldError::required(path, format!("because it is defined in {from}")));
    }
}
