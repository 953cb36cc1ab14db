//! A small server that plays a StatefulSet through its life.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::testing::{at, object, summary};

struct World {
    set: StatefulSet,
    pods: Vec<Arc<Pod>>,
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    revisions: Vec<Arc<ControllerRevision>>,
    now: i64,
}

impl World {
    fn new(spec: &Value) -> Self {
        let mut set = json!({"metadata": {"name": "db", "namespace": "ns", "uid": "set", "generation": 1}, "spec": {
            "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}});
        for (key, value) in spec.as_object().unwrap() {
            set["spec"][key] = value.clone();
        }
        Self { set: object(set), pods: Vec::new(), claims: BTreeMap::new(), revisions: Vec::new(), now: 0 }
    }

    /// Decides once, carries out, and gives what was done to pods and claims.
    fn step(&mut self) -> Vec<String> {
        let claims = self.claims.clone();
        let claim = move |name: &str| claims.get(name).cloned();
        let observed =
            Observed { set: &self.set, pods: &self.pods, revisions: &self.revisions, claim: &claim };
        let actions = decide(&observed, at(self.now));
        let mut log = Vec::new();
        for action in actions {
            let line = summary(&action);
            match action {
                Action::Create(create) if create.resource.kind == "Pod" => {
                    let mut pod: Pod = object(create.object);
                    pod.metadata.uid = pod.metadata.name.clone().map(|name| format!("{name}@{}", self.now));
                    pod.status = Some(object(json!({"phase": "Pending"})));
                    self.pods.push(Arc::new(pod));
                    log.push(line);
                }
                Action::Create(create) if create.resource.kind == "PersistentVolumeClaim" => {
                    let claim: PersistentVolumeClaim = object(create.object);
                    self.claims.insert(claim.metadata.name.clone().unwrap(), Arc::new(claim));
                    log.push(line);
                }
                Action::Create(create) => self.revisions.push(Arc::new(object(create.object))),
                Action::Delete(delete) if delete.target.resource.kind == "ControllerRevision" => {
                    self.revisions.retain(|one| one.metadata.name.as_ref() != Some(&delete.target.name));
                }
                Action::Patch(patch) if patch.target.resource.kind == "ControllerRevision" => {
                    let raised = patch.body["revision"].as_i64();
                    for one in &mut self.revisions {
                        if one.metadata.name.as_ref() == Some(&patch.target.name) {
                            Arc::make_mut(one).revision = raised;
                        }
                    }
                }
                Action::Patch(patch) if patch.target.resource.kind == "PersistentVolumeClaim" => {
                    let claim = self.claims.get_mut(&patch.target.name).unwrap();
                    let owners = &patch.body["metadata"]["ownerReferences"];
                    Arc::make_mut(claim).metadata.owner_references =
                        owners.is_array().then(|| object(owners.clone()));
                    log.push(line);
                }
                Action::Patch(patch) if patch.target.resource.kind == "Pod" => log.push(line),
                Action::Event(_) => log.push(line),
                Action::Delete(delete) if delete.target.resource.kind == "Pod" => {
                    self.pods.retain(|pod| pod.metadata.name.as_ref() != Some(&delete.target.name));
                    log.push(line);
                }
                Action::Patch(patch) if patch.subresource == Some("status") => {
                    let mut status = serde_json::to_value(&self.set.status).unwrap();
                    if status.is_null() {
                        status = json!({});
                    }
                    for (key, value) in patch.body["status"].as_object().unwrap() {
                        status[key] = value.clone();
                    }
                    self.set.status = Some(object(status));
                }
                _ => {}
            }
        }
        log
    }

    fn all_ready(&mut self) {
        let names: Vec<_> = self.pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        names.iter().for_each(|name| self.set_ready(name, true));
    }

    /// Makes a pod run, ready or not.
    fn set_ready(&mut self, name: &str, ready: bool) {
        let since = at(self.now).to_string();
        for one in self.pods.iter_mut().filter(|pod| pod.metadata.name.as_deref() == Some(name)) {
            if pod::ready(one) != ready || pod::phase(one) != "Running" {
                let status = if ready { "True" } else { "False" };
                Arc::make_mut(one).status = Some(object(json!({"phase": "Running",
                    "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": since}]})));
            }
        }
    }

    fn image(&mut self, image: &str) {
        self.set.spec.template = object(
            json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}}),
        );
    }

    fn strategy(&mut self, strategy: Value) {
        self.set.spec.update_strategy = Some(object(strategy));
    }

    fn status(&self) -> StatefulSetStatus {
        self.set.status.clone().unwrap()
    }

    /// Steps with all pods ready until nothing happens.
    fn settle(&mut self) -> Vec<String> {
        let mut log = Vec::new();
        for _ in 0..40 {
            let step = self.step();
            if step.is_empty() {
                self.all_ready();
                let step = self.step();
                if step.is_empty() {
                    return log;
                }
                log.extend(step);
                continue;
            }
            log.extend(step);
            self.all_ready();
        }
        panic!("never rests: {log:?}");
    }

    fn images(&self) -> BTreeMap<String, String> {
        let image = |pod: &Arc<Pod>| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        self.pods.iter().map(|pod| (pod.metadata.name.clone().unwrap(), image(pod))).collect()
    }
}

