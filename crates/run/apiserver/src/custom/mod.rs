//! Kinds that users define, as the generic path needs them.
//!
//! What enters are the definitions that are established; what leaves are rows like those of the
//! catalogue, found by path, and the schema of each. A row lives as long as the process: it is made once
//! for each combination of names that was ever served (some hundred bytes each) and used again when the
//! same definition comes back, so that everything behind the registry can hold rows of either origin.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_schema::{NodeId, Schemas};
use serde_json::Value;

/// What a version of a custom resource is made of.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) schemas: Schemas,
    pub(crate) root: NodeId,
}

/// The custom kinds that are served now.
#[derive(Debug, Default)]
pub(crate) struct Customs(RwLock<Arc<Served>>);

/// One state of [`Customs`], whole.
#[derive(Debug, Default)]
struct Served {
    kinds: Vec<&'static Kind>,
    definitions: HashMap<(&'static str, &'static str, &'static str), (&'static Kind, Arc<Definition>)>,
}

impl Customs {
    fn served(&self) -> Arc<Served> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The row of a resource path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        self.served().definitions.get(&(group, version, plural)).map(|(kind, _)| *kind)
    }

    /// All rows, those of a group together and its preferred version first.
    pub(crate) fn kinds(&self) -> Vec<&'static Kind> {
        self.served().kinds.clone()
    }

    /// What a row of this registry is made of; `None` when it is served no longer.
    pub(crate) fn definition(&self, kind: &Kind) -> Option<Arc<Definition>> {
        let served = self.served();
        served
            .definitions
            .get(&(kind.group, kind.version, kind.plural))
            .map(|(_, definition)| Arc::clone(definition))
    }

    /// A stored object in the version of `kind`.
    pub(crate) async fn convert(&self, kind: &'static Kind, mut object: Value) -> Result<Value, Status> {
        let wanted = kind.api_version();
        if object["apiVersion"] != wanted.as_str() {
            object["apiVersion"] = wanted.into();
        }
        Ok(object)
    }

    /// An object of `kind` in the version that is kept.
    pub(crate) async fn store(&self, kind: &'static Kind, object: Value) -> Result<Value, Status> {
        self.convert(kind.storage_kind(), object).await
    }
}
