//! Wires what keeps claims, volumes and attribute classes while somebody uses them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::api::ListParams;
use plimsoll_client::{Informer, Object as _};
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::protection::{self, Guard};
use plimsoll_volume::claims_of;

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

const ATTRIBUTES: &str = "attribute classes";

/// How long to wait when the server does not say which pods there are.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Claims.
pub(crate) fn claims(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    let pods = context.informers.informer::<Pod>();
    indexes::claims(&pods);
    let of_pod = claims.clone();
    let unit = unit.input(&claims, |claim| vec![Key::of(claim)]).input(&pods, move |pod| {
        // Pods matter only to claims that wait for them to go.
        let used = claims_of(pod).filter_map(|name| of_pod.get(pod.namespace(), &name));
        used.filter(|claim| Guard::Claim.holds(&claim.metadata)).map(|claim| Key::of(&*claim)).collect()
    });
    let client = context.client.clone();
    Ok(unit.decide_async(move |key, _| {
        let claim = claims.get(&key.namespace, &key.name);
        let (pods, client) = (pods.clone(), client.clone());
        async move {
            match claim {
                Some(claim) => decide_claim(&claim, &pods, client).await,
                None => Vec::new(),
            }
        }
    }))
}

async fn decide_claim(
    claim: &Arc<PersistentVolumeClaim>,
    pods: &Informer<Pod>,
    client: kube::Client,
) -> Vec<Action> {
    if !Guard::Claim.holds(&claim.metadata) {
        return Guard::Claim.decide(&**claim, true);
    }
    let known = indexes::using(pods, claim.namespace(), claim.name());
    if known.iter().any(|pod| protection::uses(pod, claim)) {
        return Vec::new();
    }
    // The cache may not know a pod yet that has just come to its node.
    let all = kube::Api::<Pod>::namespaced(client, claim.namespace());
    match all.list(&ListParams::default()).await {
        Ok(all) => Guard::Claim.decide(&**claim, all.iter().any(|pod| protection::uses(pod, claim))),
        Err(_) => vec![Action::RequeueAfter(RETRY)],
    }
}

/// Volumes.
pub(crate) fn volumes(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let volumes = context.informers.informer::<PersistentVolume>();
    let unit = unit.input(&volumes, |volume| vec![Key::of(volume)]);
    Ok(unit.decide(move |key, _| {
        let Some(volume) = volumes.get("", &key.name) else { return Vec::new() };
        Guard::Volume.decide(&*volume, protection::is_in_use(&volume))
    }))
}

/// Attribute classes.
pub(crate) fn attributes(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let classes = context.informers.informer::<VolumeAttributesClass>();
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    let volumes = context.informers.informer::<PersistentVolume>();
    claims.add_index(ATTRIBUTES, protection::attributes_of_claim);
    volumes.add_index(ATTRIBUTES, protection::attributes_of_volume);
    let keys = |names: Vec<String>| names.iter().map(|name| Key::new("", name)).collect();
    let unit = unit
        .input(&classes, |class| vec![Key::of(class)])
        .input(&claims, move |claim| keys(protection::attributes_of_claim(claim)))
        .input(&volumes, move |volume| keys(protection::attributes_of_volume(volume)));
    Ok(unit.decide(move |key, _| {
        let Some(class) = classes.get("", &key.name) else { return Vec::new() };
        let used = !claims.indexed(ATTRIBUTES, &key.name).is_empty()
            || !volumes.indexed(ATTRIBUTES, &key.name).is_empty();
        Guard::Attributes.decide(&*class, used)
    }))
}
