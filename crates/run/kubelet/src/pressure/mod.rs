//! Keeps the node from running out of memory, disk and process ids.
//!
//! What enters: what the kernel and the engine measured. What leaves: unused images and ended containers
//! are removed, and only then pods are ended, one at a time; the node's conditions follow. What is done
//! when is decided in `plimsoll_podlife::eviction` and `plimsoll_podlife::collection`.

mod garbage;
mod measure;
mod notify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Informer;
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::eviction::message::{Notice, notice};
use plimsoll_podlife::eviction::pressure::Pressure;
use plimsoll_podlife::eviction::rank::{Candidate, rank};
use plimsoll_podlife::eviction::threshold::Threshold;
use plimsoll_podlife::eviction::{Condition, Figures, IMMEDIATE, REASON, limits};
use plimsoll_podlife::qos::is_critical;
use plimsoll_podlife::spec::is_over;
use plimsoll_podlife::{Event, Verdict};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use garbage::{Freed, Garbage};
use measure::Disks;
pub(crate) use measure::{disk_use, local_folder};

/// Least time between two looks, however often the kernel's alarm rings.
const LEAST: Duration = Duration::from_millis(500);
/// How long the end of an evicted pod is waited for before the next one has its turn.
const CLEANUP: Duration = Duration::from_secs(30);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(100);

/// A pod that the node ends.
pub(crate) struct Order {
    pub(crate) uid: String,
    pub(crate) verdict: Verdict,
}

/// Where evictions go to, and where the node's conditions are told.
pub(crate) struct Outlets {
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) conditions: watch::Sender<Vec<Condition>>,
}

struct Keeper {
    agent: Arc<Agent>,
    pods: Informer<Pod>,
    pressure: Pressure,
    garbage: Garbage,
    /// Once the engine has told where it keeps what: its answer counts every file that it has.
    disks: Option<Disks>,
    outlets: Outlets,
}

/// Watches over the node until `stop`.
pub(crate) async fn run(
    agent: Arc<Agent>,
    pods: Informer<Pod>,
    thresholds: Vec<Threshold>,
    outlets: Outlets,
    stop: CancellationToken,
) {
    let pressure = Pressure::new(thresholds.clone(), agent.config.pressure_transition);
    let garbage = Garbage::new(agent.clone());
    let mut alarm = notify::Alarm::new(&agent, &thresholds);
    let mut keeper = Keeper { agent, pods, pressure, garbage, disks: None, outlets };
    loop {
        let evicted = keeper.round().await;
        if !evicted.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = keeper.ended(&evicted) => continue,
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(keeper.agent.config.pressure_period) => {}
            () = alarm.rings() => tokio::time::sleep(LEAST).await,
        }
    }
}

impl Keeper {
    /// Looks at the node and does what is due; the pods that were ended.
    async fn round(&mut self) -> Vec<String> {
        let now = Timestamp::now();
        let disks = self.disks().await;
        self.garbage.round(&disks, now).await;
        let figures = measure::node(&self.agent, &disks, now);
        let outlook = self.pressure.observe(figures.clone(), now);
        self.outlets.conditions.send_if_modified(|known| {
            let changed = *known != outlook.conditions;
            known.clone_from(&outlook.conditions);
            changed
        });
        let pods = self.active();
        let beyond = self.beyond_limits(&pods, &disks).await;
        if !beyond.is_empty() || outlook.crossed.is_empty() {
            return beyond;
        }
        self.reclaim(&pods, &disks, &outlook.crossed, &figures).await
    }

    async fn disks(&mut self) -> Disks {
        if self.disks.is_none() {
            self.disks = Disks::find(&self.agent).await;
        }
        self.disks.clone().unwrap_or_else(|| Disks::together(&self.agent))
    }

    fn active(&self) -> Vec<Arc<Pod>> {
        self.pods.list().into_iter().filter(|pod| !is_over(pod)).collect()
    }

