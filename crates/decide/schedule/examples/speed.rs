//! How many pods a second are decided about, without any API.
//!
//! `cargo run --release --package plimsoll-schedule --example speed [nodes] [pods]`

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use plimsoll_schedule::{Decision, Scheduler};
use serde_json::{Value, json};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let nodes: usize = arguments.next().unwrap_or(5000);
    let pods: usize = arguments.next().unwrap_or(20_000);
    println!("{nodes} nodes, {pods} pods of each kind, every node scored");
    let anti = |label: &str| {
        let term = json!({"topologyKey": label, "labelSelector": {"matchLabels": {"group": "here"}}});
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    };
    let near = json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}}]}});
    let spread = json!([{"maxSkew": 5, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}}}]);
    let few = pods.min(nodes);
    measure("all alike", nodes, pods, |_| json!({}), |_| json!({}));
    measure("100 different requests", nodes, pods, |at| json!({"cpu": at % 100 + 1}), |_| json!({}));
    measure("every pod different", nodes, few, |at| json!({"cpu": at % 100_000 + 1}), |_| json!({}));
    measure(
        "anti-affinity by host, 500 groups",
        nodes,
        few,
        |_| json!({}),
        |_| json!({"affinity": anti("host")}),
    );
    measure("preferred affinity by zone", nodes, few, |_| json!({}), |_| json!({"affinity": near}));
    measure("spread over zones", nodes, few, |_| json!({}), |_| json!({"topologySpreadConstraints": spread}));
}

fn measure(
    what: &str,
    nodes: usize,
    pods: usize,
    asks: impl Fn(usize) -> Value,
    more: impl Fn(usize) -> Value,
) {
    let mut scheduler = Scheduler::default();
    for at in 0..nodes {
        scheduler.snapshot.set_node(&node(at));
    }
    let pods: Vec<Pod> = (0..pods).map(|at| pod(at, &asks(at), more(at))).collect();
    let start = Instant::now();
    let mut placed = 0;
    for pod in &pods {
        let info = Arc::new(scheduler.read(pod));
        if let Decision::Node(node) = scheduler.decide(&info) {
            scheduler.snapshot.place(info, &node);
            placed += 1;
        }
    }
    let taken = start.elapsed();
    let rate = pods.len() as f64 / taken.as_secs_f64();
    println!("{what:36} {rate:9.0} pods/s  ({placed} of {} placed)", pods.len());
}

fn node(at: usize) -> Node {
    let labels = json!({"host": format!("n{at}"), "zone": format!("z{}", at % 10)});
    let value = json!({"metadata": {"name": format!("n{at}"), "labels": labels},
        "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"}}});
    serde_json::from_value(value).expect("a node")
}

fn pod(at: usize, asks: &Value, more: Value) -> Pod {
    let cpu = asks["cpu"].as_u64().map_or_else(|| "100m".to_owned(), |cpu| format!("{cpu}m"));
    let group = if at.is_multiple_of(500) { "here" } else { "there" };
    let mut value = json!({
        "metadata": {"name": format!("p{at}"), "namespace": "ns", "uid": format!("u{at}"), "labels": {"app": "x", "group": group}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "100Mi"}}}]},
    });
    value["spec"].as_object_mut().expect("made above").extend(more.as_object().expect("an object").clone());
    serde_json::from_value(value).expect("a pod")
}
