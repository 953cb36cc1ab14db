//! What the controllers tell about their queues, under upstream's names.

mod autoscaling;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_client::{Tally, WorkQueue};
use plimsoll_metrics::{Histogram, Tells};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::unit::Key;
pub(crate) use autoscaling::{Autoscaling, Looked};

/// Seconds, as upstream computes them.
const TIMES: &[f64] =
    &[1e-8, 1e-7, 1e-6, 9.999_999_999_999_999e-6, 9.999_999_999_999_999e-5, 0.001, 0.01, 0.1, 1.0, 10.0];

/// Queues whose names upstream did not make of the controllers' names.
const NAMES: [(&str, &str); 12] = [
    ("replicationcontroller-controller", "replicationmanager"),
    ("endpointslice-controller", "endpoint_slice"),
    ("endpoints-controller", "endpoint"),
    ("ttl-after-finished-controller", "ttl_jobs_to_delete"),
    ("root-ca-certificate-publisher-controller", "root_ca_cert_publisher"),
    ("garbage-collector-controller", "garbage_collector_attempt_to_delete"),
    ("node-lifecycle-controller", "node_lifecycle_controller"),
    ("clusterrole-aggregation-controller", "ClusterRoleAggregator"),
    ("token-cleaner-controller", "token_cleaner"),
    ("serviceaccount-token-controller", "serviceaccount_tokens_secret"),
    ("pod-garbage-collector-controller", "orphaned_pods_nodes"),
    ("horizontal-pod-autoscaler-controller", "horizontalpodautoscaler"),
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: String,
}

type Distribution = Family<Named, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    adds: Family<Named, Counter>,
    retries: Family<Named, Counter>,
    depth: Family<Named, Gauge>,
    waits: Distribution,
    works: Distribution,
    unfinished: Family<Named, Seconds>,
    longest: Family<Named, Seconds>,
    leads: Family<Named, Gauge>,
    queues: Mutex<Vec<(Named, WorkQueue<Key>)>>,
    pub(crate) autoscaling: Autoscaling,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut this = Self {
            registry: Registry::default(),
            adds: Family::default(),
            retries: Family::default(),
            depth: Family::default(),
            waits: Family::new_with_constructor(|| Histogram::new(TIMES)),
            works: Family::new_with_constructor(|| Histogram::new(TIMES)),
            unfinished: Family::default(),
            longest: Family::default(),
            leads: Family::default(),
            queues: Mutex::default(),
            autoscaling: Autoscaling::default(),
        };
        this.register();
        this
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        self.autoscaling.register(registry);
        registry.register(
            "leader_election_master_status",
            "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates \
             master. 'name' is the string used to identify the lease. Please make sure to group by name.",
            self.leads.clone(),
        );
        registry.register("workqueue_adds", "Total number of adds handled by workqueue", self.adds.clone());
        registry.register("workqueue_depth", "Current depth of workqueue", self.depth.clone());
        registry.register(
            "workqueue_longest_running_processor_seconds",
            "How many seconds has the longest running processor for workqueue been running.",
            self.longest.clone(),
        );
        registry.register(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested.",
            self.waits.clone(),
        );
        registry.register(
            "workqueue_retries",
            "Total number of retries handled by workqueue",
            self.retries.clone(),
        );
        registry.register(
            "workqueue_unfinished_work_seconds",
            "How many seconds of work has done that is in progress and hasn't been observed by work_duration. \
             Large values indicate stuck threads. One can deduce the number of stuck threads by observing the rate \
             at which this increases.",
            self.unfinished.clone(),
        );
        registry.register(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes.",
            self.works.clone(),
        );
    }

    /// Tells whether this process holds a Lease.
    pub fn leads(&self, lease: &str, holds: bool) {
        self.leads.get_or_create(&Named { name: lease.to_owned() }).set(i64::from(holds));
    }

    /// A queue for a controller that is counted.
    pub(crate) fn queue(&self, controller: &str) -> WorkQueue<Key> {
        let named = Named { name: queue_name(controller) };
        let queue = WorkQueue::tallied(Arc::new(Series {
            adds: self.adds.get_or_create_owned(&named),
            retries: self.retries.get_or_create_owned(&named),
            waits: self.waits.get_or_create_owned(&named),
            works: self.works.get_or_create_owned(&named),
        }));
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).push((named, queue.clone()));
        queue
    }

    /// All of it as text, with its media type; `accept` is what the reader takes.
    pub fn text(&self, accept: &str) -> (&'static str, String) {
        let mut process = Registry::default();
        plimsoll_metrics::register_process(&mut process);
        plimsoll_metrics::write(&[self.registry(), &process], accept)
    }
}

impl Tells for Metrics {
    fn registry(&self) -> &Registry {
        for (named, queue) in self.queues.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let working: Vec<f64> = queue.working().iter().map(Duration::as_secs_f64).collect();
            self.depth.get_or_create(named).set(queue.len().try_into().unwrap_or(i64::MAX));
            self.unfinished.get_or_create(named).set(working.iter().sum());
            self.longest.get_or_create(named).set(working.iter().copied().fold(0.0, f64::max));
        }
        &self.registry
    }
}

fn queue_name(controller: &str) -> String {
    let known = NAMES.iter().find(|(name, _)| *name == controller).map(|(_, queue)| (*queue).to_owned());
    let plain = controller.strip_suffix("-controller").unwrap_or(controller);
    known.unwrap_or_else(|| plain.replace('-', "_"))
}

/// What is counted of one queue.
struct Series {
    adds: Counter,
    retries: Counter,
    waits: Histogram,
    works: Histogram,
}

impl Tally for Series {
    fn added(&self) {
        self.adds.inc();
    }

    fn retried(&self) {
        self.retries.inc();
    }

    fn taken(&self, waited: Duration) {
        self.waits.observe(waited.as_secs_f64());
    }

    fn done(&self, worked: Duration) {
        self.works.observe(worked.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn queues_are_counted_under_the_names_of_upstream() {
        let metrics = Metrics::default();
        let queue = metrics.queue("endpointslice-controller");
        metrics.queue("job-controller");
        queue.add(Key::new("a", "b"));
        queue.add(Key::new("a", "c"));
        let key = queue.get().await;
        tokio::time::advance(Duration::from_secs(2)).await;
        let (_, text) = metrics.text("*/*");
        for line in [
            "# TYPE workqueue_adds_total counter",
            "workqueue_adds_total{name=\"endpoint_slice\"} 2",
            "workqueue_adds_total{name=\"job\"} 0",
            "workqueue_depth{name=\"endpoint_slice\"} 1",
            "workqueue_longest_running_processor_seconds{name=\"endpoint_slice\"} 2",
            "workqueue_queue_duration_seconds_bucket{name=\"endpoint_slice\",le=\"9.999999999999999e-06\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        queue.done(&key);
        queue.add_rate_limited(key);
        let (_, text) = metrics.text("*/*");
        assert!(text.contains("workqueue_retries_total{name=\"endpoint_slice\"} 1"), "{text}");
        assert!(text.contains("workqueue_work_duration_seconds_sum{name=\"endpoint_slice\"} 2"), "{text}");
    }
}
