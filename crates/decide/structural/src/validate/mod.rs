//! Holds a value against its schema and says what is wrong in upstream's words (kube-openapi:
//! `pkg/validation/validate`).
//!
//! An update passes with what was wrong before: a value that equals its predecessor has no errors.

mod message;
mod number;
mod result;

use plimsoll_meta::field::{FieldError, Path};
use serde_json::{Map, Value};

use crate::schema::{Additional, ListType, Schema};
pub(crate) use message::float as go_float;
use message::{Place, shown};
use result::Findings;

/// What is wrong with a new value; `path` is where the value stands.
pub fn validate(path: &Path, value: &Value, schema: &Schema) -> Vec<FieldError> {
    Walk { root: path }.value("", schema, value, None).errors
}

/// What is wrong with a changed value and was not wrong before.
pub fn validate_update(path: &Path, value: &Value, old: &Value, schema: &Schema) -> Vec<FieldError> {
    Walk { root: path }.ratcheted("", schema, value, Some(old)).errors
}

struct Walk<'a> {
    root: &'a Path,
}

impl Walk<'_> {
    /// A field or element: what it shares with its predecessor is not held against it.
    fn ratcheted(&self, path: &str, schema: &Schema, value: &Value, old: Option<&Value>) -> Findings {
        let mut found = self.value(path, schema, value, old);
        if !found.errors.is_empty() && old == Some(value) {
            found.errors.clear();
        }
        found
    }

    fn value(&self, path: &str, schema: &Schema, value: &Value, old: Option<&Value>) -> Findings {
        let place = Place { root: self.root, name: path };
        let mut found = Findings::default();
        if value.is_null() {
            found.merge(self.null(place, schema));
            found.merge(allowed(place, schema, value));
            return found;
        }
        if !schema.types().is_empty() || schema.format.is_some() {
            found.check(type_of(place, schema, value));
        }
        found.check(self.junctors(path, schema, value, old));
        match value {
            Value::String(text) => {
                found.check(string(place, schema, text));
                if schema.format.as_ref().is_some_and(crate::format::Format::is_textual) {
                    found.check(formatted(place, schema, text));
                }
            }
            Value::Number(number) => found.check(number::check(place, &schema.limits, number)),
            Value::Array(items) => found.check(self.items(path, schema, items, old)),
            _ => {}
        }
        found.check(allowed(place, schema, value));
        if let Value::Object(map) = value {
            found.check(self.fields(path, schema, map, old));
        }
        found.count();
        found
    }

    fn null(&self, place: Place<'_>, schema: &Schema) -> Findings {
        let mut found = Findings::default();
        let types = schema.types();
        if types.is_empty() || schema.nullable {
            found.count();
        } else {
            found.add(place.mistyped(&types.join(","), "null"));
        }
        found
    }

    /// `anyOf`, `oneOf`, `allOf` and `not`; of failed alternatives, the one that matched most is told.
    fn junctors(&self, path: &str, schema: &Schema, value: &Value, old: Option<&Value>) -> Findings {
        let place = Place { root: self.root, name: path };
        let mut found = Findings::default();
        self.any_of(place, schema, value, old, &mut found);
        self.one_of(place, schema, value, old, &mut found);
        if !schema.all_of.is_empty() {
            let mut valid = 0;
            for branch in &schema.all_of {
                let result = self.value(path, branch, value, old);
                valid += usize::from(result.errors.is_empty());
                found.merge(result);
            }
            if valid != schema.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                found.add(place.composite(format!("{path:?} must validate all the schemas (allOf){none}")));
            }
        }
        if let Some(not) = &schema.not
            && self.value(path, not, value, old).errors.is_empty()
        {
            found.add(place.composite(format!("{path:?} must not validate the schema (not)")));
        }
        found.count();
        found
    }

    fn any_of(
        &self,
        place: Place<'_>,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        found: &mut Findings,
    ) {
        let mut best: Option<Findings> = None;
        for branch in &schema.any_of {
            let result = self.value(place.name, branch, value, old);
            if result.errors.is_empty() {
                found.merge(result);
                return;
            }
            if best.as_ref().is_none_or(|best| result.matches > best.matches) {
                best = Some(result);
            }
        }
        if let Some(best) = best {
            found.add(place.composite(format!("{:?} must validate at least one schema (anyOf)", place.name)));
            found.merge(best);
        }
    }

    fn one_of(
        &self,
        place: Place<'_>,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        found: &mut Findings,
    ) {
        let (mut first, mut best, mut valid) = (None, None::<Findings>, 0);
        for branch in &schema.one_of {
            let result = self.value(place.name, branch, value, old);
            if result.errors.is_empty() {
                valid += 1;
                best = None;
                first.get_or_insert(result);
            } else if valid == 0 && best.as_ref().is_none_or(|best| result.matches > best.matches) {
                best = Some(result);
            }
        }
        match (valid, first) {
            _ if schema.one_of.is_empty() => {}
            (1, Some(first)) => found.merge(first),
            _ => {
                let why = match valid {
                    0 => "Found none valid".to_owned(),
                    many => format!("Found {many} valid alternatives"),
                };
                found.add(place.composite(format!(
                    "{:?} must validate one and only one schema (oneOf). {why}",
                    place.name
                )));
                if let Some(best) = best {
                    found.merge(best);
                }
            }
        }
    }

    fn items(&self, path: &str, schema: &Schema, items: &[Value], old: Option<&Value>) -> Findings {
        let place = Place { root: self.root, name: path };
        let mut found = Findings::default();
        if let Some(item) = &schema.items {
            for (at, value) in items.iter().enumerate() {
                let before = element_before(schema, value, old);
                found.merge(self.ratcheted(&format!("{path}[{at}]"), item, value, before));
            }
        }
        let (limits, size) = (&schema.limits, i64::try_from(items.len()).unwrap_or(i64::MAX));
        if let Some(least) = limits.min_items.filter(|least| size < *least) {
            found.add(place.invalid(&size.into(), format!("should have at least {least} items")));
        }
        if let Some(most) = limits.max_items.filter(|most| size > *most) {
            found.add(place.too_many(size, most));
        }
        if limits.unique_items && (0..items.len()).any(|at| items[..at].contains(&items[at])) {
            found.add(place.invalid(&"".into(), "shouldn't contain duplicates".to_owned()));
        }
        found.count();
        found
    }

    fn fields(&self, path: &str, schema: &Schema, map: &Map<String, Value>, old: Option<&Value>) -> Findings {
        let place = Place { root: self.root, name: path };
        let mut found = Findings::default();
        let (limits, size) = (&schema.limits, i64::try_from(map.len()).unwrap_or(i64::MAX));
        if let Some(least) = limits.min_properties.filter(|least| size < *least) {
            found.add(place.invalid(&size.into(), format!("should have at least {least} properties")));
        }
        if let Some(most) = limits.max_properties.filter(|most| size > *most) {
            found.add(place.too_many(size, most));
        }
        let before = |key: &str| old.filter(|_| !schema.atomic_map).and_then(|old| old.get(key));
        for (key, value) in map {
            match (schema.properties.contains_key(key), &schema.additional) {
                (false, Some(Additional::Any(false))) => found.add(place.not_allowed(key)),
                (false, Some(Additional::Schema(entry))) => {
                    found.merge(self.ratcheted(&format!("{path}.{key}"), entry, value, before(key)));
                }
                _ => {}
            }
        }
        for (name, property) in &schema.properties {
            if let Some(value) = map.get(name) {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                found.merge(self.ratcheted(&below, property, value, before(name)));
            }
        }
        for name in schema.required.iter().filter(|name| !map.contains_key(*name)) {
            let below = format!("{path}.{name}");
            found.add(Place { root: self.root, name: &below }.missing());
        }
        found
    }
}

