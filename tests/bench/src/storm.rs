//! Important pods come to a full cluster, all at once: how long it takes until each has a node, and who had to go.
//! It fails if a node had more at any time than it has room for, if a pod was refused, or if others went than had to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::ensure;
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
    ensure!(pods <= OF_A_NODE / 2 * nodes, "only half of what is there is spare");
    let simulated = Simulated::start_with(nodes, &["--simulated-capacity", "cpu=4,memory=32Gi,pods=110"])?;
    simulated.client(async {
        let classes = [("spare", -10), ("usual", 0), ("urgent", 1000)].map(|(name, value)| {
            let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name}, "value": value});
            Call::post(CLASSES, class.to_string())
        });
        simulated.send(classes.into()).await?;
        let mut watch = simulated.watch(&format!("{PODS}?watch=true")).await?;
        let mut seen = Seen::default();
        let mut until = async |calls: Vec<Call>, is_over: fn(&Seen, usize) -> bool, count: usize| {
            let following = follow(&mut watch, |event: Event<Value>| {
                seen.take(&event);
                is_over(&seen, count)
            });
            tokio::try_join!(simulated.send(calls), following).map(drop)
        };
        // Spare pods are on every node.
        let class = |at: usize| if at.is_multiple_of(2) { "spare" } else { "usual" };
        let there = OF_A_NODE * nodes;
        let full = (0..there).map(|at| Call::post(PODS, pod(&format!("there-{at}"), class(at)))).collect();
        until(full, |seen, count| seen.bound.len() == count, there).await?;
        let calls = (0..pods).map(|at| Call::post(PODS, pod(&format!("urgent-{at}"), "urgent"))).collect();
        let storm = until(calls, |seen, count| seen.bound.len() == count, there + pods);
        let cost = simulated.cost(storm).await?;
        cost.report(&format!("{pods} urgent pods, all bound to {nodes} full nodes"), "none");
        // What is under way ends.
        let settled =
            until(Vec::new(), |seen, count| seen.begun.len() == count && seen.ending.is_empty(), pods);
        simulated.cost(settled).await?;
        let aim = format!("{pods} of the least important");
        report("  pods that had to go", &format!("{:?}", seen.went()), &aim);
        simulated.report_memory();
        seen.check(pods)
    })
}

/// What a watch has told of the pods.
#[derive(Default)]
struct Seen {
    /// Pods that ever had a node.
    bound: BTreeSet<String>,
    /// Pods that hold something of a node, which is named.
    holds: HashMap<String, String>,
    /// How many hold something of each node.
    on: HashMap<String, usize>,
    /// Urgent pods that run, or that their nodes refused.
    begun: BTreeSet<String>,
    /// Pods that are deleted and not gone.
    ending: BTreeSet<String>,
    /// Pods that were deleted, by their class.
    went: BTreeMap<String, BTreeSet<String>>,
    /// What should not have happened.
    wrong: Vec<String>,
}

impl Seen {
    fn take(&mut self, event: &Event<Value>) {
        let (meta, spec, status) =
            (&event.object["metadata"], &event.object["spec"], &event.object["status"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (name, class, node) =
            (text(&meta["name"]), text(&spec["priorityClassName"]), text(&spec["nodeName"]));
        let (is_gone, phase) = (event.r#type == "DELETED", text(&status["phase"]));
        let is_over = is_gone || ["Succeeded", "Failed"].contains(&phase.as_str());
        let is_deleted = is_gone || meta["deletionTimestamp"].is_string();
        if is_deleted {
            self.went.entry(class.clone()).or_default().insert(name.clone());
            self.ending.insert(name.clone());
        } else if phase == "Failed" {
            self.wrong.push(format!("{name} was refused: {}", text(&status["message"])));
        }
        if is_gone {
            self.ending.remove(&name);
        }
        if node.is_empty() {
            return;
        }
        self.bound.insert(name.clone());
        if class == "urgent" && phase != "Pending" {
            self.begun.insert(name.clone());
        }
        if is_over {
            if let Some(node) = self.holds.remove(&name) {
                *self.on.entry(node).or_default() -= 1;
            }
        } else if self.holds.insert(name, node.clone()).is_none() {
            let count = self.on.entry(node.clone()).or_default();
            *count += 1;
            if *count > OF_A_NODE {
                self.wrong.push(format!("{node} had {count} pods"));
            }
        }
    }

    /// Whether nothing went wrong and nobody went in vain.
    fn check(&self, pods: usize) -> anyhow::Result<()> {
        let some: Vec<&String> = self.wrong.iter().take(10).collect();
        ensure!(some.is_empty(), "{} things are wrong, the first of them {some:#?}", self.wrong.len());
        let went = self.went();
        ensure!(went == BTreeMap::from([("spare", pods)]), "{went:?} went, not {pods} spare ones");
        Ok(())
    }

    fn went(&self) -> BTreeMap<&str, usize> {
        self.went.iter().map(|(class, pods)| (class.as_str(), pods.len())).collect()
    }
}

fn pod(name: &str, class: &str) -> String {
    let container = json!({"name": "main", "image": "registry.example.com/web:1",
        "resources": {"requests": {"cpu": "1", "memory": "128Mi"}}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"automountServiceAccountToken": false, "priorityClassName": class,
            "terminationGracePeriodSeconds": 1, "containers": [container]}})
    .to_string()
}
