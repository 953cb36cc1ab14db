//! What stands behind extension servers: a change of their Services or endpoints is a reason to ask them anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{pending, select_all};
use plimsoll_catalogue::Kind;
use plimsoll_store::{Store, Watch, WatchItem};
use serde_json::Value;

use super::Extension;
use crate::object::meta;
use crate::registry;

/// The Services of extension servers and the slices of their endpoints, watched.
pub(super) struct Backends(Vec<Backend>);

/// Objects of one kind in one namespace that has Services of extension servers.
struct Backend {
    kind: &'static Kind,
    services: Vec<String>,
    watch: Watch,
}

impl Backends {
    /// Remembers changes from now on.
    pub(super) fn watch(store: &Store, extensions: &BTreeMap<String, Arc<Extension>>) -> Self {
        let mut namespaces: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for extension in extensions.values() {
            namespaces.entry(&extension.namespace).or_default().push(extension.service.clone());
        }
        let kinds = [("", "services"), ("discovery.k8s.io", "endpointslices")]
            .map(|(group, plural)| plimsoll_catalogue::find(group, "v1", plural));
        let mut all = Vec::new();
        for (namespace, services) in namespaces {
            for kind in kinds.into_iter().flatten() {
                let watch = registry::prefix(kind, namespace).ok().and_then(|it| store.watch(&it, None).ok());
                all.extend(watch.map(|watch| Backend { kind, services: services.clone(), watch }));
            }
        }
        Self(all)
    }

    /// Returns when one of them changed.
    pub(super) async fn changed(&mut self) {
        match self.0.is_empty() {
            true => pending().await,
            false => drop(select_all(self.0.iter_mut().map(|one| Box::pin(one.changed()))).await),
        }
    }
}

impl Backend {
    async fn changed(&mut self) {
        // A watch that ends has seen more than it could tell.
        while let Ok(WatchItem::Event(event)) = self.watch.next().await {
            let Ok(object) = registry::served(self.kind, &event.entry) else { continue };
            if self.services.iter().any(|service| service == self.service(&object)) {
                return;
            }
        }
    }

    /// The Service that an object is, or has endpoints of.
    fn service<'o>(&self, object: &'o Value) -> &'o str {
        match self.kind.group {
            "" => meta(object, "name"),
            _ => object["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default(),
        }
    }
}
