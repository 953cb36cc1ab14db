//! Wires the ReplicationController controller.

use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use plimsoll_client::Informer;
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::owner::controller_of;
use plimsoll_reconcile::replicas::{self, Observed, ReplicaOwner};

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let controllers = context.informers.informer::<ReplicationController>();
    let pods = context.informers.informer::<Pod>();
    indexes::orphans(&pods);
    let of_pod = controllers.clone();
    let unit = unit
        .input(&controllers, |controller| vec![Key::of(controller)])
        .input(&pods, move |pod| keys_of_pod(&of_pod, pod));
    let observe = move |key: &Key| {
        let controller = controllers.get(&key.namespace, &key.name)?;
        let own = indexes::claimable(&pods, &controller.metadata);
        Some((ReplicaOwner::from(&*controller), own))
    };
    let again = observe.clone();
    Ok(unit
        .decide(move |key, now| {
            let Some((owner, pods)) = observe(key) else { return Vec::new() };
            replicas::decide(&Observed { owner: &owner, pods: &pods, related: &pods }, now)
        })
        .report(move |key, now, failure| {
            let Some((owner, pods)) = again(key) else { return Vec::new() };
            replicas::report(&Observed { owner: &owner, pods: &pods, related: &pods }, now, failure)
        }))
}

fn keys_of_pod(controllers: &Informer<ReplicationController>, pod: &Pod) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match controller_of(&pod.metadata) {
        Some(owner) if owner.kind == "ReplicationController" => vec![Key::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => {
            let selects = |one: &ReplicationController| {
                let selector = one.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                selector
                    .is_some_and(|labels| Labels::from_map(labels).matches_map(pod.metadata.labels.as_ref()))
            };
            let mut all = controllers.list_in(namespace);
            all.retain(|one| selects(one));
            all.iter().map(|one| Key::of(&**one)).collect()
        }
    }
}
