//! Wires the controller that writes objects anew.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use http::{Method, Request};
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use plimsoll_client::Informer;
use plimsoll_reconcile::action::{Action, Resource};
use plimsoll_reconcile::storage_migration::{self, Progress};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kinds::Kinds;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// Objects that are written at once.
const AT_ONCE: usize = 16;
/// Objects that are listed at once.
const PAGE: usize = 500;

struct Migrator {
    client: kube::Client,
    kinds: Arc<Kinds>,
    migrations: Informer<StorageVersionMigration>,
}

#[derive(Deserialize)]
struct List {
    metadata: ListMeta,
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    metadata: ObjectMeta,
}

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let migrator = Arc::new(Migrator {
        client: context.client.clone(),
        kinds: context.kinds(),
        migrations: context.informers.informer(),
    });
    let unit = unit.input(&migrator.migrations, |migration| vec![Key::of(migration)]);
    Ok(unit.decide_async(move |key, now| {
        let migrator = migrator.clone();
        async move { migrator.decide(&key.name, now).await }
    }))
}

impl Migrator {
    async fn decide(&self, name: &str, now: Timestamp) -> Vec<Action> {
        let Some(migration) = self.migrations.get("", name) else { return Vec::new() };
        if storage_migration::ended(&migration) {
            return Vec::new();
        }
        let progress = self.progress(&migration).await;
        storage_migration::decide(&migration, &progress, now)
    }

    async fn progress(&self, migration: &StorageVersionMigration) -> Progress {
        let Some(resource) = self.resource(migration) else { return Progress::Unknown };
        if !storage_migration::running(migration) {
            return match self.page(&resource, 1, "").await {
                Ok(list) => Progress::Before(list.metadata.resource_version.unwrap_or_default()),
                Err(_) => Progress::Unknown,
            };
        }
        match self.write_all(&resource).await {
            Ok(()) => Progress::Done,
            Err(error) => {
                let plural = &*resource.plural;
                tracing::warn!(plural, %error, "objects could not be written anew");
                Progress::Failed
            }
        }
    }

    fn resource(&self, migration: &StorageVersionMigration) -> Option<Resource> {
        let wanted = &migration.spec.as_ref()?.resource;
        let of = |resource: &Resource| {
            let group = resource.api_version.split_once('/').map(|(group, _)| group).unwrap_or_default();
            group == wanted.group && *resource.plural == *wanted.resource
        };
        let kinds = self.kinds.now();
        kinds.kinds.iter().map(|kind| &kind.resource).find(|resource| of(resource)).cloned()
    }

    async fn page(&self, resource: &Resource, limit: usize, next: &str) -> Result<List, kube::Error> {
        let next = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let path = format!("{}?limit={limit}{next}", resource.path(""));
        self.client.request(Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?).await
    }

    async fn write_all(&self, resource: &Resource) -> Result<(), kube::Error> {
        let mut next = String::new();
        loop {
            let list = self.page(resource, PAGE, &next).await?;
            let items = list.items.unwrap_or_default();
            let mut writes =
                stream::iter(items).map(|item| self.write(resource, item)).buffer_unordered(AT_ONCE);
            while let Some(written) = writes.next().await {
                written?;
            }
            next = list.metadata.continue_.unwrap_or_default();
            if next.is_empty() {
                return Ok(());
            }
        }
    }

    /// A write that changes nothing but the form on disk. Who changed or deleted the object meanwhile has
    /// done it already.
    async fn write(&self, resource: &Resource, item: Item) -> Result<(), kube::Error> {
        let ObjectMeta { name, namespace, uid, resource_version, .. } = item.metadata;
        let place = resource.path(namespace.as_deref().unwrap_or_default());
        let path = format!("{place}/{}?fieldManager=storage-version-migrator", name.unwrap_or_default());
        let body = json!({"metadata": {"uid": uid, "resourceVersion": resource_version}});
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        match self.client.request::<Value>(request).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Memory;
    use crate::tests::play;

    #[tokio::test(start_paused = true)]
    async fn every_object_is_written_once_and_the_status_tells() {
        let server = Memory::default();
        server.put("/apis", json!({"groups": []}));
        server.put("/api", json!({"versions": ["v1"], "serverAddressByClientCIDRs": []}));
        server.put(
            "/api/v1",
            json!({"groupVersion": "v1", "resources": [{"name": "secrets", "singularName": "secret",
            "namespaced": true, "kind": "Secret", "verbs": ["delete", "list", "watch"]}]}),
        );
        for name in ["a", "b"] {
            let object =
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "ns"}});
            server.put(&format!("/api/v1/namespaces/ns/secrets/{name}"), object);
        }
        let path = "/apis/storagemigration.k8s.io/v1/storageversionmigrations/m";
        server.put(
            path,
            json!({"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration",
            "metadata": {"name": "m"}, "spec": {"resource": {"group": "", "resource": "secrets"}}}),
        );
        play(&server, "storage-version-migrator-controller", 120).await;
        let status = server.get(path).expect("it stays")["status"].clone();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let open: Vec<_> =
            conditions.iter().filter(|one| one["status"] == "True").map(|one| &one["type"]).collect();
        assert_eq!(open, ["Succeeded"], "{status}");
        assert!(status["resourceVersion"].is_string());
        let count = |name: &str| server.log().iter().filter(|line| line.ends_with(name)).count();
        assert_eq!((count("secrets/a"), count("secrets/b")), (1, 1), "{:?}", server.log());
    }
}
