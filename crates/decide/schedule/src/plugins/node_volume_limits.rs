//! A driver attaches only so many volumes to a node.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::diagnosis::Reason;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::storage::{Attachable, Storage};

/// What a pod wants attached, as far as it is known before its claims are bound.
pub(crate) fn wanted(pod: &PodInfo, storage: &Storage) -> BTreeSet<Attachable> {
    let claims = pod.claims.iter().filter_map(|used| storage.claim(&pod.namespace, &used.name));
    claims.filter_map(|claim| attachable(claim, storage)).collect()
}

/// The volume of a claim; where there is none yet, the one that its class will make.
fn attachable(claim: &PersistentVolumeClaim, storage: &Storage) -> Option<Attachable> {
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if let Some(volume) = storage.volume(name) {
        return Attachable::of(&volume.object);
    }
    let class = storage.class(plimsoll_volume::claim_class(claim))?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let handle = format!("-{}/{}", text(&claim.metadata.namespace), text(&claim.metadata.name));
    Some(Attachable { driver: class.provisioner.clone(), handle })
}

/// `wanted` is [`wanted`] of the pod.
pub(crate) fn filter(
    wanted: &BTreeSet<Attachable>,
    snapshot: &Snapshot,
    node: &str,
) -> Result<(), Reason<'static>> {
    let storage = &snapshot.storage;
    let Some(limits) = storage.limits(node).filter(|_| !wanted.is_empty()) else { return Ok(()) };
    let mut all: BTreeSet<Attachable> = storage.attached(node).collect();
    for pod in snapshot.mounts().on(node) {
        all.extend(self::wanted(pod, storage));
    }
    let new: BTreeSet<&Attachable> = wanted.difference(&all).collect();
    let count = |driver: &str| all.iter().filter(|one| one.driver == driver).count();
    let mut coming: BTreeMap<&str, usize> = BTreeMap::new();
    new.iter().for_each(|one| *coming.entry(&one.driver).or_default() += 1);
    let exceeds = |(driver, more): (&&str, &usize)| {
        limits.get(*driver).is_some_and(|limit| count(driver) + more > *limit)
    };
    if coming.iter().any(exceeds) { Err(Reason::TooManyVolumes) } else { Ok(()) }
}