/// The predecessor of a list element, where the list says how to tell it.
fn element_before<'o>(schema: &Schema, value: &Value, old: Option<&'o Value>) -> Option<&'o Value> {
    let Some(ListType::Map(keys)) = &schema.list else { return None };
    let same = |other: &&Value| keys.iter().all(|key| other.get(key) == value.get(key));
    old?.as_array()?.iter().find(same)
}

/// Whether the type fits, with the leniency that formats bring upstream.
fn type_of(place: Place<'_>, schema: &Schema, value: &Value) -> Findings {
    let mut found = Findings::default();
    let types = schema.types();
    let (kind, native) = type_name(value);
    let has = |wanted: &str| types.contains(&wanted);
    let whole =
        value.as_f64().is_some_and(|number| number.fract() == 0.0) && kind == "number" && has("integer");
    let fits = has(kind) || whole || (kind == "integer" && has("number"));
    let textual = matches!(value, Value::String(_) | Value::Array(_));
    let format = schema.format.as_ref().map_or("", |format| format.name.as_str());
    let numeric = has("number") || has("integer");
    if !textual && !format.is_empty() && !fits && native != format {
        found.add(place.mistyped(format, native));
    } else if (textual && !format.is_empty() && !numeric) || fits {
        found.count();
    } else {
        found.add(place.mistyped(&types.join(","), kind));
    }
    found
}

/// The type of a value, and the format that it has of itself.
fn type_name(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_f64() => ("number", "float64"),
        Value::Number(_) => ("integer", "int64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// Length and pattern; only the first that fails is told.
fn string(place: Place<'_>, schema: &Schema, text: &str) -> Findings {
    let mut found = Findings::default();
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let value = Value::from(text);
    if let Some(most) = schema.limits.max_length.filter(|most| length > *most) {
        found.add(place.too_long(most));
    } else if let Some(least) = schema.limits.min_length.filter(|least| length < *least) {
        found.add(place.invalid(&value, format!("should be at least {least} chars long")));
    } else if let Some(pattern) = &schema.pattern {
        match &pattern.regex {
            Ok(regex) if regex.is_match(text) => {}
            Ok(_) => found.add(place.invalid(&value, format!("should match '{}'", pattern.text))),
            Err(why) => {
                let detail = format!("should match '{}, but pattern is invalid: {why}'", pattern.text);
                found.add(place.invalid(&value, detail));
            }
        }
    }
    found
}

fn formatted(place: Place<'_>, schema: &Schema, text: &str) -> Findings {
    let mut found = Findings::default();
    if let Some(format) = schema.format.as_ref().filter(|format| !format.holds(text)) {
        found.add(place.mistyped(&format.name, text));
    }
    found
}

/// `enum`.
fn allowed(place: Place<'_>, schema: &Schema, value: &Value) -> Findings {
    let mut found = Findings::default();
    let same = |one: &Value| one == value || (one.is_number() && one.as_f64() == value.as_f64());
    if !schema.allowed.is_empty() && (value.is_null() || !schema.allowed.iter().any(same)) {
        let choices: Vec<String> = schema.allowed.iter().map(shown).collect();
        found.add(place.unsupported(value, &choices));
    }
    found
}

#[cfg(test)]
mod tests;
