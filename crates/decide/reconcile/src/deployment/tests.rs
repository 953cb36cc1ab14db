//! A small server on which rollouts are played: pods become ready in one step.

use serde_json::{Value, json};

use super::*;
use crate::testing::{at, object, summary};

struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    now: i64,
    /// ReplicaSets whose pods never become ready.
    broken: Vec<String>,
    log: Vec<String>,
}

impl World {
    fn new(spec: &Value) -> Self {
        let mut deployment = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1}, "spec": {
            "replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
        for (key, value) in spec.as_object().unwrap() {
            deployment["spec"][key] = value.clone();
        }
        Self { deployment: object(deployment), sets: Vec::new(), now: 0, broken: Vec::new(), log: Vec::new() }
    }

    /// One decision, carried out; gives how many steps changed something.
    fn step(&mut self) -> usize {
        let observed = Observed { deployment: &self.deployment, replica_sets: &self.sets, pods: &[] };
        let actions = decide(&observed, at(self.now));
        let mut changes = 0;
        for action in actions {
            changes += usize::from(!matches!(action, Action::RequeueAfter(_)));
            self.log.push(summary(&action));
            match action {
                Action::Create(create) => {
                    let mut set: ReplicaSet = object(create.object);
                    set.metadata.uid = set.metadata.name.clone();
                    set.metadata.generation = Some(1);
                    set.metadata.creation_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(self.now)));
                    self.sets.push(Arc::new(set));
                }
                Action::Patch(patch) if patch.target.resource.kind == "Deployment" => {
                    self.deployment =
                        object(merged(serde_json::to_value(&self.deployment).unwrap(), &patch.body));
                }
                Action::Patch(patch) => {
                    let set = self
                        .sets
                        .iter_mut()
                        .find(|set| set.metadata.name.as_ref() == Some(&patch.target.name))
                        .unwrap();
                    *set = Arc::new(object(merged(serde_json::to_value(&**set).unwrap(), &patch.body)));
                }
                Action::Delete(delete) => {
                    self.sets.retain(|set| set.metadata.name.as_ref() != Some(&delete.target.name))
                }
                _ => {}
            }
        }
        changes
    }

    /// The ReplicaSets do what they were told.
    fn obey(&mut self) {
        for set in &mut self.sets {
            let mut done = (**set).clone();
            let replicas = done.spec.replicas.unwrap();
            let ready = if self.broken.contains(done.metadata.name.as_ref().unwrap()) { 0 } else { replicas };
            done.status = Some(object(
                json!({"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready,
                "observedGeneration": 1}),
            ));
            *set = Arc::new(done);
        }
    }

    /// Sizes of all ReplicaSets after each change, until nothing changes.
    fn play(&mut self) -> Vec<Vec<i32>> {
        let mut seen = Vec::new();
        for _ in 0..60 {
            let changes = self.step();
            let sizes: Vec<_> = self.sets.iter().map(|set| set.spec.replicas.unwrap()).collect();
            if seen.last() != Some(&sizes) {
                seen.push(sizes);
            }
            let before = self.sets.clone();
            self.obey();
            self.now += 1;
            if changes == 0 && before == self.sets {
                return seen;
            }
        }
        panic!("never rests: {:?}", self.log);
    }

    fn image(&mut self, image: &str) {
        self.deployment.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let status = self.deployment.status.clone().unwrap();
        let found = conditions::get(&status, kind).cloned().unwrap_or_default();
        (found.status.unwrap_or_default(), found.reason.unwrap_or_default())
    }
}

fn merged(mut old: Value, patch: &Value) -> Value {
    let Some(fields) = patch.as_object() else { return patch.clone() };
    if !old.is_object() {
        old = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            old.as_object_mut().unwrap().remove(key);
        } else {
            old[key] = merged(old[key].take(), value);
        }
    }
    old
}

