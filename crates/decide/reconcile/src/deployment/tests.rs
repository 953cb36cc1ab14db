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
                    let changed: Deployment =
                        object(merged(serde_json::to_value(&self.deployment).unwrap(), &patch.body));
                    let before = std::mem::replace(&mut self.deployment, changed);
                    self.count_generation(&before, patch.subresource);
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

    /// As the server counts: by the door of the status only the status and metadata change, and nothing
    /// is a new generation.
    fn count_generation(&mut self, before: &Deployment, subresource: Option<&str>) {
        let (is, was) = (&mut self.deployment, before);
        let same = (is.spec == was.spec, is.metadata.annotations == was.metadata.annotations);
        match subresource {
            Some(_) => assert!(same.0, "the status door changes no spec"),
            None => *is.metadata.generation.as_mut().unwrap() += i64::from(same != (true, true)),
        }
    }

    /// The generation, and the one that the status tells of.
    fn generations(&self) -> [Option<i64>; 2] {
        let observed = self.deployment.status.as_ref().and_then(|status| status.observed_generation);
        [self.deployment.metadata.generation, observed]
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
    assert_eq!(world.generations(), [Some(1); 2], "the revision is no new generation");

    world.image("two");
    let sizes = world.play();
    assert_eq!(sizes.first().unwrap(), &[4, 1]);
    assert_eq!(sizes.last().unwrap(), &[0, 4]);
    for size in &sizes {
        let total: i32 = size.iter().sum();
        assert!((3..=5).contains(&total), "{sizes:?}");
    }
    assert_eq!(world.deployment.metadata.annotations.clone().unwrap()[annotations::REVISION], "2");
    assert_eq!(world.generations(), [Some(2); 2]);
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
fn what_is_not_available_goes_first_and_what_is_stays() {
    // Of 4 replicas 1 may be missing. Old sets and the new one, replicas and the available of them as they
    // last said; what the old ones are made to.
    type Told = [i32; 2];
    let cases: [(&[Told], Told, &[i32]); 7] = [
        (&[[4, 4]], [1, 0], &[3]),
        (&[[4, 3]], [1, 0], &[3]),
        (&[[4, 4]], [1, 1], &[2]),
        // Ready, but not for long enough: nothing more goes.
        (&[[3, 3]], [2, 0], &[3]),
        (&[[2, 0], [3, 3]], [0, 0], &[0, 3]),
        // The older set speaks of a pod that it was told to give up.
        (&[[3, 4], [2, 0]], [0, 0], &[3, 0]),
        (&[[0, 2], [4, 4]], [1, 1], &[0, 2]),
    ];
    for (old, new, expected) in cases {
        let mut world = World::new(&json!({"revisionHistoryLimit": null}));
        let told: Vec<_> = old.iter().chain([&new]).collect();
        for image in 0..told.len() {
            world.image(&image.to_string());
            world.step();
            world.now += 1;
        }
        for (set, [replicas, available]) in world.sets.iter_mut().zip(told) {
            let mut said = (**set).clone();
            said.spec.replicas = Some(*replicas);
            said.status = Some(object(json!({"replicas": 4, "availableReplicas": available})));
            *set = Arc::new(said);
        }
        world.step();
        let sizes: Vec<_> = world.sets.iter().map(|set| set.spec.replicas.unwrap()).collect();
        assert_eq!(&sizes[..old.len()], expected, "{old:?} {new:?}");
    }
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
    let failure = |code| Failure {
        action: action.clone(),
        code,
        reason: "R".into(),
        message: "no".into(),
        causes: vec![],
    };
    let tell = |code: u16, taken: Option<ReplicaSet>| {
        let taken = taken.map(Arc::new);
        let told = report(&observed, at(0), &failure(code), |_| taken.clone());
        told.iter().map(summary).collect::<Vec<_>>()
    };
    let told = tell(403, None);
    assert!(
        told[0].starts_with("event ReplicaSetCreateError Failed to create new replica set \"web-"),
        "{told:?}"
    );
    assert!(told[1].contains(r#""reason":"ReplicaSetCreateError","status":"False""#), "{told:?}");
    let own: ReplicaSet = object(create.object);
    let mut changed = own.clone();
    changed.spec.template.as_mut().unwrap().spec.as_mut().unwrap().hostname = Some("other".into());
    let mut foreign = own.clone();
    foreign.metadata.owner_references.as_mut().unwrap()[0].uid = "other".to_owned();
    let counted = vec![r#"patch Deployment/status web {"status":{"collisionCount":1}}"#.to_owned()];
    let cases =
        [(None, vec![]), (Some(own), vec![]), (Some(changed), counted.clone()), (Some(foreign), counted)];
    for (taken, expected) in cases {
        assert_eq!(tell(409, taken.clone()), expected, "{taken:?}");
    }
    let mut counting = world.deployment.clone();
    counting.status = Some(object(json!({"collisionCount": 1})));
    let again = decide(&Observed { deployment: &counting, ..observed }, at(0)).remove(0);
    assert_ne!(summary(&again), summary(&action), "another name");
}

#[test]
fn orphans_of_the_same_template_are_adopted_and_no_other_is_made() {
    let mut world = World::new(&json!({}));
    world.play();
    Arc::make_mut(&mut world.sets[0]).metadata.owner_references = None;
    world.log.clear();
    world.step();
    assert!(world.log[0].starts_with("patch ReplicaSet web-") && world.log[0].contains("ownerReferences"));
    assert!(!world.log.iter().any(|line| line.starts_with("create")), "{:?}", world.log);
    assert_eq!(world.play().last().unwrap(), &[4]);
}

#[test]
fn templates_that_differ_by_empty_lists_are_not_rolled_out() {
    let mut world = World::new(&json!({}));
    world.play();
    let template = &mut world.deployment.spec.template;
    template.spec.as_mut().unwrap().containers[0].env = Some(vec![]);
    template.metadata.as_mut().unwrap().annotations = Some(std::collections::BTreeMap::new());
    assert_eq!(world.play(), [vec![4]]);
}

#[test]
fn a_rollout_is_taken_over_by_the_next() {
    let mut world = World::new(&json!({"replicas": 10,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}));
    world.play();
    world.image("two");
    world.step();
    world.broken.push(world.sets[1].metadata.name.clone().unwrap());
    assert_eq!(world.play().last().unwrap(), &[8, 5]);
    world.image("three");
    let sizes = world.play();
    assert_eq!(sizes[0], [8, 0, 0], "those that never got ready go first: there is no room before that");
    assert_eq!(sizes.last().unwrap(), &[0, 0, 10]);
}

#[test]
fn recreate_waits_for_the_end_of_its_own_pods_only() {
    let mut world = World::new(&json!({"strategy": {"type": "Recreate"}}));
    world.play();
    world.image("two");
    world.step();
    world.obey();
    let pod = |owner: &str, phase: &str| -> Arc<Pod> {
        Arc::new(object(json!({"metadata": {"name": "p", "namespace": "ns", "ownerReferences":
            [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]},
            "status": {"phase": phase}})))
    };
    let own = world.sets[0].metadata.name.clone().unwrap();
    let stranger: ReplicaSet = object(json!({"metadata": {"name": "x", "namespace": "ns", "uid": "x",
        "labels": {"app": "other"}}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "other"}}}}));
    world.sets.push(Arc::new(stranger));
    // Pods and whether the next ReplicaSet waits for them.
    let cases = [
        (vec![pod(&own, "Running")], true),
        (vec![pod(&own, "Unknown")], true),
        (vec![pod(&own, "Failed"), pod(&own, "Succeeded")], false),
        (vec![pod("x", "Running")], false),
    ];
    for (pods, waits) in cases {
        let observed = Observed { deployment: &world.deployment, replica_sets: &world.sets, pods: &pods };
        let actions = decide(&observed, at(world.now));
        let makes = actions.iter().any(|action| matches!(action, Action::Create(_)));
        assert_eq!(makes, !waits, "{pods:?}");
    }
}

#[test]
fn conditions_follow_a_rollout() {
    let mut world = World::new(&json!({}));
    world.step();
    let (new, message) = (world.sets[0].metadata.name.clone().unwrap(), |world: &World| {
        let status = world.deployment.status.clone().unwrap();
        conditions::get(&status, "Progressing").unwrap().message.clone().unwrap()
    });
    assert_eq!(world.condition("Progressing"), told("True", "NewReplicaSetCreated"));
    assert_eq!(message(&world), format!("Created new replica set \"{new}\""));
    assert_eq!(world.condition("Available"), told("False", "MinimumReplicasUnavailable"));
    let status = world.deployment.status.clone().unwrap();
    assert_eq!((status.unavailable_replicas, status.terminating_replicas), (Some(4), None));

    let partly = json!({"replicas": 4, "readyReplicas": 2, "availableReplicas": 2, "terminatingReplicas": 1});
    Arc::make_mut(&mut world.sets[0]).status = Some(object(partly));
    world.step();
    assert_eq!(world.condition("Progressing"), told("True", "ReplicaSetUpdated"));
    assert_eq!(message(&world), format!("ReplicaSet \"{new}\" is progressing."));
    let status = world.deployment.status.clone().unwrap();
    assert_eq!((status.ready_replicas, status.terminating_replicas), (Some(2), Some(1)));
    world.play();
    assert_eq!(message(&world), format!("ReplicaSet \"{new}\" has successfully progressed."));

    world.deployment.spec.progress_deadline_seconds = Some(i32::MAX);
    world.play();
    assert_eq!(world.condition("Progressing"), told("", ""), "nobody asked for it");
    world.deployment.spec.progress_deadline_seconds = Some(600);
    world.step();
    world.deployment.spec.paused = Some(true);
    world.step();
    assert_eq!(world.condition("Progressing"), told("Unknown", "DeploymentPaused"));
    world.deployment.spec.paused = None;
    world.image("two");
    world.broken.push("all".to_owned());
    world.deployment.spec.replicas = Some(5);
    world.step();
    assert_eq!(world.condition("Progressing"), told("Unknown", "DeploymentResumed"));
}

#[test]
fn found_sets_start_the_clock_and_their_failures_are_told() {
    let mut world = World::new(&json!({}));
    world.step();
    world.deployment.status = None;
    let failed = json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True",
        "reason": "FailedCreate", "message": "quota", "lastTransitionTime": at(0).to_string()}]});
    Arc::make_mut(&mut world.sets[0]).status = Some(object(failed));
    world.step();
    assert_eq!(world.condition("Progressing"), told("True", "FoundNewReplicaSet"));
    assert_eq!(world.condition("ReplicaFailure"), told("True", "FailedCreate"));
    world.play();
    assert_eq!(world.condition("ReplicaFailure"), told("", ""));
}

