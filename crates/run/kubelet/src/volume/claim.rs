//! Volumes that stay: what a claim leads to, as the API has it.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::Api;
use plimsoll_podlife::volume::{Reference, Source, claim, persistent};

use super::local_folder;
use crate::agent::Agent;

/// A claim and what it is bound to, as they were when the volume was last looked at.
pub(crate) struct Bound {
    pub(crate) claim: PersistentVolumeClaim,
    pub(crate) volume: PersistentVolume,
}

/// The volume behind a claim.
pub(super) async fn resolve(
    agent: &Agent,
    pod: &Pod,
    volume: &Volume,
    reference: &Reference,
) -> Result<(Source, Bound), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let failed = |why: String| format!("error processing PVC {namespace}/{}: {why}", reference.claim);
    let claims = Api::<PersistentVolumeClaim>::namespaced(agent.client.clone(), namespace);
    let found = claims.get(&reference.claim).await;
    let found =
        found.map_err(|error| failed(format!("failed to fetch PVC from API server: {}", text(&error))))?;
    let name = claim::bound(pod, reference, &found)?.to_owned();
    let behind = Api::<PersistentVolume>::all(agent.client.clone()).get(&name).await;
    let behind = behind
        .map_err(|error| failed(format!("failed to fetch PV {name} from API server: {}", text(&error))))?;
    claim::belongs(pod, reference, &found, &behind)?;
    let source = persistent(&behind, reference.read_only)?;
    claim::fits(pod, &volume.name, &source)?;
    local_folder::make(agent, &behind).await?;
    Ok((source, Bound { claim: found, volume: behind }))
}

fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
