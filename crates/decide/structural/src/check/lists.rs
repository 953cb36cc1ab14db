//! `x-kubernetes-list-type`, `-list-map-keys`, `-map-type` and `-preserve-unknown-fields`.

use plimsoll_meta::field::{FieldError, Path};
use serde_json::Value;

use super::Tolerance;

const LIST_TYPE: &str = "x-kubernetes-list-type";
const LIST_KEYS: &str = "x-kubernetes-list-map-keys";
const MAP_TYPE: &str = "x-kubernetes-map-type";

pub(super) fn check(props: &Value, path: &Path, tolerance: Tolerance) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if props[preserve] == false {
        let detail = "must be true or undefined";
        errors.push(FieldError::invalid(&path.child(preserve), &false.into(), detail));
    }
    type_fits(props, MAP_TYPE, "object", path, &mut errors);
    supported(props, MAP_TYPE, &["atomic", "granular"], path, &mut errors);
    if type_fits(props, LIST_TYPE, "array", path, &mut errors) && !tolerance.sets {
        errors.extend(set(props, path));
    }
    supported(props, LIST_TYPE, &["atomic", "set", "map"], path, &mut errors);
    map(props, path, &mut errors);
    if !tolerance.keys {
        errors.extend(keys(props, path));
    }
    errors
}

/// The extension stands on the type that it is made for.
fn type_fits(
    props: &Value,
    extension: &str,
    wanted: &str,
    path: &Path,
    errors: &mut Vec<FieldError>,
) -> bool {
    let at = path.child("type");
    let detail = format!("must be {wanted} if {extension} is specified");
    match props["type"].as_str().unwrap_or_default() {
        _ if props[extension].is_null() => false,
        found if found == wanted => true,
        "" => {
            errors.push(FieldError::required(&at, detail));
            false
        }
        found => {
            errors.push(FieldError::invalid(&at, &found.into(), detail));
            false
        }
    }
}

fn supported(props: &Value, extension: &str, choices: &[&str], path: &Path, errors: &mut Vec<FieldError>) {
    let found = props[extension].as_str();
    if found.is_some_and(|found| !choices.contains(&found)) {
        errors.push(FieldError::not_supported(&path.child(extension), &props[extension], choices));
    }
}

/// Elements of sets are one value each.
fn set(props: &Value, path: &Path) -> Option<FieldError> {
    let extension = granular(props)?;
    let items = &props["items"];
    let at = path.child("items").child(extension);
    // Upstream shows the list type in both cases.
    let shown = match items[LIST_TYPE].as_str() {
        Some(text) => Value::from(text),
        None => Value::from("null"),
    };
    Some(FieldError::invalid(&at, &shown, "must be atomic as item of a list with x-kubernetes-list-type=set"))
}

/// The extension by which elements of a set have parts of their own.
fn granular(props: &Value) -> Option<&'static str> {
    if props[LIST_TYPE] != "set" || !props["items"].is_object() {
        return None;
    }
    let items = &props["items"];
    match items["type"].as_str() {
        Some("array") if !items[LIST_TYPE].is_null() && items[LIST_TYPE] != "atomic" => Some(LIST_TYPE),
        Some("object") if items[MAP_TYPE] != "atomic" => Some(MAP_TYPE),
        _ => None,
    }
}

pub(super) fn has_granular_set(props: &Value) -> bool {
    granular(props).is_some()
}

fn names(props: &Value) -> Vec<&str> {
    props[LIST_KEYS].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Elements of list maps are objects with scalar keys.
fn map(props: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let (keys, list_type) = (names(props), props[LIST_TYPE].as_str());
    let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
    match list_type {
        _ if keys.is_empty() => {}
        None => errors.push(FieldError::required(&path.child(LIST_TYPE), detail)),
        Some("map") => {}
        Some(other) => errors.push(FieldError::invalid(&path.child(LIST_TYPE), &other.into(), detail)),
    }
    if list_type != Some("map") {
        return;
    }
    if keys.is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&path.child(LIST_KEYS), detail));
    }
    let items = &props["items"];
    if items.is_null() {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&path.child("items"), detail));
    } else if items.is_array() {
        let detail = "must only have a single schema if x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&path.child("items"), items, detail));
    } else if items["type"] != "object" {
        let found = items["type"].as_str().unwrap_or_default().into();
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&path.child("items").child("type"), &found, detail));
    } else {
        key_properties(items, &keys, props, path, errors);
    }
}

fn key_properties(items: &Value, keys: &[&str], props: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (at, key) in keys.iter().enumerate() {
        match items["properties"].get(*key) {
            Some(property) if property["type"] == "array" || property["type"] == "object" => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let at = path.child("items").child("properties").key(key).child("type");
                errors.push(FieldError::invalid(&at, &items["type"], detail));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&path.child(LIST_KEYS), &props[LIST_KEYS], detail));
            }
        }
        if keys[..at].contains(key) {
            let detail = "must not contain duplicate entries";
            errors.push(FieldError::invalid(&path.child(LIST_KEYS), &props[LIST_KEYS], detail));
        }
    }
}

/// Elements and their keys are always there.
pub(super) fn keys(props: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let items = &props["items"];
    let Some(list_type @ ("set" | "map")) = props[LIST_TYPE].as_str() else { return errors };
    if !items.is_object() {
        return errors;
    }
    let path = path.child("items");
    if items["nullable"] == true {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(&path.child("nullable"), detail));
    }
    if list_type == "set" {
        return errors;
    }
    let required: Vec<&str> =
        items["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for key in names(props) {
        let Some(property) = items["properties"].get(key) else { continue };
        let at = path.child("properties").key(key);
        if !required.contains(&key) && property["default"].is_null() {
            errors.push(FieldError::required(
                &at.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ));
        }
        if property["nullable"] == true {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&at.child("nullable"), detail));
        }
    }
    errors
}
