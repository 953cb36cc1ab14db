//! Defaults fit their schema and have no unknown fields.

use plimsoll_meta::field::{FieldError, Path};
use serde_json::{Value, json};

use super::Tolerance;
use crate::prune::META_FIELDS;
use crate::schema::Schema;
use crate::{embedded, prune, rules, validate};

pub(super) fn check(path: &Path, schema: &Schema, tolerance: Tolerance) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(
        path,
        schema,
        &Place { metadata: Vec::new(), inside: false, is_resource: true },
        tolerance,
        &mut errors,
    );
    errors
}

/// What the rules of a schema have against the defaults in it.
pub(super) fn hold_rules(path: &Path, props: &Value, is_root: bool) -> Vec<FieldError> {
    let mut errors = rules::check_default(path, props, is_root);
    for key in ["items", "additionalProperties"] {
        if props[key].is_object() {
            errors.extend(hold_rules(&path.child(key), &props[key], false));
        }
    }
    for (name, property) in props["properties"].as_object().into_iter().flatten() {
        errors.extend(hold_rules(&path.child("properties").key(name), property, false));
    }
    errors
}

/// Whether any default has unknown fields.
pub(super) fn has_unpruned(props: &Value) -> bool {
    fn any(schema: &Schema) -> bool {
        let unpruned = schema
            .default
            .clone()
            .is_some_and(|mut value| !prune::prune_value(&mut value, schema).is_empty());
        unpruned || schema.items.as_deref().is_some_and(any) || schema.properties.values().any(any)
    }
    super::unsupported(props).is_none()
        && super::structural(props, &Path::default()).is_empty()
        && any(&Schema::read(props))
}

/// Where a schema stands relative to the object that has it.
struct Place {
    /// The fields from the object down to here, when it speaks of the object's metadata.
    metadata: Vec<String>,
    inside: bool,
    is_resource: bool,
}

fn visit(path: &Path, schema: &Schema, place: &Place, tolerance: Tolerance, errors: &mut Vec<FieldError>) {
    let is_resource = place.is_resource || schema.embedded;
    let inside = place.inside && !schema.embedded;
    if let Some(default) = &schema.default {
        let at = path.child("default");
        match inside {
            true => errors.extend(in_metadata(&at, default, schema, &place.metadata)),
            false => errors.extend(plain(&at, default, schema, tolerance)),
        }
    }
    if let Some(item) = &schema.items {
        let below = Place { metadata: place.metadata.clone(), inside, is_resource: false };
        visit(&path.child("items"), item, &below, tolerance, errors);
    }
    for (name, property) in &schema.properties {
        let meta = is_resource && META_FIELDS.contains(&name.as_str());
        let mut metadata = if meta { Vec::new() } else { place.metadata.clone() };
        metadata.push(name.clone());
        let below = Place { metadata, inside: inside || meta, is_resource: false };
        visit(&path.child("properties").key(name), property, &below, tolerance, errors);
    }
}

fn plain(at: &Path, default: &Value, schema: &Schema, tolerance: Tolerance) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut value = default.clone();
    if !prune::prune_value(&mut value, schema).is_empty() && !tolerance.defaults {
        errors.push(FieldError::invalid(at, default, "must not have unknown fields"));
    }
    let mut value = default.clone();
    if let Err(error) = embedded::coerce_at(at, &mut value, schema) {
        errors.push(error);
        return errors;
    }
    let wrong = embedded::check(at, &value, schema);
    match wrong.is_empty() {
        true => errors.extend(validate::validate(at, &value, schema)),
        false => errors.extend(wrong),
    }
    errors
}

/// A default inside of metadata must make valid metadata.
fn in_metadata(at: &Path, default: &Value, schema: &Schema, fields: &[String]) -> Vec<FieldError> {
    let mut object = fields.iter().rev().fold(default.clone(), |value, field| json!({field: value}));
    for (key, value) in [("apiVersion", "validation/v1"), ("kind", "Validation")] {
        if object[key].is_null() {
            object[key] = value.into();
        }
    }
    let root = Schema { embedded: true, ..Schema::default() };
    let wrong = match embedded::coerce_at(&Path::default(), &mut object, &root) {
        Err(error) => vec![error],
        Ok(()) => embedded::check(&Path::default(), &object, &root),
    };
    if wrong.is_empty() {
        return validate::validate(at, default, schema);
    }
    let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let text = if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) };
    vec![FieldError::invalid(at, default, format!("must result in valid metadata: {text}"))]
}
