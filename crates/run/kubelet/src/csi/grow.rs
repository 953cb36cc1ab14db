//! Letting a driver's volume grow: the file system on it, while a pod uses it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim};
use kube::Api;
use kube::api::{Patch, PatchParams};
use plimsoll_client::EventType;
use plimsoll_csi::v1;
use plimsoll_csi::v1::node_service_capability::rpc::Type;
use plimsoll_podlife::Event;
use plimsoll_podlife::volume::growth::{Failure, Growth, claimed, failed, growth};
use serde_json::Value;

use super::driver::{Abilities, Driver, Size};
use super::publish::{PATIENCE, Request, capability, staging, within};
use super::{secret, unpublish};
use crate::agent::Agent;
use crate::engine::text;
use crate::volume::Bound;

/// When it is looked whether a volume is to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// It was just mounted.
    Mounting,
    /// It is in use.
    Using,
}

/// Lets a volume grow if it is larger than it is here.
pub(crate) async fn grow(
    agent: &Arc<Agent>,
    request: &Request<'_>,
    bound: &Bound,
    occasion: Occasion,
) -> Result<(), String> {
    let name = request.csi.unique_name();
    let Some(known) = claimed(&bound.claim) else { return Ok(()) };
    let here = match (agent.drivers.size(name.clone(), known), occasion) {
        (Size::Stays, _) => return Ok(()),
        (Size::Bytes(_), Occasion::Mounting) => None,
        (Size::Bytes(bytes), Occasion::Using) => Some(bytes),
    };
    let Some(growth) = growth(&bound.claim, &bound.volume, here) else { return Ok(()) };
    if request.source.read_only {
        if occasion == Occasion::Mounting {
            let what = "MountVolume.NodeExpandVolume failed";
            tell(agent, request, bound, Tone::Bad, what, "requested read-only file system");
        }
        return Ok(());
    }
    let driver = agent.drivers.get(&request.csi.driver)?;
    let abilities = within(driver.abilities()).await?;
    if abilities.has(Type::ExpandVolume) {
        let call = Call { agent, request, bound, driver, abilities };
        return call.grow(growth, name).await;
    }
    // The file system is the driver's own business.
    agent.drivers.set_size(name, Size::Bytes(growth.bytes));
    Ok(())
}

struct Call<'a> {
    agent: &'a Arc<Agent>,
    request: &'a Request<'a>,
    bound: &'a Bound,
    driver: Driver,
    abilities: Abilities,
}

impl Call<'_> {
    async fn grow(&self, growth: Growth, name: String) -> Result<(), String> {
        let mut claim = self.bound.claim.clone();
        if let Some(patch) = growth.begun(&claim) {
            claim = patched(self.agent, &claim, patch).await.map_err(|why| {
                format!("MountVolume.NodeExpandVolume failed to mark node expansion in progress: {why}")
            })?;
        }
        let asked = tokio::time::timeout(PATIENCE, self.ask(growth.bytes)).await;
        let (failure, why) = match asked {
            Ok(Ok(())) => {
                self.agent.drivers.set_size(name, Size::Bytes(growth.bytes));
                return self.ended(&growth, &claim).await;
            }
            Ok(Err(refusal)) => refusal,
            Err(_) => (Failure::Transient, "context deadline exceeded".to_owned()),
        };
        if let Some(patch) = failed(&claim, failure, &why, Timestamp::now())
            && let Err(error) = patched(self.agent, &claim, patch).await
        {
            tracing::warn!(volume = name, error, "claim not told that its volume did not grow");
        }
        if failure == Failure::InUse {
            // It may grow before the next pod gets it; this pod has it as it is.
            self.agent.drivers.set_size(name, Size::Stays);
            return Ok(());
        }
        Err(why)
    }

    async fn ask(&self, bytes: i64) -> Result<(), (Failure, String)> {
        let csi = self.request.csi;
        let secrets = secret::words(self.agent, csi.expand_secret.as_ref(), "NodeExpandSecretRef").await;
        let secrets = secrets.map_err(|why| (Failure::Transient, why))?;
        let staged = staging(self.agent, csi, &self.abilities);
        let request = v1::NodeExpandVolumeRequest {
            volume_id: csi.handle.clone(),
            volume_path: unpublish::target(&self.request.dir).to_string_lossy().into_owned(),
            capacity_range: Some(v1::CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            staging_target_path: staged.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
            volume_capability: Some(capability(self.request, &self.abilities, None)),
            secrets,
        };
        let answer = self.driver.node().node_expand_volume(request).await;
        answer.map(drop).map_err(|status| {
            let failure = Failure::of(status.code() as i32);
            let mark = if failure == Failure::Infeasible { "" } else { ": " };
            let why = format!("Expander.NodeExpand failed to expand the volume {mark}{}", text(&status));
            (failure, why)
        })
    }

    async fn ended(&self, growth: &Growth, claim: &PersistentVolumeClaim) -> Result<(), String> {
        let (agent, node) = (self.agent, &self.agent.config.node_name);
        let what = "MountVolume.NodeExpandVolume succeeded";
        tell(agent, self.request, self.bound, Tone::Good, what, node);
        let Some(patch) = growth.ended(claim) else { return Ok(()) };
        let told = patched(agent, claim, patch).await;
        told.map(drop).map_err(|why| format!("mountVolume.NodeExpandVolume update pvc status failed: {why}"))
    }
}

async fn patched(
    agent: &Agent,
    claim: &PersistentVolumeClaim,
    patch: Value,
) -> Result<PersistentVolumeClaim, String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, name) = (text(&claim.metadata.namespace), text(&claim.metadata.name));
    let claims = Api::<PersistentVolumeClaim>::namespaced(agent.client.clone(), &namespace);
    let patched = claims.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    patched.map_err(|error| format!("patchPVCStatus failed to patch PVC \"{name}\": {error}"))
}

/// How something came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Good,
    Bad,
}

/// Tells users of the pod and of the claim.
fn tell(agent: &Agent, request: &Request<'_>, bound: &Bound, tone: Tone, what: &str, more: &str) {
    let message = format!("{what} for volume \"{}\" {more}", request.source.name);
    let (reason, kind) = match tone {
        Tone::Good => ("FileSystemResizeSuccessful", EventType::Normal),
        Tone::Bad => ("FileSystemResizeFailed", EventType::Warning),
    };
    let event = match tone {
        Tone::Good => Event::normal(reason, message.clone(), None),
        Tone::Bad => Event::warning(reason, message.clone(), None),
    };
    agent.tell(request.pod, &event);
    let meta = &bound.claim.metadata;
    let object = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    };
    agent.recorder.event(&object, kind, reason, message);
}