#[test]
fn a_complete_deployment_is_never_late() {
    let mut world = World::new(&json!({"progressDeadlineSeconds": 30}));
    world.play();
    world.broken.push(world.sets[0].metadata.name.clone().unwrap());
    world.play();
    world.now += 1000;
    world.log.clear();
    world.step();
    assert_eq!(world.log, [""; 0], "nothing to do, nothing to wait for");
    assert_eq!(world.condition("Available"), told("False", "MinimumReplicasUnavailable"));
}

#[test]
fn an_annotation_rolls_back() {
    // Revision asked for, what is told, the image afterwards.
    let cases = [
        ("0", "DeploymentRollback Rolled back deployment \"web\" to revision 2", "two"),
        ("1", "DeploymentRollback Rolled back deployment \"web\" to revision 1", "one"),
        (
            "3",
            "DeploymentRollbackTemplateUnchanged The rollback revision contains the same template as current deployment \"web\"",
            "three",
        ),
        ("9", "DeploymentRollbackRevisionNotFound Unable to find the revision to rollback to.", "three"),
    ];
    for (asked, told, image) in cases {
        let mut world = World::new(&json!({}));
        for image in ["one", "two", "three"] {
            let annotations = world.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert("kubernetes.io/change-cause".to_owned(), image.to_owned());
            world.image(image);
            world.play();
        }
        let annotations = world.deployment.metadata.annotations.as_mut().unwrap();
        annotations.insert(annotations::ROLLBACK.to_owned(), asked.to_owned());
        world.log.clear();
        world.play();
        assert!(world.log.contains(&format!("event {told}")), "{asked}: {:?}", world.log);
        let spec = world.deployment.spec.template.spec.as_ref().unwrap();
        let annotations = world.deployment.metadata.annotations.as_ref().unwrap();
        assert_eq!(spec.containers[0].image.as_deref(), Some(image), "{asked}");
        assert_eq!(annotations["kubernetes.io/change-cause"], image, "{asked}");
        assert!(!annotations.contains_key(annotations::ROLLBACK), "{asked}");
        let labels = world.deployment.spec.template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
        assert_eq!(labels.len(), 1, "{labels:?}");
    }
}

#[test]
fn equal_sets_grow_new_first_and_shrink_old_first() {
    // Sizes of old and new, the Deployment before and after, sizes then.
    let cases = [
        ((5, 5), 10, 11, [5, 6]),
        ((5, 5), 10, 9, [4, 5]),
        ((8, 2), 10, 20, [16, 4]),
        ((3, 1), 4, 0, [0, 0]),
    ];
    for ((old, new), before, after, expected) in cases {
        let mut world = World::new(&json!({"replicas": before,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}));
        world.play();
        world.image("two");
        world.step();
        for (at, size) in [(0, old), (1, new)] {
            let set = Arc::make_mut(&mut world.sets[at]);
            set.spec.replicas = Some(size);
            let annotations = set.metadata.annotations.as_mut().unwrap();
            annotations::set_sizes(annotations, before, before);
        }
        world.deployment.spec.replicas = Some(after);
        world.step();
        let sizes: Vec<_> = world.sets.iter().map(|set| set.spec.replicas.unwrap()).collect();
        assert_eq!(sizes, expected, "{old}+{new} from {before} to {after}");
    }
}
