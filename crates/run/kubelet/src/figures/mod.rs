//! What the machine, its pods and their containers use, as monitoring asks for it.
//!
//! What enters: the files of control groups and processes, the engine's lists, the pods of the API. What
//! leaves: `/metrics/cadvisor`, `/metrics/resource` and `/stats/summary`. Nothing is measured unless somebody
//! asks; only what needs walks over folders is kept for a while.

mod cadvisor;
mod cores;
mod disk;
mod group;
mod hardware;
mod link;
mod owner;
mod process;
mod resource;
mod series;
mod summary;
mod text;
mod volumes;

#[cfg(test)]
mod tests;

pub(crate) use text::MEDIA_TYPE;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Informer;
use tokio::sync::{Mutex, OnceCell};

use crate::agent::Agent;
use cores::Cores;
use disk::Layers;
use group::{Depth, Measured};
use owner::Owners;

/// Measures, and remembers what rates need.
pub(crate) struct Figures {
    agent: Arc<Agent>,
    pods: Informer<Pod>,
    layers: Mutex<Layers>,
    cores: Arc<Cores>,
    volumes: volumes::Volumes,
    /// Where the engine keeps images, if it tells.
    images: OnceCell<Option<PathBuf>>,
    /// The image of sandboxes.
    pause: OnceCell<String>,
}

impl Figures {
    pub(crate) fn new(agent: Arc<Agent>, pods: Informer<Pod>) -> Self {
        let (layers, cores, volumes, images, pause) = Default::default();
        Self { agent, pods, layers, cores, volumes, images, pause }
    }

    /// `/metrics/cadvisor`.
    pub(crate) async fn cadvisor(&self) -> Result<String, tonic::Status> {
        let mut measured = self.look(Depth::All).await?;
        let layers = self.layers().await;
        let disk = disk::Disk::of(&self.agent.config.data_dir, Timestamp::now());
        for it in &mut measured {
            it.layer = layers.get(&it.labels.name).copied();
        }
        let hardware = hardware::text(&self.agent.machine);
        Ok(cadvisor::write(&measured, disk.as_ref(), hardware))
    }

    /// `/metrics/resource`.
    pub(crate) async fn resource(&self) -> String {
        let measured = self.look(Depth::Usage).await;
        resource::write(&measured.map_err(drop), crate::machine::available_memory(), &self.agent.machine)
    }

    /// The part of `/metrics` that is about volumes of claims.
    pub(crate) async fn volumes(&self) -> String {
        volumes::write(self.volumes.get(&self.agent, &self.pods.list()).await.values())
    }

    /// Every group of pods and the one of the machine.
    async fn look(&self, depth: Depth) -> Result<Vec<Measured>, tonic::Status> {
        let owners = self.owners().await?;
        let cgroups = self.agent.cgroups.clone();
        let work = move || group::all(&cgroups.machine(), &cgroups.pods(), &owners, depth);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| tonic::Status::internal(format!("measuring control groups: {error}")))
    }

    async fn owners(&self) -> Result<Owners, tonic::Status> {
        let engine = &self.agent.engine;
        let (sandboxes, containers) = (engine.sandboxes(None).await?, engine.containers(None).await?);
        let pause = self.pause.get_or_init(|| self.pause_image()).await;
        let mut owners = Owners::of_engine(sandboxes, containers, pause);
        for pod in self.pods.list() {
            let (Some(spec), Some(uid)) = (&pod.spec, &pod.metadata.uid) else { continue };
            owners.add_pod(self.agent.cgroups.group(spec, uid).path(), &pod);
        }
        Ok(owners)
    }

    /// Engines pin the image of their sandboxes, and mostly that one alone.
    async fn pause_image(&self) -> String {
        let images = self.agent.engine.list_images().await.unwrap_or_default();
        let names = images.into_iter().filter(|image| image.pinned).flat_map(|image| image.repo_tags);
        names.into_iter().find(|name| name.contains("pause")).unwrap_or_default()
    }

    async fn layers(&self) -> HashMap<String, disk::Used> {
        self.layers.lock().await.get(&self.agent.engine).await
    }
}
