//! Important pods come to a full cluster, all at once: how long it takes until each has a node, and who had to go.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use crate::api::connection::Call;
use crate::report;
use crate::simulated::{Event, Simulated, follow};

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
/// Pods of a node of four processors.
const OF_A_NODE: usize = 4;

/// Takes and prints the figures.
pub(crate) fn run(nodes: usize, pods: usize) -> anyhow::Result<()> {
    let simulated = Simulated::start_with(nodes, &["--simulated-capacity", "cpu=4,memory=32Gi,pods=110"])?;
    simulated.client(async {
        let classes = [("spare", -10), ("usual", 0), ("urgent", 1000)].map(|(name, value)| {
            let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name}, "value": value});
            Call::post(CLASSES, class.to_string())
        });
        simulated.send(classes.into()).await?;
        // Spare pods are enough for those that come, and are on every node.
        let class = |at: usize| if at.is_multiple_of(2) { "spare" } else { "usual" };
        let full: Vec<Call> = (0..OF_A_NODE * nodes)
            .map(|at| Call::post(PODS, pod(&format!("there-{at}"), class(at))))
            .collect();
        bound(&simulated, full).await?;
        let watch = simulated.watch(&format!("{PODS}?watch=true")).await?;
        let calls: Vec<Call> =
            (0..pods).map(|at| Call::post(PODS, pod(&format!("urgent-{at}"), "urgent"))).collect();
        let (mut placed, mut victims) = (HashSet::new(), BTreeMap::<String, usize>::new());
        let cost = simulated
            .cost(async {
                let binding = follow(watch, |event: Event<Value>| {
                    let (spec, name) = (&event.object["spec"], &event.object["metadata"]["name"]);
                    let class = spec["priorityClassName"].as_str().unwrap_or_default();
                    if event.r#type == "DELETED" {
                        *victims.entry(class.to_owned()).or_default() += 1;
                    } else if class == "urgent" && spec["nodeName"].is_string() {
                        placed.insert(name.to_string());
                    }
                    placed.len() == pods
                });
                tokio::try_join!(simulated.send(calls), binding).map(drop)
            })
            .await?;
        cost.report(&format!("{pods} urgent pods, all bound to {nodes} full nodes"), "none");
        let aim = format!("{pods} of the least important");
        report("  pods that had to go", &format!("{victims:?}"), &aim);
        simulated.report_memory();
        Ok(())
    })
}

/// Makes pods and waits until all have a node.
async fn bound(simulated: &Simulated, calls: Vec<Call>) -> anyhow::Result<()> {
    let (watch, count) = (simulated.watch(&format!("{PODS}?watch=true")).await?, calls.len());
    let mut bound = HashSet::new();
    let binding = follow(watch, |event: Event<Value>| {
        if event.object["spec"]["nodeName"].is_string() {
            bound.insert(event.object["metadata"]["name"].to_string());
        }
        bound.len() == count
    });
    tokio::try_join!(simulated.send(calls), binding).map(drop)
}

fn pod(name: &str, class: &str) -> String {
    let container = json!({"name": "main", "image": "registry.example.com/web:1",
        "resources": {"requests": {"cpu": "1", "memory": "128Mi"}}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"automountServiceAccountToken": false, "priorityClassName": class,
            "terminationGracePeriodSeconds": 1, "containers": [container]}})
    .to_string()
}
