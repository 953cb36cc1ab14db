//! Many pods for many nodes: from the request that makes a pod to the news that it is bound.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::api::connection::Call;
use crate::api::load::{milliseconds, percentile};
use crate::report;
use crate::simulated::{Simulated, follow};

const PODS: &str = "/api/v1/namespaces/default/pods";
/// How many make pods at once.
const CLIENTS: usize = 32;

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
pub(crate) fn run(nodes: usize, pods: usize) -> anyhow::Result<()> {
    let simulated = Simulated::start(nodes)?;
    simulated.client(async {
        simulated.rest(&format!("{nodes} nodes at rest, processor use"), "about 0").await;
        let watch = simulated.watch(&format!("{PODS}?watch=true")).await?;
        let asked = RefCell::new(HashMap::new());
        let mut bound = HashMap::new();
        let cost = simulated
            .cost(async {
                let binding = follow(watch, |event: crate::simulated::Event<Pod>| {
                    if !event.object.spec.node_name.is_empty() {
                        bound.entry(event.object.metadata.name).or_insert_with(Instant::now);
                    }
                    bound.len() == pods
                });
                tokio::try_join!(create(&simulated, pods, &asked), binding).map(drop)
            })
            .await?;
        let asked = asked.into_inner();
        let mut times: Vec<Duration> = bound.iter().map(|(name, at)| *at - asked[name]).collect();
        times.sort_unstable();
        let what = format!("{pods} pods by {CLIENTS} clients, all bound to {nodes} nodes");
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
    asked: &RefCell<HashMap<String, Instant>>,
) -> anyhow::Result<()> {
    let next = RefCell::new(0..pods);
    let clients = (0..CLIENTS).map(|_| async {
        let mut connection = simulated.endpoint.connect().await?;
        loop {
            let Some(number) = next.borrow_mut().next() else { return anyhow::Ok(()) };
            let name = format!("pod-{number}");
            asked.borrow_mut().insert(name.clone(), Instant::now());
            connection.call(&Call::post(PODS, pod(&name))).await?;
        }
    });
    futures::future::try_join_all(clients).await.map(drop)
}

fn pod(name: &str) -> String {
    let container = json!({"name": "main", "image": "registry.example.com/web:1",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"automountServiceAccountToken": false, "containers": [container]}})
    .to_string()
}
