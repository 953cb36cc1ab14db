//! What is told of pods as they come, and of the end of the node.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use plimsoll_metrics::Histogram;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::usual;

/// Numbers of containers: each twice the one before.
const CONTAINERS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0];

/// Seconds since 1970; 0 for never.
type Time = Gauge<f64, AtomicU64>;

/// All of it.
pub(crate) struct Lives {
    containers: Histogram,
    waits: Histogram,
    orphans: Counter,
    end_begun: Time,
    end_over: Time,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            containers: Histogram::new(CONTAINERS),
            waits: usual(),
            orphans: Counter::default(),
            end_begun: Time::default(),
            end_over: Time::default(),
        }
    }
}

impl Lives {
    /// Adds the series to those of the agent.
    pub(super) fn register(&self, all: &mut Registry) {
        all.register(
            "containers_per_pod_count",
            "[ALPHA] The number of containers per pod.",
            self.containers.clone(),
        );
        all.register(
            "pod_worker_start_duration_seconds",
            "[ALPHA] Duration in seconds from kubelet seeing a pod to starting a worker.",
            self.waits.clone(),
        );
        all.register(
            "orphaned_runtime_pods",
            "[ALPHA] Number of pods that have been detected in the container runtime without being already known to the pod worker. This typically indicates the kubelet was restarted while a pod was force deleted in the API or in the local configuration, which is unusual.",
            self.orphans.clone(),
        );
        // Both are said so.
        let help = "[ALPHA] Last graceful shutdown start time since unix epoch in seconds";
        all.register("graceful_shutdown_start_time_seconds", help, self.end_begun.clone());
        all.register("graceful_shutdown_end_time_seconds", help, self.end_over.clone());
    }

    /// A pod of so many containers was taken.
    pub(crate) fn taken(&self, containers: usize) {
        self.containers.observe(containers as f64);
    }

    /// A pod's task began this long after the pod was seen.
    pub(crate) fn begun(&self, after: Duration) {
        self.waits.observe(after.as_secs_f64());
    }

    /// The engine has a pod that nobody knows.
    pub(crate) fn orphaned(&self) {
        self.orphans.inc();
    }

    /// The node went down, or is about to.
    pub(crate) fn ends(&self, begun: Timestamp, over: Option<Timestamp>) {
        let seconds = |time: Timestamp| time.as_second() as f64;
        self.end_begun.set(seconds(begun));
        self.end_over.set(over.map_or(0.0, seconds));
    }
}
