//! Being told by the kernel that memory is getting short, between two looks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use plimsoll_kernel::cgroup::MemoryWatch;
use plimsoll_kernel::{pressure, readiness};
use plimsoll_podlife::eviction::Signal;
use plimsoll_podlife::eviction::threshold::Threshold;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::agent::Agent;

/// Tasks of the machine that wait this long for memory, of this time, are worth a look.
const STALL: Duration = Duration::from_millis(150);
const WINDOW: Duration = Duration::from_secs(2);

/// Rings when pods together use so much memory that a threshold may be crossed, and when tasks of the machine
/// have to wait for memory.
pub(super) struct Alarm {
    usage: Option<(MemoryWatch, AsyncFd<OwnedFd>)>,
    stalls: Option<AsyncFd<OwnedFd>>,
}

impl Alarm {
    /// Sets the kernel's alarms. Where it has none there are the looks only.
    pub(super) fn new(agent: &Agent, thresholds: &[Threshold]) -> Self {
        let stalls = pressure::stalls(Path::new(pressure::MEMORY), STALL, WINDOW);
        let stalls = stalls.and_then(|watch| readiness::register(watch, Interest::PRIORITY));
        if let Err(error) = &stalls {
            tracing::debug!(%error, "the kernel does not tell when tasks wait for memory");
        }
        Self { usage: usage(agent, thresholds), stalls: stalls.ok() }
    }

    /// Waits until one of them rings, for ever if none can.
    pub(super) async fn rings(&mut self) {
        tokio::select! {
            () = crossed(self.usage.as_ref()) => {}
            () = stalled(self.stalls.as_ref()) => {}
        }
    }
}

async fn crossed(usage: Option<&(MemoryWatch, AsyncFd<OwnedFd>)>) {
    let Some((watch, readable)) = usage else { return std::future::pending().await };
    match readable.readable().await {
        Ok(mut ready) => {
            watch.drain();
            ready.clear_ready();
        }
        Err(_) => std::future::pending().await,
    }
}

async fn stalled(stalls: Option<&AsyncFd<OwnedFd>>) {
    let Some(stalls) = stalls else { return std::future::pending().await };
    match stalls.ready(Interest::PRIORITY).await {
        Ok(mut ready) => ready.clear_ready(),
        Err(_) => std::future::pending().await,
    }
}

fn usage(agent: &Agent, thresholds: &[Threshold]) -> Option<(MemoryWatch, AsyncFd<OwnedFd>)> {
    let memory = thresholds.iter().filter(|it| it.signal == Signal::AllocatableMemoryAvailable);
    let group = agent.cgroups.pods();
    let limit = group.stats().ok().and_then(|stats| i64::try_from(stats.memory.limit?).ok())?;
    let usage = memory.map(|it| limit - it.least.of(limit)).min()?;
    match group.watch_usage(u64::try_from(usage).ok()?) {
        Ok(watch) => {
            let readable = readable(&watch).ok()?;
            Some((watch, readable))
        }
        Err(error) => {
            tracing::info!(%error, "no alarm on memory: it is looked at in rounds");
            None
        }
    }
}

fn readable(watch: &MemoryWatch) -> io::Result<AsyncFd<OwnedFd>> {
    readiness::register(watch.as_fd().try_clone_to_owned()?, Interest::READABLE)
}
