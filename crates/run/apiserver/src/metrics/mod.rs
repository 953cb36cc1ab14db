//! What the server tells Prometheus, under upstream's names.
//!
//! What enters are requests as they begin and end, and, when it is asked for, the store, the levels and the
//! process. What leaves is the text of `/metrics`. A request costs some atomic additions: the handles of its
//! series are found once for each kind of request, and reading the map of them takes no lock. Nothing is
//! computed unless asked.

mod access;
mod admission;
mod audit;
mod backend;
mod fairness;
mod labels;
mod policies;
mod series;
mod slis;
mod storage;
mod waits;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use http_body::Body;
use plimsoll_metrics::Tells;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::body::{self, ResponseBody};
use crate::features::Gate;
use crate::flow;
use crate::guarded;
use crate::query::Query;
use crate::registry;
use crate::server::Api;
use crate::stages::Asked;
use crate::target::Target;

pub(crate) use access::{Access, Decisions};
pub(crate) use admission::{Admissions, Asked as Webhook, Fault, Step};
pub(crate) use audit::Audits;
pub(crate) use fairness::{FlowMetrics, SchemaMetrics};
use labels::{Build, Call, Deprecated, Object, Reload, Watched};
pub(crate) use plimsoll_metrics::{Histogram, Told};
pub(crate) use policies::{Enforcement, PolicyMetrics};
use series::{Requests, Series};
use slis::Checks;
pub(crate) use storage::{Access as Stored, Storage};
pub(crate) use waits::{measured, waiting};

/// Bytes of events; upstream's buckets of `apiserver_watch_events_sizes`.
const EVENT_BYTES: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];

/// The metrics that requests move.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) flow: FlowMetrics,
    pub(crate) access: Access,
    pub(crate) admission: Admissions,
    pub(crate) policies: PolicyMetrics,
    pub(crate) storage: Storage,
    pub(crate) audit: Audits,
    pub(crate) checks: Checks,
    requests: Requests,
    deprecated: Family<Deprecated, Gauge>,
    watch_events: Family<Watched, Counter>,
    watch_sizes: Family<Watched, Histogram, fn() -> Histogram>,
    initial: Family<Object, Counter>,
    tls_errors: Counter,
    reloads: [Reloads; 2],
    /// Of other parts of this process.
    others: OnceLock<Vec<Arc<dyn Tells>>>,
}

/// A configuration file that is followed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConfigFile {
    /// That of `--authentication-config`.
    Authentication,
    /// That of `--authorization-config`.
    Authorization,
}

/// How often a file was read again, and when.
#[derive(Default)]
struct Reloads {
    total: Family<Reload, Counter>,
    last: Family<Reload, Gauge>,
}

impl Reloads {
    fn register(&self, registry: &mut Registry, name: &str) {
        let what = format!("apiserver_{name}_config_controller_automatic_reload");
        registry.register(
            format!("{what}s"),
            format!("Number of times that the {name} configuration was read again, by status"),
            self.total.clone(),
        );
        registry.register(
            format!("{what}_last_timestamp_seconds"),
            format!("When the {name} configuration was last read again, by status"),
            self.last.clone(),
        );
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let mut this = Self {
            requests: Requests::register(&mut registry),
            flow: FlowMetrics::register(&mut registry),
            access: Access::register(&mut registry),
            admission: Admissions::register(&mut registry),
            policies: PolicyMetrics::register(&mut registry),
            storage: Storage::register(&mut registry),
            audit: Audits::register(&mut registry),
            checks: Checks::new(),
            registry,
            deprecated: Family::default(),
            watch_events: Family::default(),
            watch_sizes: Family::new_with_constructor(|| Histogram::new(EVENT_BYTES)),
            initial: Family::default(),
            tls_errors: Counter::default(),
            reloads: Default::default(),
            others: OnceLock::new(),
        };
        let all = &mut this.registry;
        for (reloads, name) in this.reloads.iter().zip(["authentication", "authorization"]) {
            reloads.register(all, name);
        }
        all.register(
            "apiserver_requested_deprecated_apis",
            "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
            this.deprecated.clone(),
        );
        all.register(
            "apiserver_watch_events",
            "[ALPHA] Number of events sent in watch clients",
            this.watch_events.clone(),
        );
        all.register(
            "apiserver_watch_events_sizes",
            "[ALPHA] Watch event size distribution in bytes",
            this.watch_sizes.clone(),
        );
        all.register(
            "apiserver_init_events",
            "[ALPHA] Counter of init events processed in watch cache broken by resource type.",
            this.initial.clone(),
        );
        all.register(
            "apiserver_tls_handshake_errors",
            "[ALPHA] Number of requests dropped with 'TLS handshake error from' error",
            this.tls_errors.clone(),
        );
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build::default()).set(1);
        all.register(
            "kubernetes_build_info",
            "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version and platform on which it is running.",
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
        let series = self.requests.series(&Call::of(api, method, target, query).at(path));
        if let Some(gauge) = &series.in_flight {
            gauge.inc();
        }
        Begun { metrics: Arc::clone(self), series, since: Instant::now() }
    }

    /// Tells of other parts of this process, too; the first call counts.
    pub(crate) fn with(&self, others: Vec<Arc<dyn Tells>>) {
        let _ = self.others.set(others);
    }

