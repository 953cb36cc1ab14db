//! Whether an applied configuration fits the types of its kind.

use plimsoll_meta::go;
use plimsoll_schema::Node;
use serde_json::Value;

use crate::fields::element;
use crate::go::{go_text, go_value};
use crate::paths::Element;
use crate::typed::{Fields, Shape, Typed};

/// What does not fit, each as `path: why`, in the order of the document.
pub(crate) fn mistakes(value: &Value, typed: Typed<'_>) -> Vec<String> {
    let mut found = Vec::new();
    visit(value, typed, "", &mut found);
    found
}

fn visit(value: &Value, typed: Typed<'_>, path: &str, found: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    let Some(node) = typed.node() else { return };
    if let Some(expected) = unexpected(node, value) {
        found.push(format!("{path}: expected {expected}, got {}", shown(node, value)));
        return;
    }
    match (node, typed.shape(value)) {
        (Node::Struct(_), _) => fields(value, typed, path, found),
        (_, Shape::Fields(Fields::Map(item))) => {
            for (key, value) in value.as_object().into_iter().flatten() {
                visit(value, item, &format!("{path}.{key}"), found);
            }
        }
        (Node::List { .. }, shape) => list(value, typed.item(), shape, path, found),
        _ => {}
    }
}

fn fields(value: &Value, typed: Typed<'_>, path: &str, found: &mut Vec<String>) {
    let Some(Node::Struct(kind)) = typed.node() else { return };
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match kind.field(key) {
            Some(_) => visit(value, typed.patch(key).1, &path, found),
            None if kind.rest.is_some() => visit(value, typed.patch(key).1, &path, found),
            None => found.push(format!("{path}: field not declared in schema")),
        }
    }
}

fn list(value: &Value, item: Typed<'_>, shape: Shape<'_>, path: &str, found: &mut Vec<String>) {
    let mut seen: Vec<Element> = Vec::new();
    for (at, value) in value.as_array().into_iter().flatten().enumerate() {
        let identity = match identity(value, shape) {
            Ok(identity) => identity,
            Err(why) => {
                found.push(format!("{path}: element {at}: {why}"));
                continue;
            }
        };
        let step = identity.as_ref().map_or_else(|| format!("[{at}]"), ToString::to_string);
        if let Some(identity) = identity {
            if seen.contains(&identity) {
                found.push(format!("{path}: duplicate entries for key {identity}"));
                continue;
            }
            seen.push(identity);
        }
        visit(value, item, &format!("{path}{step}"), found);
    }
}

fn identity(value: &Value, shape: Shape<'_>) -> Result<Option<Element>, String> {
    match shape {
        Shape::Keyed { item, keys } => {
            let Value::Object(map) = value else {
                let what = if value.is_null() { "a null element" } else { "non-map elements" };
                return Err(format!("associative list with keys may not have {what}"));
            };
            element(value, item, keys).map(Some).ok_or_else(|| {
                let missing = keys.iter().find(|key| !map.contains_key(key.as_str())).map_or("", String::as_str);
                format!("associative list with keys has an element that omits key field {missing:?} (and doesn't have default value)")
            })
        }
        Shape::Set => match value {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            _ => Ok(Some(Element::value(value))),
        },
        _ => Ok(None),
    }
}

/// The value as upstream's message about that type shows it.
fn shown(node: &Node, value: &Value) -> String {
    match node {
        Node::Integer { .. } | Node::Number => go::type_name(value).to_owned(),
        Node::String | Node::Bytes | Node::Time | Node::MicroTime => go_value(value),
        _ => format!("&{{{}}}", go_text(value)),
    }
}

/// What the type expects, if the value is not that.
fn unexpected(node: &Node, value: &Value) -> Option<&'static str> {
    let (fits, expected) = match node {
        Node::Any | Node::Deduced => (true, ""),
        Node::Boolean => (value.is_boolean(), "boolean"),
        Node::Integer { .. } | Node::Number => (value.is_number(), "numeric (int or float)"),
        Node::String | Node::Bytes | Node::Time | Node::MicroTime => (value.is_string(), "string"),
        Node::IntOrString | Node::Quantity => (value.is_string() || value.is_number(), "string or number"),
        Node::Map { .. } | Node::Struct(_) => (value.is_object(), "map"),
        Node::List { .. } => (value.is_array(), "list"),
    };
    (!fits).then_some(expected)
}
