//! Replica owners beside their pods, a line for each pod.

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
    let status = |name: &str, restarts: Option<&str>| {
        json!({"name": name, "image": "", "imageID": "", "ready": true,
            "restartCount": restarts.map_or(0, |text| text.parse().unwrap())})
    };
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
        "metadata": {"name": name, "namespace": "ns", "uid": value("uid").unwrap_or(name), "resourceVersion": "1",
            "labels": {"app": value("app").unwrap_or("web")},
            "annotations": value("cost").map(|cost| json!({"controller.kubernetes.io/pod-deletion-cost": cost})),
            "creationTimestamp": time(value("age")),
            "deletionTimestamp": has("deleting").then(|| time(None)),
            "ownerReferences": if has("orphan") { json!(null) } else { json!([owner]) }},
        "spec": {"containers": [], "nodeName": value("node"),
            "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "init"}]},
        "status": {"phase": phase,
            "initContainerStatuses": [status("side", value("side")), status("init", value("init"))],
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
    });
    let owner = set(3, none);
    assert_eq!(run(&owner, &[]), vec!["create Pod web-abc- · SuccessfulCreate"; 3]);
    let pods = [pod("a", "running ready node=n1"), pod("b", "failed"), pod("c", "deleting")];
    let status = r#"patch ReplicaSet/status web-abc {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"readyReplicas":1,"replicas":1,"terminatingReplicas":1}}"#;
    let create = "create Pod web-abc- · SuccessfulCreate";
    assert_eq!(run(&owner, &pods), [create, create, status]);
}

#[test]
fn pods_are_adopted_and_released_by_selector() {
    let pods = [pod("a", "orphan"), pod("b", "app=other"), pod("c", "orphan app=other"), pod("d", "owner=x")];
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
        ("running ready node=n1", "running ready node=n1 cost=7"),
        ("running ready node=n1 cost=-5 ready-for=90", "running ready node=n1 cost=+7 ready-for=10"),
        ("running ready node=n1 restarts=1 side=9", "running ready node=n1 side=9"),
        ("running ready node=n1 side=2", "running ready node=n1 init=9"),
        // Ready for 85 s and for 100 s is the same power of two: the id decides.
        ("running ready node=n1 ready-for=100 uid=a", "running ready node=n1 ready-for=85 uid=b"),
        // So is 75 s, but that is too short to be available.
        ("running ready node=n1 ready-for=75 uid=b", "running ready node=n1 ready-for=100 uid=a"),
    ];
    for (first, second) in cases {
        let pods = [pod("z", first), pod("y", second)];
        let mut owner = set(1, json!({"replicas": 0}));
        owner.min_ready_seconds = 80;
        for pods in [[pods[0].clone(), pods[1].clone()], [pods[1].clone(), pods[0].clone()]] {
            let got = run(&owner, &pods);
            assert_eq!(got[0], "delete Pod z · SuccessfulDelete", "{first} before {second}");
        }
    }
    let doubled =
        [pod("a", "ready node=n1"), pod("b", "ready node=n2"), pod("c", "ready node=n1 ready-for=101")];
    let got = run(&set(2, json!({"replicas": 0})), &doubled);
    assert_ne!(got[0], "delete Pod b · SuccessfulDelete", "n1 has two");
}

#[test]
fn many_pods_have_one_order() {
    // Two by two, id, restarts and time would turn in circles.
    let pods: Vec<_> = (0..300)
        .map(|number: usize| {
            let (id, since, restarts) = (number * 7 % 300, 70 + number % 3 * 15, number * 11 % 5);
            pod(
                &format!("p{number}"),
                &format!("running ready node=n1 ready-for={since} restarts={restarts} uid={id:03}"),
            )
        })
        .collect();
    let got = run(&set(100, json!({"replicas": 0})), &pods);
    assert_eq!(got.iter().filter(|line| line.starts_with("delete")).count(), 200);
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let mut owner = set(
        1,
        json!({"replicas": 1, "observedGeneration": 2, "terminatingReplicas": 0,
        "fullyLabeledReplicas": 1, "readyReplicas": 1}),
    );
    owner.min_ready_seconds = 30;
    assert_eq!(run(&owner, &[pod("a", "ready node=n ready-for=10")]), ["again 20s"]);
}

#[test]
fn a_refused_creation_is_told_in_the_status_and_taken_back() {
    let owner = set(1, json!({"replicas": 0, "observedGeneration": 2}));
    let observed = Observed { owner: &owner, pods: &[], related: &[] };
    let action = decide(&observed, at(0)).remove(0);
    let failure =
        Failure { action, code: 403, reason: "Forbidden".into(), message: "quota".into(), causes: vec![] };
    let told = report(&observed, at(0), &failure).iter().map(summary).collect::<String>();
    assert!(
        told.contains(r#""message":"quota","reason":"FailedCreate","status":"True","type":"ReplicaFailure""#),
        "{told}"
    );

    let owner = set(0, json!({"replicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True"}]}));
    let told = run(&owner, &[]).concat();
    assert!(told.contains(r#""conditions":null"#), "{told}");
}

#[test]
fn orphans_that_match_are_adopted_and_no_more_are_made() {
    let orphans = [pod("a", "orphan running ready node=n1"), pod("b", "orphan running ready node=n1")];
    let got = run(&set(2, json!({"replicas": 0})), &orphans);
    assert!(got[0].starts_with("patch Pod a") && got[1].starts_with("patch Pod b"), "{got:?}");
    assert!(got[2].contains(r#""replicas":2"#), "{got:?}");
    assert_eq!(got.len(), 3, "{got:?}");
    let ended = [pod("a", "orphan failed"), pod("b", "orphan deleting")];
    let got = run(&set(0, json!({"replicas": 0})), &ended);
    assert!(!got.iter().any(|line| line.starts_with("patch Pod ")), "what ended is not taken: {got:?}");
}

#[test]
fn at_most_500_pods_are_made_or_deleted_at_once() {
    let count = |lines: &[String], what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!(count(&run(&set(1200, json!({"replicas": 0})), &[]), "create"), 500);
    let pods: Vec<_> = (0..700).map(|number| pod(&format!("p{number}"), "running ready node=n1")).collect();
    assert_eq!(count(&run(&set(0, json!({"replicas": 0})), &pods), "delete"), 500);
}

#[test]
fn replication_controllers_do_not_count_what_ends() {
    let controller: ReplicationController = object(json!({
        "metadata": {"name": "rc", "namespace": "ns", "uid": "rs", "generation": 1},
        "spec": {"replicas": 1, "selector": {"app": "web"},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}}));
    let pods = [pod("a", "running ready node=n1"), pod("b", "deleting")];
    let status = r#"patch ReplicationController/status rc {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"observedGeneration":1,"readyReplicas":1,"replicas":1}}"#;
    assert_eq!(run(&ReplicaOwner::from(&controller), &pods), [status]);
}
