//! The volume that suits a claim
//! (k8s.io/component-helpers/storage/volume/pv_helpers.go and pkg/controller/volume/persistentvolume/index.go, v1.37).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use plimsoll_meta::quantity::Quantity;
use plimsoll_meta::selector::Labels;

use crate::claim::{claim_attributes, claim_class, modes, requested};
use crate::volume::{bound_to, capacity, same_mode, volume_attributes, volume_class, volume_phase};

/// Who looks for a volume.
pub enum Seeker<'a> {
    /// The binder; claims that wait for a pod get from it only what is kept for them.
    Binder {
        /// Whether the claim waits for its first pod.
        delayed: bool,
    },
    /// The scheduler, for a node: which volumes can be used there.
    Scheduler(&'a dyn Fn(&PersistentVolume) -> bool),
}

/// The volume that is kept for a claim, or else the smallest that suits it; of those with fewer access modes first.
pub fn find<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl Iterator<Item = &'a Arc<PersistentVolume>>,
    seeker: &Seeker<'_>,
) -> Option<&'a Arc<PersistentVolume>> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(Labels::from);
    let size = requested(claim);
    let offers = volumes.filter_map(|volume| {
        let kept = bound_to(volume, claim);
        let suits = could_be(volume, claim, &size, kept)
            && (kept || is_free(volume, claim, selector.as_ref()))
            && by_modes(volume, claim, kept, seeker);
        suits.then(|| (rank(volume, kept, seeker), volume))
    });
    let best = offers.min_by(|(one, _), (two, _)| one.cmp(two)).map(|(_, volume)| volume)?;
    match seeker {
        // What is kept for the claim is elsewhere, so the claim cannot be used here at all.
        Seeker::Scheduler(reaches) if bound_to(best, claim) && !reaches(best) => None,
        _ => Some(best),
    }
}

/// What even a volume that is kept for the claim must meet.
fn could_be(volume: &PersistentVolume, claim: &PersistentVolumeClaim, size: &Quantity, kept: bool) -> bool {
    let taken = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    (kept || !taken)
        && capacity(volume).is_some_and(|offered| offered >= *size)
        && same_mode(volume, claim)
        && volume.metadata.deletion_timestamp.is_none()
}

fn is_free(volume: &PersistentVolume, claim: &PersistentVolumeClaim, selector: Option<&Labels>) -> bool {
    volume_phase(volume) == "Available"
        && selector.is_none_or(|selector| selector.matches_map(volume.metadata.labels.as_ref()))
        && volume_class(volume) == claim_class(claim)
        && volume_attributes(volume) == claim_attributes(claim)
}

fn by_modes(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
    kept: bool,
    seeker: &Seeker<'_>,
) -> bool {
    match seeker {
        Seeker::Binder { delayed } => offers_modes(volume, claim) && (kept || !delayed),
        Seeker::Scheduler(reaches) => kept || (offers_modes(volume, claim) && reaches(volume)),
    }
}

fn offers_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered = offered_modes(volume);
    modes(claim).iter().all(|mode| offered.contains(mode))
}

fn offered_modes(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

fn rank(volume: &PersistentVolume, kept: bool, seeker: &Seeker<'_>) -> (usize, bool, Option<Quantity>) {
    let modes = match seeker {
        Seeker::Binder { .. } => offered_modes(volume).len(),
        Seeker::Scheduler(_) => 0,
    };
    (modes, !kept, capacity(volume))
}

/// Whether a volume that a claim names is good enough for it.
///
/// # Errors
/// Why it is not, in upstream's words.
pub fn satisfies(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    if volume.metadata.deletion_timestamp.is_some() {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        return Err(format!("the volume is marked for deletion {name:?}"));
    }
    let checks = [
        (capacity(volume).is_some_and(|offered| offered >= requested(claim)), "requested PV is too small"),
        (volume_class(volume) == claim_class(claim), "storageClassName does not match"),
        (volume_attributes(volume) == claim_attributes(claim), "volumeAttributesClassName does not match"),
        (same_mode(volume, claim), "incompatible volumeMode"),
        (offers_modes(volume, claim), "incompatible accessMode"),
    ];
    checks.into_iter().find(|(fine, _)| !fine).map_or(Ok(()), |(_, why)| Err(why.to_owned()))
}

#[cfg(test)]
mod tests;
