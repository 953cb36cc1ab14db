//! Merging an applied configuration into the live object: nothing is removed here.

use serde_json::{Map, Value};

use crate::fields::elements;
use crate::paths::Element;
use crate::typed::{Fields, Shape, Typed};

/// The live value with everything that `config` sets. An explicit null removes.
pub(crate) fn combine(live: &Value, config: &Value, typed: Typed<'_>) -> Value {
    let shape = typed.shape(config);
    match (shape, live, config) {
        (Shape::Fields(fields), Value::Object(live), Value::Object(config)) => maps(live, config, fields),
        (Shape::Fields(fields), Value::Null, Value::Object(config)) => maps(&Map::new(), config, fields),
        (Shape::Keyed { item, .. }, Value::Array(_) | Value::Null, Value::Array(_)) => {
            lists(live, config, shape, item).unwrap_or_else(|| config.clone())
        }
        (Shape::Set, Value::Array(_) | Value::Null, Value::Array(_)) => {
            lists(live, config, shape, Typed::DEDUCED).unwrap_or_else(|| config.clone())
        }
        _ => config.clone(),
    }
}

fn maps(live: &Map<String, Value>, config: &Map<String, Value>, fields: Fields<'_>) -> Value {
    let mut merged = live.clone();
    for (key, value) in config {
        if value.is_null() {
            merged.remove(key);
        } else {
            let value = combine(live.get(key).unwrap_or(&Value::Null), value, fields.child(key));
            merged.insert(key.clone(), value);
        }
    }
    Value::Object(merged)
}

/// Elements of both lists. Those of the configuration keep its order; those that are only live
/// keep their place before the live element that follows them.
fn lists(live: &Value, config: &Value, shape: Shape<'_>, item: Typed<'_>) -> Option<Value> {
    let (live, config) = (elements(live, shape)?, elements(config, shape)?);
    let matching = |wanted: &Element| -> Vec<&Value> {
        live.iter().filter(|(element, _)| element == wanted).map(|(_, value)| *value).collect()
    };
    let configured = |wanted: &Element| config.iter().any(|(element, _)| element == wanted);
    let merged = |(element, value): &(Element, &Value)| match matching(element).as_slice() {
        [live] => combine(live, value, item),
        // New, or several live elements of one identity, which the configuration replaces.
        _ => combine(&Value::Null, value, item),
    };
    let mut shared =
        config.iter().filter(|(element, _)| live.iter().any(|(there, _)| there == element)).peekable();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut from_live, mut from_config) = (live.iter().peekable(), config.iter().peekable());
    while let Some((element, value)) = from_live.peek() {
        if !configured(element) {
            out.push((*value).clone());
            from_live.next();
            continue;
        }
        if shared.peek().is_none_or(|(next, _)| next != element) {
            // Its turn comes later in the configuration, or has been.
            from_live.next();
            continue;
        }
        let entry = from_config.next()?;
        out.push(merged(entry));
        if entry.0 == *element {
            from_live.next();
            shared.next();
        }
    }
    out.extend(from_config.map(merged));
    Some(Value::Array(out))
}
