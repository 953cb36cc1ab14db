//! ReplicaSets and ReplicationControllers: so many pods, no more, no fewer
//! (kube-controller-manager: pkg/controller/replicaset, v1.37).

mod rank;
mod status;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use plimsoll_meta::selector::Labels;
use serde_json::Value;

use crate::action::{self, Action, Create, Failure, Note, Patch, Severity, Target};
use crate::owner::{Claimant, controller_ref};
use crate::pod;
pub(crate) use rank::first_to_go;

/// Pods made or deleted in one step; the rest follows when these are seen.
const BURST: usize = 500;

/// What ReplicaSets and ReplicationControllers have in common.
#[derive(Clone, Debug)]
pub struct ReplicaOwner {
    target: Target,
    about: ObjectReference,
    meta: ObjectMeta,
    reference: OwnerReference,
    replicas: i32,
    min_ready_seconds: i32,
    selector: Labels,
    template: PodTemplateSpec,
    status: ReplicaSetStatus,
    raw_status: Value,
    counts_terminating: bool,
}

impl From<&ReplicaSet> for ReplicaOwner {
    fn from(set: &ReplicaSet) -> Self {
        let spec = set.spec.clone();
        let status = set.status.clone().unwrap_or_default();
        Self {
            target: Target::of(set),
            about: action::reference(set),
            meta: set.metadata.clone(),
            reference: controller_ref(set),
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
            selector: Labels::from(&spec.selector),
            template: spec.template.unwrap_or_default(),
            raw_status: serde_json::to_value(&status).expect("API types are JSON"),
            status,
            counts_terminating: true,
        }
    }
}

impl From<&ReplicationController> for ReplicaOwner {
    fn from(controller: &ReplicationController) -> Self {
        let spec = controller.spec.clone().unwrap_or_default();
        let raw_status = serde_json::to_value(&controller.status).expect("API types are JSON");
        Self {
            target: Target::of(controller),
            about: action::reference(controller),
            meta: controller.metadata.clone(),
            reference: controller_ref(controller),
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
            selector: Labels::from_map(&spec.selector.unwrap_or_default()),
            template: spec.template.unwrap_or_default(),
            // Both kinds spell their status alike.
            status: serde_json::from_value(raw_status.clone()).unwrap_or_default(),
            raw_status,
            counts_terminating: false,
        }
    }
}

/// What is known when deciding.
pub struct Observed<'a> {
    /// The owner.
    pub owner: &'a ReplicaOwner,
    /// Its pods, and those of its namespace that nobody controls.
    pub pods: &'a [Arc<Pod>],
    /// Pods of all owners that share its own controller, to spread what is left over the nodes.
    pub related: &'a [Arc<Pod>],
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let owner = observed.owner;
    let (own, mut actions) = claim(observed);
    let active: Vec<_> = own.iter().filter(|pod| pod::active(pod)).cloned().collect();
    if owner.meta.deletion_timestamp.is_none() {
        actions.extend(adjust(owner, &active, observed.related, now));
    }
    let (status, again) = status::of(owner, &own, &active, now);
    actions.extend(write_status(owner, &status));
    actions.extend(again.map(Action::RequeueAfter));
    actions
}

/// What to tell when an action was refused.
pub fn report(observed: &Observed<'_>, now: Timestamp, failure: &Failure) -> Vec<Action> {
    let owner = observed.owner;
    let pods = match &failure.action {
        Action::Create(_) | Action::Delete(_) if !failure.namespace_ends() => observed.pods,
        _ => return Vec::new(),
    };
    let own: Vec<_> = claim(observed).0;
    debug_assert!(own.len() <= pods.len(), "claims are a part of what is seen");
    let active: Vec<_> = own.iter().filter(|pod| pod::active(pod)).cloned().collect();
    let (mut status, _) = status::of(owner, &own, &active, now);
    status::add_failure(&mut status, owner, active.len(), &failure.message, now);
    write_status(owner, &status).into_iter().collect()
}

fn claim(observed: &Observed<'_>) -> (Vec<Arc<Pod>>, Vec<Action>) {
    let owner = observed.owner;
    let claimant = Claimant {
        target: owner.target.clone(),
        reference: owner.reference.clone(),
        deleting: owner.meta.deletion_timestamp.is_some(),
        selector: &owner.selector,
    };
    claimant.claim(observed.pods, pod::active)
}

/// Makes what is missing or deletes what is too much.
fn adjust(owner: &ReplicaOwner, active: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Vec<Action> {
    let wanted = usize::try_from(owner.replicas).unwrap_or_default();
    if active.len() < wanted {
        let missing = (wanted - active.len()).min(BURST);
        return (0..missing).map(|_| creation(owner).into()).collect();
    }
    let surplus = (active.len() - wanted).min(BURST);
    let victims = first_to_go(active, related, surplus, owner.min_ready_seconds, now);
    victims.iter().map(|pod| deletion(owner, pod)).collect()
}

fn creation(owner: &ReplicaOwner) -> Create {
    let namespace = &owner.target.namespace;
    let mut create = Action::create(&pod::from_template(namespace, &owner.reference, &owner.template));
    create.made = Some(note(owner, Severity::Normal, "SuccessfulCreate", "Created pod: "));
    create.refused = Some(note(owner, Severity::Warning, "FailedCreate", "Error creating: "));
    create
}

fn deletion(owner: &ReplicaOwner, pod: &Pod) -> Action {
    let mut delete = Action::delete(pod);
    delete.done = Some(note(owner, Severity::Normal, "SuccessfulDelete", "Deleted pod: "));
    delete.refused = Some(note(owner, Severity::Warning, "FailedDelete", "Error deleting: "));
    delete.into()
}

fn note(owner: &ReplicaOwner, severity: Severity, reason: &'static str, message: &str) -> Note {
    Note { about: owner.about.clone(), severity, reason, message: message.to_owned() }
}

fn write_status(owner: &ReplicaOwner, status: &ReplicaSetStatus) -> Option<Action> {
    let new = serde_json::to_value(status).expect("API types are JSON");
    let change = action::difference(&owner.raw_status, &new)?;
    let version = &owner.meta.resource_version;
    let body = serde_json::json!({"metadata": {"resourceVersion": version}, "status": change});
    let target = owner.target.clone();
    Some(Action::Patch(Box::new(Patch { target, subresource: Some("status"), body, guard: None })))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
