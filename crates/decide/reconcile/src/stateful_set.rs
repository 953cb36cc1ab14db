//! StatefulSets: pods with names and storage that stay
//! (kube-controller-manager: pkg/controller/statefulset, v1.37).

mod claims;
mod identity;
mod status;
mod update;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use plimsoll_meta::selector::Labels;
use serde_json::json;

use crate::action::{Action, Create, Failure, Note, Severity, reference};
use crate::history::{self, Current, Labelled, REVISION_LABEL};
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

/// A wanted place and its pod, `None` where there is none.
type Slot = (i64, Option<Arc<Pod>>);

/// A StatefulSet in the middle of a decision.
struct Sync<'a> {
    set: &'a StatefulSet,
    claim: &'a dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
    /// The pods that should be.
    slots: Vec<Slot>,
    /// Pods beyond the wanted ordinals, the highest first.
    condemned: Vec<(i64, Arc<Pod>)>,
    /// Name and template of the revision that the pods come from, and of the one they go to.
    current: (String, PodTemplateSpec),
    update: (String, PodTemplateSpec),
    revisions: Vec<Arc<ControllerRevision>>,
    now: Timestamp,
    actions: Vec<Action>,
    /// What is to be made, kept apart so that pods of parallel sets are made side by side.
    new_claims: Vec<Create>,
    new_pods: Vec<Create>,
    /// Names of the pods that were deleted.
    gone: Vec<String>,
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let Some(mut sync) = Sync::begin(observed, now) else { return Vec::new() };
    if observed.set.metadata.deletion_timestamp.is_none() {
        sync.act();
    }
    let (status, again) = sync.status();
    let mut actions = std::mem::take(&mut sync.actions);
    actions.extend(write_status(observed.set, &status));
    actions.extend(sync.clean_up());
    actions.extend(again.map(Action::RequeueAfter));
    actions
}

/// What to do when an action was refused: the status is told all the same. `named` finds revisions by name.
pub fn report(
    observed: &Observed<'_>,
    now: Timestamp,
    failure: &Failure,
    named: impl Fn(&str) -> Option<Arc<ControllerRevision>>,
) -> Vec<Action> {
    let set = observed.set;
    let mut status = set.status.clone().unwrap_or_default();
    if history::collided(set, failure, named, &mut status.collision_count) {
        return write_status(set, &status).into_iter().collect();
    }
    let (kind, name) = match &failure.action {
        Action::Create(create) => (create.resource.kind.as_ref(), create.object["metadata"]["name"].as_str()),
        Action::Delete(delete) => (delete.target.resource.kind.as_ref(), None),
        _ => return Vec::new(),
    };
    let Some(sync) = Sync::begin(observed, now).filter(|_| kind == "Pod") else { return Vec::new() };
    // That a pod is there already is no news.
    let event = name.filter(|_| failure.code != 409 && !failure.namespace_ends()).map(|name| {
        let of = set.metadata.name.as_deref().unwrap_or_default();
        let message = format!("create Pod {name} in StatefulSet {of} failed error: {}", failure.message);
        Action::event(set, Severity::Warning, "FailedCreate", message)
    });
    event.into_iter().chain(write_status(set, &sync.status().0)).collect()
}

fn write_status(set: &StatefulSet, status: &StatefulSetStatus) -> Option<Action> {
    Action::update_status(set, &set.status.clone().unwrap_or_default(), status)
}

impl<'a> Sync<'a> {
    /// Takes what belongs to the set, and finds the revisions it is at.
    fn begin(observed: &Observed<'a>, now: Timestamp) -> Option<Self> {
        let set = observed.set;
        if set.spec.selector == LabelSelector::default() {
            return None;
        }
        let selector = Labels::from(&set.spec.selector);
        let claimant = Claimant::new(set, &selector);
        let (pods, mut actions) = claimant.claim(observed.pods, |pod| identity::ordinal(set, pod).is_some());
        let (revisions, claims) = claimant.claim(observed.revisions, |_| true);
        actions.extend(claims);
        let status = set.status.as_ref();
        let collisions = status.and_then(|status| status.collision_count).unwrap_or_default();
        let Current { name, actions: revising, .. } =
            history::current(set, &set.spec.template, Labelled::AsRevisions, &revisions, collisions);
        // A set that is going makes nothing new: the collector would take it away again and again.
        if set.metadata.deletion_timestamp.is_none() {
            actions.extend(revising);
        }
        let known = status.and_then(|status| status.current_revision.as_ref());
        let known =
            known.and_then(|known| revisions.iter().find(|one| one.metadata.name.as_ref() == Some(known)));
        let current =
            known.and_then(|known| Some((known.metadata.name.clone()?, history::template_of(known)?)));
        let update = (name, set.spec.template.clone());
        let current = current.unwrap_or_else(|| update.clone());
        let (slots, condemned) = places(set, pods);
        Some(Self {
            set,
            claim: observed.claim,
            slots,
            condemned,
            current,
            update,
            revisions,
            now,
            actions,
            new_claims: Vec::new(),
            new_pods: Vec::new(),
            gone: Vec::new(),
        })
    }

    /// Makes what is missing in order, takes away what is too much in reverse, then updates.
    fn act(&mut self) {
        self.keep_claims();
        let may_go_on = self.fill_all();
        self.make_all();
        if may_go_on && self.take_away() {
            self.roll();
        }
    }

