//! Joins scheduling decisions to the API.
//!
//! What enters are nodes, pods, namespaces and storage through shared informers; what leaves are bindings of pods and
//! volumes, the end of pods that make room for others, `PodScheduled` conditions and Events. One task owns the state ([`cycle`]) and never waits for a
//! write: a decided pod counts as placed at once and is bound in the background ([`effects`]).
//! Nothing here decides where a pod goes.

mod cycle;
mod devices;
mod effects;
mod extenders;
mod metrics;
mod storage;
mod waiting;

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use plimsoll_client::{EventRecorder, Informers, Term};
use plimsoll_schedule::{Backoff, Profile};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use cycle::Cycle;
use effects::Effects;
pub use extenders::Extender;
pub use metrics::Metrics;

/// Changes that are read before pods are scheduled again.
const READ_AT_ONCE: usize = 1024;

/// Pods that are scheduled before changes are read again.
const SCHEDULED_AT_ONCE: usize = 64;

/// How the scheduler works.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods that name one of them are its business.
    pub profiles: Vec<Profile>,
    /// How long pods wait that could not be placed.
    pub backoff: Backoff,
    /// Who has a say over HTTP.
    pub extenders: Vec<Extender>,
    /// Bindings that may be under way at once.
    pub bindings_at_once: usize,
    /// While it lasts the scheduler may act.
    pub term: Term,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            profiles: vec![Profile::default()],
            backoff: Backoff::default(),
            extenders: Vec::new(),
            bindings_at_once: 256,
            term: Term::default(),
            metrics: Arc::default(),
        }
    }
}

/// Why the scheduler stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An informer ended before the scheduler.
    #[error("the informer of {0} ended")]
    InformerEnded(&'static str),
}

/// Schedules pods until `shutdown`.
///
/// # Errors
/// Only if an informer ends; failures of single writes are retried.
pub async fn run(
    config: Config,
    informers: Informers,
    client: kube::Client,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let recorder = |profile: &Profile| {
        let name = &profile.scheduler_name;
        (name.clone(), EventRecorder::new(client.clone(), name, None))
    };
    let recorders = config.profiles.iter().map(recorder).collect();
    let (effects, mut outcomes) =
        Effects::new(client.clone(), config.term.clone(), recorders, config.metrics.clone());
    let mut nodes = informers.informer::<Node>().subscribe();
    let mut namespaces = informers.informer::<Namespace>().subscribe();
    let mut budgets = informers.informer::<PodDisruptionBudget>().subscribe();
    let mut storage = storage::follow(&informers);
    let mut pods = informers.informer::<Pod>().subscribe();
    let objects = (informers.informer::<Node>(), informers.informer::<Pod>());
    let mut cycle = Cycle::new(config, effects, objects);
    let start = Instant::now();
    loop {
        let wake = cycle.next_time().map(|time| start + time);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            delta = nodes.recv() => cycle.node(delta.ok_or(Error::InformerEnded("nodes"))?),
            delta = namespaces.recv() => cycle.namespace(delta.ok_or(Error::InformerEnded("namespaces"))?),
            delta = budgets.recv() => cycle.budget(delta.ok_or(Error::InformerEnded("budgets"))?),
            change = storage.next() => cycle.storage(change.ok_or(Error::InformerEnded("storage"))?),
            delta = pods.recv() => cycle.pod(delta.ok_or(Error::InformerEnded("pods"))?),
            Some(outcome) = outcomes.recv() => cycle.outcome(outcome, start.elapsed()),
            () = sleep_until(wake) => {}
        }
        for _ in 0..READ_AT_ONCE {
            let mut idle = true;
            if let Ok(delta) = nodes.try_recv() {
                (idle, ()) = (false, cycle.node(delta));
            }
            if let Ok(delta) = namespaces.try_recv() {
                (idle, ()) = (false, cycle.namespace(delta));
            }
            if let Ok(delta) = budgets.try_recv() {
                (idle, ()) = (false, cycle.budget(delta));
            }
            if let Some(Some(change)) = storage.next().now_or_never() {
                (idle, ()) = (false, cycle.storage(change));
            }
            if let Ok(delta) = pods.try_recv() {
                (idle, ()) = (false, cycle.pod(delta));
            }
            if let Ok(outcome) = outcomes.try_recv() {
                (idle, ()) = (false, cycle.outcome(outcome, start.elapsed()));
            }
            if idle {
                break;
            }
        }
        cycle.schedule(SCHEDULED_AT_ONCE, start.elapsed());
        cycle.tell_amounts();
        tokio::task::yield_now().await;
    }
}

/// Sleeps until then, or for ever.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
