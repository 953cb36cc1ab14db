#![expect(clippy::unwrap_used, reason = "tests")]

use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use super::*;
use crate::hint::Change;

fn node(name: &str, labels: Value, more: Value) -> k8s_openapi::api::core::v1::Node {
    let mut value = json!({"metadata": {"name": name, "labels": labels},
        "spec": {}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
    for (path, more) in more.as_object().unwrap() {
        value[path.as_str()].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    serde_json::from_value(value).unwrap()
}

fn cluster(count: usize) -> Scheduler {
    let mut scheduler = Scheduler::default();
    for at in 0..count {
        let labels = json!({"kubernetes.io/hostname": format!("n{at}"), "zone": format!("z{}", at % 2)});
        scheduler.snapshot.set_node(&node(&format!("n{at}"), labels, json!({})));
    }
    scheduler
}

fn pod(name: &str, labels: Value, spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c", "image": "i"}]);
    }
    let metadata = json!({"name": name, "namespace": "ns", "uid": name, "labels": labels});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// Decides and places; the answer is the node or the message.
fn put(scheduler: &mut Scheduler, pod: &Pod) -> String {
    let info = Arc::new(scheduler.read(pod));
    match scheduler.decide(&info) {
        Decision::Node(node) => {
            scheduler.snapshot.place(info, &node);
            node
        }
        Decision::Nowhere(diagnosis) => diagnosis.to_string(),
    }
}

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": amount, "memory": "1Mi"}}}]})
}

#[test]
fn spreads_by_what_is_free_and_fills_up() {
    let mut scheduler = cluster(3);
    let placed: Vec<String> =
        (0..6).map(|at| put(&mut scheduler, &pod(&format!("p{at}"), json!({}), cpu("2")))).collect();
    assert_eq!(placed, ["n0", "n1", "n2", "n0", "n1", "n2"]);
    let message = put(&mut scheduler, &pod("last", json!({}), cpu("1")));
    assert_eq!(
        message,
        "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
    );
    scheduler.snapshot.remove_pod("p4");
    assert_eq!(put(&mut scheduler, &pod("last", json!({}), cpu("1"))), "n1");
}

#[test]
fn every_filter_says_its_reason() {
    let table = [
        (json!({"spec": {"unschedulable": true}}), json!({}), "node(s) were unschedulable"),
        (
            json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}),
            json!({}),
            "node(s) had untolerated taint {k: v}",
        ),
        (
            json!({}),
            json!({"nodeSelector": {"disk": "fast"}}),
            "node(s) didn't match Pod's node affinity/selector",
        ),
        (
            json!({"status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "0"}}}),
            json!({}),
            "Too many pods",
        ),
        (
            json!({}),
            json!({"containers": [{"name": "c", "resources": {"requests": {"x.io/gpu": "1"}}}]}),
            "Insufficient x.io/gpu",
        ),
        (
            json!({}),
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]}),
            "node(s) didn't match pod topology spread constraints (missing required label)",
        ),
        (
            json!({}),
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "none"}}}]}}}),
            "node(s) didn't match pod affinity rules",
        ),
        (
            json!({}),
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["other"]}]}]}}}}),
            "node(s) didn't satisfy plugin(s) [NodeAffinity]",
        ),
    ];
    for (more, spec, reason) in table {
        let mut scheduler = Scheduler::default();
        scheduler.snapshot.set_node(&node("n", json!({"kubernetes.io/hostname": "n"}), more));
        let message = put(&mut scheduler, &pod("p", json!({}), spec));
        assert!(
            message.starts_with(&format!("0/1 nodes are available: 1 {reason}. preemption")),
            "{message}"
        );
    }
    assert_eq!(
        put(&mut Scheduler::default(), &pod("p", json!({}), json!({}))),
        "no nodes available to schedule pods"
    );
}

