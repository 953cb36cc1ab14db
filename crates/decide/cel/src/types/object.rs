//! Objects that expressions make: `Object{spec: …}`, `JSONPatch{op: …}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ObjectType, Type, Value};

/// An object of a named type with its set fields.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) fields: BTreeMap<String, Value<'a>>,
}

impl<'a> Object<'a> {
    /// Name of the object's type.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields that are set.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn ty(&self) -> Type {
        Type::Object(Arc::new(ObjectType::new(&*self.name, BTreeMap::new())))
    }
}
