//! Waiting until somebody has attached a volume to this node, and the node says so (kubelet:
//! VerifyControllerAttachedVolume, then the attacher's WaitForAttach).

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Api;
use plimsoll_client::Backoff;
use plimsoll_podlife::volume::csi::Csi;

use crate::agent::Agent;

/// Longest wait (kubelet: csiTimeout).
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for the attachment; what it left for the node comes back. Nodes may look at single attachments, but
/// not watch them.
pub(super) async fn wait(agent: &Agent, csi: &Csi) -> Result<BTreeMap<String, String>, String> {
    let name = csi.attachment(&agent.config.node_name);
    let attachments = Api::<VolumeAttachment>::all(agent.client.clone());
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let attached = async {
        while !is_told(agent, csi).await {
            tokio::time::sleep(backoff.delay()).await;
        }
        backoff.reset();
        loop {
            match attachments.get_opt(&name).await {
                Ok(found) => {
                    if let Some(result) = found.as_ref().and_then(state) {
                        return result;
                    }
                }
                Err(error) => tracing::debug!(name, %error, "volume attachment not read"),
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    };
    match tokio::time::timeout(PATIENCE, attached).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "timed out waiting for external-attacher of {} CSI driver to attach volume {}",
            csi.driver, csi.handle
        )),
    }
}

/// Whether the node names the volume as one that it uses and as one that it has. Before the first, whoever
/// detaches volumes does not know that this one is needed; before the second, he may be about to.
async fn is_told(agent: &Agent, csi: &Csi) -> bool {
    let node = match Api::<Node>::all(agent.client.clone()).get_opt(&agent.config.node_name).await {
        Ok(node) => node,
        Err(error) => {
            tracing::debug!(%error, "the node's volumes are not read");
            None
        }
    };
    let Some(status) = node.and_then(|node| node.status) else { return false };
    let name = csi.unique_name();
    let attached = status.volumes_attached.unwrap_or_default();
    status.volumes_in_use.is_some_and(|all| all.contains(&name)) && attached.iter().any(|it| it.name == name)
}

/// What came of an attachment, once something did.
fn state(attachment: &VolumeAttachment) -> Option<Result<BTreeMap<String, String>, String>> {
    let status = attachment.status.as_ref()?;
    if attachment.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if status.attached {
        return Some(Ok(status.attachment_metadata.clone().unwrap_or_default()));
    }
    let error = status.attach_error.as_ref()?;
    Some(Err(error.message.clone().unwrap_or_default()))
}
