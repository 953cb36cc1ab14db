#![expect(clippy::unwrap_used, reason = "tests")]

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use super::*;
use crate::scheduler::Decision;

/// A pod of one cpu or more; `more` is merged into it.
fn pod(name: &str, priority: i32, cpu: &str, more: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": name}},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"startTime": "2026-01-01T00:00:00Z"},
    });
    for (part, more) in more.as_object().unwrap() {
        pod[part.as_str()].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    serde_json::from_value(pod).unwrap()
}

fn node(name: &str, cpu: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": "z"}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}},
    }))
    .unwrap()
}

fn cluster(nodes: &[(&str, &str)], placed: &[(&str, Pod)]) -> Scheduler {
    let mut scheduler = Scheduler::default();
    for (name, cpu) in nodes {
        scheduler.snapshot.set_node(&node(name, cpu));
    }
    for (node, pod) in placed {
        let info = Arc::new(scheduler.read(pod));
        scheduler.snapshot.place(info, node);
    }
    scheduler
}

fn budget(app: &str, allowed: i32) -> Budget {
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": app, "namespace": "ns"},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
    }))
    .unwrap();
    Budget::of(&budget).unwrap()
}

/// `NODE: VICTIM VICTIM`, or nothing.
fn preempt(scheduler: &mut Scheduler, pod: &Pod, budgets: &[Budget]) -> String {
    let info = scheduler.read(pod);
    let rows = |scheduler: &Scheduler| format!("{:?}", scheduler.snapshot.rows());
    let before = rows(scheduler);
    let found = scheduler.preempt(&info, budgets);
    assert_eq!(rows(scheduler), before, "the search leaves no trace");
    found.map_or_else(String::new, |found| {
        let mut victims: Vec<&str> = found.victims.iter().map(|victim| victim.name.as_str()).collect();
        victims.sort_unstable();
        format!("{}: {}", found.node, victims.join(" "))
    })
}

#[test]
fn the_victims_that_matter_least() {
    let high = pod("high", 100, "2", json!({}));
    let later = json!({"status": {"startTime": "2026-01-02T00:00:00Z"}});
    let cases = [
        (
            "nobody is less important",
            vec![("a", pod("x", 100, "2", json!({}))), ("b", pod("y", 200, "2", json!({})))],
            vec![],
            "",
        ),
        (
            "a budget is kept",
            vec![("a", pod("x", 1, "2", json!({}))), ("b", pod("y", 50, "2", json!({})))],
            vec![budget("x", 0)],
            "b: y",
        ),
        (
            "a budget is broken rather than the pod left out",
            vec![("a", pod("x", 1, "2", json!({}))), ("b", pod("y", 200, "2", json!({})))],
            vec![budget("x", 0)],
            "a: x",
        ),
        (
            "the lowest of the highest priorities",
            vec![("a", pod("x", 50, "2", json!({}))), ("b", pod("y", 40, "2", json!({})))],
            vec![budget("x", 1)],
            "b: y",
        ),
        (
            "the smallest sum, so the fewest",
            vec![
                ("a", pod("x", 50, "1", json!({}))),
                ("a", pod("w", 1, "1", json!({}))),
                ("b", pod("y", 50, "2", json!({}))),
            ],
            vec![],
            "b: y",
        ),
        (
            "those that began last",
            vec![("a", pod("x", 50, "2", json!({}))), ("b", pod("y", 50, "2", later.clone()))],
            vec![],
            "b: y",
        ),
        (
            "on one node the least important, and no more than it takes",
            vec![
                ("a", pod("w", 3, "1", json!({}))),
                ("a", pod("x", 2, "1", json!({}))),
                ("b", pod("y", 2, "1", json!({}))),
                ("b", pod("z", 1, "1", later)),
            ],
            vec![],
            "b: y z",
        ),
    ];
    for (what, placed, budgets, expected) in cases {
        let mut scheduler = cluster(&[("a", "2"), ("b", "2")], &placed);
        assert_eq!(preempt(&mut scheduler, &high, &budgets), expected, "{what}");
    }
}

