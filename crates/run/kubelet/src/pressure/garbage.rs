//! Removes what nobody uses: images and ended containers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use plimsoll_cri::v1;
use plimsoll_podlife::collection::{Image, Images};
use plimsoll_podlife::eviction::Signal;
use plimsoll_podlife::eviction::rank::Layout;

use super::measure::{Disks, space};
use crate::agent::Agent;
use crate::metrics::Removal;

/// How often it is looked whether images must go.
const PERIOD: SignedDuration = SignedDuration::from_mins(5);
/// How often it is noted which images are in use.
const NOTE: Duration = Duration::from_secs(30);

/// What was removed.
#[derive(Debug, Default)]
pub(super) struct Freed {
    pub(super) images: usize,
    pub(super) bytes: i64,
    pub(super) containers: usize,
    /// From which file system.
    pub(super) place: PathBuf,
}

pub(super) struct Garbage {
    agent: Arc<Agent>,
    images: Images,
    noted: Option<Timestamp>,
    collected: Option<Timestamp>,
    /// Whether the last collection freed too little; told once.
    failed: bool,
}

impl Garbage {
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        Self { agent, images: Images::default(), noted: None, collected: None, failed: false }
    }

    /// Notes which images are in use, and removes some when it is time to and the disk is full.
    pub(super) async fn round(&mut self, disks: &Disks, now: Timestamp) {
        let due =
            |last: Option<Timestamp>, period| last.is_none_or(|last| now.duration_since(last) >= period);
        let note = SignedDuration::try_from(NOTE).unwrap_or(SignedDuration::MAX);
        if !due(self.noted, note) {
            return;
        }
        self.noted = Some(now);
        if let Err(error) = self.note(now).await {
            tracing::debug!(%error, "the engine does not tell its images");
            return;
        }
        if due(self.collected, PERIOD) {
            self.collected = Some(now);
            self.collect(disks, now).await;
        }
    }

    async fn note(&mut self, now: Timestamp) -> Result<(), tonic::Status> {
        let images = self.agent.engine.list_images().await?;
        let containers = self.agent.engine.containers(None).await?;
        let mut used: BTreeSet<String> = containers.into_iter().map(|it| it.image_ref).collect();
        // Engines name images in containers by id or by one of their names.
        let named = |image: &v1::Image| {
            let mut names = image.repo_tags.iter().chain(&image.repo_digests);
            names.any(|name| used.contains(name)).then(|| image.id.clone())
        };
        let ids: Vec<_> = images.iter().filter_map(named).collect();
        used.extend(ids);
        let images: Vec<_> = images
            .into_iter()
            .map(|it| Image {
                size: i64::try_from(it.size).unwrap_or(i64::MAX),
                id: it.id,
                pinned: it.pinned,
            })
            .collect();
        self.images.observe(&images, &used, now);
        self.agent.records.prune(&images.into_iter().map(|image| image.id).collect(), now);
        Ok(())
    }

    async fn collect(&mut self, disks: &Disks, now: Timestamp) {
        let policy = self.agent.config.image_gc;
        let outdated = self.images.outdated(&policy, now);
        let old = self.remove(&outdated).await;
        self.agent.metrics.images_removed(Removal::Age, old.images);
        if old.images > 0 {
            let removed = old.images;
            tracing::info!(removed, bytes = old.bytes, "removed images that were unused for too long");
        }
        let Some(((available, capacity), _)) = space(&disks.images) else { return };
        let Some(excess) = policy.excess(available, capacity) else {
            self.failed = false;
            return;
        };
        let (chosen, eligible) = self.images.to_free(excess, &policy, now);
        let freed = self.remove(&chosen).await;
        self.agent.metrics.images_removed(Removal::Space, freed.images);
        let place = disks.images.display();
        if freed.images > 0 {
            let message = format!(
                "Removed {} unused images ({} bytes) from {place}: {available} of {capacity} bytes were free",
                freed.images, freed.bytes
            );
            tracing::info!("{message}");
            self.agent.tell_node("ImageGCReclaimed", message);
        }
        if freed.bytes < excess {
            let message = format!(
                "Failed to garbage collect required amount of images. Attempted to free {excess} bytes, but only found {eligible} bytes eligible to free."
            );
            tracing::warn!("{message}");
            self.agent.warn_node("FreeDiskSpaceFailed", message.clone());
            // The first time may have been too early.
            if std::mem::replace(&mut self.failed, true) {
                self.agent.warn_node("ImageGCFailed", message);
            }
        }
    }

    /// Removes everything unused that lies on the file system of a signal; nothing when nothing can lie there.
    pub(super) async fn everything(&mut self, signal: Signal, disks: &Disks) -> Option<Freed> {
        let (images, containers) = places(signal, disks.layout)?;
        let mut freed = Freed::default();
        if containers {
            freed.containers = self.remove_ended().await;
        }
        let now = Timestamp::now();
        if images && self.note(now).await.is_ok() {
            let policy = plimsoll_podlife::collection::Policy {
                minimum_age: Duration::ZERO,
                ..self.agent.config.image_gc
            };
            let (all, _) = self.images.to_free(i64::MAX, &policy, now);
            freed = Freed { containers: freed.containers, ..self.remove(&all).await };
            self.agent.metrics.images_removed(Removal::Space, freed.images);
        }
        freed.place = if images { disks.images.clone() } else { disks.containers.clone() };
        Some(freed)
    }

    async fn remove(&mut self, images: &[Image]) -> Freed {
        let mut freed = Freed::default();
        for image in images {
            match self.agent.engine.remove_image(&image.id).await {
                Ok(()) => {
                    freed.images += 1;
                    freed.bytes += image.size;
                }
                Err(error) => tracing::warn!(image = image.id, %error, "unused image stays"),
            }
        }
        freed
    }

    /// Removes the records and layers of ended containers; how many.
    async fn remove_ended(&self) -> usize {
        let exited = v1::ContainerState::ContainerExited as i32;
        let all = self.agent.engine.containers(None).await.unwrap_or_default();
        let mut removed = 0;
        for container in all.into_iter().filter(|it| it.state == exited) {
            match self.agent.engine.remove_container(&container.id).await {
                Ok(()) => removed += 1,
                Err(error) => tracing::warn!(container = container.id, %error, "ended container stays"),
            }
        }
        removed
    }
}

