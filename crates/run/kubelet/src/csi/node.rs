//! The node's CSINode: which drivers it has, and what they call it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use plimsoll_client::Backoff;
use plimsoll_csi::v1::NodeGetInfoResponse;
use serde_json::json;

use crate::agent::Agent;

/// The annotation that tells controllers what drivers call this node.
const IDS: &str = "csi.volume.kubernetes.io/nodeid";
/// How often a change is tried that others get in the way of.
const TRIES: u32 = 10;

/// Makes the object, so that others know that the node's drivers are named there. Tries until it is.
pub(crate) async fn begin(agent: &Arc<Agent>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
    while let Err(why) = change(agent, |_| false).await {
        tracing::debug!(why, "CSINode not made yet");
        tokio::time::sleep(backoff.delay()).await;
    }
}

/// Names a driver.
pub(super) async fn add(agent: &Arc<Agent>, name: &str, about: NodeGetInfoResponse) -> Result<(), String> {
    if about.node_id.is_empty() {
        return Err(format!(
            "error updating CSINode object with CSI driver node info: {name} has no node id"
        ));
    }
    let topology = about.accessible_topology.clone().map(|it| it.segments).unwrap_or_default();
    let topology: BTreeMap<String, String> = topology.into_iter().collect();
    let wanted = CSINodeDriver {
        name: name.to_owned(),
        node_id: about.node_id.clone(),
        topology_keys: Some(topology.keys().cloned().collect()),
        allocatable: i32::try_from(about.max_volumes_per_node)
            .ok()
            .filter(|count| *count > 0)
            .map(|count| VolumeNodeResources { count: Some(count) }),
    };
    annotate(agent, name, Some(&about.node_id), &topology).await?;
    change(agent, |drivers| {
        if drivers.contains(&wanted) {
            return false;
        }
        drivers.retain(|driver| driver.name != wanted.name);
        drivers.push(wanted.clone());
        true
    })
    .await
}

/// Takes a driver that is gone off the list.
pub(crate) async fn remove(agent: Arc<Agent>, name: String) {
    let changed = change(&agent, |drivers| {
        let before = drivers.len();
        drivers.retain(|driver| driver.name != name);
        drivers.len() != before
    });
    let result = changed.await;
    if let Err(why) = result.and(annotate(&agent, &name, None, &BTreeMap::new()).await) {
        tracing::warn!(driver = name, why, "CSI driver that is gone is still named");
    }
}

/// Changes the list of drivers; `edit` says whether there is anything to write.
async fn change(agent: &Arc<Agent>, edit: impl Fn(&mut Vec<CSINodeDriver>) -> bool) -> Result<(), String> {
    let objects = Api::<CSINode>::all(agent.client.clone());
    let name = &agent.config.node_name;
    let failed =
        |error: kube::Error| format!("error updating CSINode object with CSI driver node info: {error}");
    let mut last = String::new();
    for _ in 0..TRIES {
        let result = match objects.get_opt(name).await.map_err(failed)? {
            Some(mut object) => match edit(&mut object.spec.drivers) {
                true => objects.replace(name, &PostParams::default(), &object).await,
                false => return Ok(()),
            },
            None => {
                let mut fresh = fresh(agent).await.map_err(failed)?;
                edit(&mut fresh.spec.drivers);
                objects.create(&PostParams::default(), &fresh).await
            }
        };
        match result {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => last = status.message.clone(),
            Err(error) => return Err(failed(error)),
        }
    }
    Err(format!("error updating CSINode object with CSI driver node info: {last}"))
}

async fn fresh(agent: &Arc<Agent>) -> Result<CSINode, kube::Error> {
    let name = &agent.config.node_name;
    let node = Api::<Node>::all(agent.client.clone()).get(name).await?;
    let mut object = CSINode { spec: CSINodeSpec { drivers: Vec::new() }, ..CSINode::default() };
    object.metadata.name = Some(name.clone());
    object.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    }]);
    Ok(object)
}

/// Puts a driver's name of the node, and where it says that the node is, on the node itself.
async fn annotate(
    agent: &Arc<Agent>,
    driver: &str,
    id: Option<&str>,
    topology: &BTreeMap<String, String>,
) -> Result<(), String> {
    let nodes = Api::<Node>::all(agent.client.clone());
    let name = &agent.config.node_name;
    let failed =
        |error: kube::Error| format!("error updating Node object with CSI driver node info: {error}");
    let node = nodes.get(name).await.map_err(failed)?;
    let known = node.metadata.annotations.as_ref().and_then(|all| all.get(IDS)).cloned().unwrap_or_default();
    let mut ids: BTreeMap<String, String> = serde_json::from_str(&known).unwrap_or_default();
    match id {
        Some(id) => drop(ids.insert(driver.to_owned(), id.to_owned())),
        None => drop(ids.remove(driver)),
    }
    let text = serde_json::to_string(&ids).map_err(|error| error.to_string())?;
    let labels = node.metadata.labels.unwrap_or_default();
    if let Some((key, value)) =
        topology.iter().find(|(key, value)| labels.get(*key).is_some_and(|it| it != *value))
    {
        return Err(format!(
            "detected topology value collision: driver reported \"{key}\":\"{value}\" but existing label is \"{key}\":\"{}\"",
            labels[key]
        ));
    }
    if (known == text || (known.is_empty() && ids.is_empty()))
        && topology.keys().all(|key| labels.contains_key(key))
    {
        return Ok(());
    }
    let value = (!ids.is_empty()).then_some(text);
    let patch = json!({"metadata": {"annotations": {IDS: value}, "labels": topology}});
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop).map_err(failed)
}
