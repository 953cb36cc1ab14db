//! Lists and maps: views onto JSON, or values of their own.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Declared, ListKind, ObjectType, Type, Value, free, view};
use crate::error::EvalError;
use crate::evaluate::Fields;

/// A list.
#[derive(Clone, Debug)]
pub struct List<'a> {
    pub(crate) items: ListItems<'a>,
    pub(crate) kind: ListKind,
}

#[derive(Clone, Debug)]
pub(crate) enum ListItems<'a> {
    /// JSON with a schema, or without one.
    Json(&'a [Json], Option<Arc<Declared>>),
    /// Behind an `Rc`, so that a loop that adds to its own list need not copy it.
    Owned(Rc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    /// A list of these values.
    pub fn owned(items: Vec<Value<'a>>) -> Self {
        Self { items: ListItems::Owned(Rc::new(items)), kind: ListKind::Atomic }
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        match &self.items {
            ListItems::Json(items, _) => items.len(),
            ListItems::Owned(items) => items.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index`, counted from zero.
    ///
    /// # Errors
    /// When the JSON there does not fit its schema.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        match &self.items {
            ListItems::Json(items, None) => items.get(index).map(|json| Ok(free(json))),
            ListItems::Json(items, Some(declared)) => items.get(index).map(|json| view(json, declared)),
            ListItems::Owned(items) => items.get(index).cloned().map(Ok),
        }
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> {
        (0..self.len()).filter_map(|i| self.get(i))
    }
}

/// A map, or an object of a declared type.
#[derive(Clone, Debug)]
pub struct Map<'a>(pub(crate) MapEntries<'a>);

#[derive(Clone)]
pub(crate) enum MapEntries<'a> {
    Free(&'a serde_json::Map<String, Json>),
    Json(&'a serde_json::Map<String, Json>, Arc<Declared>),
    Object(&'a serde_json::Map<String, Json>, Arc<ObjectType>),
    Owned(Rc<Owned<'a>>),
    /// Fields that the caller computes when they are asked for.
    Lazy(Rc<dyn Fields<'a> + 'a>),
}

impl fmt::Debug for MapEntries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free(fields) | Self::Json(fields, _) | Self::Object(fields, _) => {
                f.debug_map().entries(fields.iter()).finish()
            }
            Self::Owned(owned) => f.debug_map().entries(owned.entries.iter().map(|(k, v)| (k, v))).finish(),
            Self::Lazy(_) => f.write_str("{…}"),
        }
    }
}

/// Entries in the order they were added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owned<'a> {
    entries: Vec<(Value<'a>, Value<'a>)>,
    index: HashMap<Key, usize>,
}

/// A key as maps compare it: equal numbers are one key whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Bool(bool),
    Whole(i128),
    Text(String),
}

impl Key {
    /// The key that `value` is; none if no map can have it.
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(b) => Some(Self::Bool(*b)),
            Value::Int(i) => Some(Self::Whole((*i).into())),
            Value::Uint(u) => Some(Self::Whole((*u).into())),
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 1.9e19 => Some(Self::Whole(*d as i128)),
            Value::String(text) => Some(Self::Text((**text).to_owned())),
            _ => None,
        }
    }
}

impl<'a> Map<'a> {
    /// A map whose values the caller computes when they are asked for.
    pub fn lazy(fields: Rc<dyn Fields<'a> + 'a>) -> Self {
        Self(MapEntries::Lazy(fields))
    }

    /// A map with text keys.
    pub fn of_fields(fields: impl IntoIterator<Item = (String, Value<'a>)>) -> Self {
        let mut map = Self::empty();
        for (name, value) in fields {
            map.insert(Value::text(name), value);
        }
        map
    }

    pub(crate) fn empty() -> Self {
        Self(MapEntries::Owned(Rc::default()))
    }

    /// Adds an entry to a map of its own; false if the key is there or cannot be one.
    pub(crate) fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> bool {
        let (MapEntries::Owned(owned), Some(known)) = (&mut self.0, Key::of(&key)) else { return false };
        let owned = Rc::make_mut(owned);
        if owned.index.contains_key(&known) {
            return false;
        }
        owned.index.insert(known, owned.entries.len());
        owned.entries.push((key, value));
        true
    }

    /// How many entries; of an object, how many fields are present.
    pub fn len(&self) -> usize {
        match &self.0 {
            MapEntries::Free(fields) | MapEntries::Json(fields, _) | MapEntries::Object(fields, _) => {
                fields.len()
            }
            MapEntries::Owned(owned) => owned.entries.len(),
            MapEntries::Lazy(fields) => fields.names().len(),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value under `key`; of objects, under the escaped name of a field.
    ///
    /// # Errors
    /// When the JSON there does not fit its schema, or the field cannot be computed.
    pub fn get(&self, key: &Value<'_>) -> Option<Result<Value<'a>, EvalError>> {
        match (&self.0, key) {
            (MapEntries::Owned(owned), key) => {
                let at = owned.index.get(&Key::of(key)?)?;
                Some(Ok(owned.entries[*at].1.clone()))
            }
            (_, Value::String(name)) => self.get_field(name),
            _ => None,
        }
    }

    fn get_field(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        match &self.0 {
            MapEntries::Free(fields) => fields.get(name).map(|json| Ok(free(json))),
            MapEntries::Json(fields, declared) => fields.get(name).map(|json| view(json, declared)),
            MapEntries::Object(fields, object) => {
                let name = object.reachable.get(name)?;
                let json = fields.get(name)?;
                Some(view(json, &object.fields.get(name)?.declared))
            }
            MapEntries::Lazy(fields) => fields.get(name),
            MapEntries::Owned(owned) => {
                let at = owned.index.get(&Key::Text(name.to_owned()))?;
                Some(Ok(owned.entries[*at].1.clone()))
            }
        }
    }

    /// Whether `key` is there, without computing its value.
    pub fn contains(&self, key: &Value<'_>) -> bool {
        match (&self.0, key) {
            (MapEntries::Owned(owned), key) => Key::of(key).is_some_and(|key| owned.index.contains_key(&key)),
            (MapEntries::Lazy(fields), Value::String(name)) => {
                fields.names().iter().any(|known| *known == **name)
            }
            (MapEntries::Free(fields) | MapEntries::Json(fields, _), Value::String(name)) => {
                fields.contains_key(&**name)
            }
            (MapEntries::Object(fields, object), Value::String(name)) => {
                object.reachable.get(&**name).is_some_and(|name| fields.contains_key(name))
            }
            _ => false,
        }
    }

    /// The keys in the map's order.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match &self.0 {
            MapEntries::Free(fields) | MapEntries::Json(fields, _) => {
                fields.keys().map(|key| Value::String(super::Text::Borrowed(key))).collect()
            }
            MapEntries::Object(fields, object) => {
                let present = object.reachable.iter().filter(|(_, name)| fields.contains_key(*name));
                present.map(|(escaped, _)| Value::text(escaped.as_str())).collect()
            }
            MapEntries::Owned(owned) => owned.entries.iter().map(|(key, _)| key.clone()).collect(),
            MapEntries::Lazy(fields) => fields.names().into_iter().map(Value::text).collect(),
        }
    }

    pub(crate) fn ty(&self) -> Type {
        match &self.0 {
            MapEntries::Object(_, object) => Type::Object(Arc::clone(object)),
            _ => Type::map(Type::Dyn, Type::Dyn),
        }
    }

    /// The JSON behind a view.
    pub(crate) fn json(&self) -> Option<&'a serde_json::Map<String, Json>> {
        match &self.0 {
            MapEntries::Free(fields) | MapEntries::Json(fields, _) | MapEntries::Object(fields, _) => {
                Some(fields)
            }
            MapEntries::Owned(_) | MapEntries::Lazy(_) => None,
        }
    }
}