#[test]
fn as_many_as_possible_stay() {
    let placed: Vec<(&str, Pod)> = ["p0", "p1", "p2", "p3"]
        .iter()
        .zip(0..)
        .map(|(name, at)| ("a", pod(name, at, "1", json!({}))))
        .collect();
    let mut scheduler = cluster(&[("a", "4")], &placed);
    assert_eq!(preempt(&mut scheduler, &pod("high", 100, "2", json!({})), &[]), "a: p0 p1");
    assert_eq!(preempt(&mut scheduler, &pod("high", 100, "2", json!({})), &[budget("p0", 0)]), "a: p1 p2");
    assert_eq!(preempt(&mut scheduler, &pod("mean", 1, "1", json!({})), &[]), "a: p0");
    assert_eq!(preempt(&mut scheduler, &pod("vast", 100, "5", json!({})), &[]), "");
}

#[test]
fn rules_between_pods_count() {
    let away = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "low"}}}]}}}});
    let mut scheduler = cluster(&[("a", "4"), ("b", "4")], &[("a", pod("low", 1, "1", json!({})))]);
    assert_eq!(preempt(&mut scheduler, &pod("high", 100, "1", away.clone()), &[]), "a: low");
    let port =
        json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]}});
    let mut scheduler = cluster(&[("a", "4")], &[("a", pod("low", 1, "1", port.clone()))]);
    assert_eq!(preempt(&mut scheduler, &pod("high", 100, "1", port), &[]), "a: low");
    // Where the end of others cannot help nobody ends.
    let named = json!({"spec": {"nodeSelector": {"disk": "fast"}}});
    assert_eq!(preempt(&mut scheduler, &pod("high", 100, "1", named), &[]), "");
}

#[test]
fn what_is_promised_is_kept_for_the_pod() {
    let mut scheduler = cluster(&[("a", "2")], &[]);
    let promised = Arc::new(scheduler.read(&pod("high", 100, "2", json!({}))));
    scheduler.snapshot.nominate(promised.clone(), "a");
    let decide = |scheduler: &mut Scheduler, pod: &Pod| {
        let info = scheduler.read(pod);
        match scheduler.decide(&info) {
            Decision::Node(node) => node,
            Decision::Nowhere(diagnosis) => diagnosis.to_string(),
        }
    };
    let refused = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption \
                   victims found for incoming pod.";
    assert_eq!(decide(&mut scheduler, &pod("low", 1, "1", json!({}))), refused);
    assert_eq!(decide(&mut scheduler, &pod("same", 100, "1", json!({}))), refused);
    assert_eq!(decide(&mut scheduler, &pod("higher", 101, "1", json!({}))), "a");
    assert_eq!(decide(&mut scheduler, &pod("high", 100, "2", json!({}))), "a");
    assert_eq!(scheduler.snapshot.promised("high"), Some("a"), "until it is placed");
    scheduler.snapshot.place(promised, "a");
    assert_eq!(scheduler.snapshot.promised("high"), None);
}

#[test]
fn a_pod_waits_for_its_victims() {
    let ending = json!({
        "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
    });
    let mut scheduler = cluster(&[("a", "2")], &[("a", pod("low", 1, "2", ending))]);
    let high = Arc::new(scheduler.read(&pod("high", 100, "2", json!({}))));
    assert!(!scheduler.awaits_victims(&high), "nothing is promised");
    scheduler.snapshot.nominate(high.clone(), "a");
    assert!(scheduler.awaits_victims(&high));
    scheduler.snapshot.remove_pod("low");
    assert!(!scheduler.awaits_victims(&high));
}

#[test]
fn a_claim_of_one_pod_is_taken_from_the_less_important() {
    let using = |name: &str, priority: i32| {
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "only"}});
        pod(name, priority, "1", json!({"spec": {"volumes": [volume]}}))
    };
    let mut scheduler = cluster(&[("a", "9"), ("b", "9")], &[("b", using("low", 1))]);
    let claim = json!({
        "metadata": {"name": "only", "namespace": "ns", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "v", "accessModes": ["ReadWriteOncePod"]}, "status": {"phase": "Bound"},
    });
    let storage = &mut scheduler.snapshot.storage;
    storage.set_claim(Arc::new(serde_json::from_value(claim).unwrap()));
    storage.set_volume(Arc::new(
        serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": {}})).unwrap(),
    ));
    assert_eq!(preempt(&mut scheduler, &using("equal", 1), &[]), "");
    assert_eq!(preempt(&mut scheduler, &using("high", 2), &[]), "b: low");
}

