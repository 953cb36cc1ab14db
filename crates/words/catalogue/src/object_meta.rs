//! Rules that the metadata of every object keeps (apimachinery: `pkg/api/validation`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::Access;
use crate::kind::Kind;
use crate::names;

/// All annotations of an object together, in bytes.
const ANNOTATIONS_LIMIT: usize = 256 << 10;

/// What is wrong with the metadata of a new object.
pub fn validate(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let path = Path::root("metadata");
    let metadata = object.at("metadata").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    check_names(kind, metadata, &path, &mut errors);
    if metadata.count("generation") < 0 {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            &metadata["generation"],
            "must be greater than or equal to 0",
        ));
    }
    check_labels(metadata.map("labels"), &path.child("labels"), &mut errors);
    check_annotations(metadata.map("annotations"), &path.child("annotations"), &mut errors);
    check_owners(metadata.list("ownerReferences"), &path.child("ownerReferences"), &mut errors);
    check_finalizers(metadata, &path.child("finalizers"), &mut errors);
    errors
}

/// What is wrong with a change of metadata.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::root("metadata");
    let null = Value::Null;
    let (new, old) = (new.at("metadata").unwrap_or(&null), old.at("metadata").unwrap_or(&null));
    let mut errors = Vec::new();
    if old.has("deletionTimestamp") {
        check_no_new_finalizers(new, old, &path.child("finalizers"), &mut errors);
    }
    if new.count("generation") < old.count("generation") {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            &new["generation"],
            "must not be decremented",
        ));
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        if new.at(field) != old.at(field) {
            let value = new.at(field).unwrap_or(&null);
            errors.push(FieldError::invalid(&path.child(field), value, "field is immutable"));
        }
    }
    check_managers(new.list("managedFields"), &path.child("managedFields"), &mut errors);
    check_labels(new.map("labels"), &path.child("labels"), &mut errors);
    check_annotations(new.map("annotations"), &path.child("annotations"), &mut errors);
    check_owners(new.list("ownerReferences"), &path.child("ownerReferences"), &mut errors);
    errors
}

/// Longest name of a field manager in bytes.
const LONGEST_MANAGER: usize = 128;

fn check_managers(entries: &[Value], path: &Path, errors: &mut Vec<FieldError>) {
    for (at, entry) in entries.iter().enumerate() {
        if entry.text("manager").len() > LONGEST_MANAGER {
            errors.push(FieldError::too_long(&path.index(at).child("manager"), LONGEST_MANAGER));
        }
    }
}

/// Groups whose servers do not ask for this upstream.
const ANY_FINALIZER: [&str; 3] =
    ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"];

/// Finalizers are the system's own or tell by their prefix whose they are.
pub fn check_finalizer_names(kind: &Kind, object: &Value) -> Vec<FieldError> {
    const STANDARD: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];
    const MESSAGE: &str = "name is neither a standard finalizer name nor is it fully qualified";
    let path = Path::root("metadata").child("finalizers");
    let mut errors = Vec::new();
    for (at, finalizer) in object.texts("metadata.finalizers").iter().enumerate() {
        let known = finalizer.contains('/') || STANDARD.contains(finalizer);
        if !known && !kind.is_custom() && !ANY_FINALIZER.contains(&kind.group) {
            errors.push(FieldError::invalid(&path.index(at), &(*finalizer).into(), MESSAGE));
        }
    }
    errors
}

fn check_names(kind: &Kind, metadata: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut check = |field: &str, prefix: bool| {
        for message in (kind.name_rule)(metadata.text(field), prefix).err().unwrap_or_default() {
            errors.push(FieldError::invalid(&path.child(field), &metadata[field], message));
        }
    };
    if !metadata.text("generateName").is_empty() {
        check("generateName", true);
    }
    if metadata.text("name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    } else {
        check("name", false);
    }
    let namespace = metadata.text("namespace");
    let at = path.child("namespace");
    match (kind.namespaced, namespace) {
        (true, "") => errors.push(FieldError::required(&at, "")),
        (true, _) => {
            for message in names::dns_label(namespace, false).err().unwrap_or_default() {
                errors.push(FieldError::invalid(&at, &metadata["namespace"], message));
            }
        }
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden(&at, "not allowed on this type")),
    }
}

/// Keys and values of labels; templates have them, too.
pub fn check_labels(labels: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    for (key, value) in labels {
        for message in name::is_qualified_name(key).err().unwrap_or_default() {
            errors.push(FieldError::invalid(path, &key.as_str().into(), message));
        }
        for message in name::is_label_value(value.as_str().unwrap_or("")).err().unwrap_or_default() {
            errors.push(FieldError::invalid(path, value, message));
        }
    }
}

/// Keys and the size of annotations.
pub fn check_annotations(annotations: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    for key in annotations.keys() {
        for message in name::is_qualified_name(&key.to_lowercase()).err().unwrap_or_default() {
            errors.push(FieldError::invalid(path, &key.as_str().into(), message));
        }
    }
    let size: usize =
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long(path, ANNOTATIONS_LIMIT));
    }
}

fn check_owners(owners: &[Value], path: &Path, errors: &mut Vec<FieldError>) {
    let mut controller: Option<String> = None;
    for owner in owners {
        check_owner(owner, path, errors);
        if !owner.flag("controller") {
            continue;
        }
        let name = format!("{}/{}", owner.text("kind"), owner.text("name"));
        match &controller {
            None => controller = Some(name),
            Some(first) => errors.push(FieldError::invalid(
                path,
                &Value::Array(owners.to_vec()),
                format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                ),
            )),
        }
    }
}

fn check_owner(owner: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let version = owner.text("apiVersion").rsplit('/').next().unwrap_or("");
    for (field, text, message) in [
        ("apiVersion", version, "version must not be empty"),
        ("kind", owner.text("kind"), "kind must not be empty"),
        ("name", owner.text("name"), "name must not be empty"),
        ("uid", owner.text("uid"), "uid must not be empty"),
    ] {
        if text.is_empty() {
            errors.push(FieldError::invalid(&path.child(field), &owner.text(field).into(), message));
        }
    }
    if (owner.text("apiVersion"), owner.text("kind")) == ("v1", "Event") {
        errors.push(FieldError::invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"));
    }
}

fn check_finalizers(metadata: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let finalizers = metadata.texts("finalizers");
    for finalizer in &finalizers {
        for message in name::is_qualified_name(finalizer).err().unwrap_or_default() {
            errors.push(FieldError::invalid(path, &(*finalizer).into(), message));
        }
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let message = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, &metadata["finalizers"], message));
    }
}

fn check_no_new_finalizers(new: &Value, old: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let before: BTreeSet<&str> = old.texts("finalizers").into_iter().collect();
    let extra: BTreeSet<&str> =
        new.texts("finalizers").into_iter().filter(|one| !before.contains(one)).collect();
    if !extra.is_empty() {
        let list: Vec<String> = extra.iter().map(|one| format!("{one:?}")).collect();
        errors.push(FieldError::forbidden(
            path,
            format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            ),
        ));
    }
}
