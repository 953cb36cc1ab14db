//! From a volume's claim to its PersistentVolume (kubelet: the desired state of world populator).

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use super::{Mode, Reference, Source};
use crate::spec::specs;

/// The name of the PersistentVolume that a claim is bound to.
///
/// # Errors
/// Why the claim leads nowhere, or not for this pod.
pub fn bound<'a>(
    pod: &Pod,
    reference: &Reference,
    claim: &'a PersistentVolumeClaim,
) -> Result<&'a str, String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let namespace = text(&pod.metadata.namespace);
    let failed = |why: &str| format!("error processing PVC {namespace}/{}: {why}", reference.claim);
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(failed("PVC is being deleted"));
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err(failed("PVC is not bound"));
    }
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    let owned = controllers.any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref());
    if reference.owned && !owned {
        let pod = text(&pod.metadata.name);
        return Err(format!(
            "PVC {namespace}/{} was not created for pod {namespace}/{pod} (pod is not owner)",
            reference.claim
        ));
    }
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    name.filter(|name| !name.is_empty()).ok_or_else(|| failed("PVC has empty pvc.Spec.VolumeName"))
}

/// Checks that a PersistentVolume belongs to the claim.
///
/// # Errors
/// When it belongs to nobody or to another one.
pub fn belongs(
    pod: &Pod,
    reference: &Reference,
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Result<(), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let failed = |why: String| Err(format!("error processing PVC {namespace}/{}: {why}", reference.claim));
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let Some(owner) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return failed(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    if owner.uid != claim.metadata.uid {
        let (has, wants) = (owner.uid.as_deref(), claim.metadata.uid.as_deref());
        return failed(format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {} does not point to claim.UID {}",
            has.unwrap_or_default(),
            wants.unwrap_or_default()
        ));
    }
    Ok(())
}

/// Checks that containers use a volume as what it is.
///
/// # Errors
/// When one mounts a device, or takes a folder for one.
pub fn fits(pod: &Pod, volume: &str, source: &Source) -> Result<(), String> {
    let all = specs(pod);
    let mounted = all
        .iter()
        .any(|spec| spec.container.volume_mounts.iter().flatten().any(|mount| mount.name == volume));
    let passed = all
        .iter()
        .any(|spec| spec.container.volume_devices.iter().flatten().any(|device| device.name == volume));
    match source.mode {
        Mode::Block if mounted => {
            Err(format!("volume {volume} has volumeMode Block, but is specified in volumeMounts"))
        }
        Mode::Filesystem if passed => {
            Err(format!("volume {volume} has volumeMode Filesystem, but is specified in volumeDevices"))
        }
        _ => Ok(()),
    }
}