fn told(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn rollouts_move_within_surge_and_unavailability() {
    let mut world = World::new(&json!({}));
    assert_eq!(world.play(), [vec![4]]);
    assert_eq!(world.condition("Progressing"), told("True", "NewReplicaSetAvailable"));
    assert_eq!(world.condition("Available"), told("True", "MinimumReplicasAvailable"));
    let name = world.sets[0].metadata.name.clone().unwrap();
    assert!(world.log.contains(&format!("event ScalingReplicaSet Scaled up replica set {name} from 0 to 4")));
    assert_eq!(world.deployment.metadata.annotations.clone().unwrap()[annotations::REVISION], "1");

    world.image("two");
    let sizes = world.play();
    assert_eq!(sizes.first().unwrap(), &[4, 1]);
    assert_eq!(sizes.last().unwrap(), &[0, 4]);
    for size in &sizes {
        let total: i32 = size.iter().sum();
        assert!((3..=5).contains(&total), "{sizes:?}");
    }
    assert_eq!(world.deployment.metadata.annotations.clone().unwrap()[annotations::REVISION], "2");
}

#[test]
fn going_back_reuses_the_old_set_under_a_new_revision() {
    let mut world = World::new(&json!({}));
    world.play();
    world.image("two");
    world.play();
    world.image("one");
    world.play();
    assert_eq!(world.sets.len(), 2);
    let annotations = world.sets[0].metadata.annotations.clone().unwrap();
    assert_eq!(
        (annotations[annotations::REVISION].as_str(), annotations[annotations::HISTORY].as_str()),
        ("3", "1")
    );
    assert_eq!(world.sets[0].spec.replicas, Some(4));
}

#[test]
fn recreate_ends_the_old_first() {
    let mut world = World::new(&json!({"strategy": {"type": "Recreate"}}));
    world.play();
    world.image("two");
    assert_eq!(world.play(), [vec![0], vec![0, 4]]);
}

#[test]
fn a_stuck_rollout_is_told_after_the_deadline() {
    let mut world = World::new(&json!({"progressDeadlineSeconds": 30}));
    world.play();
    world.image("two");
    world.step();
    world.broken.push(world.sets[1].metadata.name.clone().unwrap());
    let sizes = world.play();
    assert_eq!(sizes.last().unwrap(), &[3, 2], "no more than may be missing");
    assert!(world.log.last().unwrap().starts_with("again"), "{:?}", world.log.last());
    world.now += 60;
    world.play();
    assert_eq!(world.condition("Progressing"), told("False", "ProgressDeadlineExceeded"));
    world.broken.clear();
    world.play();
    assert_eq!(world.condition("Progressing"), told("True", "NewReplicaSetAvailable"));
}

#[test]
fn paused_deployments_are_scaled_but_not_rolled() {
    let mut world = World::new(&json!({}));
    world.play();
    world.deployment.spec.paused = Some(true);
    world.image("two");
    assert_eq!(world.play(), [vec![4]]);
    assert_eq!(world.condition("Progressing"), told("Unknown", "DeploymentPaused"));
    world.deployment.spec.replicas = Some(6);
    assert_eq!(world.play(), [vec![6]]);
    world.deployment.spec.paused = None;
    let sizes = world.play();
    assert_eq!(sizes.last().unwrap(), &[0, 6]);
}

#[test]
fn scaling_in_a_rollout_is_shared_in_proportion() {
    let mut world = World::new(
        &json!({"replicas": 10, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}),
    );
    world.play();
    world.image("two");
    world.step();
    world.broken.push(world.sets[1].metadata.name.clone().unwrap());
    assert_eq!(world.play().last().unwrap(), &[8, 5]);
    world.deployment.spec.replicas = Some(15);
    world.step();
    let sizes: Vec<_> = world.sets.iter().map(|set| set.spec.replicas.unwrap()).collect();
    assert_eq!(sizes, [11, 7], "as in upstream's documentation");
}

#[test]
fn history_is_limited() {
    let mut world = World::new(&json!({"revisionHistoryLimit": 1}));
    for image in ["one", "two", "three", "four"] {
        world.image(image);
        world.play();
    }
    let left: Vec<_> = world
        .sets
        .iter()
        .map(|set| set.metadata.annotations.clone().unwrap()[annotations::REVISION].clone())
        .collect();
    assert_eq!(left, ["3", "4"]);
}

#[test]
fn refused_sets_are_told_and_collisions_counted() {
    let world = World::new(&json!({}));
    let observed = Observed { deployment: &world.deployment, replica_sets: &[], pods: &[] };
    let action = decide(&observed, at(0)).remove(0);
    let Action::Create(create) = action.clone() else { panic!("{action:?}") };
    let failure =
        Failure { action, code: 403, reason: "Forbidden".into(), message: "no".into(), causes: vec![] };
    let lines: Vec<_> = report(&observed, at(0), &failure).iter().map(summary).collect();
    assert!(
        lines[0].starts_with("event ReplicaSetCreateError Failed to create new replica set \"web-"),
        "{lines:?}"
    );
    let mut foreign: ReplicaSet = object(create.object);
    foreign.metadata.owner_references = None;
    foreign.spec.template.as_mut().unwrap().spec.as_mut().unwrap().hostname = Some("other".into());
    let sets = [Arc::new(foreign)];
    let observed = Observed { replica_sets: &sets, ..observed };
    let failure = Failure { code: 409, ..failure };
    let lines: Vec<_> = report(&observed, at(0), &failure).iter().map(summary).collect();
    assert_eq!(lines, [r#"patch Deployment/status web {"status":{"collisionCount":1}}"#]);
}
