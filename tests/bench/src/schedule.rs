//! Many pods for many nodes: from the request that makes a pod to the news that it is bound. Pods may want to be near
//! others or far from them, or come while others fit nowhere.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::connection::Call;
use crate::api::load::{milliseconds, percentile};
use crate::report;
use crate::simulated::{Event, Simulated, follow};
use crate::storm;

const PODS: &str = "/api/v1/namespaces/default/pods";
/// How many make pods at once.
const CLIENTS: usize = 32;
/// Pods that fit nowhere.
const STUCK: usize = 10_000;

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    node_name: String,
}

/// Takes and prints the figures.
pub(crate) fn run(nodes: usize, pods: usize, case: &str) -> anyhow::Result<()> {
    let spec: fn(usize) -> Value = match case {
        "plain" | "stuck" => |_| json!({}),
        "anti-host" => {
            |at| json!({"affinity": {"podAntiAffinity": required("kubernetes.io/hostname", at / 10)}})
        }
        "anti-zone" => {
            |at| json!({"affinity": {"podAntiAffinity": required("topology.kubernetes.io/zone", at / 3)}})
        }
        "preferred" => |_| {
            let term = json!({"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"app": "bench"}}});
            json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": term}]}}})
        },
        "spread" => |_| spread("DoNotSchedule"),
        "spread-soft" => |_| spread("ScheduleAnyway"),
        "storm" => return storm::run(nodes, pods),
        other => anyhow::bail!("no case is called {other}"),
    };
    let simulated = Simulated::start(nodes)?;
    simulated.client(async {
        simulated.rest(&format!("{nodes} nodes at rest, processor use"), "about 0").await;
        if case == "stuck" {
            stick(&simulated).await?;
            // What is told of them as Events is behind them, too.
            simulated.rest(&format!("{STUCK} pods that fit nowhere at rest, processor use"), "about 0").await;
        }
        let mut watch = simulated.watch(&format!("{PODS}?watch=true&labelSelector=app%3Dbench")).await?;
        let asked = RefCell::new(HashMap::new());
        let mut bound = HashMap::new();
        let cost = simulated
            .cost(async {
                let binding = follow(&mut watch, |event: Event<Pod>| {
                    if !event.object.spec.node_name.is_empty() {
                        bound.entry(event.object.metadata.name).or_insert_with(Instant::now);
                    }
                    bound.len() == pods
                });
                tokio::try_join!(create(&simulated, pods, spec, &asked), binding).map(drop)
            })
            .await?;
        let asked = asked.into_inner();
        let mut times: Vec<Duration> = bound.iter().map(|(name, at)| *at - asked[name]).collect();
        times.sort_unstable();
        let what = format!("{pods} pods ({case}) by {CLIENTS} clients, bound to {nodes} nodes");
        cost.report(&what, "under 4.2 s of 5,000");
        report("  rate", &format!("{:.0} /s", pods as f64 / cost.time.as_secs_f64()), "over 1185 /s");
        for (percent, aim) in [(50, "none"), (99, "under 500 ms")] {
            let time = milliseconds(percentile(&times, percent));
            report(&format!("  created to bound, {percent} % within"), &format!("{time:.0} ms"), aim);
        }
        simulated.report_memory();
        Ok(())
    })
}

async fn create(
    simulated: &Simulated,
    pods: usize,
    spec: fn(usize) -> Value,
    asked: &RefCell<HashMap<String, Instant>>,
) -> anyhow::Result<()> {
    let next = RefCell::new(0..pods);
    let clients = (0..CLIENTS).map(|_| async {
        let mut connection = simulated.endpoint.connect().await?;
        loop {
            let Some(number) = next.borrow_mut().next() else { return anyhow::Ok(()) };
            let name = format!("pod-{number}");
            asked.borrow_mut().insert(name.clone(), Instant::now());
            connection.call(&Call::post(PODS, pod(&name, number, spec(number)))).await?;
        }
    });
    futures::future::try_join_all(clients).await.map(drop)
}

fn pod(name: &str, number: usize, more: Value) -> String {
    let container = json!({"name": "main", "image": "registry.example.com/web:1",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}});
    let mut spec = json!({"automountServiceAccountToken": false, "containers": [container]});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let labels =
        json!({"app": "bench", "ten": format!("g{}", number / 10), "three": format!("g{}", number / 3)});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
        .to_string()
}

/// Away from the others of its group of ten, or of three in zones, of which there are as many.
fn required(place: &str, group: usize) -> Value {
    let label = if place.ends_with("zone") { "three" } else { "ten" };
    json!({"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": place, "labelSelector": {"matchLabels": {label: format!("g{group}")}}}]})
}

fn spread(when: &str) -> Value {
    json!({"topologySpreadConstraints": [{"maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "bench"}}}]})
}

/// Makes pods that fit nowhere, and waits until each of them says so.
async fn stick(simulated: &Simulated) -> anyhow::Result<()> {
    let mut watch = simulated.watch(&format!("{PODS}?watch=true")).await?;
    let pod = |at: usize| {
        let asks = json!({"requests": {"cpu": format!("{}", 1000 + at % 100)}});
        let spec = json!({"automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "registry.example.com/web:1", "resources": asks}]});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("stuck-{at}")}, "spec": spec})
            .to_string()
    };
    let calls = (0..STUCK).map(|at| Call::post(PODS, pod(at))).collect();
    let mut told = std::collections::HashSet::new();
    let begun = Instant::now();
    let telling = follow(&mut watch, |event: Event<Value>| {
        let conditions = event.object["status"]["conditions"].as_array().into_iter().flatten();
        if conditions.into_iter().any(|one| one["reason"] == "Unschedulable") {
            told.insert(event.object["metadata"]["name"].to_string());
        }
        told.len() == STUCK
    });
    tokio::try_join!(simulated.send(calls), telling)?;
    let time = format!("{:.2} s", begun.elapsed().as_secs_f64());
    report(&format!("{STUCK} pods that fit nowhere, until all say so"), &time, "none");
    Ok(())
}