#[test]
fn names_that_exclude_each_other() {
    let mut scheduler = cluster(2);
    let field = |name: &str| json!({"key": "metadata.name", "operator": "In", "values": [name]});
    let spec = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [field("n0"), field("n1")]}]}}}});
    assert_eq!(
        put(&mut scheduler, &pod("p", json!({}), spec)),
        "0/2 nodes are available: pod affinity terms conflict. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    let message = put(&mut scheduler, &pod("big", json!({}), cpu("5")));
    assert_eq!(
        message,
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn host_ports_clash() {
    let mut scheduler = cluster(1);
    let spec = |port: i32, ip: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": port, "hostIP": ip}]}]});
    assert_eq!(put(&mut scheduler, &pod("a", json!({}), spec(80, "10.0.0.1"))), "n0");
    assert_eq!(put(&mut scheduler, &pod("b", json!({}), spec(80, "10.0.0.2"))), "n0");
    assert!(
        put(&mut scheduler, &pod("c", json!({}), spec(80, "")))
            .contains("1 node(s) didn't have free ports for the requested pod ports")
    );
    assert_eq!(put(&mut scheduler, &pod("d", json!({}), spec(81, ""))), "n0");
}

#[test]
fn preferences() {
    let mut scheduler = cluster(3);
    let soft = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    scheduler.snapshot.set_node(&node("n0", json!({"kubernetes.io/hostname": "n0"}), soft));
    let prefer = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}}]}}});
    assert_eq!(put(&mut scheduler, &pod("a", json!({}), json!({}))), "n1");
    assert_eq!(put(&mut scheduler, &pod("b", json!({}), prefer)), "n2");

    let image = json!({"status": {"images": [{"names": ["big:1"], "sizeBytes": 900 * 1024 * 1024}]}});
    scheduler.snapshot.set_node(&node("n1", json!({}), image));
    let spec = json!({"containers": [{"name": "c", "image": "big:1"}]});
    assert_eq!(put(&mut scheduler, &pod("c", json!({}), spec)), "n1");
}

#[test]
fn anti_affinity_both_ways() {
    let mut scheduler = cluster(2);
    let away = |app: &str| {
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}]}}})
    };
    assert_eq!(put(&mut scheduler, &pod("a", json!({"app": "x"}), away("x"))), "n0");
    assert_eq!(put(&mut scheduler, &pod("b", json!({"app": "x"}), away("x"))), "n1");
    let message = put(&mut scheduler, &pod("c", json!({"app": "x"}), away("x")));
    assert!(
        message.starts_with("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."),
        "{message}"
    );
    let message = put(&mut scheduler, &pod("d", json!({"app": "x"}), json!({})));
    assert!(
        message.starts_with(
            "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules."
        ),
        "{message}"
    );
    scheduler.snapshot.remove_pod("b");
    assert_eq!(put(&mut scheduler, &pod("d", json!({"app": "x"}), json!({}))), "n1");
}

#[test]
fn affinity_finds_company() {
    let mut scheduler = cluster(4);
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}]}}});
    assert_eq!(put(&mut scheduler, &pod("a", json!({"app": "x"}), near.clone())), "n0");
    for at in 0..6 {
        let node = put(&mut scheduler, &pod(&format!("b{at}"), json!({"app": "x"}), near.clone()));
        assert!(["n0", "n2"].contains(&node.as_str()), "{node}");
    }
    let company = json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}}]}}});
    let node = put(&mut scheduler, &pod("c", json!({}), company));
    assert!(["n0", "n2"].contains(&node.as_str()), "{node}");
}

