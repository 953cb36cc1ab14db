//! DaemonSets: one pod on every node that fits
//! (kube-controller-manager: pkg/controller/daemon, v1.37).

mod placement;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use plimsoll_meta::selector::Labels;

use crate::action::{Action, Failure, Note, Severity, reference};
use crate::history::{self, Current, REVISION_LABEL};
use crate::node;
use crate::owner::{Claimant, controller_of, controller_ref};
use crate::pod::{self, Availability};
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
}

/// A DaemonSet in the middle of a decision.
struct Sync<'a> {
    set: &'a DaemonSet,
    current: Current,
    nodes: &'a [Arc<Node>],
    /// Its pods by the node that they are for.
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
    now: Timestamp,
}

/// Pods to make and to delete.
#[derive(Default)]
struct Changes {
    /// Names of nodes.
    create: Vec<String>,
    delete: Vec<Arc<Pod>>,
    events: Vec<Action>,
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let set = observed.set;
    if set.spec.selector == LabelSelector::default() {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        return vec![Action::event(set, Severity::Warning, "SelectingAll", message)];
    }
    let selector = Labels::from(&set.spec.selector);
    let claimant = Claimant::new(set, &selector);
    let (own, mut actions) = claimant.claim(observed.pods, |_| true);
    let (revisions, claims) = claimant.claim(observed.revisions, |_| true);
    actions.extend(claims);
    if set.metadata.deletion_timestamp.is_some() {
        return actions;
    }
    let labels = set.spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
    let mut current = history::current(set, &set.spec.template, &labels, &revisions, collisions);
    actions.append(&mut current.actions);
    let mut pods = BTreeMap::<String, Vec<_>>::new();
    for pod in own {
        pods.entry(target_node(&pod).to_owned()).or_default().push(pod);
    }
    let sync = Sync { set, current, nodes: observed.nodes, pods, now };
    let mut changes = sync.place();
    if changes.create.is_empty() && changes.delete.is_empty() {
        sync.update(&mut changes);
    }
    let (status, again) = sync.status();
    actions.append(&mut changes.events);
    actions.extend(changes.create.iter().take(BURST).map(|node| sync.creation(node)));
    actions.extend(changes.delete.iter().take(BURST).map(|pod| sync.deletion(pod)));
    actions.extend(Action::update_status(set, &set.status.clone().unwrap_or_default(), &status));
    actions.extend(sync.clean_up(&revisions));
    actions.extend(again.map(Action::RequeueAfter));
    actions
}

/// What to do when an action was refused: a revision whose name is taken by another gets another hash.
pub fn report(observed: &Observed<'_>, failure: &Failure) -> Vec<Action> {
    collision(observed.set, failure, observed.revisions)
        .map(|status| {
            Action::update_status(observed.set, &observed.set.status.clone().unwrap_or_default(), &status)
        })
        .into_iter()
        .flatten()
        .collect()
}

fn collision(
    set: &DaemonSet,
    failure: &Failure,
    revisions: &[Arc<ControllerRevision>],
) -> Option<DaemonSetStatus> {
    let Action::Create(create) = &failure.action else { return None };
    let name = create.object["metadata"]["name"].as_str()?;
    let taken = revisions.iter().any(|revision| {
        let own = controller_of(&revision.metadata).map(|owner| &owner.uid) == set.metadata.uid.as_ref();
        revision.metadata.name.as_deref() == Some(name) && !own
    });
    if failure.code != 409 || !taken {
        return None;
    }
    let mut status = set.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
    Some(status)
}