#[test]
fn pods_come_in_order_and_go_in_reverse() {
    let mut world = World::new(&json!({}));
    assert_eq!(
        world.step(),
        ["create PersistentVolumeClaim data-db-0 · SuccessfulCreate", "create Pod db-0 · SuccessfulCreate"]
    );
    assert!(world.step().is_empty(), "db-0 is not ready yet");
    let log = world.settle();
    let pods: Vec<_> = log.iter().filter(|line| line.starts_with("create Pod")).collect();
    assert_eq!(pods, ["create Pod db-1 · SuccessfulCreate", "create Pod db-2 · SuccessfulCreate"]);
    let pod = serde_json::to_value(&*world.pods[1]).unwrap();
    assert_eq!(pod["spec"]["hostname"], "db-1");
    assert_eq!(pod["spec"]["subdomain"], "db");
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "data-db-1");

    world.set.spec.replicas = Some(1);
    let log: Vec<_> = world.settle().into_iter().filter(|line| line.starts_with("delete")).collect();
    assert_eq!(log, ["delete Pod db-2 · SuccessfulDelete", "delete Pod db-1 · SuccessfulDelete"]);
    assert_eq!(world.claims.len(), 3, "storage stays");
}

#[test]
fn parallel_sets_do_not_wait() {
    let mut world = World::new(&json!({"podManagementPolicy": "Parallel", "ordinals": {"start": 5}}));
    let log = world.step();
    let pods: Vec<_> = log.iter().filter(|line| line.starts_with("create Pod")).collect();
    assert_eq!(
        pods,
        [
            "create Pod db-5 · SuccessfulCreate",
            "create Pod db-6 · SuccessfulCreate",
            "create Pod db-7 · SuccessfulCreate"
        ]
    );
}

#[test]
fn updates_go_from_the_top_down_to_the_partition() {
    let mut world = World::new(&json!({}));
    world.settle();
    let first = world.set.status.clone().unwrap().current_revision.unwrap();
    world.set.spec.template = object(
        json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "two"}]}}),
    );
    world.set.spec.update_strategy =
        Some(object(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}})));
    let log = world.settle();
    let deleted: Vec<_> = log.iter().filter(|line| line.starts_with("delete")).collect();
    assert_eq!(deleted, ["delete Pod db-2 · SuccessfulDelete", "delete Pod db-1 · SuccessfulDelete"]);
    assert_eq!(world.images().into_values().collect::<Vec<_>>(), ["one", "two", "two"]);
    assert_eq!(world.set.status.clone().unwrap().current_revision, Some(first.clone()));

    // A pod below the partition comes back as it was.
    world.pods.retain(|pod| pod.metadata.name.as_deref() != Some("db-0"));
    world.settle();
    assert_eq!(world.images()["db-0"], "one");

    world.set.spec.update_strategy =
        Some(object(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})));
    world.settle();
    assert_eq!(world.images()["db-0"], "two");
    let status = world.set.status.clone().unwrap();
    assert_eq!(status.current_revision, status.update_revision);
    assert_ne!(status.current_revision, Some(first));
    assert_eq!((status.updated_replicas, status.current_replicas), (Some(3), Some(3)));
}

