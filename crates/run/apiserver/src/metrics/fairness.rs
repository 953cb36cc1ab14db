//! Priority and fairness in numbers. A schema's handles are found when it becomes known; a request that passes
//! costs some atomic additions and no look-up.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use plimsoll_metrics::Histogram;

const SECONDS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const SEATS: &[f64] = &[1.0, 2.0, 4.0, 10.0];
const LENGTHS: &[f64] = &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const WATCHERS: &[f64] = &[0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Of {
    flow_schema: String,
    priority_level: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refused {
    flow_schema: String,
    priority_level: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Waited {
    execute: &'static str,
    flow_schema: String,
    priority_level: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Executed {
    flow_schema: String,
    priority_level: String,
    r#type: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asks {
    request_kind: &'static str,
}

type Distribution<L> = Family<L, Histogram, fn() -> Histogram>;

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// The families; each schema has its own members of them.
#[derive(Clone, Debug)]
pub(crate) struct FlowMetrics {
    rejected: Family<Refused, Counter>,
    dispatched: Family<Of, Counter>,
    waiting: Family<Of, Gauge>,
    waiting_seats: Family<Of, Gauge>,
    executing: Family<Of, Gauge>,
    executing_seats: Family<Of, Gauge>,
    waited: Distribution<Waited>,
    executed: Distribution<Executed>,
    lengths: Distribution<Of>,
    watchers: Distribution<Of>,
    seats: Distribution<Of>,
    /// Requests that read and that write, wherever they wait.
    queued: [Gauge; 2],
}

/// What is counted of the requests of one schema.
#[derive(Debug)]
pub(crate) struct SchemaMetrics {
    families: FlowMetrics,
    of: Of,
    pub(crate) dispatched: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) waiting_seats: Gauge,
    pub(crate) executing: Gauge,
    pub(crate) executing_seats: Gauge,
    /// Seconds that those waited who ran then.
    pub(crate) waited: Histogram,
    /// Seconds that a request ran.
    pub(crate) ran: Histogram,
    /// Seconds that a watch took to begin.
    pub(crate) began: Histogram,
    /// How many waited in the same queue.
    pub(crate) lengths: Histogram,
    /// How many watch what a request changes.
    pub(crate) watchers: Histogram,
    pub(crate) seats: Histogram,
}

impl FlowMetrics {
    /// Adds the families to what the server tells.
    pub(super) fn register(all: &mut Registry) -> Self {
        let queued: Family<Asks, Gauge> = Family::default();
        let of = |request_kind| queued.get_or_create_owned(&Asks { request_kind });
        let this = Self {
            queued: ["readOnly", "mutating"].map(of),
            rejected: Family::default(),
            dispatched: Family::default(),
            waiting: Family::default(),
            waiting_seats: Family::default(),
            executing: Family::default(),
            executing_seats: Family::default(),
            waited: Family::new_with_constructor(seconds),
            executed: Family::new_with_constructor(seconds),
            lengths: Family::new_with_constructor(|| Histogram::new(LENGTHS)),
            watchers: Family::new_with_constructor(|| Histogram::new(WATCHERS)),
            seats: Family::new_with_constructor(|| Histogram::new(SEATS)),
        };
        all.register(
            "apiserver_current_inqueue_requests",
            "[ALPHA] Maximal number of queued requests in this apiserver per request kind in last second.",
            queued,
        );
        let all = all.sub_registry_with_prefix("apiserver_flowcontrol");
        all.register(
            "rejected_requests",
            "[BETA] Number of requests rejected by API Priority and Fairness subsystem",
            this.rejected.clone(),
        );
        all.register(
            "dispatched_requests",
            "[BETA] Number of requests executed by API Priority and Fairness subsystem",
            this.dispatched.clone(),
        );
        for (name, help, gauge) in [
            (
                "current_inqueue_requests",
                "[BETA] Number of requests currently pending in queues of the API Priority and Fairness subsystem",
                &this.waiting,
            ),
            (
                "current_inqueue_seats",
                "[ALPHA] Number of seats currently pending in queues of the API Priority and Fairness subsystem",
                &this.waiting_seats,
            ),
            (
                "current_executing_requests",
                "[BETA] Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
                &this.executing,
            ),
            (
                "current_executing_seats",
                "[BETA] Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
                &this.executing_seats,
            ),
        ] {
            all.register(name, help, gauge.clone());
        }
        all.register(
            "request_wait_duration_seconds",
            "[BETA] Length of time a request spent waiting in its queue",
            this.waited.clone(),
        );
        all.register(
            "request_execution_seconds",
            "[ALPHA] Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem",
            this.executed.clone(),
        );
        for (name, help, family) in [
            (
                "request_queue_length_after_enqueue",
                "[ALPHA] Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued",
                &this.lengths,
            ),
            (
                "watch_count_samples",
                "[ALPHA] count of watchers for mutating requests in API Priority and Fairness",
                &this.watchers,
            ),
            (
                "work_estimated_seats",
                "[ALPHA] Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness",
                &this.seats,
            ),
        ] {
            all.register(name, help, family.clone());
        }
        this
    }

    /// Those who wait and ask with a verb like this one.
    pub(crate) fn queued(&self, verb: &str) -> &Gauge {
        &self.queued[usize::from(!matches!(verb, "get" | "list" | "watch"))]
    }

    /// The members of a schema.
    pub(crate) fn schema(&self, flow_schema: &str, priority_level: &str) -> SchemaMetrics {
        let of = Of { flow_schema: flow_schema.to_owned(), priority_level: priority_level.to_owned() };
        SchemaMetrics {
            dispatched: self.dispatched.get_or_create_owned(&of),
            waiting: self.waiting.get_or_create_owned(&of),
            waiting_seats: self.waiting_seats.get_or_create_owned(&of),
            executing: self.executing.get_or_create_owned(&of),
            executing_seats: self.executing_seats.get_or_create_owned(&of),
            waited: self.waited.get_or_create_owned(&of.waited("true")),
            ran: self.executed.get_or_create_owned(&of.executed("regular")),
            began: self.executed.get_or_create_owned(&of.executed("watch")),
            lengths: self.lengths.get_or_create_owned(&of),
            watchers: self.watchers.get_or_create_owned(&of),
            seats: self.seats.get_or_create_owned(&of),
            families: self.clone(),
            of,
        }
    }
}

impl Of {
    fn waited(&self, execute: &'static str) -> Waited {
        let Self { flow_schema, priority_level } = self.clone();
        Waited { execute, flow_schema, priority_level }
    }

    fn executed(&self, r#type: &'static str) -> Executed {
        let Self { flow_schema, priority_level } = self.clone();
        Executed { flow_schema, priority_level, r#type }
    }
}

impl SchemaMetrics {
    /// A request is turned away; `waited` if it was in a queue before.
    pub(crate) fn refused(&self, reason: &'static str, waited: Option<f64>) {
        let Of { flow_schema, priority_level } = self.of.clone();
        self.families.rejected.get_or_create(&Refused { flow_schema, priority_level, reason }).inc();
        if let Some(seconds) = waited {
            self.families.waited.get_or_create(&self.of.waited("false")).observe(seconds);
        }
    }
}
