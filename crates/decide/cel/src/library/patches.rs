//! What mutations write: `Object{…}`, `JSONPatch{…}` and `jsonpatch.escapeKey` (apiserver:
//! pkg/cel/mutation, pkg/cel/library/jsonpatch.go).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::evaluate::Evaluated;
use crate::types::{Declared, Field, ObjectType, Shape, Type, Value};

pub(super) const TABLE: &str = "
string_jsonpatch_escapeKey_string jsonpatch.escapeKey global string string
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    match (function, args) {
        ("jsonpatch.escapeKey", [Value::String(key)]) => {
            Some(Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))))
        }
        _ => None,
    }
}

/// The type of `JSONPatch{op, path, from, value}`.
pub(crate) fn json_patch() -> Type {
    let field = |name: &str, shape| {
        (name.to_owned(), Field { declared: Arc::new(Declared::new(shape)), exposed: true })
    };
    let fields = BTreeMap::from([
        field("op", Shape::String),
        field("path", Shape::String),
        field("from", Shape::String),
        field("value", Shape::Any),
    ]);
    Type::Object(Arc::new(ObjectType::new("JSONPatch", fields)))
}

/// An object type without a schema, whose fields are of any type.
pub(crate) fn open_object(name: &str) -> Type {
    Type::Object(Arc::new(ObjectType::new(name, BTreeMap::new())))
}

/// The declared type, with objects under the name by which literals make them.
pub(crate) fn named(name: &str, declared: &Declared) -> Type {
    match &declared.shape {
        Shape::Object(object) => Type::Object(Arc::new(ObjectType::new(name, object.fields.clone()))),
        Shape::List { item, .. } => Type::list(named(name, item)),
        Shape::Map(value) => Type::map(Type::String, named(name, value)),
        _ => declared.ty(),
    }
}

/// The object type in a list or map of them.
pub(crate) fn element(ty: Type) -> Option<Type> {
    match ty {
        Type::Object(_) => Some(ty),
        Type::List(item) => element(item.as_ref().clone()),
        Type::Map(entry) => element(entry.1.clone()),
        _ => None,
    }
}
