//! Wires the ReplicaSet controller.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Informer;
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::owner::controller_of;
use plimsoll_reconcile::replicas::{self, Observed, ReplicaOwner};

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let sets = context.informers.informer::<ReplicaSet>();
    let pods = context.informers.informer::<Pod>();
    indexes::orphans(&pods);
    let of_pod = sets.clone();
    let unit = unit.input(&sets, |set| vec![Key::of(set)]).input(&pods, move |pod| keys_of_pod(&of_pod, pod));
    let observe = move |key: &Key| {
        let set = sets.get(&key.namespace, &key.name)?;
        let own = indexes::claimable(&pods, &set.metadata);
        Some((ReplicaOwner::from(&*set), own, related(&sets, &pods, &set)))
    };
    let again = observe.clone();
    Ok(unit
        .decide(move |key, now| {
            let Some((owner, pods, related)) = observe(key) else { return Vec::new() };
            replicas::decide(&Observed { owner: &owner, pods: &pods, related: &related }, now)
        })
        .report(move |key, now, failure| {
            let Some((owner, pods, related)) = again(key) else { return Vec::new() };
            replicas::report(&Observed { owner: &owner, pods: &pods, related: &related }, now, failure)
        }))
}

/// The pods of all ReplicaSets that the same Deployment controls.
fn related(sets: &Informer<ReplicaSet>, pods: &Informer<Pod>, set: &ReplicaSet) -> Vec<Arc<Pod>> {
    let siblings = match controller_of(&set.metadata) {
        Some(owner) => sets.owned_by(&owner.uid),
        None => Vec::new(),
    };
    let mut uids: Vec<_> = siblings.iter().filter_map(|one| one.metadata.uid.clone()).collect();
    if uids.is_empty() {
        uids.extend(set.metadata.uid.clone());
    }
    uids.iter().flat_map(|uid| pods.owned_by(uid)).collect()
}

fn keys_of_pod(sets: &Informer<ReplicaSet>, pod: &Pod) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match controller_of(&pod.metadata) {
        Some(owner) if owner.kind == "ReplicaSet" => vec![Key::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => {
            let mut all = sets.list_in(namespace);
            all.retain(|set| Labels::from(&set.spec.selector).matches_map(pod.metadata.labels.as_ref()));
            all.iter().map(|set| Key::of(&**set)).collect()
        }
    }
}
