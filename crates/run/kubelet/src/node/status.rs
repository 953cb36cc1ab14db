//! What the node's status tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use plimsoll_client::Delta;
use plimsoll_cri::v1;
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::eviction::Condition;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{VERSION, advertised};
use crate::agent::Agent;

/// Sends the node's status when there is something to tell.
pub(super) struct Reporter {
    agent: Arc<Agent>,
    port: Option<u16>,
    /// Whether each condition holds, and since when; nothing of one that nobody knows.
    since: BTreeMap<&'static str, (bool, Timestamp)>,
    /// What has changed and was not told to users yet, in upstream's words.
    changes: Vec<&'static str>,
    sent: Option<(Value, Instant)>,
    leaving: bool,
    /// What others advertise, as it is to be told.
    advertised: Map<String, Value>,
}

impl Reporter {
    pub(super) fn new(agent: Arc<Agent>, node: &Node, port: Option<u16>) -> Self {
        let mut reporter = Self {
            since: known(node),
            agent,
            port,
            sent: None,
            changes: Vec::new(),
            leaving: false,
            advertised: Map::new(),
        };
        reporter.advertised = advertised::allocatable(node, &reporter.capacity());
        reporter
    }

    /// Waits until others advertise something else than before; None when `nodes` has ended.
    pub(super) async fn advertised(&mut self, nodes: &mut UnboundedReceiver<Delta<Node>>) -> Option<()> {
        loop {
            let Delta::Applied { new, .. } = nodes.recv().await? else { continue };
            let now = advertised::allocatable(&new, &self.capacity());
            if now != self.advertised {
                self.advertised = now;
                return Some(());
            }
        }
    }

    /// The agent's own resources.
    fn capacity(&self) -> BTreeMap<String, Quantity> {
        let devices = self.agent.devices.capacity().into_iter().map(|(name, (all, _))| (name, count(all)));
        self.agent.machine.capacity(self.agent.config.max_pods).into_iter().chain(devices).collect()
    }

    /// Whether it was told that the node goes down.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// How often to look when all is well.
    pub(super) fn period(&self) -> Duration {
        self.agent.config.status_update
    }

    /// Looks at everything and sends it when it changed. True when the API knows the node as ready.
    pub(super) async fn round(&mut self) -> bool {
        let engine = self.agent.engine.status().await;
        let mut trouble = trouble(engine.as_ref());
        self.leaving = self.agent.config.leaving.is_cancelled();
        if self.leaving {
            trouble = Some("node is shutting down".to_owned());
        }
        let engine = engine.unwrap_or_default();
        let ready = trouble.is_none();
        let images = self.agent.engine.list_images().await.unwrap_or_default();
        let told = self.told(&engine, images, trouble.clone());
        let due = self
            .sent
            .as_ref()
            .is_none_or(|(sent, at)| *sent != told || at.elapsed() >= self.agent.config.status_report);
        if due && !self.send(told, trouble).await {
            return false;
        }
        for word in std::mem::take(&mut self.changes) {
            let node = &self.agent.config.node_name;
            self.agent.tell_node(word, format!("Node {node} status is now: {word}"));
        }
        ready
    }