#[test]
fn ended_pods_are_made_anew() {
    let mut world = World::new(&json!({"replicas": 1}));
    world.settle();
    let mut ended = (*world.pods[0]).clone();
    ended.status = Some(object(json!({"phase": "Failed"})));
    world.pods[0] = Arc::new(ended);
    assert_eq!(world.step(), ["delete Pod db-0 · SuccessfulDelete"]);
    assert_eq!(world.step(), ["create Pod db-0 · SuccessfulCreate"]);
}

fn pods_of(log: &[String], what: &str) -> Vec<String> {
    let prefix = format!("{what} Pod ");
    let lines = log.iter().filter_map(|line| line.strip_prefix(&prefix));
    lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn scaling_halts_while_a_pod_is_unhealthy() {
    let mut world = World::new(&json!({}));
    world.settle();
    world.set_ready("db-0", false);
    world.set.spec.replicas = Some(4);
    assert!(world.step().is_empty(), "no fourth while the first is sick");
    world.set.spec.replicas = Some(1);
    assert!(world.step().is_empty(), "none goes while the first is sick");
    world.set_ready("db-0", true);
    world.set_ready("db-2", false);
    assert_eq!(pods_of(&world.step(), "delete"), ["db-2"], "the only sick one may go");
    world.set_ready("db-1", false);
    assert_eq!(pods_of(&world.step(), "delete"), ["db-1"]);
}

#[test]
fn a_higher_sick_pod_waits_for_a_lower_sick_one() {
    let mut world = World::new(&json!({}));
    world.settle();
    world.set.spec.replicas = Some(1);
    world.set_ready("db-2", false);
    world.set_ready("db-1", false);
    assert!(world.step().is_empty(), "db-1 is the first sick one, and not the highest");
}

#[test]
fn parallel_scaling_runs_to_completion_even_with_unhealthy_pods() {
    let mut world = World::new(&json!({"podManagementPolicy": "Parallel"}));
    world.step();
    world.set.spec.replicas = Some(5);
    assert_eq!(pods_of(&world.step(), "create"), ["db-3", "db-4"]);
    world.set.spec.replicas = Some(0);
    assert_eq!(pods_of(&world.step(), "delete"), ["db-4", "db-3", "db-2", "db-1", "db-0"]);
}

#[test]
fn ordinals_may_start_elsewhere() {
    let mut world = World::new(&json!({"replicas": 2}));
    world.settle();
    world.set.spec.ordinals = Some(object(json!({"start": 1})));
    let log = world.settle();
    assert_eq!(
        (pods_of(&log, "create"), pods_of(&log, "delete")),
        (vec!["db-2".into()], vec!["db-0".into()])
    );
    assert_eq!(world.status().replicas, 2);
}

#[test]
fn on_delete_waits_for_somebody_to_delete() {
    let mut world = World::new(&json!({"updateStrategy": {"type": "OnDelete"}}));
    world.settle();
    world.image("two");
    assert!(world.settle().is_empty());
    world.pods.remove(1);
    world.settle();
    assert_eq!(world.images().into_values().collect::<Vec<_>>(), ["one", "two", "one"]);
    let status = world.status();
    assert_eq!((status.updated_replicas, status.current_replicas), (Some(1), Some(2)));
}

#[test]
fn pods_are_available_after_min_ready_seconds() {
    let mut world = World::new(&json!({"replicas": 2, "minReadySeconds": 30}));
    world.step();
    world.all_ready();
    assert!(world.step().is_empty(), "db-0 is ready, but not available");
    assert_eq!((world.status().ready_replicas, world.status().available_replicas), (Some(1), Some(0)));
    world.now += 31;
    assert_eq!(pods_of(&world.step(), "create"), ["db-1"]);
    assert_eq!(world.status().available_replicas, Some(1));
}

#[test]
fn as_many_pods_as_may_be_unavailable_are_updated_at_once() {
    let rolling = |most: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": most}});
    // Policy, what may be missing, sick before the update, deleted in the first step.
    let cases: [(&str, Value, &[&str], &[&str]); 7] = [
        ("OrderedReady", json!(1), &[], &["db-4"]),
        ("OrderedReady", json!(2), &[], &["db-4", "db-3"]),
        ("OrderedReady", json!("50%"), &[], &["db-4", "db-3", "db-2"]),
        ("OrderedReady", json!(2), &["db-1"], &[]),
        ("Parallel", json!(2), &["db-1"], &["db-1", "db-4"]),
        ("Parallel", json!(1), &["db-0", "db-1"], &["db-1", "db-0"]),
        ("Parallel", json!(3), &[], &["db-4", "db-3", "db-2"]),
    ];
    for (policy, most, sick, expected) in cases {
        let mut world = World::new(&json!({"replicas": 5, "podManagementPolicy": policy}));
        world.settle();
        world.strategy(rolling(most.clone()));
        world.image("two");
        sick.iter().for_each(|name| world.set_ready(name, false));
        assert_eq!(pods_of(&world.step(), "delete"), expected, "{policy} {most} {sick:?}");
    }
}

#[test]
fn a_broken_update_stays_stuck_in_order_and_gets_well_in_parallel() {
    for (policy, healed) in [("OrderedReady", false), ("Parallel", true)] {
        let mut world = World::new(&json!({"podManagementPolicy": policy}));
        world.settle();
        world.image("broken");
        for _ in 0..4 {
            world.step();
        }
        assert_eq!(world.images()["db-2"], "broken");
        world.image("two");
        assert_eq!(pods_of(&world.step(), "delete") == ["db-2"], healed, "{policy}");
    }
}

#[test]
fn going_back_reuses_the_revision_and_history_is_limited() {
    let mut world = World::new(&json!({"replicas": 1, "revisionHistoryLimit": 1}));
    world.settle();
    let first = world.status().current_revision;
    for image in ["two", "one"] {
        world.image(image);
        world.settle();
    }
    assert_eq!(world.status().current_revision, first);
    assert_eq!(world.revisions.len(), 2);
    for image in ["three", "four", "five"] {
        world.image(image);
        world.settle();
    }
    world.step();
    let mut left: Vec<_> = world.revisions.iter().map(|one| one.revision.unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, [5, 6]);
}

#[test]
fn storage_goes_with_set_or_pod_as_the_policy_says() {
    // whenDeleted, whenScaled, owners of the claim that stays and of the one whose pod goes.
    let cases = [
        ("Retain", "Retain", "", ""),
        ("Delete", "Retain", "StatefulSet", "StatefulSet"),
        ("Retain", "Delete", "", "Pod"),
        ("Delete", "Delete", "StatefulSet", "Pod"),
    ];
    for (deleted, scaled, stays, goes) in cases {
        let policy = json!({"whenDeleted": deleted, "whenScaled": scaled});
        let mut world = World::new(&json!({"replicas": 2, "persistentVolumeClaimRetentionPolicy": policy}));
        world.settle();
        world.set.spec.replicas = Some(1);
        world.step();
        let owner = |name: &str| {
            let owners = world.claims[name].metadata.owner_references.clone().unwrap_or_default();
            owners.iter().map(|owner| owner.kind.clone()).collect::<String>()
        };
        assert_eq!(
            (owner("data-db-0").as_str(), owner("data-db-1").as_str()),
            (stays, goes),
            "{deleted} {scaled}"
        );

        // The pod may come back only when the claim that goes with its forerunner is gone.
        world.set.spec.replicas = Some(2);
        if goes == "Pod" {
            assert!(world.step().is_empty());
            world.claims.remove("data-db-1");
        }
        assert_eq!(pods_of(&world.step(), "create"), ["db-1"]);
    }
}

#[test]
fn claims_of_other_controllers_and_of_earlier_sets_are_left_alone() {
    let policy = json!({"whenDeleted": "Delete"});
    let mut world = World::new(&json!({"replicas": 1, "persistentVolumeClaimRetentionPolicy": policy}));
    world.settle();
    for (kind, name, uid) in [("Backup", "b", "b"), ("StatefulSet", "db", "earlier")] {
        let owners = object(
            json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]),
        );
        Arc::make_mut(world.claims.get_mut("data-db-0").unwrap()).metadata.owner_references = owners;
        assert!(world.step().is_empty(), "{kind}");
    }
}

