//! Wires the garbage collector: the graph is fed by the metadata of all kinds.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use k8s_openapi::jiff::Timestamp;
use plimsoll_client::{Delta, MetadataObject, Object as _, WorkQueue};
use plimsoll_reconcile::action::{Action, Resource, Target};
use plimsoll_reconcile::garbage::{self, FOREGROUND, Graph, Node, Owner, OwnerState, Uid};
use tokio::task::JoinSet;

use crate::kinds::Kinds;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// Owners known to be gone that are remembered.
const REMEMBERED: usize = 500;

struct Collector {
    kinds: Arc<Kinds>,
    client: kube::Client,
    graph: Mutex<Graph>,
    /// Owners that the server did not know: unique ids never come back.
    gone: Mutex<Gone>,
}

#[derive(Default)]
struct Gone {
    /// An owner's id, and under which names it was asked for.
    known: HashSet<(Uid, String)>,
    order: VecDeque<(Uid, String)>,
}

impl Gone {
    fn remember(&mut self, owner: (Uid, String)) {
        if self.known.insert(owner.clone()) {
            self.order.push_back(owner);
        }
        if self.order.len() > REMEMBERED {
            let oldest = self.order.pop_front();
            oldest.iter().for_each(|oldest| {
                self.known.remove(oldest);
            });
        }
    }
}

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let collector = Arc::new(Collector {
        kinds: context.kinds(),
        client: context.client.clone(),
        graph: Mutex::default(),
        gone: Mutex::default(),
    });
    let (feeding, waiting) = (collector.clone(), collector.clone());
    Ok(unit
        .reads_every_kind()
        .task(move |queue| feed(feeding, queue))
        .after(async move { waiting.kinds.synced().await })
        .decide_async(move |key, now| {
            let collector = collector.clone();
            async move { collector.decide(&key.name, now).await }
        }))
}

/// Follows all kinds into the graph.
async fn feed(collector: Arc<Collector>, queue: WorkQueue<Key>) {
    let mut changes = collector.kinds.changes();
    let mut fed = HashSet::new();
    // Ends its tasks when it is dropped itself.
    let mut feeds = JoinSet::new();
    loop {
        let discovered = changes.borrow_and_update().clone();
        for kind in &discovered.kinds {
            let Some(informer) = collector.kinds.informer(&kind.resource) else { continue };
            if fed.insert(kind.resource.clone()) {
                let (collector, queue, resource) = (collector.clone(), queue.clone(), kind.resource.clone());
                feeds.spawn(async move {
                    let mut deltas = informer.subscribe();
                    drop(informer);
                    while let Some(delta) = deltas.recv().await {
                        for uid in collector.take_in(&resource, &delta) {
                            queue.add(Key::new("", &uid));
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

impl Collector {
    fn take_in(&self, resource: &Resource, delta: &Delta<MetadataObject>) -> Vec<Uid> {
        let mut graph = self.graph.lock().expect("no code under the lock panics");
        match delta {
            Delta::Applied { new, .. } => graph.upsert(node(resource, new)),
            Delta::Deleted(last) => graph.remove(last.uid()),
            Delta::Synced => Vec::new(),
        }
    }

    async fn decide(&self, uid: &str, _now: Timestamp) -> Vec<Action> {
        let (node, known) = {
            let graph = self.graph.lock().expect("no code under the lock panics");
            let Some(node) = graph.get(uid).cloned() else { return Vec::new() };
            let known: Vec<_> = node.owners.iter().map(|owner| known(&graph, &node, owner)).collect();
            (node, known)
        };
        let mut owners = Vec::with_capacity(known.len());
        for (owner, state) in node.owners.iter().zip(known) {
            match state {
                Some(state) => owners.push(state),
                None => match self.ask(&node, owner).await {
                    Some(state) => owners.push(state),
                    // Whether it lives is not known: better leave a dead owner's object than lose one.
                    None => return vec![Action::RequeueAfter(std::time::Duration::from_secs(30))],
                },
            }
        }
        let graph = self.graph.lock().expect("no code under the lock panics");
        garbage::decide(&node, &owners, &graph.dependents(uid))
    }

    /// Asks the server whether an owner lives; `None` when it cannot tell.
    async fn ask(&self, node: &Node, owner: &Owner) -> Option<OwnerState> {
        let Owner { api_version, kind, name, .. } = owner;
        let place = format!("{}/{api_version}/{kind}/{name}", node.target.namespace);
        let place = (owner.uid.clone(), place);
        if self.gone.lock().expect("no code under the lock panics").known.contains(&place) {
            return Some(OwnerState::Absent);
        }
        let kind = self.kinds.find(&owner.api_version, &owner.kind)?;
        let namespace = if kind.namespaced { node.target.namespace.clone() } else { String::new() };
        if kind.namespaced && namespace.is_empty() {
            return Some(OwnerState::Nowhere);
        }
        let target = Target { resource: kind.resource, namespace, name: owner.name.to_string() };
        let request = http::Request::get(target.path()).body(Vec::new()).ok()?;
        match self.client.request::<MetadataObject>(request).await {
            Ok(found) if found.uid() == &*owner.uid => {
                let waits = found.deletion_timestamp().is_some() && found.has_finalizer(FOREGROUND);
                return Some(if waits { OwnerState::WaitsForDependents } else { OwnerState::Lives });
            }
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(_) => return None,
        }
        self.gone.lock().expect("no code under the lock panics").remember(place);
        Some(OwnerState::Absent)
    }
}

/// What the graph says of an owner; nothing where the object names it otherwise than it is: then the
/// server is asked for what the object names.
fn known(graph: &Graph, node: &Node, owner: &Owner) -> Option<OwnerState> {
    let found = graph.get(&owner.uid)?;
    let place = &found.target.namespace;
    if !place.is_empty() && *place != node.target.namespace {
        return Some(OwnerState::Elsewhere);
    }
    let group = |version: &str| version.split_once('/').map(|(group, _)| group.to_owned());
    let same = found.target.resource.kind == *owner.kind
        && found.target.name == *owner.name
        && group(&found.target.resource.api_version) == group(&owner.api_version);
    let waits = found.deleting && found.has(FOREGROUND);
    same.then_some(if waits { OwnerState::WaitsForDependents } else { OwnerState::Lives })
}

fn node(resource: &Resource, object: &MetadataObject) -> Node {
    let owner = |owner: &plimsoll_client::Owner| Owner {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: (*owner.uid).into(),
        controller: owner.controller,
        blocks: owner.block_owner_deletion,
    };
    Node {
        uid: object.uid().into(),
        resource_version: object.resource_version().into(),
        target: Target {
            resource: resource.clone(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
        },
        owners: object.owners().iter().map(owner).collect(),
        finalizers: object.finalizers().map(Into::into).collect(),
        deleting: object.deletion_timestamp().is_some(),
    }
}