#[test]
fn spread_over_zones() {
    let mut scheduler = cluster(4);
    scheduler.snapshot.remove_node("n3");
    let spread = |when: &str| {
        json!({"topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "x"}}}]})
    };
    let mut zones = [0, 0];
    for at in 0..10 {
        let node = put(&mut scheduler, &pod(&format!("p{at}"), json!({"app": "x"}), spread("DoNotSchedule")));
        zones[usize::from(node == "n1")] += 1;
    }
    assert_eq!(zones, [5, 5]);
    let mut scheduler = cluster(4);
    for at in 0..4 {
        let taken = pod(&format!("t{at}"), json!({"app": "x"}), json!({}));
        let info = Arc::new(scheduler.read(&taken));
        scheduler.snapshot.place(info, if at % 2 == 0 { "n0" } else { "n2" });
    }
    let node = put(&mut scheduler, &pod("w", json!({"app": "x"}), spread("ScheduleAnyway")));
    assert!(["n1", "n3"].contains(&node.as_str()), "{node}");
}

#[test]
fn pods_may_come_before_their_node() {
    let mut scheduler = Scheduler::default();
    let info = Arc::new(scheduler.read(&pod("early", json!({}), cpu("3"))));
    scheduler.snapshot.place(info, "n0");
    assert!(put(&mut scheduler, &pod("p", json!({}), cpu("2"))).starts_with("no nodes"));
    scheduler.snapshot.set_node(&node("n0", json!({}), json!({})));
    assert!(put(&mut scheduler, &pod("p", json!({}), cpu("2"))).contains("Insufficient cpu"));
    scheduler.snapshot.remove_node("n0");
    scheduler.snapshot.remove_pod("early");
    assert_eq!(scheduler.snapshot.nodes(), 0);
    scheduler.snapshot.set_node(&node("n1", json!({}), json!({})));
    assert_eq!(put(&mut scheduler, &pod("p", json!({}), cpu("2"))), "n1");
}

#[test]
fn changes_help_only_who_fits() {
    let mut scheduler = cluster(1);
    let big = scheduler.read(&pod("big", json!({}), cpu("9")));
    let small = scheduler.read(&pod("small", json!({}), cpu("1")));
    let labels = json!({"kubernetes.io/hostname": "n0", "zone": "z0"});
    assert_eq!(scheduler.snapshot.set_node(&node("n0", labels, json!({}))), Change::Nothing);
    let change = scheduler.snapshot.set_node(&node("n0", json!({}), json!({})));
    let by = |plugin: Plugin| [plugin].into_iter().collect();
    let fit = by(Plugin::NodeResourcesFit);
    assert!(!scheduler.may_help(&change, &big, fit));
    assert!(scheduler.may_help(&change, &small, fit));
    for (change, plugin, expected) in [
        (Change::Storage, Plugin::VolumeBinding, true),
        (Change::Storage, Plugin::NodeResourcesFit, false),
        (Change::Namespace, Plugin::InterPodAffinity, true),
        (Change::NodeGone, Plugin::PodTopologySpread, true),
        (Change::NodeGone, Plugin::TaintToleration, false),
    ] {
        assert_eq!(scheduler.may_help(&change, &small, by(plugin)), expected, "{change:?} {plugin}");
    }
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}]}}});
    let lonely = scheduler.read(&pod("lonely", json!({}), near));
    for (app, expected) in [("x", true), ("y", false)] {
        let company = Arc::new(scheduler.read(&pod(app, json!({"app": app}), json!({}))));
        let change = scheduler.snapshot.place(company, "n0");
        assert_eq!(scheduler.may_help(&change, &lonely, by(Plugin::InterPodAffinity)), expected, "{app}");
        assert!(!scheduler.may_help(&change, &lonely, fit));
    }
}

/// Pods of one ReplicaSet spread over hosts and zones though they do not say so.
#[test]
fn pods_of_one_owner_spread() {
    let mut scheduler = cluster(4);
    let owner: ReplicaSet = serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}}),
    )
    .unwrap();
    scheduler.snapshot.selectors.set_replica_set(&owner);
    let image = json!({"status": {"images": [{"names": ["i:latest"], "sizeBytes": 900 * 1024 * 1024}]}});
    scheduler.snapshot.set_node(&node("n2", json!({"kubernetes.io/hostname": "n2"}), image));
    let of = |name: &str, owned: bool, scheduler: &mut Scheduler| {
        let mut object = pod(name, json!({"app": "web"}), json!({}));
        let reference = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true}]);
        object.metadata.owner_references = owned.then(|| serde_json::from_value(reference).unwrap());
        put(scheduler, &object)
    };
    assert_eq!(of("a", true, &mut scheduler), "n2");
    let mut next: Vec<String> = ["b", "c", "d"].iter().map(|name| of(name, true, &mut scheduler)).collect();
    next.sort();
    assert_eq!(next, ["n0", "n1", "n3"]);
    assert_eq!(of("loner", false, &mut scheduler), "n2", "nobody's pods do not spread");
}

