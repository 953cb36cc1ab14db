//! What becomes of a volume.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use plimsoll_volume::annotation::MIGRATED_TO;
use plimsoll_volume::{annotated, provisioned_by, reclaim_policy, same_mode, volume_phase};
use serde_json::json;

use super::write::{unbind, volume_status};
use crate::action::{Action, Severity};

/// A volume and the claim that it is bound to.
pub struct Volume<'a> {
    /// The volume.
    pub volume: &'a PersistentVolume,
    /// The claim that has the name and the id that the volume knows.
    pub claim: Option<&'a PersistentVolumeClaim>,
}

/// Whether the volume was released before: then nobody need ask again whether its claim is really gone.
pub fn settled(volume: &PersistentVolume) -> bool {
    matches!(volume_phase(volume), "Released" | "Failed")
}

/// What to do about a volume.
pub fn decide(observed: &Volume<'_>) -> Vec<Action> {
    let volume = observed.volume;
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if reference.is_none_or(|claim| claim.uid.as_deref().unwrap_or_default().is_empty()) {
        return volume_status(volume, "Available").into_iter().collect();
    }
    let Some(claim) = observed.claim else { return release(volume) };
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    // No claim is given a volume that goes: it is freed, so that nothing holds it, as if the claim had another.
    let goes = volume.metadata.deletion_timestamp.is_some();
    if name.is_empty() && !(goes && volume_phase(volume) == "Bound") {
        // The claim's own decision completes the binding.
        return if same_mode(volume, claim) { Vec::new() } else { mismatch(volume, claim) };
    }
    if Some(name) == volume.metadata.name.as_deref() {
        return volume_status(volume, "Bound").into_iter().collect();
    }
    match provisioned_by(volume).is_some() && reclaim_policy(volume) == "Delete" {
        true => release(volume),
        false => unbind(volume),
    }
}

fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Vec<Action> {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let (of_volume, of_claim) = (name(&volume.metadata.name), name(&claim.metadata.name));
    let why = "due to incompatible volumeMode.";
    let to_volume =
        format!("Cannot bind PersistentVolume to requested PersistentVolumeClaim {of_claim:?} {why}");
    let to_claim =
        format!("Cannot bind PersistentVolume {of_volume:?} to requested PersistentVolumeClaim {why}");
    vec![
        Action::event(volume, Severity::Warning, "VolumeMismatch", to_volume),
        Action::event(claim, Severity::Warning, "VolumeMismatch", to_claim),
    ]
}

/// Its claim is gone.
fn release(volume: &PersistentVolume) -> Vec<Action> {
    let mut actions = Vec::new();
    if !settled(volume) {
        actions.extend(volume_status(volume, "Released"));
    }
    if annotated(volume, MIGRATED_TO).is_none_or(str::is_empty) {
        actions.extend(reclaim(volume));
    }
    actions
}

fn reclaim(volume: &PersistentVolume) -> Vec<Action> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    match reclaim_policy(volume) {
        "Retain" => Vec::new(),
        // Whoever made it takes it away.
        "Delete" if provisioned_by(volume).is_some_and(|by| !by.starts_with("kubernetes.io/")) => Vec::new(),
        "Delete" => {
            let why = match provisioned_by(volume) {
                Some(by) => format!("no volume plugin matched name: {by}"),
                None => {
                    format!(
                        "error getting deleter volume plugin for volume {name:?}: no volume plugin matched"
                    )
                }
            };
            fail(volume, "VolumeFailedDelete", why)
        }
        "Recycle" => {
            fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned())
        }
        _ => fail(
            volume,
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned(),
        ),
    }
}

fn fail(volume: &PersistentVolume, reason: &'static str, why: String) -> Vec<Action> {
    if volume_phase(volume) == "Failed" {
        return Vec::new();
    }
    let told = Action::event(volume, Severity::Warning, reason, why.clone());
    let failed = match volume_status(volume, "Failed") {
        Some(Action::Patch(mut patch)) => {
            patch.body["status"]["message"] = json!(why);
            Some(Action::Patch(patch))
        }
        other => other,
    };
    failed.into_iter().chain([told]).collect()
}