    fn is_ordered(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    /// Sees to each wanted place; in order, only as far as all before it are well.
    fn fill_all(&mut self) -> bool {
        for at in 0..self.slots.len() {
            if !self.fill(at) && self.is_ordered() {
                return false;
            }
        }
        true
    }

    /// Sees to one place; tells whether the next may follow.
    fn fill(&mut self, at: usize) -> bool {
        let (ordinal, pod) = self.slots[at].clone();
        let Some(one) = pod else {
            if !self.claims_end(ordinal) {
                self.create(ordinal);
            }
            return false;
        };
        if pod::finished(&one) {
            // Also one that succeeded: who ends it, such as a node that restarts, chooses the exit code.
            if !pod::deleting(&one) {
                self.delete(&one);
            }
            return false;
        }
        if pod::phase(&one) == "Pending" {
            self.create_claims(ordinal);
        }
        let well = !self.is_unavailable(&one);
        if well || !self.is_ordered() {
            self.keep_identity(&one, ordinal);
        }
        well
    }

    /// Takes away what is too much, the highest ordinal first; tells whether that is over.
    fn take_away(&mut self) -> bool {
        let first_unavailable = self.first_unavailable();
        for (ordinal, pod) in self.condemned.clone() {
            if !self.is_ordered() {
                if !pod::deleting(&pod) {
                    self.delete(&pod);
                }
                continue;
            }
            // A pod that is not well must not go before a lower one that is not well either.
            let may_go = !self.is_unavailable(&pod) || first_unavailable == Some(ordinal);
            if !pod::deleting(&pod) && may_go {
                self.delete(&pod);
            }
            return false;
        }
        true
    }

    fn first_unavailable(&self) -> Option<i64> {
        let kept = self.slots.iter().filter_map(|(ordinal, pod)| Some((*ordinal, pod.as_ref()?)));
        let gone = self.condemned.iter().rev().map(|(ordinal, pod)| (*ordinal, pod));
        kept.chain(gone).find(|(_, pod)| self.is_unavailable(pod)).map(|(ordinal, _)| ordinal)
    }

    fn create(&mut self, ordinal: i64) {
        self.create_claims(ordinal);
        let (revision, template) = self.revision_for(ordinal);
        let mut create = Action::create(&identity::pod(self.set, template, revision, ordinal));
        create.made = Some(self.note(
            Severity::Normal,
            "SuccessfulCreate",
            "create Pod {} in StatefulSet SET successful",
        ));
        self.new_pods.push(create);
    }

    /// Makes what the places lack: claims first, then pods.
    fn make_all(&mut self) {
        let claims = std::mem::take(&mut self.new_claims);
        let pods = std::mem::take(&mut self.new_pods);
        self.actions.extend(claims.into_iter().chain(pods).map(Action::from));
    }

    fn delete(&mut self, pod: &Pod) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let mut delete = Action::delete(pod);
        delete.done = Some(self.note(
            Severity::Normal,
            "SuccessfulDelete",
            "delete Pod {} in StatefulSet SET successful",
        ));
        let failed = format!("delete Pod {name} in StatefulSet SET failed error: ");
        delete.refused = Some(self.note(Severity::Warning, "FailedDelete", &failed));
        self.actions.push(delete.into());
        self.gone.push(name);
    }

    /// Puts back the label by which others find the pod of a place.
    fn keep_identity(&mut self, pod: &Pod, ordinal: i64) {
        let labels = identity::labels(self.set, ordinal);
        let present = pod.metadata.labels.as_ref().and_then(|all| all.get(identity::NAME_LABEL));
        if pod::deleting(pod) || present == labels.get(identity::NAME_LABEL) {
            return;
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let message = format!("update Pod {name} in StatefulSet SET successful");
        let told = self.note(Severity::Normal, "SuccessfulUpdate", &message);
        self.actions
            .extend([Action::patch(pod, json!({"metadata": {"labels": labels}})), Action::Event(told)]);
    }

    /// A note in which SET stands for the set's name.
    fn note(&self, severity: Severity, reason: &'static str, message: &str) -> Note {
        let name = self.set.metadata.name.as_deref().unwrap_or_default();
        let message = message.replacen("SET", name, 1);
        Note { about: reference(self.set), severity, reason, message }
    }

    /// Whether a pod does not do its work, or not for long enough.
    fn is_unavailable(&self, pod: &Pod) -> bool {
        pod::deleting(pod) || pod::phase(pod) != "Running" || self.availability(pod) != Availability::Yes
    }

    fn availability(&self, pod: &Pod) -> Availability {
        pod::available(pod, self.set.spec.min_ready_seconds.unwrap_or_default(), self.now)
    }

    fn clean_up(&self) -> Vec<Action> {
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
        let limit = self.set.spec.revision_history_limit.unwrap_or(10);
        history::clean_up(&self.revisions, usize::try_from(limit).unwrap_or(usize::MAX), in_use)
    }
}

/// The wanted places with their pods, and the pods beyond them, the highest first.
fn places(set: &StatefulSet, pods: Vec<Arc<Pod>>) -> (Vec<Slot>, Vec<(i64, Arc<Pod>)>) {
    let start = set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
    let start = i64::from(start);
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
    (slots, condemned)
}

/// Whether a claim has a name that the set gives to those of its pods.
pub fn has_claim(set: &StatefulSet, name: &str) -> bool {
    let ordinal = name.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse().ok());
    ordinal.is_some_and(|ordinal| claims::names(set, ordinal).any(|(_, known)| known == name))
}

/// The revision that a pod was made from.
fn revision_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(REVISION_LABEL).map(String::as_str)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
