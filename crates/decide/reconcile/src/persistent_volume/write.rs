//! The writes of a binding.

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
    PersistentVolumeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_volume::annotation::{BIND_COMPLETED, BOUND_BY_CONTROLLER, PRE_RESIZE_CAPACITY};
use plimsoll_volume::{annotated, bound_to, capacity, claim_phase, volume_phase};
use serde::Serialize;
use serde_json::{Value, json};

use crate::action::{Action, Patch, Target, difference};

/// Binds both to each other, as far as they are not yet.
pub(super) fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Vec<Action> {
    let steps = [
        volume_to_claim(volume, claim),
        volume_status(volume, "Bound"),
        claim_to_volume(claim, volume),
        claim_status(claim, "Bound", Some(volume)),
    ];
    steps.into_iter().flatten().collect()
}

/// The volume names the claim.
fn volume_to_claim(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Action> {
    let reference = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    };
    let known = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let names = |known: &ObjectReference| {
        known.uid == reference.uid && known.name == reference.name && known.namespace == reference.namespace
    };
    let mut body = json!({});
    if !known.is_some_and(names) {
        body["spec"]["claimRef"] = json!(reference);
    }
    if !bound_to(volume, claim) && annotated(volume, BOUND_BY_CONTROLLER).is_none() {
        body["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
    }
    (body != json!({})).then(|| Action::patch(volume, body))
}

/// The claim names the volume.
fn claim_to_volume(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<Action> {
    let known = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let annotated = |key: &str| claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(key));
    let mut body = json!({});
    if known != volume.metadata.name.as_deref() {
        body["spec"]["volumeName"] = json!(volume.metadata.name);
        if !annotated(BOUND_BY_CONTROLLER) {
            body["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
    }
    if !annotated(BIND_COMPLETED) {
        body["metadata"]["annotations"][BIND_COMPLETED] = json!("yes");
    }
    (body != json!({})).then(|| Action::patch(claim, body))
}

/// The volume is free again: of what users wrote themselves only the claim's id is taken away.
pub(super) fn unbind(volume: &PersistentVolume) -> Vec<Action> {
    let body = match annotated(volume, BOUND_BY_CONTROLLER) {
        Some(_) => {
            json!({"spec": {"claimRef": null}, "metadata": {"annotations": {BOUND_BY_CONTROLLER: null}}})
        }
        None => json!({"spec": {"claimRef": {"uid": null}}}),
    };
    [Some(Action::patch(volume, body)), volume_status(volume, "Available")].into_iter().flatten().collect()
}

/// The volume's phase.
pub(super) fn volume_status(volume: &PersistentVolume, phase: &str) -> Option<Action> {
    if volume_phase(volume) == phase {
        return None;
    }
    let old = volume.status.clone().unwrap_or_default();
    let new = PersistentVolumeStatus { phase: Some(phase.to_owned()), message: None, ..old.clone() };
    status(volume, &old, &new)
}

/// The claim's phase, and what it has of a volume.
pub(super) fn claim_status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Option<Action> {
    let old = claim.status.clone().unwrap_or_default();
    let mut new = PersistentVolumeClaimStatus { phase: Some(phase.to_owned()), ..old.clone() };
    new.access_modes = volume.and_then(|volume| volume.spec.as_ref()?.access_modes.clone());
    match volume {
        None => new.capacity = None,
        // Later the size may differ on purpose: files may lag behind the device.
        Some(volume) if claim_phase(claim) != phase => {
            let attributes = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
            new.current_volume_attributes_class_name = attributes.filter(|name| !name.is_empty());
            let mut offered = volume.spec.as_ref().and_then(|spec| spec.capacity.clone());
            if let (Some(before), Some(offered)) = (annotated(volume, PRE_RESIZE_CAPACITY), &mut offered)
                && capacity(volume).is_some()
            {
                offered.insert(
                    "storage".to_owned(),
                    k8s_openapi::apimachinery::pkg::api::resource::Quantity(before.to_owned()),
                );
            }
            new.capacity = offered;
        }
        Some(_) => {}
    }
    status(claim, &old, &new)
}

/// The change of a status. It belongs to this very object, of whichever version: what this decision wrote
/// before has made a new one.
fn status<K, S>(object: &K, old: &S, new: &S) -> Option<Action>
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
    S: Serialize,
{
    let value = |status: &S| serde_json::to_value(status).unwrap_or(Value::Null);
    let change = difference(&value(old), &value(new))?;
    let body = json!({"metadata": {"uid": object.metadata().uid}, "status": change});
    let target = Target::of(object);
    Some(Action::Patch(Box::new(Patch { target, subresource: Some("status"), body, guard: None })))
}
