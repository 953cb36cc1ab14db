//! How many pods a second are decided about, every node scored, without any API and on one core.
//!
//! Also a program of its own, which compiles in less time:
//! `cargo run --release --package plimsoll-schedule --example decide [nodes]`.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use plimsoll_schedule::{Decision, Scheduler};
use serde_json::{Value, json};

/// What each case adds to the specification of the pod of a number.
struct Case {
    what: &'static str,
    aim: &'static str,
    /// So many pods for each node.
    crowd: usize,
    spec: fn(usize) -> Value,
}

/// Pods of one Deployment.
const GROUP: usize = 10;

const CASES: [Case; 14] = [
    Case { what: "all alike", aim: "20000", crowd: 4, spec: |_| json!({}) },
    Case {
        what: "100 different requests",
        aim: "20000",
        crowd: 4,
        spec: |at| json!({"containers": containers(at % 100 + 1)}),
    },
    Case {
        what: "1,000 different requests",
        aim: "20000",
        crowd: 4,
        spec: |at| json!({"containers": containers(at % 1000 + 1)}),
    },
    Case {
        what: "no two alike",
        aim: "none",
        crowd: 1,
        spec: |at| json!({"containers": containers(at + 1)}),
    },
    Case {
        what: "required anti-affinity by host, one group",
        aim: "600",
        crowd: 1,
        spec: |_| affinity("podAntiAffinity", json!({"matchLabels": {"app": "x"}}), "host", true),
    },
    Case {
        what: "required anti-affinity by host, groups of 10",
        aim: "600",
        crowd: 1,
        spec: |at| affinity("podAntiAffinity", group(at), "host", true),
    },
    Case {
        what: "required anti-affinity by zone, groups of 10",
        aim: "600",
        crowd: 1,
        spec: |at| affinity("podAntiAffinity", group(at), "zone", true),
    },
    Case {
        what: "required affinity by zone, groups of 10",
        aim: "600",
        crowd: 1,
        spec: |at| affinity("podAffinity", group(at), "zone", true),
    },
    Case {
        what: "preferred affinity by host",
        aim: "900",
        crowd: 1,
        spec: |_| affinity("podAffinity", json!({"matchLabels": {"app": "x"}}), "host", false),
    },
    Case {
        what: "preferred affinity by zone",
        aim: "900",
        crowd: 1,
        spec: |_| affinity("podAffinity", json!({"matchLabels": {"app": "x"}}), "zone", false),
    },
    Case { what: "spread over zones", aim: "4600", crowd: 1, spec: |_| spread("zone", "DoNotSchedule") },
    Case { what: "spread over hosts", aim: "4600", crowd: 1, spec: |_| spread("host", "DoNotSchedule") },
    Case {
        what: "spread over zones, if possible",
        aim: "4600",
        crowd: 1,
        spec: |_| spread("zone", "ScheduleAnyway"),
    },
    Case {
        what: "spread over hosts, if possible",
        aim: "4600",
        crowd: 1,
        spec: |_| spread("kubernetes.io/hostname", "ScheduleAnyway"),
    },
];

/// Takes and prints the figures.
pub(crate) fn run(nodes: usize) {
    println!("{nodes} nodes, every one scored, pods per second");
    for case in &CASES {
        measure(case, nodes);
    }
}

fn measure(case: &Case, nodes: usize) {
    let mut scheduler = Scheduler::default();
    for at in 0..nodes {
        scheduler.snapshot.set_node(&node(at));
    }
    let pods: Vec<Pod> = (0..case.crowd * nodes).map(|at| pod(at, (case.spec)(at))).collect();
    let start = Instant::now();
    let mut placed = 0;
    for pod in &pods {
        let info = Arc::new(scheduler.read(pod));
        if let Decision::Node(node) = scheduler.decide(&info) {
            scheduler.snapshot.place(info, &node);
            placed += 1;
        }
    }
    let rate = pods.len() as f64 / start.elapsed().as_secs_f64();
    println!("{:<46} {rate:>7.0}   (aim: {}; {placed} of {} placed)", case.what, case.aim, pods.len());
}

fn node(at: usize) -> Node {
    let name = format!("n{at}");
    let labels = json!({"host": name, "kubernetes.io/hostname": name, "zone": format!("z{}", at % 10)});
    let value = json!({"metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"}}});
    serde_json::from_value(value).expect("a node")
}

fn pod(at: usize, more: Value) -> Pod {
    let mut spec = json!({"containers": containers(100)});
    spec.as_object_mut().expect("made above").extend(more.as_object().expect("an object").clone());
    let labels = json!({"app": "x", "group": format!("g{}", at / GROUP)});
    let value = json!({"metadata": {"name": format!("p{at}"), "namespace": "ns", "uid": format!("u{at}"), "labels": labels},
        "spec": spec});
    serde_json::from_value(value).expect("a pod")
}

fn containers(cpu: usize) -> Value {
    let requests = json!({"cpu": format!("{cpu}m"), "memory": "100Mi"});
    json!([{"name": "c", "image": "i", "resources": {"requests": requests}}])
}

fn group(at: usize) -> Value {
    json!({"matchLabels": {"group": format!("g{}", at / GROUP)}})
}

fn affinity(kind: &str, selector: Value, place: &str, required: bool) -> Value {
    let term = json!({"topologyKey": place, "labelSelector": selector});
    let (when, term) = match required {
        true => ("requiredDuringSchedulingIgnoredDuringExecution", term),
        false => {
            ("preferredDuringSchedulingIgnoredDuringExecution", json!({"weight": 1, "podAffinityTerm": term}))
        }
    };
    json!({"affinity": {kind: {when: [term]}}})
}

fn spread(place: &str, when: &str) -> Value {
    json!({"topologySpreadConstraints": [{"maxSkew": 5, "topologyKey": place, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "x"}}}]})
}
