//! What a scheduler tells about itself, under upstream's names.

use std::time::Duration;

use plimsoll_metrics::Histogram;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Seconds, from a thousandth on, twice as long each.
const ATTEMPTS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];
const TRIES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0];
const VICTIMS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    profile: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InQueue {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: String,
}

type Distribution = Family<Attempt, Histogram, fn() -> Histogram>;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    attempts: Family<Attempt, Counter>,
    durations: Distribution,
    algorithm: Histogram,
    tries: Histogram,
    pending: Family<InQueue, Gauge>,
    cache: Family<OfType, Gauge>,
    preemptions: Counter,
    victims: Histogram,
    leads: Family<Named, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut this = Self {
            registry: Registry::default(),
            attempts: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(ATTEMPTS)),
            algorithm: Histogram::new(ATTEMPTS),
            tries: Histogram::new(TRIES),
            pending: Family::default(),
            cache: Family::default(),
            preemptions: Counter::default(),
            victims: Histogram::new(VICTIMS),
            leads: Family::default(),
        };
        this.register();
        this
    }
}

/// How an attempt to schedule a pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Scheduled,
    Unschedulable,
    Error,
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "leader_election_master_status",
            "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates \
             master. 'name' is the string used to identify the lease. Please make sure to group by name.",
            self.leads.clone(),
        );
        registry.register(
            "scheduler_pending_pods",
            "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means \
             number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the \
             scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the \
             scheduler never attempted to schedule because they are gated.",
            self.pending.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod.",
            self.tries.clone(),
        );
        registry.register(
            "scheduler_preemption_attempts",
            "Total preemption attempts in the cluster till now",
            self.preemptions.clone(),
        );
        registry.register(
            "scheduler_preemption_victims",
            "Number of selected preemption victims",
            self.victims.clone(),
        );
        registry.register(
            "scheduler_schedule_attempts",
            "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, \
             while 'error' means an internal scheduler problem.",
            self.attempts.clone(),
        );
        registry.register(
            "scheduler_scheduler_cache_size",
            "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.",
            self.cache.clone(),
        );
        registry.register(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Scheduling algorithm latency in seconds",
            self.algorithm.clone(),
        );
        registry.register(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            self.durations.clone(),
        );
    }

    /// Tells whether this process holds a Lease.
    pub fn leads(&self, lease: &str, holds: bool) {
        self.leads.get_or_create(&Named { name: lease.to_owned() }).set(i64::from(holds));
    }

    pub(crate) fn decided(&self, took: Duration) {
        self.algorithm.observe(took.as_secs_f64());
    }

    pub(crate) fn ended(&self, profile: &str, ended: Ended, took: Duration) {
        let result = match ended {
            Ended::Scheduled => "scheduled",
            Ended::Unschedulable => "unschedulable",
            Ended::Error => "error",
        };
        let attempt = Attempt { profile: profile.to_owned(), result };
        self.attempts.get_or_create(&attempt).inc();
        self.durations.get_or_create(&attempt).observe(took.as_secs_f64());
    }

    pub(crate) fn placed_after(&self, tries: u32) {
        self.tries.observe(f64::from(tries));
    }

    pub(crate) fn preempted(&self, victims: usize) {
        self.preemptions.inc();
        self.victims.observe(victims as f64);
    }

    /// How much there is of everything now.
    pub(crate) fn amounts(&self, queues: [usize; 3], gated: usize, [nodes, pods, assumed]: [usize; 3]) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let [active, backoff, unschedulable] = queues;
        for (queue, amount) in
            [("active", active), ("backoff", backoff), ("unschedulable", unschedulable), ("gated", gated)]
        {
            self.pending.get_or_create(&InQueue { queue }).set(count(amount));
        }
        for (kind, amount) in [("nodes", nodes), ("pods", pods), ("assumed_pods", assumed)] {
            self.cache.get_or_create(&OfType { r#type: kind }).set(count(amount));
        }
    }

    /// All of it as text, with its media type; `accept` is what the reader takes.
    pub fn text(&self, accept: &str) -> (&'static str, String) {
        let mut process = Registry::default();
        plimsoll_metrics::register_process(&mut process);
        plimsoll_metrics::write(&[&self.registry, &process], accept)
    }
}
