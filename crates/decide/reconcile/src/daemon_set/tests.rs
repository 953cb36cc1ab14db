//! DaemonSets on nodes that do what they are told.

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
                let node = target_node(&pod).to_owned();
                pod.spec.as_mut().unwrap().node_name = Some(node);
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
    decide(&Observed { set, pods, revisions: &[], nodes, failures: &Failures::default() }, at(10))
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
    let images: Vec<_> =
        pods.iter().map(|pod| pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone())).collect();
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

/// A pod for a node from words such as `old ready bound`.
fn pod_on(set: &DaemonSet, node: &str, name: &str, words: &str) -> Arc<Pod> {
    let has = |word: &str| words.split(' ').any(|one| one == word);
    let current = history::current(set, &set.spec.template, Labelled::AsPods, &[], 0);
    let hash = if has("old") { "old" } else { current.hash.as_str() };
    let mut pod = pod::from_template("ns", &controller_ref(set), &placement::template_for(set, hash, node));
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.uid = pod.metadata.name.clone();
    if has("deleting") {
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    }
    if !has("unbound") {
        pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
    }
    let phase = ["Failed", "Succeeded"].into_iter().find(|phase| has(phase)).unwrap_or("Running");
    let ready = if has("ready") { "True" } else { "False" };
    pod.status = Some(object(json!({"phase": phase, "conditions": [
        {"type": "Ready", "status": ready, "lastTransitionTime": at(0).to_string()}]})));
    Arc::new(pod)
}

