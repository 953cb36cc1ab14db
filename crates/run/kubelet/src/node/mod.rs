//! The node's own object: registration, lease, status.

mod advertised;
mod lease;
mod status;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use plimsoll_client::{Backoff, Delta, Filter, Informer};
use plimsoll_podlife::cgroup::reserved::Enforced;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use status::Reporter;

/// The version that this agent is.
pub(crate) const VERSION: &str = "v1.37.0";
/// How often an engine that is not ready yet is asked.
const EAGER: Duration = Duration::from_millis(20);
/// After so many eager questions the engine is asked less often.
const PATIENCE: u32 = 500;

/// Keeps the node in the API until `stop`. `port` is that of the agent's server.
pub(crate) async fn run(agent: Arc<Agent>, port: Option<u16>, stop: CancellationToken) {
    let node = register(&agent).await;
    agent.tell_node("Starting", "Starting kubelet.".into());
    if agent.config.reserved().enforced.contains(&Enforced::Pods) {
        agent.tell_node("NodeAllocatableEnforced", "Updated Node Allocatable limit across pods".into());
    }
    if let Some(boot) = rebooted(&node, &agent.machine.boot_id) {
        let name = &agent.config.node_name;
        agent.warn_node("Rebooted", format!("Node {name} has been rebooted, boot id: {boot}"));
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(lease::run(agent.clone(), node.metadata.uid.clone()));
    tasks.spawn(follow_pod_range(agent.clone()));
    tasks.spawn(report(agent, node, port));
    stop.cancelled().await;
}

/// The id of this run of the machine, if the API knows of another one.
fn rebooted<'a>(node: &Node, boot: &'a str) -> Option<&'a str> {
    let known = &node.status.as_ref()?.node_info.as_ref()?.boot_id;
    (!known.is_empty() && known != boot).then_some(boot)
}

/// Makes the node, or takes over the one that is there. Tries until the API agrees.
async fn register(agent: &Agent) -> Node {
    let nodes = Api::<Node>::all(agent.client.clone());
    let fresh = own(agent);
    let name = &agent.config.node_name;
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(7));
    loop {
        let made = if agent.config.register_node {
            nodes.create(&PostParams::default(), &fresh).await
        } else {
            nodes.get(name).await
        };
        let result = match made {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let metadata = json!({"labels": labels(agent), "annotations": annotations(agent)});
                let patch = Patch::Merge(json!({"metadata": metadata}));
                nodes.patch(name, &PatchParams::default(), &patch).await
            }
            result => result,
        };
        match result {
            Ok(node) => return node,
            Err(error) => {
                tracing::warn!(%error, "node not registered yet");
                tokio::time::sleep(backoff.delay()).await;
            }
        }
    }
}

fn labels(agent: &Agent) -> Map<String, Value> {
    let arch = agent.machine.architecture;
    let own = [
        ("kubernetes.io/hostname", agent.config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
    own.chain(agent.config.labels.iter().map(|(name, value)| (name.clone(), json!(value)))).collect()
}

/// The node as it registers itself.
pub(crate) fn own(agent: &Agent) -> Node {
    serde_json::from_value(object(agent)).expect("the node's own object is well formed")
}

fn annotations(agent: &Agent) -> Map<String, Value> {
    let attached = ("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), json!("true"));
    let folder = agent.config.local_volumes.as_ref();
    let folder = folder.map(|folder| (plimsoll_volume::local::FOLDER.to_owned(), json!(folder)));
    std::iter::once(attached).chain(folder).collect()
}

fn object(agent: &Agent) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": agent.config.node_name,
            "labels": labels(agent),
            "annotations": annotations(agent),
        },
        "spec": spec(agent),
    })
}

fn spec(agent: &Agent) -> Value {
    let mut spec = json!({"taints": agent.config.taints});
    if !agent.config.provider_id.is_empty() {
        spec["providerID"] = json!(agent.config.provider_id);
    }
    spec
}

/// The informer of this node.
pub(crate) fn informer(agent: &Agent) -> Informer<Node> {
    let fields = Some(format!("metadata.name={}", agent.config.node_name));
    agent.informers.filtered(Filter { namespace: None, labels: None, fields })
}

/// Tells the engine the node's range of pod addresses as soon as the node has one.
async fn follow_pod_range(agent: Arc<Agent>) {
    // An informer that nobody holds stops.
    let informer = informer(&agent);
    let mut deltas = informer.subscribe();
    let mut told = String::new();
    while let Some(delta) = deltas.recv().await {
        let Delta::Applied { new, .. } = delta else { continue };
        let range = pod_range(&new);
        if range.is_empty() || range == told {
            continue;
        }
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        while let Err(error) = agent.engine.set_pod_range(&range).await {
            tracing::warn!(range, %error, "the engine does not take the range of pod addresses");
            tokio::time::sleep(backoff.delay()).await;
        }
        told = range;
    }
}

fn pod_range(node: &Node) -> String {
    let spec = node.spec.clone().unwrap_or_default();
    match spec.pod_cidrs.filter(|ranges| !ranges.is_empty()) {
        Some(ranges) => ranges.join(","),
        None => spec.pod_cidr.unwrap_or_default(),
    }
}

/// Reports the node's status: at once when it becomes ready, later in rounds.
async fn report(agent: Arc<Agent>, node: Node, port: Option<u16>) {
    let mut pressure = agent.pressure.clone();
    let mut used = agent.volumes.used.subscribe();
    let mut devices = agent.devices.subscribe();
    // An informer that nobody holds stops.
    let informer = informer(&agent);
    let mut deltas = informer.subscribe();
    let (leaving, joined) = (agent.config.leaving.clone(), agent.config.joined.clone());
    let mut reporter = Reporter::new(agent, &node, port);
    let mut eager = 0;
    loop {
        let ready = reporter.round().await;
        if ready {
            joined.cancel();
        }
        let wait = if ready || eager >= PATIENCE { reporter.period() } else { EAGER };
        eager = if ready { 0 } else { eager.saturating_add(1) };
        // Pressure is told at once, so that the scheduler sends nothing more.
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Ok(()) = pressure.changed() => {}
            // What is named as used is not detached.
            Ok(()) = used.changed() => {}
            Ok(()) = devices.changed() => {}
            Some(()) = reporter.advertised(&mut deltas) => {}
            () = leaving.cancelled(), if !reporter.is_leaving() => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_shows_in_the_id_of_the_machines_run() {
        for (status, expected) in [
            (json!({}), None),
            (json!({"nodeInfo": {"bootID": ""}}), None),
            (json!({"nodeInfo": {"bootID": "a"}}), Some("b")),
            (json!({"nodeInfo": {"bootID": "b"}}), None),
        ] {
            let mut status = status;
            if let Some(info) = status.get_mut("nodeInfo") {
                for field in [
                    "architecture",
                    "containerRuntimeVersion",
                    "kernelVersion",
                    "kubeProxyVersion",
                    "kubeletVersion",
                    "machineID",
                    "operatingSystem",
                    "osImage",
                    "systemUUID",
                ] {
                    info[field] = json!("x");
                }
            }
            let node: Node = serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap();
            assert_eq!(rebooted(&node, "b"), expected, "{status}");
        }
    }
}
