//! Showing a driver's volume to a pod.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::Api;
use plimsoll_csi::v1;
use plimsoll_csi::v1::node_service_capability::rpc::Type;
use plimsoll_csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use plimsoll_podlife::volume::csi::{Csi, Life, TOKENS, access_mode};
use plimsoll_podlife::volume::{Mode, Source};

use super::driver::{Abilities, Driver};
use super::record::Record;
use super::unpublish::target;
use super::{attach, secret, stage};
use crate::agent::Agent;
use crate::engine::text;
use crate::volume::Place;

/// Longest wait for a driver (kubelet: csiTimeout).
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A volume that is to be shown.
pub(crate) struct Request<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) source: &'a Source,
    pub(crate) csi: &'a Csi,
    /// The volume's own folder below the pod's.
    pub(crate) dir: PathBuf,
    /// The group that the files are given to.
    pub(crate) group: Option<u32>,
}

/// Which time it is that a volume is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// The pod does not have it yet, as far as is known.
    First,
    /// The driver wants to be asked again and again; what is prepared for all pods stays as it is.
    Again,
}

/// What came of it.
pub(crate) struct Published {
    pub(crate) place: Place,
    /// Whether the agent has to give the files to the pod's group.
    pub(crate) give: bool,
}

/// Attached, prepared, shown. May be repeated.
pub(crate) async fn publish(
    agent: &Arc<Agent>,
    request: &Request<'_>,
    round: Round,
) -> Result<Published, String> {
    let name = &request.source.name;
    let failed = |step: &str| {
        let step = step.to_owned();
        move |why: String| format!("{step} failed for volume \"{name}\" : {why}")
    };
    let (set_up, mount_device) = match request.source.mode {
        Mode::Filesystem => ("MountVolume.SetUp", "MountVolume.MountDevice"),
        Mode::Block => ("MapVolume.MapPodDevice", "MapVolume.SetUpDevice"),
    };
    let about = Api::<CSIDriver>::all(agent.client.clone()).get_opt(&request.csi.driver).await;
    let about = about.map_err(|error| failed(set_up)(error.to_string()))?;
    let mut context = BTreeMap::new();
    if request.csi.is_attached(about.as_ref()) {
        let pod = request.pod.metadata.uid.as_deref().unwrap_or_default();
        agent.volumes.begin_use(&request.csi.unique_name(), pod);
        let waited = attach::wait(agent, request.csi).await;
        context = waited.map_err(failed("MountVolume.WaitForAttach"))?;
    }
    let driver = agent.drivers.get(&request.csi.driver);
    let driver = driver.map_err(|why| {
        failed(set_up)(format!("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {why}"))
    })?;
    let abilities = within(driver.abilities()).await.map_err(failed(set_up))?;
    let call = Call { agent, request, about: about.as_ref(), driver, abilities, context };
    let staged = call.stage(round).await.map_err(failed(mount_device))?;
    call.publish(staged).await.map_err(failed(set_up))
}

struct Call<'a> {
    agent: &'a Arc<Agent>,
    request: &'a Request<'a>,
    about: Option<&'a CSIDriver>,
    driver: Driver,
    abilities: Abilities,
    /// What the attachment left for the node.
    context: BTreeMap<String, String>,
}

