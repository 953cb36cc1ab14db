//! Tables of Jobs and pods, and a small server that plays a Job to its end.

use serde_json::Value;

use super::*;
use crate::action::difference;
use crate::testing::{at, object, summary};

fn job(spec: Value) -> Job {
    let mut job = json!({
        "metadata": {"name": "j", "namespace": "ns", "uid": "job", "resourceVersion": "1"},
        "spec": {"parallelism": 2, "completions": 3, "backoffLimit": 6, "selector": {"matchLabels": {"job": "j"}},
            "template": {"metadata": {"labels": {"job": "j"}},
                         "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    object(job)
}

/// A world of one Job, whose actions are carried out at once.
struct World {
    job: Job,
    pods: Vec<Arc<Pod>>,
    made: usize,
    now: i64,
    log: Vec<String>,
}

impl World {
    fn new(spec: Value) -> Self {
        Self { job: job(spec), pods: Vec::new(), made: 0, now: 0, log: Vec::new() }
    }

    /// Decides until nothing more is to be done; gives the longest wait asked for.
    fn settle(&mut self) -> Option<std::time::Duration> {
        for _ in 0..20 {
            let observed = Observed { job: &self.job, pods: &self.pods };
            let actions = decide(&observed, at(self.now));
            let again = actions.iter().find_map(|action| match action {
                Action::RequeueAfter(wait) => Some(*wait),
                _ => None,
            });
            if actions.iter().all(|action| matches!(action, Action::RequeueAfter(_))) {
                return again;
            }
            actions.into_iter().for_each(|action| self.apply(action));
        }
        panic!("never rests: {:?}", self.log);
    }

    fn apply(&mut self, action: Action) {
        self.log.push(summary(&action));
        match action {
            Action::Create(create) => {
                let mut pod: Pod = object(create.object);
                self.made += 1;
                pod.metadata.name = Some(format!("p{}", self.made));
                pod.metadata.uid = pod.metadata.name.clone();
                pod.metadata.creation_timestamp = Some(Time(at(self.now)));
                self.pods.push(Arc::new(pod));
            }
            Action::Patch(patch) if patch.target.resource.kind == "Job" => {
                let old = serde_json::to_value(&self.job).unwrap();
                self.job = object(merged(old, &patch.body));
            }
            Action::Patch(patch) => self.change(&patch.target.name, |pod| merged(pod, &patch.body)),
            Action::Delete(delete) => {
                self.change(&delete.target.name, |mut pod| {
                    pod["metadata"]["deletionTimestamp"] = json!(at(0).to_string());
                    pod
                });
                // The node agent ends what is being deleted.
                self.end(&delete.target.name, "Failed");
            }
            _ => {}
        }
        self.pods.retain(|pod| !pod::deleting(pod) || is_tracked(pod));
    }

    fn change(&mut self, name: &str, how: impl FnOnce(Value) -> Value) {
        let pod = self.pods.iter_mut().find(|pod| pod.metadata.name.as_deref() == Some(name)).unwrap();
        *pod = Arc::new(object(how(serde_json::to_value(&**pod).unwrap())));
    }

    fn end(&mut self, name: &str, phase: &str) {
        let now = at(self.now).to_string();
        let code = if phase == "Failed" { 3 } else { 0 };
        self.change(name, |mut pod| {
            let ended = json!({"terminated": {"exitCode": code, "finishedAt": now}});
            let container = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": ended});
            pod["status"] = json!({"phase": phase, "containerStatuses": [container]});
            pod
        });
    }

    fn counts(&self) -> (i32, i32, i32) {
        let status = self.job.status.clone().unwrap_or_default();
        (status.active.unwrap_or(0), status.succeeded.unwrap_or(0), status.failed.unwrap_or(0))
    }

    fn last_condition(&self) -> (String, String) {
        let conditions = self.job.status.clone().unwrap_or_default().conditions.unwrap_or_default();
        let last = conditions.last().cloned().unwrap_or_default();
        (last.type_, last.reason.unwrap_or_default())
    }
}

fn merged(mut old: Value, patch: &Value) -> Value {
    match patch.as_object() {
        None => return patch.clone(),
        Some(fields) => {
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
        }
    }
    old
}

fn ends_as(world: &World, kind: &str, reason: &str) {
    assert_eq!(world.last_condition(), (kind.to_owned(), reason.to_owned()), "{:?}", world.log);
    assert!(!world.pods.iter().any(|pod| is_tracked(pod)), "nothing is held any more");
    let rest = decide(&Observed { job: &world.job, pods: &world.pods }, at(world.now));
    assert!(rest.is_empty(), "a finished Job rests");
}

#[test]
fn pods_are_made_counted_and_let_go() {
    let mut world = World::new(json!({}));
    world.settle();
    assert_eq!(world.counts(), (2, 0, 0));
    world.end("p1", "Succeeded");
    world.settle();
    assert_eq!(world.counts(), (2, 1, 0));
    assert_eq!(world.made, 3);
    world.end("p2", "Succeeded");
    world.settle();
    assert_eq!((world.counts(), world.made), ((1, 2, 0), 3));
    world.end("p3", "Succeeded");
    world.settle();
    assert_eq!(world.counts(), (0, 3, 0));
    ends_as(&world, "Complete", "CompletionsReached");
    assert!(world.log.iter().any(|line| line == "event Completed Job completed"));
    assert!(world.job.status.unwrap().completion_time.is_some());
}

#[test]
fn failures_wait_longer_each_time_and_end_the_job_at_the_limit() {
    let mut world = World::new(json!({"parallelism": 1, "completions": 1, "backoffLimit": 2}));
    world.settle();
    for (number, wait) in [(1, 10), (2, 20)] {
        world.end(&format!("p{number}"), "Failed");
        assert_eq!(world.settle(), Some(std::time::Duration::from_secs(wait)), "failure {number}");
        assert_eq!((world.counts(), world.made), ((0, 0, number), number as usize));
        world.now += i64::try_from(wait).unwrap();
        world.settle();
        assert_eq!(world.made, number as usize + 1);
    }
    world.end("p3", "Failed");
    world.settle();
    assert_eq!(world.counts(), (0, 0, 3));
    ends_as(&world, "Failed", "BackoffLimitExceeded");
}

#[test]
fn a_deadline_ends_active_pods() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 30}));
    assert_eq!(world.settle(), Some(std::time::Duration::from_secs(30)));
    world.now = 30;
    world.settle();
    ends_as(&world, "Failed", "DeadlineExceeded");
    assert_eq!(world.counts(), (0, 0, 2));
}

