//! The schema of a kind: one of the built-in types, or what a custom resource's definition says.

use std::sync::Arc;

use plimsoll_catalogue::Kind;
use plimsoll_merge::Typed;
use plimsoll_meta::status::{Status, qualified};
use plimsoll_schema::{NodeId, Schemas};
use serde_json::Value;

use crate::custom::Definition;
use crate::server::Api;

/// A type, held for the length of a request, so that all its steps see the same one.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Builtin(NodeId),
    Custom(Arc<Definition>),
}

impl Shape {
    /// The type of a kind's objects.
    pub(crate) fn of(api: &Api, kind: &Kind) -> Result<Self, Status> {
        if kind.is_custom() {
            return api.customs.definition(kind).map(Self::Custom).ok_or_else(Status::no_such_path);
        }
        Self::named(kind.definition)
            .map_err(|_| Status::internal(format!("no schema for {}", qualified(kind.group, kind.plural))))
    }

    /// A built-in type by its definition's name.
    pub(crate) fn named(definition: &str) -> Result<Self, Status> {
        plimsoll_schema::builtin()
            .lookup(definition)
            .map(Self::Builtin)
            .ok_or_else(|| Status::internal(format!("no schema for {definition}")))
    }

    /// The set of types that [`Shape::root`] belongs to.
    pub(crate) fn schemas(&self) -> &Schemas {
        match self {
            Self::Builtin(_) => plimsoll_schema::builtin(),
            Self::Custom(definition) => &definition.schemas,
        }
    }

    /// The object's own type.
    pub(crate) fn root(&self) -> NodeId {
        match self {
            Self::Builtin(root) => *root,
            Self::Custom(definition) => definition.root,
        }
    }

    /// Fills in what an object of the kind leaves open.
    pub(crate) fn default(&self, kind: &Kind, object: &mut Value) {
        match self {
            Self::Builtin(_) => kind.default(object),
            Self::Custom(definition) => definition.default(object),
        }
    }

    /// As patches and ownership take it.
    pub(crate) fn typed(&self) -> Typed<'_> {
        Typed::of(self.schemas(), self.root())
    }
}
