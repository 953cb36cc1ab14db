//! Wires the DaemonSet controller.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use plimsoll_client::{Delta, Informer, Object as _, WorkQueue};
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::daemon_set::{self, Observed};
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
    let (of_pod, of_node, watched) = (sets.clone(), sets.clone(), nodes.clone());
    let unit = unit
        .input(&sets, |set| vec![Key::of(set)])
        .input(&pods, move |pod| keys_of_pod(&of_pod, pod))
        .input(&revisions, keys_of_revision)
        .reads(&nodes)
        .task(move |queue| follow_nodes(watched, of_node, queue));
    let observe = move |key: &Key| {
        let set = sets.get(&key.namespace, &key.name)?;
        let pods = indexes::claimable(&pods, &set.metadata);
        let revisions = indexes::claimable(&revisions, &set.metadata);
        Some((set, pods, revisions, nodes.list()))
    };
    let again = observe.clone();
    Ok(unit
        .decide(move |key, now| {
            let Some((set, pods, revisions, nodes)) = observe(key) else { return Vec::new() };
            let observed = Observed { set: &set, pods: &pods, revisions: &revisions, nodes: &nodes };
            daemon_set::decide(&observed, now)
        })
        .report(move |key, _, failure| {
            let Some((set, pods, revisions, nodes)) = again(key) else { return Vec::new() };
            let observed = Observed { set: &set, pods: &pods, revisions: &revisions, nodes: &nodes };
            daemon_set::report(&observed, failure)
        }))
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