    async fn send(&mut self, told: Value, trouble: Option<String>) -> bool {
        let mut status = told.clone();
        status["conditions"] = self.conditions(trouble, Timestamp::now());
        // Strategic merge would join them by their types, of which several may be the same.
        if let Some(addresses) = status["addresses"].as_array_mut() {
            addresses.push(json!({"$patch": "replace"}));
        }
        let nodes = Api::<Node>::all(self.agent.client.clone());
        let patch = Patch::Strategic(json!({"status": status}));
        match nodes.patch_status(&self.agent.config.node_name, &PatchParams::default(), &patch).await {
            Ok(_) => {
                self.sent = Some((told, Instant::now()));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "node status not sent yet");
                false
            }
        }
    }

    /// Everything but the times.
    fn told(&self, engine: &v1::StatusResponse, images: Vec<v1::Image>, trouble: Option<String>) -> Value {
        let config = &self.agent.config;
        let machine = &self.agent.machine;
        let addresses =
            config.node_ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}));
        let hostname = json!({"type": "Hostname", "address": config.node_name});
        let handlers = engine.runtime_handlers.iter().map(|handler| {
            let features = handler.features.unwrap_or_default();
            json!({"name": handler.name, "features": {
                "recursiveReadOnlyMounts": features.recursive_read_only_mounts,
                "userNamespaces": features.user_namespaces,
            }})
        });
        let features = engine.features.unwrap_or_default();
        let devices =
            self.agent.devices.capacity().into_iter().map(|(name, (_, usable))| (name, count(usable)));
        let own = self.agent.allocatable.clone().into_iter().chain(devices).collect();
        let mut allocatable = list(&own);
        allocatable.extend(self.advertised.clone());
        let mut status = json!({
            "addresses": addresses.chain([hostname]).collect::<Vec<_>>(),
            "capacity": list(&self.capacity()),
            "allocatable": allocatable,
            "nodeInfo": {
                "machineID": machine.machine_id,
                "systemUUID": machine.system_uuid,
                "bootID": machine.boot_id,
                "kernelVersion": machine.kernel,
                "osImage": machine.os_image,
                "containerRuntimeVersion": self.agent.runtime_version,
                "kubeletVersion": VERSION,
                "kubeProxyVersion": VERSION,
                "operatingSystem": "linux",
                "architecture": machine.architecture,
            },
            "images": shown(images, config.status_images),
            "runtimeHandlers": handlers.collect::<Vec<_>>(),
            "volumesInUse": *self.agent.volumes.used.borrow(),
            "features": {"supplementalGroupsPolicy": features.supplemental_groups_policy},
            // Stands for the conditions while statuses are compared.
            "conditions": [trouble, self.agent.pressure.borrow().iter().map(|it| it.as_str()).collect::<Vec<_>>()],
        });
        if let Some(port) = self.port {
            status["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": port}});
        }
        status
    }

    fn conditions(&mut self, trouble: Option<String>, now: Timestamp) -> Value {
        let ready = trouble.is_none();
        let message = trouble.unwrap_or_else(|| "kubelet is posting ready status".into());
        let pressure = self.agent.pressure.borrow().clone();
        let state = |condition: Condition, reasons: [&'static str; 2], messages: [&'static str; 2]| {
            let is = pressure.contains(&condition);
            (condition.as_str(), is, reasons[usize::from(is)], messages[usize::from(is)])
        };
        let list = [
            state(
                Condition::MemoryPressure,
                ["KubeletHasSufficientMemory", "KubeletHasInsufficientMemory"],
                ["kubelet has sufficient memory available", "kubelet has insufficient memory available"],
            ),
            state(
                Condition::DiskPressure,
                ["KubeletHasNoDiskPressure", "KubeletHasDiskPressure"],
                ["kubelet has no disk pressure", "kubelet has disk pressure"],
            ),
            state(
                Condition::PidPressure,
                ["KubeletHasSufficientPID", "KubeletHasInsufficientPID"],
                ["kubelet has sufficient PID available", "kubelet has insufficient PID available"],
            ),
            ("Ready", ready, if ready { "KubeletReady" } else { "KubeletNotReady" }, message.as_str()),
        ];
        let conditions = list.map(|(name, is, reason, message)| {
            let known = self.since.get(name).filter(|(before, _)| *before == is);
            if known.is_none() {
                self.changes.push(change(name, is));
            }
            let since = known.map_or(now, |(_, since)| *since);
            self.since.insert(name, (is, since));
            json!({
                "type": name,
                "status": if is { "True" } else { "False" },
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": Time(now),
                "lastTransitionTime": Time(since),
            })
        });
        json!(conditions)
    }
}

/// The agent's conditions as the API has them.
fn known(node: &Node) -> BTreeMap<&'static str, (bool, Timestamp)> {
    let known = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let since = known.filter(|it| it.status != "Unknown").filter_map(|it| {
        let mut names = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].into_iter();
        let name = names.find(|name| *name == it.type_)?;
        Some((name, (it.status == "True", it.last_transition_time.as_ref()?.0)))
    });
    since.collect()
}

