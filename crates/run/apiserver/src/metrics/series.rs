//! The handles of a kind of request: found once, and from then on without a lock.
//!
//! The map of them is replaced as a whole when a new kind of request comes; after a while none does.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{Call, Duration, InFlight, Key, Long, Reason, Request};
use plimsoll_metrics::Histogram;

/// Seconds; upstream's buckets of `apiserver_request_duration_seconds`.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Seconds of the objectives.
const OBJECTIVES: &[f64] = &[
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// Bytes; upstream's buckets of `apiserver_response_sizes`.
const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Codes whose counters have a place; others are looked up.
const CODES: [u16; 12] = [200, 201, 101, 404, 409, 403, 401, 422, 429, 400, 410, 504];

type Distribution<L> = Family<L, Histogram, fn() -> Histogram>;

/// The families.
#[derive(Debug)]
pub(super) struct Requests {
    counts: Family<Request, Counter>,
    durations: Distribution<Duration>,
    objectives: Distribution<Long>,
    sizes: Distribution<Long>,
    in_flight: Family<InFlight, Gauge>,
    long_running: Family<Long, Gauge>,
    terminations: Family<Reason, Counter>,
    known: ArcSwap<HashMap<Key, Arc<Series>>>,
}

/// The members of one kind of request.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) call: Call,
    pub(super) in_flight: Option<Gauge>,
    pub(super) long_running: Option<Gauge>,
    duration: Histogram,
    objective: Histogram,
    size: Option<Histogram>,
    counts: [OnceLock<Counter>; CODES.len()],
}

impl Requests {
    /// Adds the families to what the server tells.
    pub(super) fn register(all: &mut Registry) -> Self {
        let this = Self {
            counts: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            objectives: Family::new_with_constructor(|| Histogram::new(OBJECTIVES)),
            sizes: Family::new_with_constructor(|| Histogram::new(BYTES)),
            in_flight: Family::default(),
            long_running: Family::default(),
            terminations: Family::default(),
            known: ArcSwap::default(),
        };
        all.register(
            "apiserver_request",
            "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
            this.counts.clone(),
        );
        all.register(
            "apiserver_request_duration_seconds",
            "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
            this.durations.clone(),
        );
        all.register(
            "apiserver_request_sli_duration_seconds",
            "[STABLE] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
            this.objectives.clone(),
        );
        all.register(
            "apiserver_response_sizes",
            "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
            this.sizes.clone(),
        );
        all.register(
            "apiserver_current_inflight_requests",
            "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
            this.in_flight.clone(),
        );
        all.register(
            "apiserver_longrunning_requests",
            "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
            this.long_running.clone(),
        );
        all.register(
            "apiserver_request_terminations",
            "[ALPHA] Number of requests which apiserver terminated in self-defense.",
            this.terminations.clone(),
        );
        this
    }

    /// The handles of a kind of request.
    pub(super) fn series(&self, call: &Call) -> Arc<Series> {
        if let Some(known) = self.known.load().get(&call.key()) {
            return Arc::clone(known);
        }
        let new = Arc::new(self.resolve(*call));
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.insert(call.key(), Arc::clone(&new));
            known
        });
        new
    }

    fn resolve(&self, call: Call) -> Series {
        Series {
            call,
            in_flight: call.in_flight().map(|kind| self.in_flight.get_or_create_owned(&kind)),
            long_running: call.is_long_running().then(|| self.long_running.get_or_create_owned(&call.long())),
            duration: self.durations.get_or_create_owned(&call.duration()),
            objective: self.objectives.get_or_create_owned(&call.objective()),
            size: call.is_read().then(|| self.sizes.get_or_create_owned(&call.objective())),
            counts: Default::default(),
        }
    }

    /// Counts a request that has ended: its code, the seconds it took, how many of them others made it wait, and
    /// the size of its answer if it is known.
    pub(super) fn ended(&self, series: &Series, code: u16, took: f64, waited: f64, size: Option<u64>) {
        match CODES.iter().position(|known| *known == code) {
            Some(place) => {
                let new = || self.counts.get_or_create_owned(&series.call.request(code));
                series.counts[place].get_or_init(new).inc();
            }
            None => {
                self.counts.get_or_create(&series.call.request(code)).inc();
            }
        }
        series.duration.observe(took);
        series.objective.observe((took - waited).max(0.0));
        if let (Some(sizes), Some(size)) = (&series.size, size) {
            sizes.observe(size as f64);
        }
        if code == 504 && series.long_running.is_none() {
            self.terminations.get_or_create(&series.call.termination()).inc();
        }
    }
}
