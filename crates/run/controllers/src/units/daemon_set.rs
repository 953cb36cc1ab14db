//! Wires the DaemonSet controller.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use plimsoll_client::{Delta, Informer, Object as _, WorkQueue};
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::daemon_set::{self, Failures, Observed};
use plimsoll_reconcile::owner::controller_of;

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let sets = context.informers.informer::<DaemonSet>();
    let pods = context.informers.informer::<Pod>();
    let revisions = context.informers.informer::<ControllerRevision>();
    let nodes = context.informers.informer::<Node>();
    indexes::orphans(&pods);
    indexes::orphans(&revisions);
    let failures = Arc::new(Mutex::new(Failures::default()));
    let (of_pod, of_node, watched) = (sets.clone(), sets.clone(), nodes.clone());
    let unit = unit
        .input(&sets, |set| vec![Key::of(set)])
        .input(&pods, move |pod| keys_of_pod(&of_pod, pod))
        .input(&revisions, keys_of_revision)
        .reads(&nodes)
        .task(move |queue| follow_nodes(watched, of_node, queue));
    let named = revisions.clone();
    let observe = move |key: &Key, look: &mut dyn FnMut(&mut Failures, Given<'_>) -> Vec<Action>| {
        let Some(set) = sets.get(&key.namespace, &key.name) else { return Vec::new() };
        let pods = indexes::claimable(&pods, &set.metadata);
        let revisions = indexes::claimable(&revisions, &set.metadata);
        let given = Given { set: &set, pods: &pods, revisions: &revisions, nodes: &nodes.list() };
        look(&mut failures.lock().expect("no code under the lock panics"), given)
    };
    let again = observe.clone();
    Ok(unit
        .decide(move |key, now| {
            observe(key, &mut |failures, given| {
                let observed = given.with(failures);
                let actions = daemon_set::decide(&observed, now);
                let nodes = daemon_set::given_up(&observed, &actions);
                let set = given.set.metadata.uid.as_deref().unwrap_or_default();
                nodes.iter().for_each(|node| failures.note(set, node, now));
                actions
            })
        })
        .report(move |key, now, failure| {
            let named = |name: &str| named.get(&key.namespace, name);
            again(key, &mut |failures, given| daemon_set::report(&given.with(failures), now, failure, named))
        }))
}

/// What the caches show.
#[derive(Clone, Copy)]
struct Given<'a> {
    set: &'a DaemonSet,
    pods: &'a [Arc<Pod>],
    revisions: &'a [Arc<ControllerRevision>],
    nodes: &'a [Arc<Node>],
}

impl<'a> Given<'a> {
    fn with(self, failures: &'a Failures) -> Observed<'a> {
        let Self { set, pods, revisions, nodes } = self;
        Observed { set, pods, revisions, nodes, failures }
    }
}

/// A node matters when its labels, taints or name change, not with each heartbeat.
async fn follow_nodes(nodes: Informer<Node>, sets: Informer<DaemonSet>, queue: WorkQueue<Key>) {
    let mut deltas = nodes.subscribe();
    while let Some(delta) = deltas.recv().await {
        let matters = match &delta {
            Delta::Applied { old: Some(old), new } => {
                let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
                old.metadata.labels != new.metadata.labels || taints(old) != taints(new)
            }
            Delta::Applied { old: None, .. } | Delta::Deleted(_) => true,
            Delta::Synced => false,
        };
        if matters {
            sets.list().iter().for_each(|set| queue.add(Key::of(&**set)));
        }
    }
}

fn keys_of_pod(sets: &Informer<DaemonSet>, pod: &Pod) -> Vec<Key> {
    match controller_of(&pod.metadata) {
        Some(owner) if owner.kind == "DaemonSet" => vec![Key::new(pod.namespace(), &owner.name)],
        Some(_) => Vec::new(),
        None => {
            let mut all = sets.list_in(pod.namespace());
            all.retain(|set| Labels::from(&set.spec.selector).matches_map(pod.metadata.labels.as_ref()));
            all.iter().map(|set| Key::of(&**set)).collect()
        }
    }
}

fn keys_of_revision(revision: &ControllerRevision) -> Vec<Key> {
    let owner = controller_of(&revision.metadata).filter(|owner| owner.kind == "DaemonSet");
    owner.map(|owner| Key::new(revision.namespace(), &owner.name)).into_iter().collect()
}