    /// Counts a handshake that failed.
    pub(crate) fn handshake_failed(&self) {
        self.tls_errors.inc();
    }

    /// Notes that a deprecated API is in use; upstream says when it goes, as far as that is known.
    pub(crate) fn deprecated(&self, kind: &plimsoll_catalogue::Kind, subresource: &str) {
        let labels = Deprecated {
            group: kind.group,
            removed_release: "",
            resource: kind.plural,
            subresource: kind.subresource(subresource).map_or("", |sub| sub.name),
            version: kind.version,
        };
        self.deprecated.get_or_create(&labels).set(1);
    }

    /// Counts that a configuration file was read again.
    pub(crate) fn reloaded(&self, file: ConfigFile, success: bool) {
        let labels = Reload { status: if success { "success" } else { "failure" } };
        let Reloads { total, last } = &self.reloads[file as usize];
        total.get_or_create(&labels).inc();
        last.get_or_create(&labels).set(jiff::Timestamp::now().as_second());
    }

    /// The counters of events that watches of a kind send.
    pub(crate) fn events(&self, kind: &plimsoll_catalogue::Kind) -> Events {
        let labels = Watched { group: kind.group, resource: kind.plural, version: kind.version };
        Events {
            count: self.watch_events.get_or_create_owned(&labels),
            sizes: self.watch_sizes.get_or_create_owned(&labels),
            initial: self.initial.get_or_create_owned(&Object { group: kind.group, resource: kind.plural }),
        }
    }
}

/// The events of a kind's watches.
pub(crate) struct Events {
    count: Counter,
    sizes: Histogram,
    initial: Counter,
}

impl Events {
    /// A watch begins with so many objects and past events.
    pub(crate) fn begun(&self, with: usize) {
        self.initial.inc_by(with as u64);
    }

    /// An event of this many bytes is sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.count.inc();
        self.sizes.observe(bytes as f64);
    }
}

/// A request on its way; not on its way any more when this is dropped.
pub(crate) struct Begun {
    metrics: Arc<Metrics>,
    series: Arc<Series>,
    since: Instant,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(gauge) = &self.series.in_flight {
            gauge.dec();
        }
    }
}

impl Begun {
    /// Does it take as long as its client likes?
    pub(crate) fn is_long_running(&self) -> bool {
        self.series.long_running.is_some()
    }

    /// Counts the answer; one that runs long is counted when its body ends. `waited` is what others made the
    /// request wait.
    pub(crate) fn end(self, response: Response<ResponseBody>, waited: Duration) -> Response<ResponseBody> {
        let code = response.status().as_u16();
        let waited = waited.as_secs_f64();
        if self.is_long_running() {
            return guarded::until_end(response, Lasting::new(self, code, waited));
        }
        let size = response.body().size_hint().exact();
        self.metrics.requests.ended(&self.series, code, self.since.elapsed().as_secs_f64(), waited, size);
        response
    }
}

/// One of the long-running requests.
struct Lasting {
    begun: Begun,
    code: u16,
    waited: f64,
}

impl Lasting {
    fn new(begun: Begun, code: u16, waited: f64) -> Self {
        if let Some(gauge) = &begun.series.long_running {
            gauge.inc();
        }
        Self { begun, code, waited }
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        let Begun { metrics, series, since } = &self.begun;
        if let Some(gauge) = &series.long_running {
            gauge.dec();
        }
        metrics.requests.ended(series, self.code, since.elapsed().as_secs_f64(), self.waited, None);
    }
}

/// Answers `/metrics`, or `None`.
pub(crate) fn answer(api: &Api, asked: &Asked) -> Option<Response<ResponseBody>> {
    let accept = asked.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    let tell = |registries: &[&Registry]| {
        let (media_type, text) = plimsoll_metrics::write(registries, accept.unwrap_or_default());
        Some(body::encoded(StatusCode::OK, media_type, text))
    };
    match asked.path.as_str() {
        "/metrics" => {}
        "/metrics/slis" => return tell(&[&api.metrics.checks.registry]),
        _ => return None,
    }
    let mut now = Registry::default();
    objects(api, &mut now);
    flow::tell::register(&api.flow, &mut now);
    features(api, &mut now);
    plimsoll_metrics::register_process(&mut now);
    let others = api.metrics.others.get().into_iter().flatten().map(|other| other.registry());
    tell(&[&api.metrics.registry, &now].into_iter().chain(others).collect::<Vec<_>>())
}

/// Which features are on.
fn features(api: &Api, registry: &mut Registry) {
    let enabled: Family<labels::Feature, Gauge> = Family::default();
    for (name, stage, gate) in api.features.stages() {
        enabled.get_or_create(&labels::Feature { name, stage }).set(i64::from(gate == Gate::On));
    }
    registry.register(
        "kubernetes_feature_enabled",
        "[BETA] This metric records the data about the stage and enablement of a k8s feature.",
        enabled,
    );
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
    registry.register(
        "apiserver_storage_objects",
        "[STABLE] [DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        old,
    );
    registry.register(
        "apiserver_resource_objects",
        "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
        new,
    );
    backend::register(api, registry);
}