#[test]
fn a_lost_name_label_is_put_back() {
    let mut world = World::new(&json!({"replicas": 1}));
    world.settle();
    Arc::make_mut(&mut world.pods[0]).metadata.labels.as_mut().unwrap().remove(identity::NAME_LABEL);
    let labels = r#"{"metadata":{"labels":{"apps.kubernetes.io/pod-index":"0","statefulset.kubernetes.io/pod-name":"db-0"}}}"#;
    let told = "event SuccessfulUpdate update Pod db-0 in StatefulSet db successful";
    assert_eq!(world.step(), [format!("patch Pod db-0 {labels}"), told.to_owned()]);
}

#[test]
fn refusals_are_told_and_the_status_is_kept() {
    let mut world = World::new(&json!({"replicas": 1, "volumeClaimTemplates": []}));
    world.set.status = Some(object(json!({"replicas": 0, "currentRevision": "x"})));
    let claim = |_: &str| None;
    let observed = Observed { set: &world.set, pods: &[], revisions: &[], claim: &claim };
    let actions = decide(&observed, at(0));
    let tell = |kind: &str, code: u16| {
        let is_of =
            |action: &&Action| matches!(action, Action::Create(create) if create.resource.kind == kind);
        let action = actions.iter().find(is_of).unwrap().clone();
        let message = "exceeded quota".to_owned();
        let failure = Failure { action, code, reason: "R".into(), message, causes: vec![] };
        let stranger = Arc::new(ControllerRevision::default());
        let told = report(&observed, at(0), &failure, |_| Some(stranger.clone()));
        told.iter().map(summary).collect::<Vec<_>>()
    };
    let told = tell("Pod", 403);
    assert_eq!(told[0], "event FailedCreate create Pod db-0 in StatefulSet db failed error: exceeded quota");
    assert!(told[1].starts_with("patch StatefulSet/status db "), "{told:?}");
    assert_eq!(tell("Pod", 409).len(), 1, "a name that is taken is no news");
    let collision = tell("ControllerRevision", 409);
    assert_eq!(collision, [r#"patch StatefulSet/status db {"status":{"collisionCount":1}}"#]);
}

#[test]
fn a_pod_that_ends_on_a_dead_node_is_not_doubled() {
    for policy in ["OrderedReady", "Parallel"] {
        let mut world = World::new(&json!({"podManagementPolicy": policy}));
        world.settle();
        let since = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0));
        Arc::make_mut(&mut world.pods[1]).metadata.deletion_timestamp = Some(since);
        world.now += 100_000;
        assert!(world.step().is_empty(), "{policy}");
        world.pods.remove(1);
        assert_eq!(pods_of(&world.step(), "create"), ["db-1"], "{policy}");
    }
}