impl Call<'_> {
    /// Prepares the volume for all pods, where the driver does so.
    async fn stage(&self, round: Round) -> Result<Option<PathBuf>, String> {
        let csi = self.request.csi;
        let Some(target) = staging(self.agent, csi, &self.abilities) else { return Ok(None) };
        if round == Round::Again {
            return Ok(Some(target));
        }
        let secrets = secret::words(self.agent, csi.stage_secret.as_ref(), "NodeStageSecretRef").await?;
        let folder = stage(&self.agent.config, csi);
        let _turn = self.agent.drivers.stage.lock().await;
        let record = Record {
            driver_name: csi.driver.clone(),
            volume_handle: csi.handle.clone(),
            ..Record::default()
        };
        record.write(&folder)?;
        fs::create_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))?;
        let request = v1::NodeStageVolumeRequest {
            volume_id: csi.handle.clone(),
            publish_context: unordered(&self.context),
            staging_target_path: target.to_string_lossy().into_owned(),
            volume_capability: Some(self.capability()),
            secrets,
            volume_context: unordered(&csi.attributes),
        };
        within(asked(self.driver.node().node_stage_volume(request))).await?;
        Ok(Some(target))
    }

    async fn publish(&self, staged: Option<PathBuf>) -> Result<Published, String> {
        let (csi, source, pod) = (self.request.csi, self.request.source, self.request.pod);
        csi.check_life(self.about).map_err(|why| {
            format!("kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: {why}")
        })?;
        let mut secrets =
            secret::words(self.agent, csi.publish_secret.as_ref(), "NodePublishSecretRef").await?;
        let tokens = secret::tokens(self.agent, pod, self.about).await.map_err(|why| {
            format!(
                "kubernetes.io/csi: mounter.SetUpAt failed to get service accoount token attributes: {why}"
            )
        })?;
        let hidden = self.about.and_then(|about| about.spec.service_account_token_in_secrets) == Some(true);
        if let Some(tokens) = tokens.clone().filter(|_| hidden) {
            secrets.insert(TOKENS.to_owned(), tokens);
        }
        let target = target(&self.request.dir);
        self.record().write(&self.request.dir)?;
        let request = v1::NodePublishVolumeRequest {
            volume_id: csi.handle.clone(),
            publish_context: unordered(&self.context),
            staging_target_path: staged.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
            target_path: target.to_string_lossy().into_owned(),
            volume_capability: Some(self.capability()),
            readonly: source.read_only,
            secrets,
            volume_context: unordered(&csi.publish_attributes(pod, self.about, tokens.as_deref())),
        };
        within(asked(self.driver.node().node_publish_volume(request))).await?;
        let place = match source.mode {
            Mode::Filesystem => Place::Path(target),
            Mode::Block => Place::Device(target),
        };
        let given = self.abilities.has(Type::VolumeMountGroup);
        let give = source.mode == Mode::Filesystem && !given && csi.takes_group(self.about, source.read_only);
        Ok(Published { place, give })
    }

    fn record(&self) -> Record {
        let csi = self.request.csi;
        Record {
            driver_name: csi.driver.clone(),
            volume_handle: csi.handle.clone(),
            name: self.request.source.name.clone(),
            node_name: self.agent.config.node_name.clone(),
            attachment: csi.attachment(&self.agent.config.node_name),
            volume_lifecycle_mode: csi.life.as_str().to_owned(),
            other: BTreeMap::new(),
        }
    }

    fn capability(&self) -> v1::VolumeCapability {
        capability(self.request, &self.abilities, self.request.group)
    }
}

/// Where a driver prepares a volume for all pods, if it does.
pub(super) fn staging(agent: &Agent, csi: &Csi, abilities: &Abilities) -> Option<PathBuf> {
    let does = csi.life == Life::Persistent && abilities.has(Type::StageUnstageVolume);
    does.then(|| stage(&agent.config, csi).join("globalmount"))
}

/// How a volume is used.
pub(super) fn capability(
    request: &Request<'_>,
    abilities: &Abilities,
    group: Option<u32>,
) -> v1::VolumeCapability {
    let (csi, source) = (request.csi, request.source);
    let single = abilities.has(Type::SingleNodeMultiWriter);
    let group = group.filter(|_| abilities.has(Type::VolumeMountGroup));
    let access = match source.mode {
        Mode::Block => AccessType::Block(BlockVolume {}),
        Mode::Filesystem => AccessType::Mount(MountVolume {
            fs_type: csi.fs_type.clone(),
            mount_flags: source.options.clone(),
            volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
        }),
    };
    v1::VolumeCapability {
        access_type: Some(access),
        access_mode: Some(AccessMode { mode: access_mode(&csi.access, single) }),
    }
}

fn unordered(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The answer of a driver, its refusals in words.
pub(super) async fn asked<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, String> {
    call.await.map(tonic::Response::into_inner).map_err(|status| text(&status))
}

/// Waits for a driver, but not for ever.
pub(super) async fn within<T>(call: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let timeout = || "rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned();
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(timeout()))
}
