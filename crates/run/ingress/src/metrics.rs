//! What Prometheus is told, under the names that dashboards of ingress-nginx read.

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use plimsoll_metrics::Histogram;
use plimsoll_route::Owner;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::body::{Answer, Broken};

/// Upper bounds of durations, in seconds (those of ingress-nginx).
const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of answers, in bytes.
const BYTES: &[f64] = &[10.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];

/// Methods that are told apart.
const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "other"];

/// Which rule requests came by; nothing for those that no rule fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) owner: Owner,
    pub(crate) service: String,
    pub(crate) host: String,
    pub(crate) path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    host: String,
    ingress: String,
    method: &'static str,
    namespace: String,
    path: String,
    service: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// All counts.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Histograms,
    sizes: Histograms,
    /// Connections of clients that are open.
    active: Gauge,
    /// How often other rules came into force.
    pub(crate) tables: Counter,
}

impl Metrics {
    pub(crate) fn new(node: &str) -> Self {
        let mut registry = Registry::default();
        let label = |name: &'static str, value: &str| (name.into(), value.to_owned().into());
        let labels = [
            label("controller_class", plimsoll_route::CONTROLLER),
            label("controller_namespace", ""),
            label("controller_pod", node),
        ];
        let told = registry.sub_registry_with_labels(labels.into_iter());
        let requests = Family::<Labels, Counter>::default();
        let durations: Histograms = Family::new_with_constructor(|| Histogram::new(SECONDS));
        let sizes: Histograms = Family::new_with_constructor(|| Histogram::new(BYTES));
        let name = |rest: &str| format!("nginx_ingress_controller_{rest}");
        told.register(name("requests"), "The total number of client requests", requests.clone());
        told.register(
            name("request_duration_seconds"),
            "The request processing time in seconds",
            durations.clone(),
        );
        told.register(name("response_size"), "The response length (without headers)", sizes.clone());
        let states = Family::<State, Gauge>::default();
        told.register(
            name("nginx_process_connections"),
            "Current number of client connections with state {active}",
            states.clone(),
        );
        let tables = Counter::default();
        told.register(name("success"), "Cumulative number of changes of the rules", tables.clone());
        plimsoll_metrics::register_process(&mut registry);
        Self {
            active: states.get_or_create_owned(&State { state: "active" }),
            requests,
            durations,
            sizes,
            tables,
            registry,
        }
    }

    /// The text, and its media type.
    pub(crate) fn text(&self, accept: &str) -> (&'static str, String) {
        plimsoll_metrics::write(&[&self.registry], accept)
    }

    /// Counts a connection until this is dropped.
    pub(crate) fn connected(&self) -> Connected {
        self.active.inc();
        Connected(self.active.clone())
    }
}

/// An open connection.
pub(crate) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The place of a method, and a status.
type Key = (usize, StatusCode);

/// The counts of a rule. They end with it.
pub(crate) struct Meter {
    metrics: Arc<Metrics>,
    place: Place,
    /// By method and status, of which there are few.
    series: RwLock<Vec<(Key, Arc<Series>)>>,
}

struct Series {
    requests: Counter,
    durations: Histogram,
    sizes: Histogram,
}

impl Meter {
    pub(crate) fn new(metrics: Arc<Metrics>, place: Place) -> Self {
        Self { metrics, place, series: RwLock::default() }
    }

    fn series(&self, method: &Method, status: StatusCode) -> Arc<Series> {
        let key =
            (METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1), status);
        let find = |all: &[(Key, Arc<Series>)]| {
            all.iter().find(|(known, _)| *known == key).map(|(_, series)| series.clone())
        };
        let known = find(&self.series.read().unwrap_or_else(PoisonError::into_inner));
        known.unwrap_or_else(|| {
            let labels = self.labels(key);
            let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
            find(&all).unwrap_or_else(|| {
                let series = Arc::new(Series {
                    requests: self.metrics.requests.get_or_create_owned(&labels),
                    durations: self.metrics.durations.get_or_create_owned(&labels),
                    sizes: self.metrics.sizes.get_or_create_owned(&labels),
                });
                all.push((key, series.clone()));
                series
            })
        })
    }

    fn labels(&self, (method, status): Key) -> Labels {
        let Place { owner, service, host, path } = self.place.clone();
        Labels {
            host,
            ingress: owner.name,
            method: METHODS[method],
            namespace: owner.namespace,
            path,
            service,
            status: status.as_u16(),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let series = std::mem::take(self.series.get_mut().unwrap_or_else(PoisonError::into_inner));
        for labels in series.into_iter().map(|(key, _)| self.labels(key)) {
            self.metrics.requests.remove(&labels);
            self.metrics.durations.remove(&labels);
            self.metrics.sizes.remove(&labels);
        }
    }
}

/// An answer that is counted when it is over.
pub(crate) struct Metered {
    answer: Answer,
    series: Arc<Series>,
    begun: Instant,
    bytes: usize,
}

impl Metered {
    pub(crate) fn new(
        answer: Answer,
        meter: &Meter,
        method: &Method,
        status: StatusCode,
        begun: Instant,
    ) -> Self {
        Self { answer, series: meter.series(method, status), begun, bytes: 0 }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.series.requests.inc();
        self.series.durations.observe(self.begun.elapsed().as_secs_f64());
        self.series.sizes.observe(self.bytes as f64);
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.answer).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            this.bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}
