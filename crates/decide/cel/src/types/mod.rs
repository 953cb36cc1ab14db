//! Types, declared types and values.
//!
//! [`Type`] is what the checker reasons about. [`Declared`] is what a schema says of a value: its type, how
//! JSON becomes it, and how large it can grow. [`Value`] is what evaluation works on.

mod collection;
mod compare;
mod declared;
pub(crate) mod escape;
mod json;
mod object;
mod opaque;
mod schema;
mod time;
mod value;

pub(crate) use collection::{Key, ListItems, MapEntries};
pub use collection::{List, Map};
pub(crate) use compare::{compare, contains, equal, is_number, list_key};
pub use declared::{Declared, Field, ListKind, ObjectType, Shape};
pub(crate) use json::{free, view};
pub use object::Object;
pub use opaque::Opaque;
pub use time::{Duration, Timestamp};
pub use value::{Text, Value};

use std::fmt;
use std::sync::Arc;

/// A type as the checker knows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Known only when evaluated.
    Dyn,
    /// Only `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// 64 bits with a sign.
    Int,
    /// 64 bits without a sign.
    Uint,
    /// A floating point number.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A moment.
    Timestamp,
    /// A span of time.
    Duration,
    /// A list of one type.
    List(Arc<Type>),
    /// A map from one type to another.
    Map(Arc<(Type, Type)>),
    /// A value or none.
    Optional(Arc<Type>),
    /// An object with named fields.
    Object(Arc<ObjectType>),
    /// A type of a library, by its name: `kubernetes.Quantity`, `net.IP`.
    Opaque(&'static str),
    /// The type of a type.
    Type(Arc<Type>),
    /// A type yet to be found, while checking.
    Param(usize),
    /// What an error left; agrees with everything.
    Error,
}

impl Type {
    /// A list of `item`.
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(item))
    }

    /// A map from `key` to `value`.
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    /// An optional `inner`.
    pub fn optional(inner: Type) -> Self {
        Self::Optional(Arc::new(inner))
    }

    /// The name that `type(x)` shows: lists and maps do not tell their parameters.
    pub(crate) fn runtime_name(&self) -> String {
        match self {
            Self::Null => "null_type".to_owned(),
            Self::Timestamp => "google.protobuf.Timestamp".to_owned(),
            Self::Duration => "google.protobuf.Duration".to_owned(),
            Self::List(_) => "list".to_owned(),
            Self::Map(_) => "map".to_owned(),
            Self::Optional(_) => "optional_type".to_owned(),
            Self::Type(_) => "type".to_owned(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(entry) => write!(f, "map({}, {})", entry.0, entry.1),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Object(object) => f.write_str(&object.name),
            Self::Opaque(name) => f.write_str(name),
            Self::Type(of) => write!(f, "type({of})"),
            Self::Param(n) => write!(f, "_var{n}"),
            Self::Error => f.write_str("!error!"),
        }
    }
}