#[test]
fn indexes_are_each_done_once() {
    let mut world = World::new(json!({"completionMode": "Indexed"}));
    world.settle();
    let pod = serde_json::to_value(&*world.pods[1]).unwrap();
    assert_eq!(pod["metadata"]["labels"][indexes::INDEX], "1");
    assert_eq!(pod["metadata"]["generateName"], "j-1-");
    assert_eq!(pod["spec"]["hostname"], "j-1");
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    world.end("p2", "Succeeded");
    world.settle();
    assert_eq!(world.job.status.clone().unwrap().completed_indexes.as_deref(), Some("1"));
    world.end("p1", "Succeeded");
    world.end("p3", "Succeeded");
    world.settle();
    assert_eq!(world.job.status.clone().unwrap().completed_indexes.as_deref(), Some("0-2"));
    ends_as(&world, "Complete", "CompletionsReached");
}

#[test]
fn failed_indexes_are_left_and_the_others_go_on() {
    let mut world =
        World::new(json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1,
        "backoffLimit": 100}));
    world.settle();
    world.end("p1", "Failed");
    assert_eq!(world.settle(), Some(std::time::Duration::from_secs(10)));
    world.now += 10;
    world.settle();
    assert_eq!(world.made, 3);
    world.end("p3", "Failed");
    world.settle();
    assert_eq!(world.job.status.clone().unwrap().failed_indexes.as_deref(), Some("0"));
    world.end("p2", "Succeeded");
    world.settle();
    ends_as(&world, "Failed", "FailedIndexes");
    assert_eq!(world.counts(), (0, 1, 2));
}

#[test]
fn a_failure_policy_fails_ignores_or_counts() {
    let policy = |action: &str| {
        json!({"parallelism": 1, "completions": 1, "podFailurePolicy": {"rules": [
            {"action": action, "onExitCodes": {"operator": "In", "values": [3]}}]}})
    };
    let mut world = World::new(policy("FailJob"));
    world.settle();
    world.end("p1", "Failed");
    world.settle();
    ends_as(&world, "Failed", "PodFailurePolicy");
    let message =
        world.job.status.clone().unwrap().conditions.unwrap().last().unwrap().message.clone().unwrap();
    assert_eq!(message, "Container c for pod ns/p1 failed with exit code 3 matching FailJob rule at index 0");

    let mut world = World::new(policy("Ignore"));
    world.settle();
    world.end("p1", "Failed");
    world.settle();
    assert_eq!(world.counts().2, 0);
}

