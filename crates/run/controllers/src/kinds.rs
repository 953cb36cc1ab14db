//! Every kind that the server has, found by discovery and again whenever kinds come or go.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::discovery::ApiResource;
use plimsoll_client::{Backoff, Delta, Informer, Informers, MetadataObject};
use plimsoll_reconcile::action::Resource;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Kinds that come and go with these; a change of one is a reason to look again.
const DEFINITIONS: [(&str, &str); 2] =
    [("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")];

/// How long definitions must be quiet before discovery is asked, and how much later once more: a
/// definition is there before its kind is served.
const QUIET: Duration = Duration::from_millis(300);
const ONCE_MORE: Duration = Duration::from_secs(3);

/// A kind that can be deleted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kind {
    pub(crate) resource: Resource,
    pub(crate) namespaced: bool,
    /// Whether it can be listed and watched, and is worth it: Events belong to nobody.
    pub(crate) watched: bool,
    /// Whether all of a namespace can be deleted at once.
    pub(crate) collection: bool,
}

/// All deletable kinds, and what could not be found out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Discovered {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) failures: Vec<String>,
    /// Whether discovery has been asked at all.
    pub(crate) asked: bool,
}

/// Follows discovery, and holds a metadata informer for each kind that can be watched.
pub(crate) struct Kinds {
    discovered: watch::Receiver<Arc<Discovered>>,
    informers: Arc<Mutex<HashMap<Resource, Informer<MetadataObject>>>>,
    _stop: DropGuard,
}

impl Kinds {
    /// Begins to follow; needs a runtime.
    pub(crate) fn follow(client: kube::Client, informers: Informers) -> Self {
        let (sender, discovered) = watch::channel(Arc::new(Discovered::default()));
        let stop = CancellationToken::new();
        let held = Arc::new(Mutex::default());
        let follower = Follower { client, informers, held: held.clone(), sender };
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move { follower.run().await }));
        Self { discovered, informers: held, _stop: stop.drop_guard() }
    }

    /// What is known now.
    pub(crate) fn now(&self) -> Arc<Discovered> {
        self.discovered.borrow().clone()
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Discovered>> {
        self.discovered.clone()
    }

    /// The metadata of all objects of a kind, if it can be watched.
    pub(crate) fn informer(&self, resource: &Resource) -> Option<Informer<MetadataObject>> {
        self.informers.lock().expect("no code under the lock panics").get(resource).cloned()
    }

    /// The kind that an owner reference names.
    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Option<Kind> {
        let group =
            |version: &str| version.split_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default();
        let now = self.now();
        let of_kind =
            |one: &&Kind| one.resource.kind == kind && group(&one.resource.api_version) == group(api_version);
        now.kinds.iter().find(of_kind).cloned()
    }

    /// Waits until all kinds' objects have been listed once.
    pub(crate) async fn synced(&self) {
        let mut changes = self.changes();
        let Ok(discovered) = changes.wait_for(|discovered| discovered.asked).await.map(|found| found.clone())
        else {
            return;
        };
        for kind in &discovered.kinds {
            if let Some(informer) = self.informer(&kind.resource) {
                informer.synced().await;
            }
        }
    }
}

struct Follower {
    client: kube::Client,
    informers: Informers,
    held: Arc<Mutex<HashMap<Resource, Informer<MetadataObject>>>>,
    sender: watch::Sender<Arc<Discovered>>,
}

