//! Indexes that several controllers share.

use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_client::{Informer, Object};
use plimsoll_reconcile::pod;

const ORPHANS: &str = "orphans by namespace";
const NODE: &str = "node";
const CLAIMS: &str = "claims";

/// Keeps objects without a controller findable by namespace.
pub(crate) fn orphans<K: Object>(informer: &Informer<K>) {
    informer.add_index(ORPHANS, |object| match object.controller_uid() {
        Some(_) => Vec::new(),
        None => vec![object.namespace().to_owned()],
    });
}

/// An owner's objects, and those of its namespace that nobody controls.
pub(crate) fn claimable<K>(informer: &Informer<K>, owner: &ObjectMeta) -> Vec<Arc<K>>
where
    K: Object + Metadata<Ty = ObjectMeta>,
{
    let mut objects = informer.owned_by(owner.uid.as_deref().unwrap_or_default());
    objects.extend(informer.indexed(ORPHANS, owner.namespace.as_deref().unwrap_or_default()));
    objects
}

/// Keeps pods findable by node.
pub(crate) fn nodes(informer: &Informer<Pod>) {
    informer.add_index(NODE, |pod| {
        Some(pod::node(pod)).filter(|name| !name.is_empty()).map(str::to_owned).into_iter().collect()
    });
}

/// The pods of a node.
pub(crate) fn on_node(informer: &Informer<Pod>, node: &str) -> Vec<Arc<Pod>> {
    informer.indexed(NODE, node)
}

/// Keeps pods findable by the claims that they use.
pub(crate) fn claims(informer: &Informer<Pod>) {
    informer.add_index(CLAIMS, |pod| {
        plimsoll_volume::claims_of(pod).map(|name| format!("{}/{name}", pod.namespace())).collect()
    });
}

/// The pods that use a claim of this name.
pub(crate) fn using(informer: &Informer<Pod>, namespace: &str, claim: &str) -> Vec<Arc<Pod>> {
    informer.indexed(CLAIMS, &format!("{namespace}/{claim}"))
}
