//! Volumes that drivers provide: shown to pods, and looked after while pods have them.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::Api;
use plimsoll_podlife::Event;
use plimsoll_podlife::volume::csi::{Csi, folder as csi_folder};
use plimsoll_podlife::volume::{Kind, Mode, Source, reference};
use tokio_util::sync::CancellationToken;

use super::held::{Held, Place};
use super::{Bound, blocking, claim, failed, fs_group, ownership, uid};
use crate::agent::Agent;
use crate::csi::{self, Occasion, Round};

/// A volume that a driver shows to a pod.
pub(crate) struct Provided {
    pub(crate) pod: Arc<Pod>,
    pub(crate) volume: Volume,
    source: Source,
    csi: Csi,
}

impl Provided {
    /// What a volume is, if a driver provides it.
    pub(super) fn new(pod: &Arc<Pod>, volume: &Volume, source: &Source) -> Option<Self> {
        let Kind::Csi(csi) = &source.kind else { return None };
        Some(Self {
            pod: pod.clone(),
            volume: volume.clone(),
            source: source.clone(),
            csi: csi.as_ref().clone(),
        })
    }

    fn dir(&self, agent: &Agent) -> PathBuf {
        let dir = agent.config.pod_dir(uid(&self.pod)).join(csi_folder(self.source.mode));
        dir.join("kubernetes.io~csi").join(&self.source.name)
    }

    fn request(&self, agent: &Agent) -> csi::Request<'_> {
        csi::Request {
            pod: &self.pod,
            source: &self.source,
            csi: &self.csi,
            dir: self.dir(agent),
            group: fs_group(&self.pod),
        }
    }

    /// How full it is, if the driver tells. Devices are as full as their users think.
    pub(crate) async fn fullness(&self, agent: &Arc<Agent>) -> Result<Option<csi::Measure>, String> {
        match self.source.mode {
            Mode::Filesystem => csi::fullness(agent, &self.csi, &self.dir(agent)).await,
            Mode::Block => Ok(None),
        }
    }
}

/// Has a driver show the volume, and gives its files to the pod's group.
pub(super) async fn provide(
    agent: &Arc<Agent>,
    provided: Provided,
    bound: Option<&Bound>,
) -> Result<(), String> {
    show(agent, &provided, Round::First).await?;
    if let Some(bound) = bound {
        let grown = csi::grow(agent, &provided.request(agent), bound, Occasion::Mounting).await;
        grown.map_err(|why| {
            let name = &provided.source.name;
            format!("MountVolume.Setup failed while expanding volume for volume \"{name}\" : {why}")
        })?;
    }
    agent.volumes.provide(provided);
    Ok(())
}

async fn show(agent: &Arc<Agent>, provided: &Provided, round: Round) -> Result<(), String> {
    let (pod, source) = (&provided.pod, &provided.source);
    let published = csi::publish(agent, &provided.request(agent), round).await?;
    if let (Place::Path(path), true) = (&published.place, published.give)
        && let Some(ownership) = ownership(pod, source.read_only)
    {
        let path = path.clone();
        let given = blocking(move || ownership.give(&path)).await;
        given.map_err(|why| {
            failed(&source.name, &format!("applyFSGroup failed for vol {}: {why}", provided.csi.handle))
        })?;
    }
    let held = Held { place: published.place, read_only: source.read_only, group: source.group };
    agent.volumes.hold(uid(pod), &provided.volume.name, held);
    Ok(())
}

/// Looks after volumes that pods have, again and again: they grow, and some drivers want to be asked once more.
pub(crate) async fn look_after(agent: Arc<Agent>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(agent.config.sync_frequency) => {}
        }
        for provided in agent.volumes.provided() {
            // Whoever hangs keeps the gate, and is not asked meanwhile.
            let gate = agent.volumes.gate(uid(&provided.pod), &provided.volume.name).try_lock_owned();
            let Ok(gate) = gate else { continue };
            let agent = agent.clone();
            tokio::spawn(async move {
                let _gate = gate;
                attend(&agent, &provided).await;
            });
        }
    }
}

async fn attend(agent: &Arc<Agent>, provided: &Provided) {
    if let Err(why) = grown(agent, provided).await {
        let name = &provided.source.name;
        let message = format!("NodeExpandVolume.NodeExpandVolume failed for volume \"{name}\" : {why}");
        agent.tell(&provided.pod, &Event::warning("VolumeResizeFailed", message, None));
    }
    let driver = Api::<CSIDriver>::all(agent.client.clone()).get_opt(&provided.csi.driver).await;
    let again = driver.ok().flatten().is_some_and(|driver| driver.spec.requires_republish == Some(true));
    if again && let Err(why) = show(agent, provided, Round::Again).await {
        // The pod keeps what it has.
        agent.tell(&provided.pod, &Event::warning("FailedMount", why, None));
    }
}

async fn grown(agent: &Arc<Agent>, provided: &Provided) -> Result<(), String> {
    let Some(reference) = reference(&provided.pod, &provided.volume) else { return Ok(()) };
    match claim::resolve(agent, &provided.pod, &provided.volume, &reference).await {
        Ok((_, bound)) => csi::grow(agent, &provided.request(agent), &bound, Occasion::Using).await,
        Err(why) => {
            tracing::debug!(volume = provided.source.name, why, "claim not looked at");
            Ok(())
        }
    }
}