/// Whether images and layers lie on the file system of a signal; none when neither does.
fn places(signal: Signal, layout: Layout) -> Option<(bool, bool)> {
    let places = match (signal, layout) {
        (Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable | Signal::PidAvailable, _) => {
            return None;
        }
        (_, Layout::Together) => (true, true),
        (Signal::ImageFsAvailable | Signal::ImageFsInodesFree, Layout::ImagesApart) => (true, true),
        (Signal::ContainerFsAvailable | Signal::ContainerFsInodesFree, Layout::ImagesApart) => (true, true),
        (_, Layout::ImagesApart) => return None,
        (Signal::ImageFsAvailable | Signal::ImageFsInodesFree, Layout::OnlyImagesApart) => (true, false),
        (_, Layout::OnlyImagesApart) => (false, true),
    };
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_lies_where_space_is_short() {
        for (signal, layout, expected) in [
            (Signal::MemoryAvailable, Layout::Together, None),
            (Signal::NodeFsAvailable, Layout::Together, Some((true, true))),
            (Signal::NodeFsInodesFree, Layout::ImagesApart, None),
            (Signal::ImageFsAvailable, Layout::ImagesApart, Some((true, true))),
            (Signal::NodeFsAvailable, Layout::OnlyImagesApart, Some((false, true))),
            (Signal::ImageFsInodesFree, Layout::OnlyImagesApart, Some((true, false))),
        ] {
            assert_eq!(places(signal, layout), expected, "{signal} {layout:?}");
        }
    }
}
