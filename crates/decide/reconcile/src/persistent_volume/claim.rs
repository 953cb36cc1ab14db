//! What becomes of a claim.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use plimsoll_volume::annotation::{
    BETA_STORAGE_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, SELECTED_NODE, STORAGE_PROVISIONER,
};
use plimsoll_volume::{Seeker, bound_to, claim_class, claim_phase, delays, find, has_class, satisfies};
use serde_json::json;

use super::write::{bind, claim_status};
use crate::action::{Action, Severity};

/// A claim, and what it may be bound to.
pub struct Claim<'a> {
    /// The claim.
    pub claim: &'a PersistentVolumeClaim,
    /// Finds a volume by name.
    pub volume: &'a dyn Fn(&str) -> Option<Arc<PersistentVolume>>,
    /// All volumes that no other claim has.
    pub free: &'a dyn Fn() -> Vec<Arc<PersistentVolume>>,
    /// Finds a class by name.
    pub class: &'a dyn Fn(&str) -> Option<Arc<StorageClass>>,
    /// The class of claims that name none.
    pub default: &'a dyn Fn() -> Option<Arc<StorageClass>>,
    /// Names of pods that use the claim and are on no node yet.
    pub waiting: &'a dyn Fn() -> Vec<String>,
}

/// What to do about a claim.
pub fn decide(observed: &Claim<'_>) -> Vec<Action> {
    let claim = observed.claim;
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    match (annotation(claim, BIND_COMPLETED).is_some(), named) {
        (false, "") => observed.unbound(),
        (false, name) => observed.asking_for(name),
        (true, "") => lost(
            claim,
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (true, name) => observed.bound(name),
    }
}

fn annotation<'a>(claim: &'a PersistentVolumeClaim, key: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn lost(claim: &PersistentVolumeClaim, reason: &'static str, message: &str) -> Vec<Action> {
    if claim_phase(claim) == "Lost" {
        return Vec::new();
    }
    let told = Action::event(claim, Severity::Warning, reason, message);
    claim_status(claim, "Lost", None).into_iter().chain([told]).collect()
}

impl Claim<'_> {
    /// Its user does not care which volume it gets.
    fn unbound(&self) -> Vec<Action> {
        let claim = self.claim;
        let class = Some(claim_class(claim)).filter(|name| !name.is_empty()).and_then(self.class);
        let delayed = class.as_ref().is_some_and(|class| delays(class));
        let free = (self.free)();
        if let Some(volume) = find(claim, free.iter(), &Seeker::Binder { delayed }) {
            return bind(volume, claim);
        }
        if !has_class(claim)
            && let Some(default) = (self.default)()
        {
            let name = default.metadata.name.as_deref();
            return vec![Action::patch(claim, json!({"spec": {"storageClassName": name}}))];
        }
        if delayed && annotation(claim, SELECTED_NODE).is_none() {
            return self.pending(self.waits_for());
        }
        if claim_class(claim).is_empty() {
            let why = "no persistent volumes available for this claim and no storage class is set";
            return self.pending(self.tell(Severity::Normal, "FailedBinding", why));
        }
        self.provision(class)
    }

    fn tell(&self, severity: Severity, reason: &'static str, message: impl Into<String>) -> Action {
        Action::event(self.claim, severity, reason, message)
    }

    fn pending(&self, told: Action) -> Vec<Action> {
        std::iter::once(told).chain(claim_status(self.claim, "Pending", None)).collect()
    }

    fn waits_for(&self) -> Action {
        let mut pods = (self.waiting)();
        pods.sort();
        let message = match pods.as_slice() {
            [] => {
                let why = "waiting for first consumer to be created before binding";
                return self.tell(Severity::Normal, "WaitForFirstConsumer", why);
            }
            [one] => format!("waiting for pod {one} to be scheduled"),
            several => format!("waiting for pods {} to be scheduled", several.join(",")),
        };
        self.tell(Severity::Normal, "WaitForPodScheduled", message)
    }

    /// Calls on the class' provisioner.
    fn provision(&self, class: Option<Arc<StorageClass>>) -> Vec<Action> {
        let Some(class) = class else {
            let why = format!("storageclass.storage.k8s.io {:?} not found", claim_class(self.claim));
            return vec![self.tell(Severity::Warning, "ProvisioningFailed", why)];
        };
        let name = class.provisioner.as_str();
        if name.starts_with("kubernetes.io/") {
            let why = format!("no volume plugin matched name: {name}");
            return vec![self.tell(Severity::Warning, "ProvisioningFailed", why)];
        }
        let called = [STORAGE_PROVISIONER, BETA_STORAGE_PROVISIONER];
        let known = called.iter().all(|key| annotation(self.claim, key) == Some(name));
        let call = (!known).then(|| {
            let all = json!({STORAGE_PROVISIONER: name, BETA_STORAGE_PROVISIONER: name});
            Action::patch(self.claim, json!({"metadata": {"annotations": all}}))
        });
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{name}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running \
             and correctly registered."
        );
        // The built-in provisioner cannot be missing.
        let external = name != plimsoll_volume::local::PROVISIONER;
        let told = external.then(|| self.tell(Severity::Normal, "ExternalProvisioning", message));
        call.into_iter().chain(told).collect()
    }

    /// Its user, or a provisioner, names a volume.
    fn asking_for(&self, name: &str) -> Vec<Action> {
        let claim = self.claim;
        let Some(volume) = (self.volume)(name) else {
            return claim_status(claim, "Pending", None).into_iter().collect();
        };
        if volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none()) {
            return match satisfies(&volume, claim) {
                Ok(()) => bind(&volume, claim),
                Err(why) => {
                    let why = format!("Cannot bind to requested volume {name:?}: {why}");
                    self.pending(self.tell(Severity::Warning, "VolumeMismatch", why))
                }
            };
        }
        if bound_to(&volume, claim) {
            return bind(&volume, claim);
        }
        let why = format!("volume {name:?} already bound to a different claim.");
        let told = self.tell(Severity::Warning, "FailedBinding", why);
        match annotation(claim, BOUND_BY_CONTROLLER) {
            // Somebody took the mark of a complete binding away; nothing is overwritten.
            Some(_) => vec![told],
            None => self.pending(told),
        }
    }

    /// It was bound before.
    fn bound(&self, name: &str) -> Vec<Action> {
        let claim = self.claim;
        let Some(volume) = (self.volume)(name) else {
            let why = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            return lost(claim, "ClaimLost", why);
        };
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if owner.is_none_or(|owner| owner.uid == claim.metadata.uid) {
            return bind(&volume, claim);
        }
        let why = "Two claims are bound to the same volume, this one is bound incorrectly";
        lost(claim, "ClaimMisbound", why)
    }
}
