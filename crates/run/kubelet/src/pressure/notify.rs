//! Being told by the kernel that memory is getting short, between two looks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use plimsoll_kernel::cgroup::MemoryWatch;
use plimsoll_kernel::readiness;
use plimsoll_podlife::eviction::Signal;
use plimsoll_podlife::eviction::threshold::Threshold;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::agent::Agent;

/// Rings when pods together use so much memory that a threshold may be crossed.
pub(super) struct Alarm(Option<(MemoryWatch, AsyncFd<OwnedFd>)>);

impl Alarm {
    /// Sets the kernel's alarm; without one (and on cgroup v2, which has none) there are the looks only.
    pub(super) fn new(agent: &Agent, thresholds: &[Threshold]) -> Self {
        let memory = thresholds.iter().filter(|it| it.signal == Signal::AllocatableMemoryAvailable);
        let group = agent.cgroups.pods();
        let limit = group.stats().ok().and_then(|stats| i64::try_from(stats.memory.limit?).ok());
        let usage = memory.zip(limit).map(|(it, limit)| limit - it.least.of(limit)).min();
        let bytes = usage.and_then(|usage| u64::try_from(usage).ok());
        let watch = bytes.and_then(|bytes| match group.watch_usage(bytes) {
            Ok(watch) => watch.and_then(|watch| {
                let readable = readable(&watch).ok()?;
                Some((watch, readable))
            }),
            Err(error) => {
                tracing::info!(%error, "no alarm on memory: it is looked at in rounds");
                None
            }
        });
        Self(watch)
    }

    /// Waits until it rings, for ever if it cannot.
    pub(super) async fn rings(&mut self) {
        let Some((watch, readable)) = &self.0 else { return std::future::pending().await };
        match readable.readable().await {
            Ok(mut ready) => {
                watch.drain();
                ready.clear_ready();
            }
            Err(_) => std::future::pending().await,
        }
    }
}

fn readable(watch: &MemoryWatch) -> io::Result<AsyncFd<OwnedFd>> {
    readiness::register(watch.as_fd().try_clone_to_owned()?, Interest::READABLE)
}
