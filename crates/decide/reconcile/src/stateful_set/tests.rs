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
        Self { set: object(set), pods: Vec::new(), claims: BTreeMap::new(), revisions: Vec::new() }
    }

    /// Decides once, carries out, and gives what was done to pods and claims.
    fn step(&mut self) -> Vec<String> {
        let claims = self.claims.clone();
        let claim = move |name: &str| claims.get(name).cloned();
        let observed =
            Observed { set: &self.set, pods: &self.pods, revisions: &self.revisions, claim: &claim };
        let actions = decide(&observed, at(0));
        let mut log = Vec::new();
        for action in actions {
            let line = summary(&action);
            match action {
                Action::Create(create) if create.resource.kind == "Pod" => {
                    let mut pod: Pod = object(create.object);
                    pod.metadata.uid = pod.metadata.name.clone();
                    self.pods.push(Arc::new(pod));
                    log.push(line);
                }
                Action::Create(create) if create.resource.kind == "PersistentVolumeClaim" => {
                    let claim: PersistentVolumeClaim = object(create.object);
                    self.claims.insert(claim.metadata.name.clone().unwrap(), Arc::new(claim));
                    log.push(line);
                }
                Action::Create(create) => self.revisions.push(Arc::new(object(create.object))),
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
        for pod in &mut self.pods {
            let mut ready = (**pod).clone();
            ready.status = Some(object(
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
            ));
            *pod = Arc::new(ready);
        }
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
    assert_eq!(world.step(), ["create PersistentVolumeClaim data-db-0", "create Pod db-0"]);
    assert!(world.step().is_empty(), "db-0 is not ready yet");
    let log = world.settle();
    let pods: Vec<_> = log.iter().filter(|line| line.starts_with("create Pod")).collect();
    assert_eq!(pods, ["create Pod db-1", "create Pod db-2"]);
    let pod = serde_json::to_value(&*world.pods[1]).unwrap();
    assert_eq!(pod["spec"]["hostname"], "db-1");
    assert_eq!(pod["spec"]["subdomain"], "db");
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "data-db-1");

    world.set.spec.replicas = Some(1);
    let log: Vec<_> = world.settle().into_iter().filter(|line| line.starts_with("delete")).collect();
    assert_eq!(log, ["delete Pod db-2", "delete Pod db-1"]);
    assert_eq!(world.claims.len(), 3, "storage stays");
}

#[test]
fn parallel_sets_do_not_wait() {
    let mut world = World::new(&json!({"podManagementPolicy": "Parallel", "ordinals": {"start": 5}}));
    let log = world.step();
    let pods: Vec<_> = log.iter().filter(|line| line.starts_with("create Pod")).collect();
    assert_eq!(pods, ["create Pod db-5", "create Pod db-6", "create Pod db-7"]);
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
    assert_eq!(deleted, ["delete Pod db-2", "delete Pod db-1"]);
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
    assert_eq!(world.step(), ["delete Pod db-0"]);
    assert_eq!(world.step(), ["create Pod db-0"]);
}