#[test]
fn a_success_policy_ends_the_job_early() {
    let mut world = World::new(json!({"completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0,2", "succeededCount": 1}]}}));
    world.settle();
    world.end("p1", "Succeeded");
    world.settle();
    ends_as(&world, "Complete", "SuccessPolicy");
}

#[test]
fn suspended_jobs_have_no_pods_and_come_back() {
    let mut world = World::new(json!({}));
    world.settle();
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    world.settle();
    assert_eq!((world.counts(), world.pods.len()), ((0, 0, 0), 0));
    assert_eq!(world.last_condition(), ("Suspended".to_owned(), "JobSuspended".to_owned()));
    assert_eq!(world.job.status.as_ref().unwrap().start_time, None);
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.now = 5;
    world.settle();
    assert_eq!(world.counts(), (2, 0, 0));
    assert_eq!(world.job.status.unwrap().start_time, Some(Time(at(5))));
}

#[test]
fn a_namespace_that_ends_waits_for_no_replacement() {
    let mut world = World::new(json!({"completionMode": "Indexed", "backoffLimitPerIndex": 3}));
    world.settle();
    world.end("p1", "Failed");
    world.settle();
    let held = |world: &World| world.pods.iter().filter(|pod| pod::finished(pod) && is_tracked(pod)).count();
    assert_eq!(held(&world), 1);
    let failure = Failure {
        action: Action::create(&*world.pods[0]).into(),
        code: 403,
        reason: "Forbidden".to_owned(),
        message: String::new(),
        causes: vec!["NamespaceTerminating".to_owned()],
    };
    let told = report(&Observed { job: &world.job, pods: &world.pods }, at(0), &failure);
    told.into_iter().for_each(|action| world.apply(action));
    assert_eq!((held(&world), world.log.last().unwrap().starts_with("patch Pod p1")), (0, true));
}

#[test]
fn less_parallelism_deletes_pods_uncounted() {
    let mut world = World::new(json!({}));
    world.settle();
    world.job.spec.as_mut().unwrap().parallelism = Some(1);
    world.settle();
    assert_eq!((world.counts(), world.pods.len()), ((1, 0, 0), 1));
    assert!(difference(&json!(1), &json!(1)).is_none());
}

#[test]
fn failures_come_before_early_success() {
    let mut world = World::new(json!({"completionMode": "Indexed", "backoffLimit": 0,
        "successPolicy": {"rules": [{"succeededCount": 1}]}}));
    world.settle();
    world.end("p1", "Succeeded");
    world.end("p2", "Failed");
    world.settle();
    ends_as(&world, "Failed", "BackoffLimitExceeded");
}

#[test]
fn work_queues_end_after_the_first_success_by_themselves() {
    let mut world = World::new(json!({"completions": null, "parallelism": 3}));
    world.settle();
    world.end("p1", "Succeeded");
    world.job.spec.as_mut().unwrap().parallelism = Some(1);
    world.settle();
    assert_eq!((world.counts(), world.made), ((2, 1, 0), 3), "what runs is left alone");
    world.end("p2", "Succeeded");
    world.end("p3", "Failed");
    world.settle();
    assert_eq!(world.counts(), (0, 2, 1));
    ends_as(&world, "Complete", "CompletionsReached");
}

#[test]
fn pods_that_are_taken_in_are_held_and_released_ones_are_not() {
    let mut world = World::new(json!({"parallelism": 1, "completions": 1}));
    world.settle();
    world.change("p1", |mut pod| {
        pod["metadata"]["ownerReferences"] = json!([]);
        pod["metadata"]["finalizers"] = json!(["other"]);
        pod
    });
    world.settle();
    assert_eq!(world.made, 1, "it is counted at once");
    assert_eq!(world.pods[0].metadata.finalizers, Some(vec!["other".to_owned(), TRACKING.to_owned()]));
    world.change("p1", |mut pod| {
        pod["metadata"]["labels"]["job"] = json!("another");
        pod
    });
    world.settle();
    assert_eq!(world.pods[0].metadata.finalizers, Some(vec!["other".to_owned()]));
    assert_eq!(world.made, 2);
}

