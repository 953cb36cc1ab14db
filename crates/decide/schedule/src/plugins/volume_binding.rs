//! A pod goes where its claims' volumes are, or can be made.

use std::cmp::Ordering;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use plimsoll_volume::{Seeker, claim_class, claim_phase, delays, find, is_bound, requested};

use crate::diagnosis::Reason;
use crate::node::Node;
use crate::pod::PodInfo;
use crate::reservation::Reservation;
use crate::storage::{Storage, Volume};

/// Classes whose volumes are only ever made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What a pod's claims need, apart from the node.
pub(crate) struct Plan<'s> {
    storage: &'s Storage,
    bound: Vec<Option<&'s Volume>>,
    /// The smallest first, so that none takes a volume that a larger one needs.
    open: Vec<Open>,
}

/// A claim that waits for its pod's node, and the volumes that it could get.
struct Open {
    claim: Arc<PersistentVolumeClaim>,
    offers: Vec<Arc<PersistentVolume>>,
}

impl<'s> Plan<'s> {
    /// Looks at all claims of a pod.
    ///
    /// # Errors
    /// Why the pod can go nowhere now, in upstream's words.
    pub(crate) fn of(pod: &PodInfo, storage: &'s Storage) -> Result<Self, String> {
        let claims = claims(pod, storage)?;
        let mut plan = Plan { storage, bound: Vec::new(), open: Vec::new() };
        let mut waits_for_binder = false;
        for claim in claims {
            let spec = claim.spec.as_ref();
            let named = spec.and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
            if is_bound(claim) {
                plan.bound.push(storage.volume(named));
            } else if named.is_empty() && storage.class(claim_class(claim)).is_some_and(|class| delays(class))
            {
                plan.open.push(Open { claim: claim.clone(), offers: storage.offers(claim) });
            } else {
                waits_for_binder = true;
            }
        }
        if waits_for_binder {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        plan.open.sort_by(|one, two| {
            requested(&one.claim).partial_cmp(&requested(&two.claim)).unwrap_or(Ordering::Equal)
        });
        Ok(plan)
    }

    /// The volumes that claims of the pod are bound to.
    pub(crate) fn bound(&self) -> impl Iterator<Item = &'s Volume> {
        self.bound.iter().copied().flatten()
    }

    /// Why a node cannot be taken.
    pub(crate) fn filter(&self, node: &Node) -> Vec<Reason<'static>> {
        if self.bound.iter().any(Option::is_none) {
            return vec![Reason::VolumeGone];
        }
        let mut reasons = Vec::new();
        if self.bound.iter().flatten().any(|volume| !volume.reaches(node)) {
            reasons.push(Reason::VolumeElsewhere);
        }
        reasons.extend(self.reserve(node).err());
        reasons
    }

    /// What is to be kept for the pod on a node.
    pub(crate) fn reserve(&self, node: &Node) -> Result<Vec<Reservation>, Reason<'static>> {
        let mut taken: Vec<&Arc<PersistentVolume>> = Vec::new();
        let mut reservations = Vec::new();
        for open in &self.open {
            let claim = &open.claim;
            if let Some(volume) = self.storage.kept_for(claim) {
                // Another pod brought this about; both must go where the volume is.
                if !volume.reaches(node) {
                    return Err(Reason::NoVolume);
                }
                let volume = volume.object.clone();
                reservations.push(Reservation::Bind { claim: claim.clone(), volume });
                continue;
            }
            let selected = self.storage.selected_for(claim);
            if selected.is_some_and(|selected| selected != node.name) {
                return Err(Reason::NoVolume);
            }
            if selected.is_none()
                && let Some(volume) = self.choose(open, &taken, node)
            {
                taken.push(volume);
                reservations.push(Reservation::Bind { claim: claim.clone(), volume: volume.clone() });
                continue;
            }
            self.provisionable(claim, node)?;
            reservations.push(Reservation::Provision { claim: claim.clone(), node: node.name.clone() });
        }
        Ok(reservations)
    }

    fn choose<'a>(
        &self,
        open: &'a Open,
        taken: &[&Arc<PersistentVolume>],
        node: &Node,
    ) -> Option<&'a Arc<PersistentVolume>> {
        let reaches = |volume: &PersistentVolume| {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            self.storage.volume(name).is_some_and(|volume| volume.reaches(node))
        };
        let free = open.offers.iter().filter(|volume| !taken.iter().any(|other| Arc::ptr_eq(other, volume)));
        find(&open.claim, free, &Seeker::Scheduler(&reaches))
    }

    fn provisionable(&self, claim: &PersistentVolumeClaim, node: &Node) -> Result<(), Reason<'static>> {
        let class = self.storage.class(claim_class(claim)).ok_or(Reason::NoVolume)?;
        if class.provisioner == NO_PROVISIONER || !allows(class, node) {
            return Err(Reason::NoVolume);
        }
        if self.storage.has_room(class, claim, node) { Ok(()) } else { Err(Reason::NoRoom) }
    }
}

/// All claims of a pod, if they are there and usable.
fn claims<'s>(pod: &PodInfo, storage: &'s Storage) -> Result<Vec<&'s Arc<PersistentVolumeClaim>>, String> {
    let used = pod.claims.iter().map(|used| {
        let name = &used.name;
        let Some(claim) = storage.claim(&pod.namespace, name) else {
            return Err(match used.own {
                true => format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                ),
                false => format!("persistentvolumeclaim {name:?} not found"),
            });
        };
        if claim_phase(claim) == "Lost" {
            let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
            return Err(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
            ));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        match used.own && !is_owner(pod, claim) {
            true => Err(format!(
                "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                pod.namespace, pod.namespace, pod.name
            )),
            false => Ok(claim),
        }
    });
    used.collect()
}

fn is_owner(pod: &PodInfo, claim: &PersistentVolumeClaim) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.controller == Some(true) && *owner.uid == *pod.uid)
}

/// Whether a class allows volumes for a node.
fn allows(class: &StorageClass, node: &Node) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty()
        || terms.iter().any(|term| {
            let expressions = term.match_label_expressions.as_deref().unwrap_or_default();
            !expressions.is_empty()
                && expressions
                    .iter()
                    .all(|one| node.labels.get(&one.key).is_some_and(|value| one.values.contains(value)))
        })
}
