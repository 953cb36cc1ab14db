//! The nodes, and which of them are silent.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use plimsoll_client::{Backoff, Informer, Informers};
use plimsoll_podlife::simulated::node::{is_silent, is_simulated};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Config;
use crate::api::{Api, LEASES, NODES, Patch, Refusal};

/// Writes that are under way at once.
pub(crate) const AT_ONCE: usize = 32;

/// What is known of the nodes.
pub(crate) struct Nodes {
    pub(crate) config: Arc<Config>,
    pub(crate) informer: Informer<Node>,
    started: Instant,
}

impl Nodes {
    pub(crate) fn new(config: Arc<Config>, informers: &Informers) -> Self {
        Self { config, informer: informers.informer(), started: Instant::now() }
    }

    pub(crate) fn count(&self) -> usize {
        self.config.fleet.count
    }

    /// The node as the API shows it; none when somebody deleted it, or it is another one's.
    pub(crate) fn node(&self, number: usize) -> Option<Arc<Node>> {
        let node = self.informer.get("", &self.config.fleet.name(number))?;
        node.metadata.labels.as_ref().is_some_and(is_simulated).then_some(node)
    }

    /// Whether nothing happens on a node: it is gone or silent.
    pub(crate) fn is_away(&self, number: usize) -> bool {
        self.node(number).is_none_or(|node| self.is_silent(&node, number))
    }

    /// Whether this node says nothing now.
    pub(crate) fn is_silent(&self, node: &Node, number: usize) -> bool {
        is_silent(node, number, &self.config.manner, self.started.elapsed())
    }
}

/// Makes all nodes and their leases; those that are there become what they are to be now, and are well.
pub(crate) async fn register(config: &Config, api: &Api) {
    let each = futures::stream::iter(0..config.fleet.count);
    each.for_each_concurrent(AT_ONCE, |number| async move {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(7));
        while let Err(why) = register_one(config, api, number).await {
            tracing::warn!(number, ?why, "simulated node not registered yet");
            tokio::time::sleep(backoff.delay()).await;
        }
    })
    .await;
}

async fn register_one(config: &Config, api: &Api, number: usize) -> Result<(), Refusal> {
    let name = config.fleet.name(number);
    let now = Timestamp::now();
    let uid = match api.create(NODES, &config.fleet.node(number, config.version, now)).await {
        Ok(uid) => Some(uid),
        Err(Refusal::Exists) => {
            if !is_simulated(&api.labels(&format!("{NODES}/{name}")).await?) {
                tracing::warn!(name, "there is a node of this name that is not simulated: it is left alone");
                return Ok(());
            }
            let (object, status) = config.fleet.adoption(number, config.version, now);
            api.patch(&format!("{NODES}/{name}"), Patch::Strategic, &object).await?;
            api.patch(&format!("{NODES}/{name}/status"), Patch::Strategic, &status).await?;
            None
        }
        Err(why) => return Err(why),
    };
    make_lease(api, &name, uid.as_deref(), config.lease).await
}

/// Says that a node is well.
pub(crate) async fn tell_conditions(api: &Api, name: &str, conditions: Value) -> Result<(), Refusal> {
    let patch = json!({"status": {"conditions": conditions}});
    api.patch(&format!("{NODES}/{name}/status"), Patch::Strategic, &patch).await
}

/// Makes a node's lease, or renews it.
pub(crate) async fn make_lease(
    api: &Api,
    name: &str,
    uid: Option<&str>,
    duration: Duration,
) -> Result<(), Refusal> {
    let owner = uid.map(|uid| json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}));
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "ownerReferences": owner.into_iter().collect::<Vec<_>>()},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": duration.as_secs(), "renewTime": micros(Timestamp::now())},
    });
    match api.create(LEASES, &lease).await {
        Err(Refusal::Exists) => renew_lease(api, name).await,
        made => made.map(drop),
    }
}

/// A node's sign of life.
pub(crate) async fn renew_lease(api: &Api, name: &str) -> Result<(), Refusal> {
    let patch = json!({"spec": {"renewTime": micros(Timestamp::now())}});
    api.patch(&format!("{LEASES}/{name}"), Patch::Merge, &patch).await
}

/// A time as leases write it.
fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}