#[test]
fn orphans_are_let_go_unless_a_job_will_take_them() {
    let mut world = World::new(json!({}));
    world.settle();
    world.change("p1", |mut pod| {
        pod["metadata"]["ownerReferences"] = json!([]);
        pod
    });
    let jobs = [Arc::new(world.job.clone())];
    assert!(release_orphan(&world.pods[0], &jobs).is_empty(), "it is taken back");
    let freed = release_orphan(&world.pods[0], &[]);
    assert_eq!(
        freed.iter().map(summary).collect::<Vec<_>>(),
        [r#"patch Pod p1 {"metadata":{"finalizers":[]}}"#]
    );
    assert!(release_orphan(&world.pods[1], &[]).is_empty(), "it has an owner");
}

#[test]
fn more_successes_than_asked_for_are_told() {
    let mut world = World::new(json!({"parallelism": 1, "completions": 1}));
    world.settle();
    let mut second = serde_json::to_value(&*world.pods[0]).unwrap();
    second["metadata"]["name"] = json!("p9");
    second["metadata"]["uid"] = json!("p9");
    world.pods.push(Arc::new(object(second)));
    world.end("p1", "Succeeded");
    world.end("p9", "Succeeded");
    world.settle();
    assert!(world.log.iter().any(|line| line.starts_with("event TooManySucceededPods")), "{:?}", world.log);
    ends_as(&world, "Complete", "CompletionsReached");
}

#[test]
fn elastic_indexed_jobs_grow_and_shrink() {
    let mut world = World::new(json!({"completionMode": "Indexed", "parallelism": 3}));
    world.settle();
    world.end("p1", "Succeeded");
    world.end("p3", "Succeeded");
    world.settle();
    let resize = |world: &mut World, size: i32| {
        let spec = world.job.spec.as_mut().unwrap();
        (spec.completions, spec.parallelism) = (Some(size), Some(size));
        world.settle();
    };
    resize(&mut world, 5);
    assert_eq!((world.counts(), world.made), ((3, 2, 0), 5));
    resize(&mut world, 2);
    let status = world.job.status.clone().unwrap();
    assert_eq!((status.completed_indexes.as_deref(), status.succeeded), (Some("0"), Some(1)));
    world.end("p2", "Succeeded");
    world.settle();
    ends_as(&world, "Complete", "CompletionsReached");
}

#[test]
fn pods_are_replaced_only_when_they_have_failed() {
    let count = |policy: Value| {
        let mut world =
            World::new(json!({"parallelism": 1, "completions": 1, "podReplacementPolicy": policy}));
        world.settle();
        world.change("p1", |mut pod| {
            pod["metadata"]["deletionTimestamp"] = json!(at(0).to_string());
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            pod
        });
        world.now = 60;
        world.settle();
        (world.made, world.job.status.unwrap().terminating)
    };
    assert_eq!(count(json!("TerminatingOrFailed")).0, 2);
    assert_eq!(count(json!("Failed")), (1, Some(1)));
}

#[test]
fn jobs_of_other_managers_are_left_alone() {
    let mut world = World::new(json!({"managedBy": "example.com/other"}));
    world.settle();
    assert!(world.log.is_empty());
    let mut own = World::new(json!({"managedBy": "kubernetes.io/job-controller"}));
    own.settle();
    assert_eq!(own.made, 2);
}

#[test]
fn too_many_failed_indexes_end_the_job() {
    let mut world = World::new(json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4,
        "backoffLimitPerIndex": 0, "maxFailedIndexes": 1, "backoffLimit": 100}));
    world.settle();
    world.end("p1", "Failed");
    world.settle();
    assert_eq!(world.job.status.clone().unwrap().failed_indexes.as_deref(), Some("0"));
    world.end("p2", "Failed");
    world.settle();
    ends_as(&world, "Failed", "MaxFailedIndexesExceeded");
    assert_eq!(world.counts(), (0, 0, 4), "the pods that were ended count, too");
}

#[test]
fn a_rule_fails_an_index_before_its_limit() {
    let mut world =
        World::new(json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 5,
        "backoffLimit": 100, "podFailurePolicy": {"rules": [
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3]}}]}}));
    world.settle();
    world.end("p1", "Failed");
    world.settle();
    assert_eq!(world.job.status.clone().unwrap().failed_indexes.as_deref(), Some("0"));
    assert_eq!(world.made, 2, "it is not tried again");
}
