//! Wires the StatefulSet controller.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use plimsoll_client::{Informer, Object as _};
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::owner::controller_of;
use plimsoll_reconcile::stateful_set::{self, Observed};

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let sets = context.informers.informer::<StatefulSet>();
    let pods = context.informers.informer::<Pod>();
    let revisions = context.informers.informer::<ControllerRevision>();
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    indexes::orphans(&pods);
    indexes::orphans(&revisions);
    let (of_pod, of_claim) = (sets.clone(), sets.clone());
    let unit = unit
        .input(&sets, |set| vec![Key::of(set)])
        .input(&pods, move |pod| keys_of_pod(&of_pod, pod))
        .input(&revisions, keys_of_revision)
        .input(&claims, move |claim| keys_of_claim(&of_claim, claim));
    let named = revisions.clone();
    let observe = move |key: &Key, look: &mut dyn FnMut(&Observed<'_>) -> Vec<Action>| {
        let Some(set) = sets.get(&key.namespace, &key.name) else { return Vec::new() };
        let pods = indexes::claimable(&pods, &set.metadata);
        let revisions = indexes::claimable(&revisions, &set.metadata);
        let claim = |name: &str| claims.get(&key.namespace, name);
        look(&Observed { set: &set, pods: &pods, revisions: &revisions, claim: &claim })
    };
    let again = observe.clone();
    Ok(unit.decide(move |key, now| observe(key, &mut |observed| stateful_set::decide(observed, now))).report(
        move |key, now, failure| {
            let named = |name: &str| named.get(&key.namespace, name);
            again(key, &mut |observed| stateful_set::report(observed, now, failure, named))
        },
    ))
}

/// The set for whose pod a claim is: a pod may wait for the end of what had its claim's name.
fn keys_of_claim(sets: &Informer<StatefulSet>, claim: &PersistentVolumeClaim) -> Vec<Key> {
    let all = sets.list_in(claim.namespace());
    let is_of = |set: &StatefulSet| stateful_set::has_claim(set, claim.name());
    all.iter().filter(|set| is_of(set)).map(|set| Key::of(&**set)).collect()
}

fn keys_of_pod(sets: &Informer<StatefulSet>, pod: &Pod) -> Vec<Key> {
    match controller_of(&pod.metadata) {
        Some(owner) if owner.kind == "StatefulSet" => vec![Key::new(pod.namespace(), &owner.name)],
        Some(_) => Vec::new(),
        None => {
            let mut all = sets.list_in(pod.namespace());
            all.retain(|set| Labels::from(&set.spec.selector).matches_map(pod.metadata.labels.as_ref()));
            all.iter().map(|set| Key::of(&**set)).collect()
        }
    }
}

fn keys_of_revision(revision: &ControllerRevision) -> Vec<Key> {
    let owner = controller_of(&revision.metadata).filter(|owner| owner.kind == "StatefulSet");
    owner.map(|owner| Key::new(revision.namespace(), &owner.name)).into_iter().collect()
}
