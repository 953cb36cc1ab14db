//! Laws that hold for one fully populated object of every published kind.
//!
//! The objects are reference data beside the workspace; without them the test passes.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use plimsoll_merge::apply::{Request, apply};
use plimsoll_merge::managed::{Writer, track};
use plimsoll_merge::paths::Set;
use plimsoll_merge::{Typed, strategic_merge};
use plimsoll_schema::builtin;
use serde_json::{Value, json};

fn objects() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/reference/api-testdata-1.28");
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut objects = Vec::new();
    for file in files {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let mut object: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
                drop_nulls(&mut object);
                objects.push((path.file_name().unwrap().to_string_lossy().into_owned(), object));
            }
        }
    }
    objects
}

/// In a patch, null means removal.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The schema of an object's kind, if this version still has it.
fn typed(object: &Value) -> Option<Typed<'static>> {
    let version = object["apiVersion"].as_str()?;
    let group = version.split_once('/').map_or("core", |(group, _)| group.split('.').next().unwrap());
    let version = version.rsplit('/').next()?;
    let ending = format!(".{group}.{version}.{}", object["kind"].as_str()?);
    let name = builtin().names().find(|name| name.ends_with(&ending))?;
    Some(Typed::of(builtin(), builtin().lookup(name)?))
}

#[test]
fn merging_an_object_into_itself_changes_nothing() {
    for (file, object) in objects() {
        if let Some(typed) = typed(&object) {
            assert_eq!(strategic_merge(object.clone(), &object, typed), Ok(object), "{file}");
        }
    }
}

#[test]
fn applying_twice_is_applying_once_and_giving_up_removes() {
    for (file, object) in objects() {
        let Some(typed) = typed(&object) else { continue };
        let writer = Writer {
            manager: "m",
            api_version: object["apiVersion"].as_str().unwrap(),
            subresource: "",
            now: "2026-01-01T00:00:00Z",
        };
        let request = Request { config: &object, writer, force: false };
        // Fields that newer versions dropped cannot be applied; the refusal is tested elsewhere.
        let Ok(once) = apply(None, &request, typed, &Set::default()) else { continue };
        let later = Request { writer: Writer { now: "2027-01-01T00:00:00Z", ..writer }, ..request };
        let twice = apply(Some(&once), &later, typed, &Set::default()).unwrap();
        assert_eq!(once, twice, "{file}");

        let mut less = json!({"apiVersion": object["apiVersion"], "kind": object["kind"]});
        less["metadata"] =
            json!({"name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"]});
        let after =
            apply(Some(&twice), &Request { config: &less, ..request }, typed, &Set::default()).unwrap();
        assert!(after["metadata"].get("labels").is_none(), "{file}: {after}");
        assert!(after.get("spec").is_none(), "{file}: {after}");
    }
}

#[test]
fn updating_without_a_change_keeps_ownership() {
    for (file, object) in objects() {
        let Some(typed) = typed(&object) else { continue };
        let writer = Writer { manager: "m", api_version: "v1", subresource: "", now: "2026-01-01T00:00:00Z" };
        let mut created = object;
        track(None, &mut created, &writer, typed, &Set::default());
        let fields = &created["metadata"]["managedFields"][0]["fieldsV1"];
        assert_eq!(Set::decode(fields).encode(), *fields, "{file}");
        let mut updated = created.clone();
        track(Some(&created), &mut updated, &Writer { manager: "n", ..writer }, typed, &Set::default());
        assert_eq!(created, updated, "{file}");
    }
}
