//! What the server tells Prometheus, under upstream's names.
//!
//! What enters are requests as they begin and end, and, when it is asked for, the store and the process. What
//! leaves is the text of `/metrics`. A request costs some atomic additions; nothing is computed unless asked.

mod exposition;
mod fairness;
mod histogram;
mod labels;
mod process;

use std::sync::Arc;
use std::time::Instant;

use http::{Response, StatusCode};
use http_body::Body;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::body::{self, ResponseBody};
use crate::flow;
use crate::guarded;
use crate::query::Query;
use crate::registry;
use crate::server::Api;
use crate::stages::Asked;
use crate::target::Target;

pub(crate) use fairness::{FlowMetrics, SchemaMetrics};
use histogram::Histogram;
pub(crate) use histogram::Told;
use labels::{Build, Call, Duration, InFlight, Long, Object, Outcome, Reason, Request, Watched};

/// Seconds; upstream's buckets of `apiserver_request_duration_seconds`.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Bytes; upstream's buckets of `apiserver_response_sizes`.
const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

type Timing = Family<Duration, Histogram, fn() -> Histogram>;

/// The metrics that requests move.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) flow: FlowMetrics,
    requests: Family<Request, Counter>,
    durations: Timing,
    objectives: Timing,
    sizes: Family<labels::Size, Histogram, fn() -> Histogram>,
    in_flight: Family<InFlight, Gauge>,
    long_running: Family<Long, Gauge>,
    terminations: Family<Reason, Counter>,
    watch_events: Family<Watched, Counter>,
    attempts: Family<Outcome, Counter>,
    tls_errors: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn bytes() -> Histogram {
    Histogram::new(BYTES)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let mut this = Self {
            flow: FlowMetrics::register(&mut registry),
            registry,
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            objectives: Family::new_with_constructor(seconds),
            sizes: Family::new_with_constructor(bytes),
            in_flight: Family::default(),
            long_running: Family::default(),
            terminations: Family::default(),
            watch_events: Family::default(),
            attempts: Family::default(),
            tls_errors: Counter::default(),
        };
        let all = &mut this.registry;
        all.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, group, version, resource, scope and code",
            this.requests.clone(),
        );
        all.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds",
            this.durations.clone(),
        );
        all.register(
            "apiserver_request_sli_duration_seconds",
            "Response latency distribution in seconds of requests that count for service level objectives",
            this.objectives.clone(),
        );
        all.register("apiserver_response_sizes", "Response size distribution in bytes", this.sizes.clone());
        all.register(
            "apiserver_current_inflight_requests",
            "Number of requests that are served now, by kind",
            this.in_flight.clone(),
        );
        all.register(
            "apiserver_longrunning_requests",
            "Number of long-running requests that are served now",
            this.long_running.clone(),
        );
        all.register(
            "apiserver_request_terminations",
            "Number of requests that the server ended in self-defense",
            this.terminations.clone(),
        );
        all.register(
            "apiserver_watch_events",
            "Number of events sent to watch clients",
            this.watch_events.clone(),
        );
        all.register("authentication_attempts", "Counter of authentication attempts", this.attempts.clone());
        all.register(
            "apiserver_tls_handshake_errors",
            "Number of connections whose TLS handshake failed",
            this.tls_errors.clone(),
        );
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build::default()).set(1);
        all.register(
            "kubernetes_build_info",
            "A metric with a constant 1 value that tells the version",
            build,
        );
        this
    }

    /// Counts a request that begins.
    pub(crate) fn begin(
        self: &Arc<Self>,
        api: &Api,
        method: &http::Method,
        (path, target): (&str, &Target),
        query: &Query,
    ) -> Begun {
        let call = Call::of(api, method, target, query).at(path);
        let kind = call.in_flight();
        if let Some(kind) = &kind {
            self.in_flight.get_or_create(kind).inc();
        }
        Begun { metrics: Arc::clone(self), call, kind, since: Instant::now() }
    }

    /// Counts a handshake that failed.
    pub(crate) fn handshake_failed(&self) {
        self.tls_errors.inc();
    }

    /// Counts whether a client could be recognized.
    pub(crate) fn authenticated(&self, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.attempts.get_or_create(&Outcome { result }).inc();
    }

    /// The counter of events that watches of a kind send.
    pub(crate) fn events(&self, kind: &plimsoll_catalogue::Kind) -> Counter {
        let labels = Watched { group: kind.group, version: kind.version, resource: kind.plural };
        self.watch_events.get_or_create(&labels).clone()
    }
}

/// A request on its way; not on its way any more when this is dropped.
pub(crate) struct Begun {
    metrics: Arc<Metrics>,
    call: Call,
    kind: Option<InFlight>,
    since: Instant,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(kind) = &self.kind {
            self.metrics.in_flight.get_or_create(kind).dec();
        }
    }
}

impl Begun {
    /// Does it take as long as its client likes?
    pub(crate) fn is_long_running(&self) -> bool {
        self.call.is_long_running()
    }

    /// Counts the answer; one that runs long is counted until its body ends.
    pub(crate) fn end(self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        let (metrics, call) = (&self.metrics, &self.call);
        metrics.requests.get_or_create(&call.request(response.status().as_u16())).inc();
        if call.is_long_running() {
            let gauge = metrics.long_running.get_or_create(&call.long()).clone();
            return guarded::until_end(response, Running::new(gauge));
        }
        let elapsed = self.since.elapsed().as_secs_f64();
        let labels = call.duration();
        metrics.durations.get_or_create(&labels).observe(elapsed);
        metrics.objectives.get_or_create(&labels).observe(elapsed);
        if let Some(size) = response.body().size_hint().exact() {
            metrics.sizes.get_or_create(&call.size()).observe(size as f64);
        }
        if response.status() == StatusCode::GATEWAY_TIMEOUT {
            metrics.terminations.get_or_create(&call.termination()).inc();
        }
        response
    }
}

/// One of the long-running requests.
struct Running(Gauge);

impl Running {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Answers `/metrics`, or `None`.
pub(crate) fn answer(api: &Api, asked: &Asked) -> Option<Response<ResponseBody>> {
    if asked.path != "/metrics" {
        return None;
    }
    let mut now = Registry::default();
    objects(api, &mut now);
    flow::tell::register(&api.flow, &mut now);
    process::register(&mut now);
    let accept = asked.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    let (media_type, text) = exposition::write(&[&api.metrics.registry, &now], accept.unwrap_or_default());
    Some(body::encoded(StatusCode::OK, media_type, text))
}

/// How many objects of each kind there are.
fn objects(api: &Api, registry: &mut Registry) {
    let (old, new): (Family<labels::Stored, Gauge>, Family<Object, Gauge>) = Default::default();
    for kind in registry::kinds(api) {
        let Ok(prefix) = registry::prefix(kind, "") else { continue };
        let count = i64::try_from(api.store.count(&prefix)).unwrap_or(i64::MAX);
        let resource = plimsoll_meta::status::qualified(kind.group, kind.plural);
        old.get_or_create(&labels::Stored { resource }).set(count);
        new.get_or_create(&Object { group: kind.group, resource: kind.plural }).set(count);
    }
    registry.register("apiserver_storage_objects", "Number of stored objects by kind", old);
    registry.register("apiserver_resource_objects", "Number of stored objects by group and resource", new);
    let size = i64::try_from(api.store.disk_space().unwrap_or(0)).unwrap_or(i64::MAX);
    let storage: Gauge = Gauge::default();
    storage.set(size);
    registry.register("apiserver_storage_size_bytes", "Size of the store's files in bytes", storage);
}
