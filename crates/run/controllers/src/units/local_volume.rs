//! Wires the built-in provisioner.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use plimsoll_client::Object as _;
use plimsoll_reconcile::local_volume::{
    Claim, decide_claim, decide_volume, is_called, node_of, selected_node, volume_name,
};
use plimsoll_volume::{claim_class, is_local};

use crate::unit::{Key, Unit};
use crate::{Context, Error};

const NODE: &str = "local volumes by node";

/// A claim whose volume goes before it is bound gets another.
fn keys_of_volume(volume: &PersistentVolume) -> Vec<Key> {
    if !is_local(volume) {
        return Vec::new();
    }
    let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let claim = claim.and_then(|claim| Some(Key::new(claim.namespace.as_deref()?, claim.name.as_deref()?)));
    std::iter::once(Key::of(volume)).chain(claim).collect()
}

/// Keys of claims have a namespace, those of volumes have none.
pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    let volumes = context.informers.informer::<PersistentVolume>();
    let classes = context.informers.informer::<StorageClass>();
    let nodes = context.informers.informer::<Node>();
    volumes.add_index(NODE, |volume| match is_local(volume) {
        true => node_of(volume).map(str::to_owned).into_iter().collect(),
        false => Vec::new(),
    });
    let (of_node, present) = (volumes.clone(), nodes.clone());
    let unit = unit
        .input(&claims, |claim| if is_called(claim) { vec![Key::of(claim)] } else { Vec::new() })
        .input(&volumes, keys_of_volume)
        .input(&nodes, move |node| match present.get("", node.name()) {
            Some(_) => Vec::new(),
            None => of_node.indexed(NODE, node.name()).iter().map(|volume| Key::of(&**volume)).collect(),
        })
        .reads(&classes);
    Ok(unit.decide(move |key, _| {
        if key.namespace.is_empty() {
            let Some(volume) = volumes.get("", &key.name) else { return Vec::new() };
            let has_node = node_of(&volume).is_some_and(|node| nodes.get("", node).is_some());
            return decide_volume(&volume, has_node);
        }
        let Some(claim) = claims.get(&key.namespace, &key.name) else { return Vec::new() };
        let node: Option<Arc<Node>> = selected_node(&claim).and_then(|name| nodes.get("", name));
        decide_claim(&Claim {
            claim: &claim,
            class: classes.get("", claim_class(&claim)).as_deref(),
            node: node.as_deref(),
            is_made: volumes.get("", &volume_name(&claim)).is_some(),
        })
    }))
}
