//! What a claim says.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use plimsoll_meta::quantity::Quantity;

use crate::annotation::BETA_CLASS;

/// Its class, or "": the old annotation goes before the field.
pub fn claim_class(claim: &PersistentVolumeClaim) -> &str {
    old_class(claim).or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref()).unwrap_or_default()
}

/// Whether it says anything about its class, be it that it wants none.
pub fn has_class(claim: &PersistentVolumeClaim) -> bool {
    old_class(claim).is_some() || claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some())
}

fn old_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.metadata.annotations.as_ref()?.get(BETA_CLASS).map(String::as_str)
}

/// The class of its volume's attributes, or "".
pub fn claim_attributes(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    spec.and_then(|spec| spec.volume_attributes_class_name.as_deref()).unwrap_or_default()
}

/// The size it asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let asked =
        claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
    asked.and_then(|text| text.0.parse().ok()).unwrap_or_else(|| Quantity::from_units(0))
}

/// The access modes it asks for.
pub fn modes(claim: &PersistentVolumeClaim) -> &[String] {
    claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

/// Its phase, or "".
pub fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether its binding was carried through, as far as the claim itself knows.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    let named = spec.and_then(|spec| spec.volume_name.as_deref()).is_some_and(|name| !name.is_empty());
    let completed = claim.metadata.annotations.as_ref();
    named && completed.is_some_and(|all| all.contains_key(crate::annotation::BIND_COMPLETED))
}