impl Sync<'_> {
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
        let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL));
        label == Some(&self.current.hash)
    }

    fn availability(&self, pod: &Pod) -> Availability {
        pod::available(pod, self.set.spec.min_ready_seconds.unwrap_or_default(), self.now)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        self.availability(pod) == Availability::Yes
    }

    fn status(&self) -> (DaemonSetStatus, Option<std::time::Duration>) {
        let mut status = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: self.set.status.as_ref().and_then(|status| status.collision_count),
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available, mut again) = (0, 0, None::<std::time::Duration>);
        for one in self.nodes {
            let pods = self.pods.get(node::name(one)).map(Vec::as_slice).unwrap_or_default();
            let (runs, _) = placement::fits(self.set, one);
            if !runs {
                status.number_misscheduled += i32::from(!pods.is_empty());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(oldest) = pods.iter().min_by_key(|pod| (!pod::ready(pod), pod::created(pod))) else {
                continue;
            };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pod::ready(oldest));
            match self.availability(oldest) {
                Availability::Yes => available += 1,
                Availability::After(wait) => again = Some(again.map_or(wait, |known| known.min(wait))),
                Availability::No => {}
            }
            updated += i32::from(self.is_current(oldest));
        }
        let some = |count: i32| Some(count).filter(|count| *count > 0);
        status.updated_number_scheduled = some(updated);
        status.number_available = some(available);
        status.number_unavailable = some(status.desired_number_scheduled - available);
        (status, again)
    }

    fn clean_up(&self, revisions: &[Arc<ControllerRevision>]) -> Vec<Action> {
        let in_use = |revision: &ControllerRevision| {
            let hash = history::hash_of(revision);
            let labelled = |pod: &Arc<Pod>| {
                pod.metadata
                    .labels
                    .as_ref()
                    .and_then(|labels| labels.get(REVISION_LABEL))
                    .is_some_and(|one| one == hash)
            };
            hash == self.current.hash || self.pods.values().flatten().any(labelled)
        };
        history::clean_up(revisions, self.set.spec.revision_history_limit, in_use)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, object, summary};

    fn set(image: &str, spec: &Value) -> DaemonSet {
        let mut set = json!({"metadata": {"name": "d", "namespace": "ns", "uid": "ds", "generation": 1}, "spec": {
            "selector": {"matchLabels": {"app": "d"}}, "updateStrategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            set["spec"][key] = value.clone();
        }
        object(set)
    }

    fn nodes(count: usize) -> Vec<Arc<Node>> {
        let node = |number| json!({"metadata": {"name": format!("n{number}"), "labels": {"disk": if number == 0 { "ssd" } else { "hdd" }}}});
        (0..count).map(|number| Arc::new(object(node(number)))).collect()
    }

    /// The pods after the actions, all of them ready.
    fn apply(pods: &[Arc<Pod>], actions: &[Action], made: &mut usize) -> Vec<Arc<Pod>> {
        let mut pods = pods.to_vec();
        for action in actions {
            match action {
                Action::Create(create) if create.resource.kind == "Pod" => {
                    *made += 1;
                    let mut pod: Pod = object(create.object.clone());
                    pod.metadata.name = Some(format!("p{made}"));
                    pod.metadata.uid = pod.metadata.name.clone();
                    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(0).to_string()}]});
                    pod.status = Some(object(status));
                    pods.push(Arc::new(pod));
                }
                Action::Delete(delete) => {
                    pods.retain(|pod| pod.metadata.name.as_ref() != Some(&delete.target.name))
                }
                _ => {}
            }
        }
        pods
    }

    fn run(set: &DaemonSet, pods: &[Arc<Pod>], nodes: &[Arc<Node>]) -> Vec<Action> {
        decide(&Observed { set, pods, revisions: &[], nodes }, at(10))
    }

    fn count(actions: &[Action], what: &str) -> usize {
        actions.iter().filter(|action| summary(action).starts_with(what)).count()
    }

    #[test]
    fn each_fitting_node_gets_one_pod() {
        let mut made = 0;
        let set_all = set("one", &json!({}));
        let actions = run(&set_all, &[], &nodes(3));
        assert_eq!((count(&actions, "create ControllerRevision"), count(&actions, "create Pod")), (1, 3));
        let pods = apply(&[], &actions, &mut made);
        assert_eq!(pods.iter().map(|pod| target_node(pod)).collect::<Vec<_>>(), ["n0", "n1", "n2"]);
        let actions = run(&set_all, &pods, &nodes(3));
        assert_eq!(count(&actions, "create Pod") + count(&actions, "delete"), 0);
        let fewer = run(&set_all, &pods, &nodes(2));
        assert_eq!(count(&fewer, "delete"), 0, "a lost node's pods are the collector's business");

        let template = json!({"template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "one"}]}}});
        let picky = set("one", &template);
        assert_eq!(count(&run(&picky, &[], &nodes(3)), "create Pod"), 1);
        assert_eq!(count(&run(&picky, &pods, &nodes(3)), "delete Pod"), 2);
    }

    #[test]
    fn updates_go_node_by_node() {
        let mut made = 0;
        let all = nodes(4);
        let mut pods = apply(&[], &run(&set("one", &json!({})), &[], &all), &mut made);
        let new = set("two", &json!({}));
        for _ in 0..8 {
            let actions = run(&new, &pods, &all);
            assert!(count(&actions, "delete Pod") <= 1, "one may be missing");
            pods = apply(&pods, &actions, &mut made);
            assert!(pods.len() >= 3);
        }
        let images: Vec<_> = pods
            .iter()
            .map(|pod| pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()))
            .collect();
        assert_eq!(images, vec![Some("two".to_owned()); 4]);

        let surge = set(
            "three",
            &json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}),
        );
        for _ in 0..12 {
            let actions = run(&surge, &pods, &all);
            pods = apply(&pods, &actions, &mut made);
            assert!((4..=5).contains(&pods.len()));
        }
        assert_eq!(pods.len(), 4);

        let by_hand = set("four", &json!({"updateStrategy": {"type": "OnDelete"}}));
        assert_eq!(count(&run(&by_hand, &pods, &all), "delete Pod"), 0);
    }
}
