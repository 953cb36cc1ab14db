//! Definitions of the kinds of the Gateway API, which tell a version.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_client::{Informer, Informers, Object};
use plimsoll_route::gateway::{GROUP, VERSION};
use serde::Deserialize;

/// What is kept of a definition.
#[derive(Debug, Deserialize)]
#[serde(from = "Metadata")]
pub(crate) struct Definition {
    name: String,
    pub(crate) version: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    metadata: ObjectMeta,
}

/// Follows the definitions.
pub(crate) fn informer(informers: &Informers) -> Informer<Definition> {
    informers.excerpts::<CustomResourceDefinition, Definition>()
}

impl From<Metadata> for Definition {
    fn from(Metadata { metadata }: Metadata) -> Self {
        let version = metadata.annotations.and_then(|mut all| all.remove(VERSION));
        Self { name: metadata.name.unwrap_or_default(), version }
    }
}

impl Object for Definition {
    fn namespace(&self) -> &str {
        ""
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn uid(&self) -> &str {
        ""
    }
    fn resource_version(&self) -> &str {
        ""
    }
    fn controller_uid(&self) -> Option<&str> {
        None
    }
    fn strip(&mut self) {}
    fn is_kept(&self) -> bool {
        self.name.split_once('.').is_some_and(|(_, group)| group == GROUP)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_of_definitions() {
        for (name, kept) in [("gateways.gateway.networking.k8s.io", true), ("gateways.example.com", false)] {
            let metadata = json!({"name": name, "annotations": {VERSION: "v1.6.1", "other": "x"}});
            let read: Definition = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            assert_eq!((read.is_kept(), read.name(), read.version.as_deref()), (kept, name, Some("v1.6.1")));
        }
    }
}