#[test]
fn profiles_decide_for_their_own_pods() {
    let document = |profiles: Value| json!({"apiVersion": crate::configuration::VERSION, "kind": crate::configuration::KIND, "profiles": profiles});
    let profiles = document(json!([
        {"schedulerName": "default-scheduler"},
        {"schedulerName": "pack", "pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "MostAllocated"}}}],
            "plugins": {"score": {"disabled": [{"name": "NodeResourcesBalancedAllocation"}]}}},
        {"schedulerName": "zone-0", "plugins": {"filter": {"disabled": [{"name": "TaintToleration"}]}}, "pluginConfig": [
            {"name": "NodeAffinity", "args": {"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z0"]}]}]}}}}]},
    ]));
    let configuration = crate::configuration::Configuration::of(&profiles).unwrap();
    let mut scheduler = Scheduler::new(configuration.profiles().unwrap());
    for at in 0..2 {
        let taint = json!({"spec": {"taints": if at == 0 { json!([{"key": "k", "effect": "NoSchedule"}]) } else { json!([]) }}});
        let labels = json!({"kubernetes.io/hostname": format!("n{at}"), "zone": format!("z{at}")});
        scheduler.snapshot.set_node(&node(&format!("n{at}"), labels, taint));
    }
    scheduler.snapshot.set_node(&node(
        "n2",
        json!({"kubernetes.io/hostname": "n2", "zone": "z2"}),
        json!({}),
    ));
    let by = |name: &str| {
        let mut spec = cpu("1");
        spec["schedulerName"] = json!(name);
        spec
    };
    assert_eq!(put(&mut scheduler, &pod("a", json!({}), by("zone-0"))), "n0", "taints are nothing to it");
    let packed: Vec<String> =
        (0..3).map(|at| put(&mut scheduler, &pod(&format!("p{at}"), json!({}), by("pack")))).collect();
    assert_eq!(packed, ["n1"; 3]);
    assert_eq!(put(&mut scheduler, &pod("s", json!({}), by("default-scheduler"))), "n2");
    scheduler.snapshot.remove_node("n0");
    let message = put(&mut scheduler, &pod("b", json!({}), by("zone-0")));
    assert!(
        message
            .starts_with("0/2 nodes are available: 2 node(s) didn't match scheduler-enforced node affinity."),
        "{message}"
    );
    assert!(scheduler.profile_of(&pod("x", json!({}), by("unknown"))).is_none());
}

/// A class brought up to date by differences agrees with one made anew.
#[test]
fn differences_agree_with_a_fresh_look() {
    let mut scheduler = cluster(40);
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let shapes: Vec<Value> = ["100m", "300m", "1", "2"].iter().map(|amount| cpu(amount)).collect();
    for step in 0..400 {
        match random(4) {
            0 => drop(scheduler.snapshot.remove_pod(&format!("p{}", random(step + 1)))),
            1 => {
                let name = format!("n{}", random(40));
                let cordoned = json!({"spec": {"unschedulable": random(2) == 0}});
                scheduler.snapshot.set_node(&node(&name, json!({"kubernetes.io/hostname": name}), cordoned));
            }
            _ => {
                let shape = shapes[random(4) as usize].clone();
                put(&mut scheduler, &pod(&format!("p{step}"), json!({}), shape));
            }
        }
        for shape in &shapes {
            let info = scheduler.read(&pod("probe", json!({}), shape.clone()));
            let mut fresh = Class::new(info.needs.clone());
            fresh.refresh(scheduler.profile(&info), &scheduler.snapshot);
            let expected = fresh
                .best(scheduler.profile(&info), scheduler.start, None)
                .map(|slot| scheduler.snapshot.rows()[slot].name.clone());
            let start = scheduler.start;
            match scheduler.decide(&info) {
                Decision::Node(node) => assert_eq!(Some(node), expected),
                Decision::Nowhere(_) => assert_eq!(expected, None),
            }
            scheduler.start = start;
        }
    }
}

