//! What a scheduler tells about itself, under upstream's names.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use plimsoll_metrics::{Histogram, Tells};
use plimsoll_schedule::{Plugin, Point};
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
/// Seconds, from a hundredth on, twice as long each.
const WAITS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68,
    655.36, 1310.72, 2621.44, 5242.88,
];
/// Seconds, from a ten-thousandth on, twice as long each.
const POINTS: &[f64] =
    &[0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048];
/// Seconds, from a hundred-thousandth on, half as long again each.
const EXECUTIONS: &[f64] = &[
    1e-05,
    1.5e-05,
    2.25e-05,
    3.375e-05,
    5.0625e-05,
    7.59375e-05,
    0.000_113_906_25,
    0.000_170_859_375,
    0.000_256_289_062_5,
    0.000_384_433_593_75,
    0.000_576_650_390_625,
    0.000_864_975_585_937_5,
    0.001_297_463_378_906_25,
    0.001_946_195_068_359_375,
    0.002_919_292_602_539_062_5,
    0.004_378_938_903_808_593,
    0.006_568_408_355_712_89,
    0.009_852_612_533_569_335,
    0.014_778_918_800_354_002,
    0.022_168_378_200_531_003,
];
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
struct Incoming {
    event: &'static str,
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refuser {
    plugin: String,
    profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tries {
    attempts: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtPoint {
    extension_point: String,
    profile: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Execution {
    extension_point: String,
    plugin: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: String,
}

type Distribution<L = Attempt> = Family<L, Histogram, fn() -> Histogram>;

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
    incoming: Family<Incoming, Counter>,
    unschedulable: Family<Refuser, Gauge>,
    waits: Distribution<Tries>,
    points: Distribution<AtPoint>,
    executions: Distribution<Execution>,
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
            incoming: Family::default(),
            unschedulable: Family::default(),
            waits: Family::new_with_constructor(|| Histogram::new(WAITS)),
            points: Family::new_with_constructor(|| Histogram::new(POINTS)),
            executions: Family::new_with_constructor(|| Histogram::new(EXECUTIONS)),
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

/// The points that a decision has passed, with the time that each took.
#[derive(Debug)]
pub(crate) struct Laps {
    last: Instant,
    laps: Vec<(Point, Duration)>,
}

impl Laps {
    pub(crate) fn start(begun: Instant) -> Self {
        Self { last: begun, laps: Vec::with_capacity(3) }
    }

    pub(crate) fn passed(&mut self, point: Point) {
        let now = Instant::now();
        self.laps.push((point, now - self.last));
        self.last = now;
    }
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
            "scheduler_framework_extension_point_duration_seconds",
            "Latency for running all plugins of a specific extension point.",
            self.points.clone(),
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
            "scheduler_plugin_execution_duration_seconds",
            "Duration for running a plugin at a specific extension point.",
            self.executions.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve \
             multiple scheduling attempts.",
            self.waits.clone(),
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
            "scheduler_queue_incoming_pods",
            "Number of pods added to scheduling queues by event and queue type.",
            self.incoming.clone(),
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
        registry.register(
            "scheduler_unschedulable_pods",
            "The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all \
             plugins that caused it to not schedule and so this metric have meaning only when broken down by plugin.",
            self.unschedulable.clone(),
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

    /// A decision about a pod is made.
    pub(crate) fn passed(&self, profile: &str, laps: &Laps, found: bool) {
        for (point, took) in &laps.laps {
            let status = if found || *point != Point::Filter { "Success" } else { "Unschedulable" };
            let at = AtPoint { extension_point: format!("{point:?}"), profile: profile.to_owned(), status };
            self.points.get_or_create(&at).observe(took.as_secs_f64());
        }
    }

    /// A plugin that has its say alone at this point has had it.
    pub(crate) fn executed(
        &self,
        profile: &str,
        (point, plugin): (Point, Plugin),
        status: &'static str,
        took: Duration,
    ) {
        let extension_point = format!("{point:?}");
        let at = AtPoint { extension_point: extension_point.clone(), profile: profile.to_owned(), status };
        self.points.get_or_create(&at).observe(took.as_secs_f64());
        let execution = Execution { extension_point, plugin: plugin.to_string(), status };
        self.executions.get_or_create(&execution).observe(took.as_secs_f64());
    }

    /// A pod is bound so long after it came, with so many attempts.
    pub(crate) fn bound_after(&self, waited: Duration, attempts: u32) {
        let attempts = if attempts < 15 { attempts.to_string() } else { "15+".to_owned() };
        self.waits.get_or_create(&Tries { attempts }).observe(waited.as_secs_f64());
    }

    /// So many pods came to a queue for an event.
    pub(crate) fn came(&self, queue: &'static str, event: &'static str, pods: u64) {
        self.incoming.get_or_create(&Incoming { event, queue }).inc_by(pods);
    }

    /// How many pods wait that each plugin refused, by profile and plugin.
    pub(crate) fn refusals(&self, counts: &BTreeMap<(String, Plugin), usize>) {
        self.unschedulable.clear();
        for ((profile, plugin), count) in counts {
            let refuser = Refuser { plugin: plugin.to_string(), profile: profile.clone() };
            self.unschedulable.get_or_create(&refuser).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
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

impl Tells for Metrics {
    fn registry(&self) -> &Registry {
        &self.registry
    }
}
