//! Which claims a pod uses.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};

/// The claim behind a volume of a pod, and whether it is the pod's own.
pub fn claim_name(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), false));
    }
    volume.ephemeral.as_ref()?;
    Some((format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name), true))
}

/// Names of all claims behind a pod's volumes.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| claim_name(pod, volume).map(|(name, _)| name))
}

/// Whether a claim is the pod's own.
///
/// # Errors
/// That it is not, in upstream's words.
pub fn is_for_pod(pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    if controllers.any(|owner| pod.metadata.uid.as_ref() == Some(&owner.uid)) {
        return Ok(());
    }
    let place = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", text(&meta.namespace), text(&meta.name))
    };
    let (claim, pod) = (place(&claim.metadata), place(&pod.metadata));
    Err(format!("PVC {claim} was not created for pod {pod} (pod is not owner)"))
}
