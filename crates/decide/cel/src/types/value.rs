//! Values.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_meta::quantity::Quantity;

use super::{Duration, List, Map, Object, Opaque, Timestamp, Type};

/// A value; lists, maps and text from JSON are views that copy nothing.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number without a sign.
    Uint(u64),
    /// A floating point number.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A moment.
    Timestamp(Timestamp),
    /// A span of time.
    Duration(Duration),
    /// A list.
    List(List<'a>),
    /// A map, or an object of declared type.
    Map(Map<'a>),
    /// An object that an expression made.
    Object(Rc<Object<'a>>),
    /// A value or none.
    Optional(Option<Rc<Value<'a>>>),
    /// A type.
    Type(Type),
    /// A value of one of Kubernetes' libraries.
    Opaque(Opaque<'a>),
    /// JSON without a schema, of which only equality is known.
    Unknown(&'a serde_json::Value),
}

/// Text, borrowed or shared.
#[derive(Clone)]
pub enum Text<'a> {
    /// Part of a JSON document.
    Borrowed(&'a str),
    /// Made while evaluating.
    Shared(Arc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<'a> Value<'a> {
    /// Text of its own.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    /// A quantity, as the function of that name makes it.
    pub fn quantity(quantity: Quantity) -> Self {
        Self::Opaque(Opaque::Quantity(quantity))
    }

    /// A semantic version, if the text is one.
    pub fn semver(text: &str) -> Option<Self> {
        let version = crate::library::semver::Version::read(text)?;
        Some(Self::Opaque(Opaque::Semver(Arc::new(version))))
    }

    /// A list of its own.
    pub fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::owned(items))
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Some value as an optional.
    pub(crate) fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    /// The type; lists and maps know only that they are.
    pub fn ty(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Duration(_) => Type::Duration,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(map) => map.ty(),
            Self::Object(object) => object.ty(),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Type(_) => Type::Type(Arc::new(Type::Dyn)),
            Self::Opaque(opaque) => Type::Opaque(opaque.type_name()),
            Self::Unknown(_) => Type::Dyn,
        }
    }

    /// What `size()` counts, if the value has a size.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::String(text) => Some(text.chars().count() as u64),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::List(list) => Some(list.len() as u64),
            Self::Map(map) => Some(map.len() as u64),
            Self::Opaque(opaque) => opaque.size(),
            _ => None,
        }
    }
}