mod simulation;
mod volumes;

/// What a node has may become less than what its pods have.
#[test]
fn a_node_that_shrinks_takes_nothing_more() {
    let mut scheduler = cluster(2);
    for at in 0..4 {
        put(&mut scheduler, &pod(&format!("p{at}"), json!({}), cpu("2")));
    }
    let shrunk = |cpu: &str, pods: &str| {
        let labels = json!({"kubernetes.io/hostname": "n0", "zone": "z0"});
        node("n0", labels, json!({"status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": pods}}}))
    };
    scheduler.snapshot.set_node(&shrunk("1", "1"));
    let message = put(&mut scheduler, &pod("more", json!({}), cpu("1")));
    assert!(
        message.starts_with("0/2 nodes are available: 1 Too many pods, 2 Insufficient cpu."),
        "{message}"
    );
    assert_eq!(put(&mut scheduler, &pod("small", json!({}), json!({}))), "n1");
    scheduler.snapshot.set_node(&shrunk("1", "10"));
    scheduler.snapshot.remove_node("n1");
    assert_eq!(put(&mut scheduler, &pod("smaller", json!({}), json!({}))), "n0", "who asks for nothing fits");
    let mut urgent = cpu("1");
    urgent["priority"] = json!(10);
    let urgent = scheduler.read(&pod("urgent", json!({}), urgent));
    let found = scheduler.preempt(&urgent, &[]).unwrap();
    assert_eq!((found.node.as_str(), found.victims.len()), ("n0", 2), "both that hold processors");
    scheduler.snapshot.set_node(&shrunk("8", "10"));
    assert_eq!(put(&mut scheduler, &pod("more", json!({}), cpu("4"))), "n0", "it has grown again");
}

#[test]
fn odd_values_of_labels() {
    for (value, operator, bound, expected) in [
        ("5", "Gt", Some("4"), true),
        ("05", "Gt", Some("4"), true),
        ("-3", "Lt", Some("0"), true),
        ("", "Exists", None, true),
        ("", "In", Some(""), true),
        ("", "DoesNotExist", None, false),
        ("", "Gt", Some("4"), false),
        ("five", "Lt", Some("9"), false),
        ("99999999999999999999", "Gt", Some("4"), false),
        ("5.5", "Gt", Some("4"), false),
        ("5", "Gt", Some("four"), false),
        ("5", "Like", Some("5"), false),
    ] {
        let mut scheduler = Scheduler::default();
        scheduler.snapshot.set_node(&node("n0", json!({"odd": value}), json!({})));
        let values: Vec<&str> = bound.into_iter().collect();
        let term = json!({"matchExpressions": [{"key": "odd", "operator": operator, "values": values}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
        let found = put(&mut scheduler, &pod("p", json!({}), json!({"affinity": affinity})));
        assert_eq!(found == "n0", expected, "{value:?} {operator} {bound:?}: {found}");
    }
    // An empty value is a place like others; none is none.
    let mut scheduler = Scheduler::default();
    for (name, labels) in [("a", json!({"zone": ""})), ("b", json!({"zone": "z"})), ("c", json!({}))] {
        scheduler.snapshot.set_node(&node(name, labels, json!({})));
    }
    let spread = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}}}]);
    let mut placed: Vec<String> = (0..4)
        .map(|at| {
            put(
                &mut scheduler,
                &pod(&format!("p{at}"), json!({"app": "x"}), json!({"topologySpreadConstraints": spread})),
            )
        })
        .collect();
    placed.sort_unstable();
    assert_eq!(placed, ["a", "a", "b", "b"]);
}
