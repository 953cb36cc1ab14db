//! Wires the Deployment controller.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Informer;
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::deployment::{self, Observed};
use plimsoll_reconcile::owner::controller_of;

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let deployments = context.informers.informer::<Deployment>();
    let sets = context.informers.informer::<ReplicaSet>();
    let pods = context.informers.informer::<Pod>();
    indexes::orphans(&sets);
    let named = sets.clone();
    let (of_set, of_pod) = (deployments.clone(), (deployments.clone(), sets.clone()));
    let observe = move |key: &Key| {
        let deployment = deployments.get(&key.namespace, &key.name)?;
        let sets = indexes::claimable(&sets, &deployment.metadata);
        let uids = sets.iter().filter_map(|set| set.metadata.uid.clone());
        let pods: Vec<_> = uids.flat_map(|uid| pods.owned_by(&uid)).collect();
        Some((deployment, sets, pods))
    };
    let again = observe.clone();
    let (deployments, sets, pods) = informers(context);
    Ok(unit
        .input(&deployments, |deployment| vec![Key::of(deployment)])
        .input(&sets, move |set| keys_of_set(&of_set, set))
        .input(&pods, move |pod| keys_of_pod(&of_pod.0, &of_pod.1, pod))
        .decide(move |key, now| {
            let Some((deployment, replica_sets, pods)) = observe(key) else { return Vec::new() };
            let observed = Observed { deployment: &deployment, replica_sets: &replica_sets, pods: &pods };
            deployment::decide(&observed, now)
        })
        .report(move |key, now, failure| {
            let Some((deployment, replica_sets, pods)) = again(key) else { return Vec::new() };
            let observed = Observed { deployment: &deployment, replica_sets: &replica_sets, pods: &pods };
            deployment::report(&observed, now, failure, |name| named.get(&key.namespace, name))
        }))
}

fn informers(context: &Context) -> (Informer<Deployment>, Informer<ReplicaSet>, Informer<Pod>) {
    (context.informers.informer(), context.informers.informer(), context.informers.informer())
}

/// The Deployment that controls a ReplicaSet, or all that select one that nobody controls.
fn keys_of_set(deployments: &Informer<Deployment>, set: &ReplicaSet) -> Vec<Key> {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    match controller_of(&set.metadata) {
        Some(owner) if owner.kind == "Deployment" => vec![Key::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => {
            let mut all = deployments.list_in(namespace);
            all.retain(|one| Labels::from(&one.spec.selector).matches_map(set.metadata.labels.as_ref()));
            all.iter().map(|one| Key::of(&**one)).collect()
        }
    }
}

/// Only a Deployment that waits for its old pods' end looks at pods.
fn keys_of_pod(deployments: &Informer<Deployment>, sets: &Informer<ReplicaSet>, pod: &Pod) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let set = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet");
    let set = set.and_then(|owner| sets.get(namespace, &owner.name));
    let owner = set.as_ref().and_then(|set| controller_of(&set.metadata));
    let deployment = owner.and_then(|owner| deployments.get(namespace, &owner.name));
    let recreates = |deployment: &Deployment| {
        let strategy = deployment.spec.strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    };
    deployment.filter(|one| recreates(one)).map(|one| Key::of(&*one)).into_iter().collect()
}
