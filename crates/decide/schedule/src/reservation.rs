//! What is kept for claims until the API shows it, and how far that has come
//! (pkg/scheduler/framework/plugins/volumebinding/binder.go, v1.37).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use plimsoll_volume::annotation::SELECTED_NODE;
use plimsoll_volume::is_bound;

use crate::snapshot::Snapshot;

/// What is kept for a claim until the API shows it.
#[derive(Clone, Debug)]
pub enum Reservation {
    /// This volume.
    Bind {
        /// The claim.
        claim: Arc<PersistentVolumeClaim>,
        /// Its volume.
        volume: Arc<PersistentVolume>,
    },
    /// A volume that is to be made for this node.
    Provision {
        /// The claim.
        claim: Arc<PersistentVolumeClaim>,
        /// The node.
        node: String,
    },
}

impl Reservation {
    /// The claim.
    pub fn claim(&self) -> &Arc<PersistentVolumeClaim> {
        match self {
            Reservation::Bind { claim, .. } | Reservation::Provision { claim, .. } => claim,
        }
    }
}

/// How far a reservation has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The claim is bound.
    Bound,
    /// Others are at work.
    Waiting,
    /// It came to nothing.
    Failed(String),
}

impl Snapshot {
    /// How far reservations for a node have come. Each stands beside the version in which the API took it; what is
    /// known from before says nothing.
    pub fn progress(&self, reservations: &[(Reservation, u64)], node: &str) -> Progress {
        let mut all = Progress::Bound;
        for (reservation, version) in reservations {
            match self.progress_of(reservation, *version, node) {
                Ok(Progress::Bound) => {}
                Ok(waiting) => all = waiting,
                Err(why) => return Progress::Failed(why),
            }
        }
        all
    }

    fn progress_of(&self, reservation: &Reservation, version: u64, node: &str) -> Result<Progress, String> {
        let meta = &reservation.claim().metadata;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (namespace, name) = (text(&meta.namespace), text(&meta.name));
        let Some(claim) = self.storage.claim(&namespace, &name) else {
            let what = format!("could not find v1.PersistentVolumeClaim \"{namespace}/{name}\"");
            return Err(format!("failed to check binding: {what}"));
        };
        match reservation {
            Reservation::Bind { volume, .. } => {
                let name = volume.metadata.name.as_deref().unwrap_or_default();
                let Some(volume) = self.storage.volume(name) else {
                    return Err(format!(
                        "failed to check binding: could not find v1.PersistentVolume {name:?}"
                    ));
                };
                if revision(volume.object.metadata.resource_version.as_ref()) < version {
                    return Ok(Progress::Waiting);
                }
                let owner = volume.object.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
                if owner.is_none_or(|owner| owner.uid.as_deref().unwrap_or_default().is_empty()) {
                    return Err(format!("ClaimRef got reset for pv {name:?}"));
                }
            }
            Reservation::Provision { .. } => {
                if revision(claim.metadata.resource_version.as_ref()) < version {
                    return Ok(Progress::Waiting);
                }
                let selected = claim.metadata.annotations.as_ref().and_then(|all| all.get(SELECTED_NODE));
                // Whoever makes volumes takes the node away when it cannot.
                if selected.is_none_or(|selected| selected != node) {
                    return Err(format!("provisioning failed for PVC {name:?}"));
                }
            }
        }
        self.reaches(claim, node)?;
        Ok(if is_bound(claim) { Progress::Bound } else { Progress::Waiting })
    }

    fn reaches(&self, claim: &PersistentVolumeClaim, node: &str) -> Result<(), String> {
        let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        match (self.storage.volume(name), self.node(node)) {
            (Some(volume), Some(known)) if !volume.reaches(known) => Err(format!(
                "pv {name:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms"
            )),
            _ => Ok(()),
        }
    }
}

fn revision(text: Option<&String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