/// What users are told of a condition that holds or does not (kubelet: pkg/kubelet/nodestatus/setters.go).
fn change(condition: &str, is: bool) -> &'static str {
    match (condition, is) {
        ("MemoryPressure", true) => "NodeHasInsufficientMemory",
        ("MemoryPressure", false) => "NodeHasSufficientMemory",
        ("DiskPressure", true) => "NodeHasDiskPressure",
        ("DiskPressure", false) => "NodeHasNoDiskPressure",
        ("PIDPressure", true) => "NodeHasInsufficientPID",
        ("PIDPressure", false) => "NodeHasSufficientPID",
        (_, true) => "NodeReady",
        (_, false) => "NodeNotReady",
    }
}

/// Why the node cannot take pods, if it cannot.
fn trouble(engine: Result<&v1::StatusResponse, &tonic::Status>) -> Option<String> {
    let status = match engine {
        Ok(response) => response.status.clone().unwrap_or_default(),
        Err(error) => return Some(format!("container runtime is down: {}", error.message())),
    };
    let found = |name: &str| status.conditions.iter().find(|condition| condition.r#type == name);
    for (name, what) in [
        ("RuntimeReady", "container runtime not ready"),
        ("NetworkReady", "container runtime network not ready"),
    ] {
        match found(name) {
            Some(condition) if condition.status => {}
            Some(condition) => {
                let (reason, message) = (&condition.reason, &condition.message);
                return Some(format!("{what}: {name}=false reason:{reason} message:{message}"));
            }
            None => return Some(format!("{what}: {name} is unknown")),
        }
    }
    None
}

fn count(number: usize) -> Quantity {
    Quantity::from_units(i64::try_from(number).unwrap_or(i64::MAX))
}

fn list(resources: &BTreeMap<String, Quantity>) -> Map<String, Value> {
    resources.iter().map(|(name, amount)| (name.clone(), json!(amount.to_string()))).collect()
}

/// The largest images with all their names.
fn shown(mut images: Vec<v1::Image>, most: Option<usize>) -> Value {
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let shown = images.into_iter().take(most.unwrap_or(usize::MAX)).map(|image| {
        let names: Vec<_> = image.repo_digests.into_iter().chain(image.repo_tags).collect();
        json!({"names": names, "sizeBytes": image.size})
    });
    json!(shown.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_knows_for_sure_is_no_news() {
        let condition = |name: &str, status: &str| json!({"type": name, "status": status, "lastTransitionTime": "2026-01-02T03:04:05Z"});
        let conditions =
            [("Ready", "Unknown"), ("DiskPressure", "True"), ("PIDPressure", "False"), ("X", "True")];
        let conditions = conditions.map(|(name, status)| condition(name, status));
        let node = json!({"metadata": {}, "status": {"conditions": conditions}});
        let known = known(&serde_json::from_value(node).expect("a node"));
        let known: Vec<_> = known.into_iter().map(|(name, (is, _))| (name, is)).collect();
        assert_eq!(known, [("DiskPressure", true), ("PIDPressure", false)]);
    }

    #[test]
    fn a_node_is_ready_when_engine_and_network_are() {
        let status = |runtime: Option<bool>, network: Option<bool>| {
            let condition = |name: &str, is: Option<bool>| {
                is.map(|status| v1::RuntimeCondition {
                    r#type: name.into(),
                    status,
                    reason: "R".into(),
                    message: "m".into(),
                })
            };
            let conditions = [condition("RuntimeReady", runtime), condition("NetworkReady", network)];
            let conditions = conditions.into_iter().flatten().collect();
            v1::StatusResponse { status: Some(v1::RuntimeStatus { conditions }), ..Default::default() }
        };
        let cases = [
            (Some(true), Some(true), None),
            (
                Some(true),
                Some(false),
                Some("container runtime network not ready: NetworkReady=false reason:R message:m"),
            ),
            (
                Some(false),
                Some(true),
                Some("container runtime not ready: RuntimeReady=false reason:R message:m"),
            ),
            (Some(true), None, Some("container runtime network not ready: NetworkReady is unknown")),
        ];
        for (runtime, network, expected) in cases {
            assert_eq!(trouble(Ok(&status(runtime, network))).as_deref(), expected);
        }
    }
}
