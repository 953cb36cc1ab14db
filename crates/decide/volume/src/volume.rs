//! What a volume says.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use plimsoll_meta::quantity::Quantity;

use crate::annotation::{BETA_CLASS, PROVISIONED_BY};
use crate::local;

/// One of its annotations.
pub fn annotated<'a>(volume: &'a PersistentVolume, key: &str) -> Option<&'a str> {
    volume.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Its class, or "": the old annotation goes before the field.
pub fn volume_class(volume: &PersistentVolume) -> &str {
    let field = || volume.spec.as_ref()?.storage_class_name.as_deref();
    annotated(volume, BETA_CLASS).or_else(field).unwrap_or_default()
}

/// The class of its attributes, or "".
pub fn volume_attributes(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.volume_attributes_class_name.as_deref()).unwrap_or_default()
}

/// Its size, if it says one.
pub fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0.parse().ok()
}

/// Its phase, or "".
pub fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// What becomes of it without its claim.
pub fn reclaim_policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

/// Who made it, if a provisioner did.
pub fn provisioned_by(volume: &PersistentVolume) -> Option<&str> {
    annotated(volume, PROVISIONED_BY)
}

/// Whether it is a folder that the built-in provisioner asked a node for.
pub fn is_local(volume: &PersistentVolume) -> bool {
    provisioned_by(volume) == Some(local::PROVISIONER)
}

/// Whether it is bound to this claim, or kept for a claim of this name.
pub fn bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let known = reference.uid.as_deref().filter(|uid| !uid.is_empty());
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && known.is_none_or(|uid| claim.metadata.uid.as_deref() == Some(uid))
}

/// Whether both are files, or both a device.
pub fn same_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    const DEFAULT: &str = "Filesystem";
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or(DEFAULT);
    let offered = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or(DEFAULT);
    wanted == offered
}
