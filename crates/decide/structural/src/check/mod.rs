//! What is wrong with the schemas of a CustomResourceDefinition (upstream:
//! `apiextensions-apiserver/pkg/apis/apiextensions/validation` and `pkg/apiserver/schema`).
//!
//! Enters: the definition as JSON and, for an update, the one before; leaves: errors with upstream's paths
//! and messages. Rules that look at no schema are the catalogue's.

mod defaults;
mod keywords;
mod lists;
mod root;
mod selectable;
mod structure;

use plimsoll_meta::field::{FieldError, Path};
use serde_json::Value;

pub use structure::non_structural;
pub(crate) use structure::{structural, unsupported};

use crate::rules::Limit;
use crate::schema::Schema;

/// Everything that is wrong with the schemas of a new definition.
pub fn definition(object: &Value) -> Vec<FieldError> {
    versions(object, &Value::Null, Tolerance::default())
}

/// Everything that is wrong with the schemas of a changed definition; what was wrong before may stay.
pub fn definition_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let any = |test: &dyn Fn(&Value) -> bool| schemas(old).any(test);
    let tolerance = Tolerance {
        types: any(&|schema| contains(schema, &keywords::has_invalid_type)),
        sets: any(&|schema| contains(schema, &lists::has_granular_set)),
        keys: any(&|schema| contains(schema, &|schema| !lists::keys(schema, &Path::default()).is_empty())),
        defaults: any(&defaults::has_unpruned),
        costs: Limit::Each,
    };
    versions(new, old, tolerance)
}

/// What a definition may go on doing, because the one before did it.
#[derive(Clone, Copy, Debug, Default)]
struct Tolerance {
    /// Types that OpenAPI does not have.
    types: bool,
    /// Sets of elements that have parts of their own.
    sets: bool,
    /// Keys of list maps that may be absent.
    keys: bool,
    /// Defaults with unknown fields.
    defaults: bool,
    /// Expensive rules of a version whose schema is the same.
    costs: Limit,
}

/// The schemas of a definition's versions.
fn schemas(object: &Value) -> impl Iterator<Item = &Value> {
    object["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|version| &version["schema"]["openAPIV3Schema"])
        .filter(|schema| schema.is_object())
}

fn versions(object: &Value, old: &Value, tolerance: Tolerance) -> Vec<FieldError> {
    let versions = object["spec"]["versions"].as_array().map_or(&[][..], Vec::as_slice);
    // Where all versions are the same, upstream's internal form has one schema for all of them.
    let same = |key: &str| {
        versions.iter().all(|version| !version[key].is_null() && version[key] == versions[0][key])
    };
    let shared = !versions.is_empty() && same("schema");
    let mut errors = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        let path = match shared {
            true => Path::root("spec").child("validation"),
            false => Path::root("spec").child("versions").index(at).child("schema"),
        };
        let has_status = match shared {
            true => versions.iter().any(|version| !version["subresources"]["status"].is_null()),
            false => !version["subresources"]["status"].is_null(),
        };
        let before = old["spec"]["versions"].as_array().into_iter().flatten();
        let is_unchanged = before
            .into_iter()
            .any(|one| one["name"] == version["name"] && one["schema"] == version["schema"]);
        let costs = if is_unchanged { Limit::Total } else { Limit::Each };
        let tolerance = Tolerance { costs, ..tolerance };
        if !shared || at == 0 {
            errors.extend(version_schema(
                &version["schema"]["openAPIV3Schema"],
                has_status,
                tolerance,
                &path,
            ));
        }
    }
    errors.extend(selectable::check(versions));
    errors
}

fn version_schema(props: &Value, has_status: bool, tolerance: Tolerance, path: &Path) -> Vec<FieldError> {
    if !props.is_object() {
        return Vec::new();
    }
    let at = path.child("openAPIV3Schema");
    let mut errors = root::check(props, has_status, path);
    let (mut unreadable, mut is_structural) = (None, false);
    if let Some(why) = unsupported(props) {
        unreadable = Some(FieldError::invalid(&at, &"".into(), why));
    } else {
        let found = structural(props, &at);
        if found.is_empty() {
            let mut found = defaults::check(&at, &Schema::read(props), tolerance);
            if found.is_empty() {
                found = defaults::hold_rules(&at, props, true);
            }
            is_structural = found.is_empty();
            errors.extend(found);
        } else {
            errors.extend(found);
        }
    }
    errors.extend(keywords::check(props, &at, tolerance, is_structural));
    if errors.is_empty() {
        errors.extend(unreadable);
    }
    errors
}

/// Whether the test holds anywhere in a schema.
fn contains(props: &Value, test: &dyn Fn(&Value) -> bool) -> bool {
    let below = |value: &Value| value.is_object() && contains(value, test);
    test(props)
        || ["items", "not", "additionalProperties", "additionalItems"].iter().any(|key| below(&props[*key]))
        || ["allOf", "anyOf", "oneOf"]
            .iter()
            .any(|key| props[*key].as_array().into_iter().flatten().any(below))
        || ["properties", "patternProperties", "definitions", "dependencies"]
            .iter()
            .any(|key| props[*key].as_object().into_iter().flatten().any(|(_, value)| below(value)))
}

#[cfg(test)]
mod tests;
