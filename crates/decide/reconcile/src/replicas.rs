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
    let victims = first_to_go(active, related, surplus, now);
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{at, object, summary};

    fn set(replicas: i32, status: Value) -> ReplicaOwner {
        let set: ReplicaSet = object(json!({
            "metadata": {"name": "web-abc", "namespace": "ns", "uid": "rs", "generation": 2, "resourceVersion": "7"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
            "status": status,
        }));
        ReplicaOwner::from(&set)
    }

    /// A pod from words such as `running ready node=n1 age=60`.
    fn pod(name: &str, words: &str) -> Arc<Pod> {
        let value = |key: &str| words.split(' ').find_map(|word| word.strip_prefix(&format!("{key}=")));
        let has = |word: &str| words.split(' ').any(|one| one == word);
        let time =
            |seconds: Option<&str>| at(1000 - seconds.map_or(100, |text| text.parse().unwrap())).to_string();
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc",
            "uid": value("owner").unwrap_or("rs"), "controller": true});
        let phase = if has("pending") {
            "Pending"
        } else if has("failed") {
            "Failed"
        } else {
            "Running"
        };
        Arc::new(object(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1",
                "labels": {"app": value("app").unwrap_or("web")},
                "annotations": value("cost").map(|cost| json!({"controller.kubernetes.io/pod-deletion-cost": cost})),
                "creationTimestamp": time(value("age")),
                "deletionTimestamp": has("deleting").then(|| time(None)),
                "ownerReferences": if has("orphan") { json!(null) } else { json!([owner]) }},
            "spec": {"containers": [], "nodeName": value("node")},
            "status": {"phase": phase,
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true,
                    "restartCount": value("restarts").map_or(0, |text| text.parse().unwrap())}],
                "conditions": [{"type": "Ready", "status": if has("ready") { "True" } else { "False" },
                    "lastTransitionTime": time(value("ready-for"))}]},
        })))
    }

    fn run(owner: &ReplicaOwner, pods: &[Arc<Pod>]) -> Vec<String> {
        decide(&Observed { owner, pods, related: pods }, at(1000)).iter().map(summary).collect()
    }

    #[test]
    fn counts_are_kept() {
        let none = json!({"replicas": 0, "observedGeneration": 2, "terminatingReplicas": 0,
            "fullyLabeledReplicas": 0, "readyReplicas": 0, "availableReplicas": 0});
        let owner = set(3, none);
        assert_eq!(run(&owner, &[]), vec!["create Pod web-abc- · SuccessfulCreate"; 3]);
        let pods = [pod("a", "running ready node=n1"), pod("b", "failed"), pod("c", "deleting")];
        let status = r#"patch ReplicaSet/status web-abc {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"readyReplicas":1,"replicas":1,"terminatingReplicas":1}}"#;
        let create = "create Pod web-abc- · SuccessfulCreate";
        assert_eq!(run(&owner, &pods), [create, create, status]);
    }

    #[test]
    fn pods_are_adopted_and_released_by_selector() {
        let pods =
            [pod("a", "orphan"), pod("b", "app=other"), pod("c", "orphan app=other"), pod("d", "owner=x")];
        let got = run(&set(0, json!({"replicas": 0})), &pods);
        assert!(got[0].starts_with("patch Pod a {\"metadata\":{\"ownerReferences\":[{"), "{got:?}");
        assert!(got[0].contains("\"uid\":\"rs\""));
        assert!(got[1].starts_with("patch Pod b {\"metadata\":{\"ownerReferences\":null"), "{got:?}");
        assert!(!got.iter().any(|line| line.contains("Pod c") || line.contains("Pod d")));
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        // Each case: two pods, of which the first is to go.
        let cases = [
            ("pending", "pending node=n1"),
            ("pending node=n1", "running node=n1"),
            ("running node=n1", "running ready node=n1"),
            ("running ready node=n1 cost=-5", "running ready node=n1"),
            ("running ready node=n1 ready-for=10", "running ready node=n1 ready-for=90"),
            ("running ready node=n1 restarts=3", "running ready node=n1"),
            ("running node=n1 age=10", "running node=n1 age=90"),
        ];
        for (first, second) in cases {
            let pods = [pod("z", first), pod("y", second)];
            for pods in [[pods[0].clone(), pods[1].clone()], [pods[1].clone(), pods[0].clone()]] {
                let got = run(&set(1, json!({"replicas": 0})), &pods);
                assert_eq!(got[0], "delete Pod z · SuccessfulDelete", "{first} before {second}");
            }
        }
        let doubled =
            [pod("a", "ready node=n1"), pod("b", "ready node=n2"), pod("c", "ready node=n1 ready-for=101")];
        let got = run(&set(2, json!({"replicas": 0})), &doubled);
        assert_ne!(got[0], "delete Pod b · SuccessfulDelete", "n1 has two");
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let mut owner = set(
            1,
            json!({"replicas": 1, "observedGeneration": 2, "terminatingReplicas": 0,
            "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 0}),
        );
        owner.min_ready_seconds = 30;
        assert_eq!(run(&owner, &[pod("a", "ready node=n ready-for=10")]), ["again 20s"]);
    }

    #[test]
    fn a_refused_creation_is_told_in_the_status_and_taken_back() {
        let owner = set(1, json!({"replicas": 0, "observedGeneration": 2}));
        let observed = Observed { owner: &owner, pods: &[], related: &[] };
        let action = decide(&observed, at(0)).remove(0);
        let failure = Failure {
            action,
            code: 403,
            reason: "Forbidden".into(),
            message: "quota".into(),
            causes: vec![],
        };
        let told = report(&observed, at(0), &failure).iter().map(summary).collect::<String>();
        assert!(
            told.contains(
                r#""message":"quota","reason":"FailedCreate","status":"True","type":"ReplicaFailure""#
            ),
            "{told}"
        );

        let owner =
            set(0, json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True"}]}));
        let told = run(&owner, &[]).concat();
        assert!(told.contains(r#""conditions":null"#), "{told}");
    }
}
