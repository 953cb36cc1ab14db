//! What a schema says of a value: its type, its shape in JSON and its sizes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Type;

/// The largest request in bytes, from which unbounded sizes are estimated (apiserver: pkg/apis/cel).
pub(super) const MAX_REQUEST: u64 = 3 * 1024 * 1024;

/// A declared type with its sizes (apiserver: pkg/cel/types.go).
#[derive(Clone, Debug)]
pub struct Declared {
    /// How JSON becomes a value.
    pub shape: Shape,
    /// The most elements, entries or bytes.
    pub max_elements: u64,
    /// The fewest bytes that the value takes as JSON.
    pub min_size: u64,
    /// Whether `null` is allowed.
    pub nullable: bool,
}

/// How JSON becomes a value.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Whatever the JSON is.
    Any,
    /// Kept without a schema of its own: only equality is known.
    Unknown,
    /// A whole number or text; the checker sees `dyn`.
    IntOrString,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A floating point number.
    Double,
    /// Text.
    String,
    /// Base64 text of bytes.
    Bytes,
    /// A date with its time.
    DateTime,
    /// A date.
    Date,
    /// A span of time.
    Duration,
    /// A list.
    List {
        /// What each element is.
        item: Arc<Declared>,
        /// How elements are told apart.
        kind: ListKind,
    },
    /// Text keys to values of one kind.
    Map(Arc<Declared>),
    /// Named fields.
    Object(Arc<ObjectType>),
    /// A value that never comes from JSON (an authorizer, an optional).
    Typed(Type),
}

/// How elements of a list are told apart (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq)]
pub enum ListKind {
    /// By position.
    Atomic,
    /// By their value.
    Set,
    /// By these fields of theirs (names as in JSON).
    Map(Vec<String>),
}

/// An object type.
#[derive(Debug)]
pub struct ObjectType {
    /// Name in messages.
    pub name: String,
    /// Fields by their names in JSON.
    pub fields: BTreeMap<String, Field>,
    /// Escaped names of the fields that expressions can reach, to names in JSON.
    pub(crate) reachable: BTreeMap<String, String>,
}

/// A field of an object type.
#[derive(Clone, Debug)]
pub struct Field {
    /// What the field is.
    pub declared: Arc<Declared>,
    /// Whether expressions can reach it; other fields only count in comparisons.
    pub exposed: bool,
}

impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl ObjectType {
    /// An object type; names of fields that cannot be escaped stay out of reach.
    pub fn new(name: impl Into<String>, fields: BTreeMap<String, Field>) -> Self {
        let reachable = fields
            .iter()
            .filter(|(_, field)| field.exposed)
            .filter_map(|(name, _)| Some((super::escape::escape(name)?, name.clone())))
            .collect();
        Self { name: name.into(), fields, reachable }
    }

    /// An object type of the API server's own, whose fields have no other names than their own, such as
    /// `request.namespace`.
    pub fn plain(name: impl Into<String>, fields: BTreeMap<String, Field>) -> Self {
        let reachable = fields.keys().map(|name| (name.clone(), name.clone())).collect();
        Self { name: name.into(), fields, reachable }
    }

    /// The field under its escaped name.
    pub fn field(&self, escaped: &str) -> Option<&Field> {
        self.fields.get(self.reachable.get(escaped)?)
    }
}

impl Declared {
    /// A declaration without bounds other than the request's size.
    pub fn new(shape: Shape) -> Self {
        Self { shape, max_elements: MAX_REQUEST - 2, min_size: 1, nullable: false }
    }

    /// Anything: `dyn`.
    pub fn any() -> Self {
        Self { nullable: true, ..Self::new(Shape::Any) }
    }

    /// A value of this type that the caller makes itself.
    pub fn typed(ty: Type) -> Self {
        Self::new(Shape::Typed(ty))
    }

    /// An object with these fields.
    pub fn object(name: impl Into<String>, fields: impl IntoIterator<Item = (String, Declared)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, declared)| (name, Field { declared: Arc::new(declared), exposed: true }))
            .collect();
        Self { min_size: 2, ..Self::new(Shape::Object(Arc::new(ObjectType::plain(name, fields)))) }
    }

    /// A list of these.
    pub fn list(item: Declared) -> Self {
        Self { min_size: 2, ..Self::new(Shape::List { item: Arc::new(item), kind: ListKind::Atomic }) }
    }

    /// A map from text to these.
    pub fn map(value: Declared) -> Self {
        Self { min_size: 2, ..Self::new(Shape::Map(Arc::new(value))) }
    }

    /// The type that the checker sees.
    pub fn ty(&self) -> Type {
        match &self.shape {
            Shape::Any | Shape::Unknown | Shape::IntOrString => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::DateTime | Shape::Date => Type::Timestamp,
            Shape::Duration => Type::Duration,
            Shape::List { item, .. } => Type::list(item.ty()),
            Shape::Map(value) => Type::map(Type::String, value.ty()),
            Shape::Object(object) => Type::Object(Arc::clone(object)),
            Shape::Typed(ty) => ty.clone(),
        }
    }

    /// How often a value of this size fits into one request: the factor of rules below unbounded lists.
    pub fn max_cardinality(&self) -> u64 {
        MAX_REQUEST / (self.min_size + 1)
    }
}
