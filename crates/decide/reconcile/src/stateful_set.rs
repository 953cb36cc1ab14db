//! StatefulSets: pods with names and storage that stay
//! (kube-controller-manager: pkg/controller/statefulset, v1.37).

mod claims;
mod identity;
mod status;
mod update;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use plimsoll_meta::selector::Labels;

use crate::action::{Action, Note, Severity, reference};
use crate::history::{self, Current, REVISION_LABEL};
use crate::owner::Claimant;
use crate::pod::{self, Availability};

/// What is known when deciding.
pub struct Observed<'a> {
    /// The StatefulSet.
    pub set: &'a StatefulSet,
    /// Its pods, and those of its namespace that nobody controls.
    pub pods: &'a [Arc<Pod>],
    /// Its revisions, and those of its namespace that nobody controls.
    pub revisions: &'a [Arc<ControllerRevision>],
    /// A claim of its namespace by name.
    pub claim: &'a dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
}

/// A StatefulSet in the middle of a decision.
struct Sync<'a> {
    set: &'a StatefulSet,
    claim: &'a dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
    /// The pods that should be, by place; `None` where there is none.
    slots: Vec<(i64, Option<Arc<Pod>>)>,
    /// Pods beyond the wanted ordinals, the highest first.
    condemned: Vec<(i64, Arc<Pod>)>,
    /// Name and template of the revision that the pods come from, and of the one they go to.
    current: (String, PodTemplateSpec),
    update: (String, PodTemplateSpec),
    now: Timestamp,
    actions: Vec<Action>,
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let set = observed.set;
    if set.spec.selector == LabelSelector::default() {
        return Vec::new();
    }
    let selector = Labels::from(&set.spec.selector);
    let claimant = Claimant::new(set, &selector);
    let (pods, mut actions) = claimant.claim(observed.pods, |pod| identity::ordinal(set, pod).is_some());
    let (revisions, claims) = claimant.claim(observed.revisions, |_| true);
    actions.extend(claims);
    let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
    let labels = set.spec.selector.match_labels.clone().unwrap_or_default();
    let Current { name, actions: revising, .. } =
        history::current(set, &set.spec.template, &labels, &revisions, collisions);
    actions.extend(revising);
    let known = set.status.as_ref().and_then(|status| status.current_revision.clone());
    let known =
        known.and_then(|known| revisions.iter().find(|one| one.metadata.name.as_ref() == Some(&known)));
    let update = (name, set.spec.template.clone());
    let current = known.and_then(|known| Some((known.metadata.name.clone()?, history::template_of(known)?)));
    let current = current.unwrap_or_else(|| update.clone());
    let mut sync = Sync::new(observed, pods, current, update, now);
    if set.metadata.deletion_timestamp.is_none() {
        sync.act();
    }
    let (status, again) = sync.status();
    actions.append(&mut sync.actions);
    actions.extend(Action::update_status(set, &set.status.clone().unwrap_or_default(), &status));
    actions.extend(sync.clean_up(&revisions));
    actions.extend(again.map(Action::RequeueAfter));
    actions
}