    /// Ends the pods that use more disk than they allowed themselves.
    async fn beyond_limits(&self, pods: &[Arc<Pod>], disks: &Disks) -> Vec<String> {
        let limited: Vec<_> = pods.iter().filter(|pod| limits::has_any(pod)).cloned().collect();
        if limited.is_empty() {
            return Vec::new();
        }
        let usage = measure::pods(&self.agent, &limited).await;
        let mut evicted = Vec::new();
        for pod in &limited {
            let Some(beyond) = usage.get(uid(pod)).and_then(|usage| limits::beyond(pod, usage, disks.layout))
            else {
                continue;
            };
            let told = Notice { message: beyond.message, annotations: BTreeMap::new() };
            evicted.extend(self.evict(pod, beyond.signal, &told, IMMEDIATE, false));
        }
        evicted
    }

    /// Frees what nobody uses; when that is not enough, ends the pod whose turn it is.
    async fn reclaim(
        &mut self,
        pods: &[Arc<Pod>],
        disks: &Disks,
        crossed: &[Threshold],
        figures: &Figures,
    ) -> Vec<String> {
        let [first, ..] = crossed else { return Vec::new() };
        let resource = first.signal.resource();
        let what = format!("Attempting to reclaim {}", resource.as_str());
        self.agent.warn_node("EvictionThresholdMet", what);
        if let Some(freed) = self.garbage.everything(first.signal, disks).await {
            if freed.images + freed.containers > 0 {
                self.tell_reclaimed(&freed, first, figures);
            }
            let now = measure::node(&self.agent, disks, Timestamp::now());
            if self.pressure.is_resolved(&now) {
                return Vec::new();
            }
        }
        let usage = measure::pods(&self.agent, pods).await;
        let mut candidates: Vec<_> =
            pods.iter().map(|pod| Candidate { pod, usage: usage.get(uid(pod)) }).collect();
        rank(&mut candidates, first.signal, disks.layout);
        for candidate in candidates {
            let told = notice(resource, candidate.pod, candidate.usage, crossed, figures);
            let grace = if first.is_hard() { IMMEDIATE } else { self.agent.config.eviction_max_pod_grace };
            let evicted = self.evict(candidate.pod, first.signal.as_str(), &told, grace, true);
            if evicted.is_some() {
                return evicted.into_iter().collect();
            }
        }
        tracing::warn!(resource = resource.as_str(), "the node is short of it and has no pod to evict");
        Vec::new()
    }

    /// One line and one event say what was freed, from where, and why.
    fn tell_reclaimed(&self, freed: &Freed, threshold: &Threshold, figures: &Figures) {
        let signal = threshold.signal;
        let left = figures.get(&signal).map_or(0, |figure| figure.available);
        let message = format!(
            "Removed {} unused images ({}) and {} ended containers from {}: {signal} was {left}",
            freed.images,
            Quantity::from_bytes(freed.bytes),
            freed.containers,
            freed.place.display(),
        );
        tracing::info!("{message}");
        self.agent.tell_node("NodeReclaimed", message);
    }

    /// Ends a pod, unless it is one that the node must not end. Its UID when it is ended.
    fn evict(
        &self,
        pod: &Pod,
        signal: &'static str,
        told: &Notice,
        grace: i64,
        disrupts: bool,
    ) -> Option<String> {
        if is_critical(pod) {
            tracing::warn!(pod = pod.metadata.name, "cannot evict a critical pod");
            return None;
        }
        self.agent.tell_annotated(
            pod,
            &Event::warning(REASON, told.message.clone(), None),
            told.annotations.clone(),
        );
        let verdict = Verdict {
            reason: REASON.to_owned(),
            message: told.message.clone(),
            grace: Some(grace),
            disrupts,
        };
        self.agent.metrics.evicted(signal);
        let uid = uid(pod).to_owned();
        self.outlets.orders.send(Order { uid: uid.clone(), verdict }).ok()?;
        Some(uid)
    }

    /// Waits until these pods have ended, for a while.
    async fn ended(&self, evicted: &[String]) {
        let deadline = tokio::time::Instant::now() + CLEANUP;
        let waiting = || self.active().iter().any(|pod| evicted.iter().any(|it| it == uid(pod)));
        while waiting() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}
