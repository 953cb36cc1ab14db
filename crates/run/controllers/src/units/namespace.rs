//! Wires the namespace controller: what is in a namespace is known from the metadata of all kinds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use plimsoll_client::{Delta, Informer, MetadataObject, Object as _, WorkQueue};
use plimsoll_reconcile::action::{Action, Resource};
use plimsoll_reconcile::namespace::{self, Left, Observed};
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::executor::Executor;
use crate::kinds::{Kind, Kinds};
use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// How long to gather deletions while others are to come.
const GATHER: Duration = Duration::from_millis(200);

struct Emptier {
    kinds: Arc<Kinds>,
    client: kube::Client,
    executor: Executor,
    namespaces: Informer<Namespace>,
}

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let namespaces = context.informers.informer::<Namespace>();
    let emptier = Arc::new(Emptier {
        kinds: context.kinds(),
        client: context.client.clone(),
        executor: unit.executor(),
        namespaces: namespaces.clone(),
    });
    let (feeding, waiting) = (emptier.clone(), emptier.clone());
    Ok(unit
        .input(
            &namespaces,
            |namespace| if namespace::ends(namespace) { vec![Key::of(namespace)] } else { Vec::new() },
        )
        .reads_every_kind()
        .task(move |queue| feed(feeding, queue))
        .after(async move { waiting.kinds.synced().await })
        .decide_async(move |key, now| {
            let emptier = emptier.clone();
            async move { emptier.decide(&key.name, now).await }
        }))
}

/// Looks at a namespace again when something in it is gone.
async fn feed(emptier: Arc<Emptier>, queue: WorkQueue<Key>) {
    let mut changes = emptier.kinds.changes();
    let mut fed = HashSet::new();
    // Ends its tasks when it is dropped itself.
    let mut feeds = JoinSet::new();
    loop {
        let discovered = changes.borrow_and_update().clone();
        for kind in discovered.kinds.iter().filter(|kind| kind.namespaced) {
            let Some(informer) = emptier.kinds.informer(&kind.resource) else { continue };
            if fed.insert(kind.resource.clone()) {
                let (emptier, queue) = (emptier.clone(), queue.clone());
                feeds.spawn(async move {
                    let mut deltas = informer.subscribe();
                    drop(informer);
                    while let Some(delta) = deltas.recv().await {
                        if let Delta::Deleted(last) = delta {
                            emptier.look_again(last.namespace(), &queue);
                        }
                    }
                });
            }
        }
        fed.retain(|resource| discovered.kinds.iter().any(|kind| kind.resource == *resource));
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Emptier {
    fn look_again(&self, name: &str, queue: &WorkQueue<Key>) {
        if !self.namespaces.get("", name).is_some_and(|found| namespace::ends(&found)) {
            return;
        }
        let key = Key::new("", name);
        let kinds = self.kinds.now();
        let empty = kinds.kinds.iter().all(|kind| self.objects(kind, name).is_empty());
        if empty { queue.add(key) } else { queue.add_after(key, GATHER) }
    }

    fn objects(&self, kind: &Kind, namespace: &str) -> Vec<Arc<MetadataObject>> {
        if !kind.namespaced {
            return Vec::new();
        }
        self.kinds.informer(&kind.resource).map(|informer| informer.list_in(namespace)).unwrap_or_default()
    }

    async fn decide(&self, name: &str, now: Timestamp) -> Vec<Action> {
        let Some(found) = self.namespaces.get("", name).filter(|found| namespace::ends(found)) else {
            return Vec::new();
        };
        let discovered = self.kinds.now();
        let kinds: Vec<_> = discovered.kinds.iter().filter(|kind| kind.namespaced).collect();
        let presence = kinds.iter().map(|kind| (&kind.resource, !self.objects(kind, name).is_empty()));
        let now_deletable: HashSet<_> = namespace::deletable(presence).into_iter().cloned().collect();
        let mut undeleted = Vec::new();
        for kind in kinds.iter().filter(|kind| now_deletable.contains(&kind.resource)) {
            if let Err(error) = self.delete_all(kind, name).await {
                undeleted.push(error);
            }
        }
        // While pods remain only they are told: the rest has not been asked to go.
        let kinds: Vec<_> = kinds.into_iter().filter(|kind| now_deletable.contains(&kind.resource)).collect();
        let mut left = self.left(&kinds, name, now);
        if left.is_empty() && undeleted.is_empty() {
            left = self.ask_left(&kinds, name, &mut undeleted).await;
        }
        let unknown = &discovered.failures;
        let observed = Observed { namespace: &found, left: &left, unknown, undeleted: &undeleted };
        let mut actions = namespace::decide(&observed, now);
        if !left.is_empty() || !undeleted.is_empty() || !unknown.is_empty() {
            // Deletions wake this up; what finalizers hold for long, or cannot be watched, is asked for again.
            actions.push(Action::RequeueAfter(Duration::from_secs(5)));
        }
        actions
    }

    /// Asks for the deletion of what is not being deleted yet.
    async fn delete_all(&self, kind: &Kind, namespace: &str) -> Result<(), String> {
        let objects = self.objects(kind, namespace);
        let fresh: Vec<_> = objects.iter().filter(|object| object.deletion_timestamp().is_none()).collect();
        if kind.watched && fresh.is_empty() {
            return Ok(());
        }
        let path = kind.resource.path(namespace);
        if kind.collection {
            return self.executor.remove(&kind.resource, path).await;
        }
        for object in fresh {
            self.executor.remove(&kind.resource, format!("{path}/{}", object.name())).await?;
        }
        Ok(())
    }

    /// What the caches still show.
    fn left(&self, kinds: &[&Kind], namespace: &str, now: Timestamp) -> BTreeMap<Resource, Left> {
        let mut all = BTreeMap::new();
        for kind in kinds {
            let objects = self.objects(kind, namespace);
            if objects.is_empty() {
                continue;
            }
            let late =
                |object: &Arc<MetadataObject>| object.deletion_timestamp().is_some_and(|end| end.0 < now);
            let is_late = objects.iter().all(late);
            let mut left = Left { objects: objects.len(), is_late, ..Left::default() };
            for finalizer in objects.iter().flat_map(|object| object.finalizers()) {
                *left.finalizers.entry(finalizer.to_owned()).or_default() += 1;
            }
            all.insert(kind.resource.clone(), left);
        }
        all
    }

    /// What the server still has, in case the caches are late.
    async fn ask_left(
        &self,
        kinds: &[&Kind],
        namespace: &str,
        failed: &mut Vec<String>,
    ) -> BTreeMap<Resource, Left> {
        let mut all = BTreeMap::new();
        for kind in kinds {
            let request =
                http::Request::get(format!("{}?limit=1", kind.resource.path(namespace))).body(Vec::new());
            let Ok(request) = request else { continue };
            match self.client.request::<List>(request).await {
                Ok(list) if list.items.as_ref().is_none_or(Vec::is_empty) => {}
                Ok(list) => {
                    let more = list.metadata.remaining_item_count.unwrap_or_default();
                    let objects =
                        list.items.map_or(0, |items| items.len()) + usize::try_from(more).unwrap_or_default();
                    all.insert(kind.resource.clone(), Left { objects, ..Left::default() });
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => {}
                Err(kube::Error::Api(status)) => failed.push(status.message.clone()),
                Err(error) => failed.push(error.to_string()),
            }
        }
        all
    }
}

#[derive(Deserialize)]
struct List {
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta,
    items: Option<Vec<serde::de::IgnoredAny>>,
}