/// What is set, pods with their nodes, what is done.
type Case<'a, T> = (T, &'a [(usize, &'a str)], &'a [&'a str]);

/// What is done about pods of a set with this spec, one set of words for each node.
fn done(spec: &Value, pods: &[(usize, &str)], all: &[Arc<Node>]) -> Vec<String> {
    let set = set("one", spec);
    let make = |(at, (node, words)): (usize, &(usize, &str))| {
        pod_on(&set, &format!("n{node}"), &format!("p{at}"), words)
    };
    let pods: Vec<_> = pods.iter().enumerate().map(make).collect();
    let actions = run(&set, &pods, all);
    let lines = actions.iter().filter_map(|action| match action {
        Action::Create(create) if create.resource.kind == "Pod" => {
            Some(format!("create on {}", target_node(&object::<Pod>(create.object.clone()))))
        }
        Action::Delete(delete) => Some(format!("delete {}", delete.target.name)),
        _ => None,
    });
    lines.collect()
}

#[test]
fn a_node_is_brought_to_one_pod() {
    let surge = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    // Spec, pods of the one node, what is done.
    let cases: [Case<'_, &Value>; 10] = [
        (&json!({}), &[], &["create on n0"]),
        (&json!({}), &[(0, "ready"), (0, "ready")], &["delete p1"]),
        (&json!({}), &[(0, "unbound"), (0, "ready")], &["delete p0"]),
        (&json!({}), &[(0, "Failed")], &["delete p0"]),
        (&json!({}), &[(0, "Succeeded")], &["delete p0"]),
        (&json!({}), &[(0, "Failed deleting")], &["create on n0"]),
        (&json!({}), &[(0, "deleting")], &[]),
        (&surge, &[(0, "deleting")], &["create on n0"]),
        (&json!({}), &[(0, "ready"), (7, "unbound")], &["delete p1"]),
        (&json!({}), &[(0, "ready"), (7, "ready")], &[]),
    ];
    for (spec, pods, expected) in cases {
        assert_eq!(done(spec, pods, &nodes(1)), expected, "{pods:?}");
    }
}

#[test]
fn updates_keep_within_what_may_be_unavailable() {
    let most = |most: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": most}}});
    // What may be unavailable, pods of four nodes, what is done.
    let cases: [(Value, [&str; 4], &[&str]); 6] = [
        (json!(1), ["old ready", "old ready", "old ready", "old ready"], &["delete p0"]),
        (json!(2), ["old ready", "old ready", "old ready", "old ready"], &["delete p0", "delete p1"]),
        (json!("30%"), ["old ready", "old ready", "old ready", "old ready"], &["delete p0", "delete p1"]),
        (json!(1), ["new", "old ready", "old ready", "old ready"], &[]),
        (json!(1), ["old ready", "old", "old", "old ready"], &["delete p1", "delete p2"]),
        (json!(0), ["old ready", "old ready", "new ready", "new ready"], &["delete p0"]),
    ];
    for (unavailable, words, expected) in cases {
        let pods: Vec<_> = words.iter().enumerate().map(|(at, words)| (at, *words)).collect();
        assert_eq!(done(&most(unavailable), &pods, &nodes(4)), expected, "{words:?}");
    }
}

#[test]
fn surging_updates_keep_every_node_served() {
    let surge = |most: usize| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": most, "maxUnavailable": 0}}});
    // How many may surge, pods with their nodes, what is done.
    let cases: [Case<'_, usize>; 7] = [
        (1, &[(0, "old ready"), (1, "old ready")], &["create on n0"]),
        (2, &[(0, "old ready"), (1, "old ready")], &["create on n0", "create on n1"]),
        (1, &[(0, "old ready"), (0, "new"), (1, "old ready")], &[]),
        (1, &[(0, "old ready"), (0, "new ready"), (1, "old ready")], &["delete p0"]),
        (1, &[(0, "old"), (0, "new"), (1, "old ready")], &["delete p0"]),
        (1, &[(0, "old"), (1, "old")], &["create on n0", "create on n1"]),
        (1, &[(0, "old ready"), (0, "old ready"), (1, "new ready")], &["delete p1"]),
    ];
    for (most, pods, expected) in cases {
        assert_eq!(done(&surge(most), pods, &nodes(2)), expected, "{most} {pods:?}");
    }
}

#[test]
fn a_pod_leaves_a_node_that_no_longer_fits_when_another_serves() {
    let spec = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    let mut all = nodes(2);
    let taint = object(json!([{"key": "k", "effect": "NoSchedule"}]));
    Arc::make_mut(&mut all[0]).spec.get_or_insert_default().taints = Some(taint);
    let before = [(0, "old ready"), (1, "old ready")];
    assert_eq!(done(&spec, &before, &all), ["delete p0", "create on n1"]);
    assert_eq!(done(&spec, &[(0, "old ready"), (1, "new")], &all), [""; 0]);
    assert_eq!(done(&spec, &[(0, "old ready"), (1, "new ready")], &all), ["delete p0"]);
}

#[test]
fn taints_decide_who_comes_and_who_stays() {
    let tolerant = json!([{"key": "k", "operator": "Exists"}]);
    // Taint, tolerations, pods there, what is done.
    let cases: [(&str, &str, &Value, bool, &[&str]); 9] = [
        ("k", "NoSchedule", &json!([]), false, &[]),
        ("k", "NoSchedule", &json!([]), true, &[]),
        ("k", "NoExecute", &json!([]), true, &["delete p0"]),
        ("k", "NoExecute", &tolerant, false, &["create on n0"]),
        ("k", "PreferNoSchedule", &json!([]), false, &["create on n0"]),
        ("node.kubernetes.io/unschedulable", "NoSchedule", &json!([]), false, &["create on n0"]),
        ("node.kubernetes.io/not-ready", "NoExecute", &json!([]), true, &[]),
        ("node.kubernetes.io/memory-pressure", "NoSchedule", &json!([]), false, &["create on n0"]),
        ("node.kubernetes.io/network-unavailable", "NoSchedule", &json!([]), false, &[]),
    ];
    for (key, effect, tolerations, is_there, expected) in cases {
        let mut all = nodes(1);
        let taint = object(json!([{"key": key, "effect": effect}]));
        Arc::make_mut(&mut all[0]).spec.get_or_insert_default().taints = Some(taint);
        let spec = json!({"template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c"}], "tolerations": tolerations}}});
        let pods: &[(usize, &str)] = if is_there { &[(0, "ready")] } else { &[] };
        assert_eq!(done(&spec, pods, &all), expected, "{key}:{effect} {is_there}");
    }
}

#[test]
fn failed_pods_are_deleted_not_too_often() {
    let set = set("one", &json!({}));
    let pods = [pod_on(&set, "n0", "p", "Failed")];
    let mut failures = Failures::default();
    let all = nodes(1);
    let look = |failures: &Failures, now: i64| {
        let observed = Observed { set: &set, pods: &pods, revisions: &[], nodes: &all, failures };
        let actions = decide(&observed, at(now));
        let nodes = given_up(&observed, &actions);
        (
            actions
                .iter()
                .map(summary)
                .filter(|line| !line.contains("Revision") && !line.contains("status"))
                .collect::<Vec<_>>(),
            nodes,
        )
    };
    let event = "event FailedDaemonPod Found failed daemon pod ns/p on node n0, will try to kill it";
    let (lines, nodes) = look(&failures, 0);
    assert_eq!(lines, [event, "delete Pod p · SuccessfulDelete"]);
    assert_eq!(nodes, ["n0"]);
    failures.note("ds", "n0", at(0));
    failures.note("ds", "n0", at(1));
    assert_eq!(look(&failures, 2).0, ["again 1s"]);
    assert_eq!(look(&failures, 3).0.len(), 2);
}