/// The slots that a search for room looks at.
fn places(scheduler: &mut Scheduler, pod: &Pod) -> usize {
    let info = scheduler.read(pod);
    let profile = scheduler.profile(&info).clone();
    let constraints = Constraints::of(&info, &profile, &scheduler.snapshot.selectors);
    scheduler.places(&Asked { pod: &info, profile: &profile, constraints: &constraints, linked: false }).len()
}

#[test]
fn a_storm_ends_the_fewest_and_the_least_important() {
    // Few nodes have pods that do not matter, more than upstream would look at have others only.
    let (nodes, mut scheduler) = (400, Scheduler::default());
    for at in 0..nodes {
        let name = format!("n{at}");
        scheduler.snapshot.set_node(&node(&name, "4"));
        for part in 0..4 {
            let priority = if at % 20 == 19 && part < 2 { 0 } else { 10 };
            let info = Arc::new(scheduler.read(&pod(&format!("{name}-{part}"), priority, "1", json!({}))));
            scheduler.snapshot.place(info, &name);
        }
    }
    let (mut victims, mut placed) = (Vec::new(), 0);
    for at in 0..60 {
        let info = Arc::new(scheduler.read(&pod(&format!("high-{at}"), 100, "1", json!({}))));
        assert!(matches!(scheduler.decide(&info), Decision::Nowhere(_)), "the cluster is full");
        let found = scheduler.preempt(&info, &[]).unwrap();
        scheduler.snapshot.nominate(info.clone(), &found.node);
        for victim in &found.victims {
            scheduler.snapshot.remove_pod(&victim.uid);
            victims.push(victim.priority);
        }
        assert_eq!(scheduler.decide(&info), Decision::Node(found.node.clone()), "nobody takes its room");
        scheduler.snapshot.place(info, &found.node);
        placed += 1;
    }
    let lowest = victims.iter().filter(|priority| **priority == 0).count();
    assert_eq!((placed, victims.len(), lowest), (60, 60, 40));
}

#[test]
fn those_who_wait_in_vain_cost_little() {
    let mut scheduler = cluster(&[], &[]);
    for at in 0..500 {
        scheduler.snapshot.set_node(&node(&format!("n{at}"), "2"));
        let info = Arc::new(scheduler.read(&pod(&format!("there-{at}"), 0, "1", json!({}))));
        scheduler.snapshot.place(info, &format!("n{at}"));
    }
    let large = |at: usize| pod(&format!("large-{at}"), 5, "3", json!({}));
    let mut queue = crate::Queue::default();
    let mut looked_at = 0;
    for at in 0..200 {
        let info = Arc::new(scheduler.read(&large(at)));
        queue.add(info.clone());
        assert_eq!(queue.pop(std::time::Duration::ZERO).unwrap().uid, info.uid);
        let Decision::Nowhere(diagnosis) = scheduler.decide(&info) else { panic!("it fits nowhere") };
        looked_at += places(&mut scheduler, &large(at));
        assert!(scheduler.preempt(&info, &[]).is_none());
        queue.park(&info.uid, diagnosis.plugins, std::time::Duration::ZERO);
    }
    assert_eq!(looked_at, 500, "all nodes once, for all of them");
    let small = Arc::new(scheduler.read(&pod("small", 0, "1", json!({}))));
    let Decision::Node(node) = scheduler.decide(&small) else { panic!("it fits") };
    let placed = scheduler.snapshot.place(small, &node);
    let ended = scheduler.snapshot.remove_pod("there-7");
    let asked = std::cell::Cell::new(0);
    queue.wake(std::time::Duration::ZERO, |pod, refused| {
        asked.set(asked.get() + 1);
        let mut changes = [&placed, &ended].into_iter();
        changes.find(|change| scheduler.may_help(change, pod, refused)).map(|change| change.event())
    });
    assert_eq!((asked.get(), queue.lengths()), (1, [0, 0, 200]), "one question for all that are alike");
    assert_eq!(places(&mut scheduler, &large(0)), 2, "only what changed is looked at again");
}
