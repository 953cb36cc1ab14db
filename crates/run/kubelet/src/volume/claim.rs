//! Volumes that stay: what a PersistentVolumeClaim leads to.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;

use crate::agent::Agent;

/// The folder of this node that a claim is bound to: `hostPath` and `local` volumes have one.
pub(super) async fn resolve(agent: &Agent, pod: &Pod, claim: &str) -> Result<PathBuf, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claims = Api::<PersistentVolumeClaim>::namespaced(agent.client.clone(), namespace);
    let found = claims
        .get(claim)
        .await
        .map_err(|error| format!("error processing PVC {namespace}/{claim}: {error}"))?;
    let bound = found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume = found.spec.and_then(|spec| spec.volume_name).filter(|_| bound);
    let volume =
        volume.ok_or_else(|| format!("error processing PVC {namespace}/{claim}: PVC is not bound"))?;
    let volumes = Api::<PersistentVolume>::all(agent.client.clone());
    let spec = volumes.get(&volume).await.map_err(|error| error.to_string())?.spec.unwrap_or_default();
    let path = spec.host_path.map(|it| it.path).or(spec.local.map(|it| it.path));
    path.map(PathBuf::from)
        .ok_or_else(|| format!("PersistentVolume \"{volume}\" is of a kind that this node does not support"))
}