#[test]
fn status_tells_of_each_nodes_oldest_pod() {
    let set = set("one", &json!({"minReadySeconds": 20}));
    let mut all = nodes(4);
    Arc::make_mut(&mut all[3]).spec = Some(object(json!({"taints": [{"key": "k", "effect": "NoSchedule"}]})));
    let pods = [
        pod_on(&set, "n0", "p0", "ready"),
        pod_on(&set, "n1", "p1", "old"),
        pod_on(&set, "n3", "p3", "ready"),
    ];
    let observed =
        Observed { set: &set, pods: &pods, revisions: &[], nodes: &all, failures: &Failures::default() };
    let of = |now: i64| Sync::begin(&observed, at(now)).0.status();
    let (status, again) = of(10);
    let counts = (status.desired_number_scheduled, status.current_number_scheduled, status.number_ready);
    assert_eq!(counts, (3, 2, 1));
    assert_eq!((status.number_misscheduled, status.updated_number_scheduled), (1, Some(1)));
    assert_eq!((status.number_available, status.number_unavailable), (None, Some(3)));
    assert_eq!(again, Some(Duration::from_secs(10)));
    assert_eq!(of(20).0.number_available, Some(1));
}

#[test]
fn revisions_are_made_once_merged_and_limited() {
    let set = set("one", &json!({"revisionHistoryLimit": 1}));
    let revision = |name: &str, number: i64, image: &str| -> Arc<ControllerRevision> {
        let mut template = set.spec.template.clone();
        template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        Arc::new(object(json!({"metadata": {"name": name, "namespace": "ns", "uid": name,
            "labels": {"app": "d", "controller-revision-hash": name}, "ownerReferences": [controller_ref(&set)]},
            "revision": number, "data": history::data_of(&template)})))
    };
    let all = nodes(1);
    let look = |pods: &[Arc<Pod>], revisions: &[Arc<ControllerRevision>]| {
        let observed = Observed { set: &set, pods, revisions, nodes: &all, failures: &Failures::default() };
        decide(&observed, at(10)).iter().map(summary).collect::<Vec<_>>()
    };
    let labelled = |hash: &str| {
        let mut pod = (*pod_on(&set, "n0", "p", "ready")).clone();
        pod.metadata.labels.as_mut().unwrap().insert(REVISION_LABEL.to_owned(), hash.to_owned());
        vec![Arc::new(pod)]
    };
    let doubles = [revision("a", 1, "one"), revision("b", 2, "one")];
    assert_eq!(
        look(&labelled("a"), &doubles),
        [
            r#"patch Pod p {"metadata":{"labels":{"controller-revision-hash":"b"}}}"#,
            "delete ControllerRevision a"
        ]
    );
    let many =
        [revision("x", 1, "x"), revision("y", 2, "y"), revision("z", 3, "z"), revision("one", 4, "one")];
    let deleted = |lines: Vec<String>| {
        lines.into_iter().filter(|line| line.starts_with("delete C")).collect::<Vec<_>>()
    };
    let gone = deleted(look(&labelled("one"), &many));
    assert_eq!(gone, ["delete ControllerRevision x", "delete ControllerRevision y"]);
    let gone = deleted(look(&labelled("x"), &many));
    assert_eq!(gone, ["delete ControllerRevision y", "delete ControllerRevision z"], "what pods have counts");
    let back = [revision("one", 1, "one"), revision("z", 2, "z")];
    assert!(
        look(&labelled("one"), &back).contains(&r#"patch ControllerRevision one {"revision":3}"#.to_owned())
    );
}

#[test]
fn the_status_is_told_though_a_pod_is_refused() {
    let set = set("one", &json!({}));
    let all = nodes(1);
    let observed =
        Observed { set: &set, pods: &[], revisions: &[], nodes: &all, failures: &Failures::default() };
    let is_pod = |action: &Action| matches!(action, Action::Create(create) if create.resource.kind == "Pod");
    let action = decide(&observed, at(0)).into_iter().find(is_pod).unwrap();
    let failure =
        Failure { action, code: 403, reason: "Forbidden".into(), message: "quota".into(), causes: vec![] };
    let told: Vec<_> = report(&observed, at(0), &failure, |_| None).iter().map(summary).collect();
    assert!(
        told[0].starts_with("patch DaemonSet/status d ") && told[0].contains(r#""desiredNumberScheduled":1"#),
        "{told:?}"
    );
}