impl Follower {
    async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(60));
        let mut watched = HashSet::new();
        let mut again = false;
        let (changed, mut definitions) = tokio::sync::mpsc::channel::<()>(1);
        loop {
            let discovered = self.discover().await;
            let complete = discovered.failures.is_empty();
            self.hold(&discovered.kinds);
            self.watch_definitions(&discovered.kinds, &mut watched, &changed);
            if **self.sender.borrow() != discovered {
                self.sender.send_replace(Arc::new(discovered));
            }
            if complete {
                backoff.reset();
                again = wait_for_change(&mut definitions, again).await;
            } else {
                tokio::time::sleep(backoff.delay()).await;
            }
        }
    }

    /// Starts informers of new kinds and lets go of those that are gone.
    fn hold(&self, kinds: &[Kind]) {
        let mut held = self.held.lock().expect("no code under the lock panics");
        held.retain(|resource, _| kinds.iter().any(|kind| kind.resource == *resource && kind.watched));
        for kind in kinds.iter().filter(|kind| kind.watched) {
            let informer = || self.informers.metadata(&api_resource(&kind.resource));
            held.entry(kind.resource.clone()).or_insert_with(informer);
        }
    }

    fn watch_definitions(
        &self,
        kinds: &[Kind],
        watched: &mut HashSet<Resource>,
        changed: &tokio::sync::mpsc::Sender<()>,
    ) {
        let defines = |kind: &&Kind| {
            let group = kind.resource.api_version.split_once('/').map(|(group, _)| group).unwrap_or_default();
            DEFINITIONS.contains(&(group, &kind.resource.plural))
        };
        for kind in kinds.iter().filter(defines) {
            if !watched.insert(kind.resource.clone()) {
                continue;
            }
            let informer = self.informers.metadata(&api_resource(&kind.resource));
            let changed = changed.clone();
            tokio::spawn(async move {
                let mut deltas = informer.subscribe();
                // Discovery has told of those that were there before.
                while let Some(delta) = deltas.recv().await {
                    if matches!(delta, Delta::Synced) {
                        break;
                    }
                }
                while deltas.recv().await.is_some() && !changed.is_closed() {
                    // A full channel says already that something changed.
                    let _ = changed.try_send(());
                }
            });
        }
    }

    async fn discover(&self) -> Discovered {
        let mut found = Discovered { asked: true, ..Discovered::default() };
        let mut names = HashSet::new();
        for version in self.versions(&mut found.failures).await {
            let listed = match version.contains('/') {
                true => self.client.list_api_group_resources(&version).await,
                false => self.client.list_core_api_resources(&version).await,
            };
            match listed {
                Ok(list) => {
                    let group = version.split_once('/').map(|(group, _)| group).unwrap_or_default();
                    let kinds = list.resources.iter().filter_map(|resource| deletable(&version, resource));
                    found.kinds.extend(
                        kinds.filter(|kind| names.insert((group.to_owned(), kind.resource.plural.clone()))),
                    );
                }
                Err(error) => found.failures.push(format!("{version}: {}", sentence(&error))),
            }
        }
        // What could not be asked for now is still there as far as is known.
        let before = self.sender.borrow().clone();
        let failed = |kind: &&Kind| {
            found.failures.iter().any(|text| text.starts_with(&format!("{}:", kind.resource.api_version)))
        };
        let kept: Vec<_> = before.kinds.iter().filter(failed).cloned().collect();
        found.kinds.extend(kept);
        found
    }

    /// All versions of all groups, each group's preferred version first.
    async fn versions(&self, failures: &mut Vec<String>) -> Vec<String> {
        let mut versions = Vec::new();
        match self.client.list_core_api_versions().await {
            Ok(core) => versions.extend(core.versions),
            Err(error) => failures.push(sentence(&error)),
        }
        match self.client.list_api_groups().await {
            Ok(groups) => {
                for group in groups.groups {
                    let preferred = group.preferred_version.into_iter();
                    for version in preferred.chain(group.versions) {
                        if !versions.contains(&version.group_version) {
                            versions.push(version.group_version);
                        }
                    }
                }
            }
            Err(error) => failures.push(sentence(&error)),
        }
        versions
    }
}

/// Waits for a change of definitions and then until they are quiet. `again` says that kinds may
/// still appear after the last one: then the wait has an end. Gives whether there was a change.
async fn wait_for_change(definitions: &mut tokio::sync::mpsc::Receiver<()>, again: bool) -> bool {
    if again {
        if tokio::time::timeout(ONCE_MORE, definitions.recv()).await.is_err() {
            return false;
        }
    } else {
        definitions.recv().await;
    }
    while tokio::time::timeout(QUIET, definitions.recv()).await.is_ok_and(|told| told.is_some()) {}
    true
}

fn deletable(version: &str, resource: &APIResource) -> Option<Kind> {
    let can = |verb: &str| resource.verbs.iter().any(|one| one == verb);
    if resource.name.contains('/') || !can("delete") {
        return None;
    }
    let events = resource.kind == "Event";
    Some(Kind {
        resource: Resource {
            api_version: version.to_owned().into(),
            kind: resource.kind.clone().into(),
            plural: resource.name.clone().into(),
        },
        namespaced: resource.namespaced,
        watched: can("list") && can("watch") && !events,
        collection: can("deletecollection"),
    })
}

fn api_resource(resource: &Resource) -> ApiResource {
    let version = resource.api_version.as_ref();
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    ApiResource {
        group: group.to_owned(),
        version: short.to_owned(),
        api_version: version.to_owned(),
        kind: resource.kind.to_string(),
        plural: resource.plural.to_string(),
    }
}

fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
