//! DaemonSets: one pod on every node that fits
//! (kube-controller-manager: pkg/controller/daemon, v1.37).

mod failures;
mod placement;
mod revisions;
mod status;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use plimsoll_meta::selector::Labels;

use crate::action::{Action, Failure, Note, Severity, reference};
use crate::history::{self, Current, Labelled, REVISION_LABEL};
use crate::owner::{Claimant, controller_ref};
use crate::pod::{self, Availability};
pub use failures::Failures;
use placement::Fit;
pub use placement::target_node;

/// Pods made or deleted in one decision.
const BURST: usize = 250;

/// What is known when deciding.
pub struct Observed<'a> {
    /// The DaemonSet.
    pub set: &'a DaemonSet,
    /// Its pods, and those of its namespace that nobody controls.
    pub pods: &'a [Arc<Pod>],
    /// Its revisions, and those of its namespace that nobody controls.
    pub revisions: &'a [Arc<ControllerRevision>],
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// Where its pods failed.
    pub failures: &'a Failures,
}

/// A DaemonSet in the middle of a decision.
struct Sync<'a> {
    set: &'a DaemonSet,
    current: Current,
    revisions: Vec<Arc<ControllerRevision>>,
    nodes: Vec<(&'a Node, Fit)>,
    /// All its pods.
    own: Vec<Arc<Pod>>,
    /// Those that have not ended for good, by the node that they are for, the oldest first.
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
    failures: &'a Failures,
    now: Timestamp,
}

/// Pods to make and to delete.
#[derive(Default)]
struct Changes {
    /// Names of nodes.
    create: Vec<String>,
    delete: Vec<Arc<Pod>>,
    events: Vec<Action>,
    /// When a failed pod may go.
    again: Option<Duration>,
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let set = observed.set;
    if set.spec.selector == LabelSelector::default() {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        return vec![Action::event(set, Severity::Warning, "SelectingAll", message)];
    }
    if set.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let (mut sync, mut actions) = Sync::begin(observed, now);
    actions.append(&mut sync.current.actions);
    let doubles = sync.merge_doubles();
    if !doubles.is_empty() {
        return actions.into_iter().chain(doubles).collect();
    }
    let mut changes = sync.place();
    if changes.create.is_empty() && changes.delete.is_empty() {
        sync.update(&mut changes);
    }
    let (status, again) = sync.status();
    actions.append(&mut changes.events);
    // Deletions come first: where a quota is full they make room.
    actions.extend(changes.delete.iter().take(BURST).map(|pod| sync.deletion(pod)));
    actions.extend(changes.create.iter().take(BURST).map(|node| sync.creation(node)));
    actions.extend(write_status(set, &status));
    actions.extend(sync.clean_up());
    actions.extend(again.into_iter().chain(changes.again).min().map(Action::RequeueAfter));
    actions
}

/// What to do when an action was refused: the status is told all the same, and a revision whose name is
/// taken by another's gets another hash. `named` finds revisions by name.
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
    let about_pods = match &failure.action {
        Action::Create(create) => create.resource.kind == "Pod",
        Action::Delete(delete) => delete.target.resource.kind == "Pod",
        _ => false,
    };
    if !about_pods {
        return Vec::new();
    }
    write_status(set, &Sync::begin(observed, now).0.status().0).into_iter().collect()
}

/// The nodes whose failed pods `actions` delete.
pub fn given_up(observed: &Observed<'_>, actions: &[Action]) -> Vec<String> {
    let failed = |name: &str| {
        let mut pods = observed.pods.iter().filter(|pod| pod::phase(pod) == "Failed");
        pods.find(|pod| pod.metadata.name.as_deref() == Some(name))
    };
    let deleted = actions.iter().filter_map(|action| match action {
        Action::Delete(delete) if delete.target.resource.kind == "Pod" => failed(&delete.target.name),
        _ => None,
    });
    deleted.map(|pod| target_node(pod).to_owned()).collect()
}

fn write_status(set: &DaemonSet, status: &DaemonSetStatus) -> Option<Action> {
    Action::update_status(set, &set.status.clone().unwrap_or_default(), status)
}

impl<'a> Sync<'a> {
    /// Takes what belongs to the set, and finds the revision it is at.
    fn begin(observed: &Observed<'a>, now: Timestamp) -> (Self, Vec<Action>) {
        let set = observed.set;
        let selector = Labels::from(&set.spec.selector);
        let claimant = Claimant::new(set, &selector);
        let (own, mut actions) = claimant.claim(observed.pods, |_| true);
        let (revisions, claims) = claimant.claim(observed.revisions, |_| true);
        actions.extend(claims);
        let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
        let current = history::current(set, &set.spec.template, Labelled::AsPods, &revisions, collisions);
        let simulated = placement::Simulated::of(set);
        let nodes = observed.nodes.iter().map(|on| (&**on, simulated.fit(on))).collect();
        let mut pods = BTreeMap::<String, Vec<_>>::new();
        // Nothing is left to do about a pod that has ended and is going.
        let alive = own.iter().filter(|pod| !(pod::finished(pod) && pod::deleting(pod)));
        for pod in alive.filter(|pod| !target_node(pod).is_empty()) {
            pods.entry(target_node(pod).to_owned()).or_default().push(pod.clone());
        }
        let order =
            |pod: &Arc<Pod>| (pod::node(pod).is_empty(), pod::created(pod), pod.metadata.name.clone());
        pods.values_mut().for_each(|pods| pods.sort_by_cached_key(order));
        let failures = observed.failures;
        (Self { set, current, revisions, nodes, own, pods, failures, now }, actions)
    }

    fn creation(&self, node: &str) -> Action {
        let namespace = self.set.metadata.namespace.as_deref().unwrap_or_default();
        let template = placement::template_for(self.set, &self.current.hash, node);
        let mut create = Action::create(&pod::from_template(namespace, &controller_ref(self.set), &template));
        create.made = Some(self.note(Severity::Normal, "SuccessfulCreate", "Created pod: "));
        create.refused = Some(self.note(Severity::Warning, "FailedCreate", "Error creating: "));
        create.into()
    }

    fn deletion(&self, pod: &Pod) -> Action {
        let mut delete = Action::delete(pod);
        delete.done = Some(self.note(Severity::Normal, "SuccessfulDelete", "Deleted pod: "));
        delete.refused = Some(self.note(Severity::Warning, "FailedDelete", "Error deleting: "));
        delete.into()
    }

    fn note(&self, severity: Severity, reason: &'static str, message: &str) -> Note {
        Note { about: reference(self.set), severity, reason, message: message.to_owned() }
    }

    fn is_current(&self, pod: &Pod) -> bool {
        hash_of(pod) == Some(&self.current.hash)
    }

    fn availability(&self, pod: &Pod) -> Availability {
        pod::available(pod, self.set.spec.min_ready_seconds.unwrap_or_default(), self.now)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        self.availability(pod) == Availability::Yes
    }

    /// Its pods on a node, the oldest first.
    fn on(&self, node: &str) -> &[Arc<Pod>] {
        self.pods.get(node).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The hash of the revision that a pod was made from.
fn hash_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(REVISION_LABEL).map(String::as_str)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