impl<'a> Sync<'a> {
    fn new(
        observed: &Observed<'a>,
        pods: Vec<Arc<Pod>>,
        current: (String, PodTemplateSpec),
        update: (String, PodTemplateSpec),
        now: Timestamp,
    ) -> Self {
        let set = observed.set;
        let start =
            i64::from(set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default());
        let wanted = start..start + i64::from(set.spec.replicas.unwrap_or(1));
        let mut slots: Vec<_> = wanted.clone().map(|ordinal| (ordinal, None)).collect();
        let mut condemned = Vec::new();
        for pod in pods {
            match identity::ordinal(set, &pod) {
                Some(ordinal) if wanted.contains(&ordinal) => {
                    let at = usize::try_from(ordinal - start).expect("the range begins at start");
                    slots[at].1 = Some(pod);
                }
                Some(ordinal) => condemned.push((ordinal, pod)),
                None => {}
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        Self { set, claim: observed.claim, slots, condemned, current, update, now, actions: Vec::new() }
    }

    /// Makes what is missing in order, takes away what is too much in reverse, then updates.
    fn act(&mut self) {
        self.keep_claims();
        let ordered = self.set.spec.pod_management_policy.as_deref() != Some("Parallel");
        for at in 0..self.slots.len() {
            if !self.fill(at) && ordered {
                return;
            }
        }
        let first_unhealthy = self.first_unhealthy();
        for (ordinal, pod) in self.condemned.clone() {
            if pod::deleting(&pod) {
                if ordered {
                    return;
                }
                continue;
            }
            // In order, a pod that is not the first sick one must not go before that one is well.
            let healthy = pod::ready(&pod) && pod::phase(&pod) == "Running";
            if ordered && !healthy && first_unhealthy != Some(ordinal) {
                return;
            }
            self.delete(&pod);
            if ordered {
                return;
            }
        }
        self.roll();
    }

    /// Sees to one place; tells whether the next may follow.
    fn fill(&mut self, at: usize) -> bool {
        let (ordinal, pod) = self.slots[at].clone();
        let Some(one) = pod else {
            self.create(ordinal);
            return false;
        };
        if pod::finished(&one) {
            if !pod::deleting(&one) {
                self.recreate(&one);
            }
            return false;
        }
        if pod::phase(&one) == "Pending" || pod::phase(&one).is_empty() {
            self.create_claims(ordinal);
        }
        !pod::deleting(&one) && pod::phase(&one) == "Running" && self.availability(&one) == Availability::Yes
    }

    /// The lowest ordinal whose pod is not well, wherever it is.
    fn first_unhealthy(&self) -> Option<i64> {
        let sick = |pod: &Pod| pod::deleting(pod) || !pod::ready(pod) || pod::phase(pod) != "Running";
        let kept = self.slots.iter().filter_map(|(ordinal, pod)| Some((*ordinal, pod.as_ref()?)));
        let gone = self.condemned.iter().map(|(ordinal, pod)| (*ordinal, pod));
        kept.chain(gone).filter(|(_, pod)| sick(pod)).map(|(ordinal, _)| ordinal).min()
    }

    fn recreate(&mut self, ended: &Pod) {
        let (namespace, set) = (self.set.metadata.namespace.as_deref(), self.set.metadata.name.as_deref());
        let place = format!("{}/{}", namespace.unwrap_or_default(), set.unwrap_or_default());
        let name = ended.metadata.name.as_deref().unwrap_or_default();
        let event = if pod::phase(ended) == "Failed" {
            let message = format!("StatefulSet {place} is recreating failed Pod {name}");
            Action::event(self.set, Severity::Warning, "RecreatingFailedPod", message)
        } else {
            let message = format!("StatefulSet {place} is recreating terminated Pod {name}");
            Action::event(self.set, Severity::Normal, "RecreatingTerminatedPod", message)
        };
        self.actions.push(event);
        self.delete(ended);
    }

    fn create(&mut self, ordinal: i64) {
        self.create_claims(ordinal);
        let (revision, template) = self.revision_for(ordinal);
        let pod = identity::pod(self.set, template, revision, ordinal);
        let name = pod.metadata.name.clone().unwrap_or_default();
        let set = self.set.metadata.name.as_deref().unwrap_or_default();
        let mut create = Action::create(&pod);
        let failed = format!("create Pod {name} in StatefulSet {set} failed error: ");
        create.refused = Some(self.note(Severity::Warning, "FailedCreate", failed));
        let done = format!("create Pod {name} in StatefulSet {set} successful");
        let event = Action::event(self.set, Severity::Normal, "SuccessfulCreate", done);
        self.actions.extend([create.into(), event]);
    }

    fn delete(&mut self, pod: &Pod) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let set = self.set.metadata.name.as_deref().unwrap_or_default();
        let mut delete = Action::delete(pod);
        let failed = format!("delete Pod {name} in StatefulSet {set} failed error: ");
        delete.refused = Some(self.note(Severity::Warning, "FailedDelete", failed));
        let done = format!("delete Pod {name} in StatefulSet {set} successful");
        let event = Action::event(self.set, Severity::Normal, "SuccessfulDelete", done);
        self.actions.extend([delete.into(), event]);
    }

    fn note(&self, severity: Severity, reason: &'static str, message: String) -> Note {
        Note { about: reference(self.set), severity, reason, message }
    }

    fn availability(&self, pod: &Pod) -> Availability {
        pod::available(pod, self.set.spec.min_ready_seconds.unwrap_or_default(), self.now)
    }

    fn clean_up(&self, revisions: &[Arc<ControllerRevision>]) -> Vec<Action> {
        let pods = self
            .slots
            .iter()
            .filter_map(|(_, pod)| pod.as_ref())
            .chain(self.condemned.iter().map(|(_, pod)| pod));
        let used: Vec<_> = pods.filter_map(|pod| revision_of(pod).map(str::to_owned)).collect();
        let in_use = |revision: &ControllerRevision| {
            let name = revision.metadata.name.clone().unwrap_or_default();
            name == self.current.0 || name == self.update.0 || used.contains(&name)
        };
        history::clean_up(revisions, self.set.spec.revision_history_limit, in_use)
    }
}

/// The revision that a pod was made from.
fn revision_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(REVISION_LABEL).map(String::as_str)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
