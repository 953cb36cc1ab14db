//! What Prometheus is told, under the names that dashboards of CoreDNS read.

mod labels;

use std::net::IpAddr;
use std::time::Duration;

use hyper::StatusCode;
use plimsoll_metrics::{Histogram, Page, TEXT};
use plimsoll_netplan::dns::{Query, Transport};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use labels::{
    CacheLabels, ExchangeLabels, PLUGINS, RCODES, RequestLabels, ResponseLabels, TYPES, UpstreamLabels,
    place, request_counters, response_counters, upstream,
};

/// Upper bounds of durations, in seconds.
const SECONDS: &[f64] = &[
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048,
    4.096, 8.192,
];

/// Upper bounds of messages, in bytes.
const BYTES: &[f64] =
    &[0.0, 100.0, 200.0, 300.0, 400.0, 511.0, 1023.0, 2047.0, 4095.0, 8291.0, 16e3, 32e3, 48e3, 64e3];

/// Who made a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugin {
    /// The cluster's records.
    Kubernetes,
    /// Names of the configuration.
    Hosts,
    /// Replies that the configuration has written.
    Template,
    /// Other resolvers, or what is remembered of them.
    Forward,
}

/// All counts. What each query moves was looked up beforehand.
pub(crate) struct Metrics {
    registry: Registry,
    /// By protocol, family and type.
    requests: Vec<Counter>,
    /// By response code and plugin.
    responses: Vec<Counter>,
    durations: Histogram,
    request_sizes: [Histogram; 2],
    response_sizes: [Histogram; 2],
    /// Replies that name records, and those that say there are none.
    hits: [Counter; 2],
    misses: Counter,
    lookups: Counter,
    /// Requests for signatures.
    signed: Counter,
    pub(crate) stale: Counter,
    /// Entries of each kind.
    entries: [Gauge; 2],
    pub(crate) searches: Counter,
    pub(crate) hosts: Gauge,
    pub(crate) reloads_failed: Counter,
    upstream_durations: Family<ExchangeLabels, Histogram, fn() -> Histogram>,
    upstream_failures: Family<UpstreamLabels, Counter>,
    pub(crate) all_broken: Counter,
}

/// One answered query.
pub(crate) struct Answered<'a> {
    pub(crate) query: &'a Query<'a>,
    pub(crate) length: usize,
    pub(crate) client: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) reply: &'a [u8],
    pub(crate) plugin: Plugin,
    pub(crate) took: Duration,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let label = |name: &'static str, value: &'static str| (name.into(), value.into());
        let server = registry.sub_registry_with_labels(
            [label("server", "dns://:53"), label("zone", "."), label("view", "")].into_iter(),
        );
        let requests = Family::<RequestLabels, Counter>::default();
        let responses = Family::<ResponseLabels, Counter>::default();
        let signed = Counter::default();
        server.register(
            "coredns_dns_do_requests",
            "Counter of DNS requests with DO bit set per zone",
            signed.clone(),
        );
        server.register(
            "coredns_dns_requests",
            "Counter of DNS requests made per zone, protocol and family",
            requests.clone(),
        );
        server.register("coredns_dns_responses", "Counter of response status codes", responses.clone());
        let durations = Histogram::new(SECONDS);
        server.register(
            "coredns_dns_request_duration_seconds",
            "Histogram of the time (in seconds) each request took per zone",
            durations.clone(),
        );
        let mut sizes = |name: &'static str, help: &'static str| {
            ["udp", "tcp"].map(|proto| {
                let sizes = Histogram::new(BYTES);
                server.sub_registry_with_label(label("proto", proto)).register(name, help, sizes.clone());
                sizes
            })
        };
        let request_sizes =
            sizes("coredns_dns_request_size_bytes", "Size of the EDNS0 UDP buffer in bytes (64K for TCP)");
        let response_sizes =
            sizes("coredns_dns_response_size_bytes", "Size of the returned response in bytes");
        let cache = registry.sub_registry_with_labels(
            [label("server", "dns://:53"), label("zones", "."), label("view", "")].into_iter(),
        );
        let hits = Family::<CacheLabels, Counter>::default();
        let entries = Family::<CacheLabels, Gauge>::default();
        let (misses, stale, lookups) = (Counter::default(), Counter::default(), Counter::default());
        cache.register("coredns_cache_requests", "The count of cache requests", lookups.clone());
        cache.register("coredns_cache_hits", "The count of cache hits", hits.clone());
        cache.register("coredns_cache_misses", "The count of cache misses", misses.clone());
        cache.register(
            "coredns_cache_served_stale",
            "The number of requests served from stale cache entries",
            stale.clone(),
        );
        cache.register("coredns_cache_entries", "The number of elements in the cache", entries.clone());
        let kinds = ["success", "denial"].map(|r#type| CacheLabels { r#type });
        let mut metrics = Self {
            requests: request_counters(&requests),
            responses: response_counters(&responses),
            durations,
            request_sizes,
            response_sizes,
            hits: kinds.clone().map(|labels| hits.get_or_create_owned(&labels)),
            misses,
            lookups,
            signed,
            stale,
            entries: kinds.map(|labels| entries.get_or_create_owned(&labels)),
            searches: Counter::default(),
            hosts: Gauge::default(),
            reloads_failed: Counter::default(),
            upstream_durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            upstream_failures: Family::default(),
            all_broken: Counter::default(),
            registry,
        };
        metrics.register_rest();
        metrics
    }

    fn register_rest(&mut self) {
        let registry = &mut self.registry;
        let counters = [
            ("coredns_autopath_success", "Counter of requests that did autopath", &self.searches),
            (
                "coredns_reload_failed",
                "Counter of the number of failed reload attempts",
                &self.reloads_failed,
            ),
            (
                "coredns_forward_healthcheck_broken",
                "Counter of the number of complete failures of the healthchecks",
                &self.all_broken,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "coredns_panics",
            "A metrics that counts the number of panics",
            Counter::<u64>::default(),
        );
        let label = |name: &'static str, value: &'static str| (name.into(), value.into());
        let build =
            [label("version", env!("CARGO_PKG_VERSION")), label("revision", ""), label("goversion", "")];
        let one = Gauge::<i64>::default();
        one.set(1);
        registry.sub_registry_with_labels(build.into_iter()).register(
            "coredns_build_info",
            "A metric with a constant '1' value labeled by version, revision, and goversion from which CoreDNS was built",
            one,
        );
        registry.register(
            "coredns_hosts_entries",
            "The combined number of entries in hosts and Corefile",
            self.hosts.clone(),
        );
        registry.register(
            "coredns_proxy_request_duration_seconds",
            "Histogram of the time each request took",
            self.upstream_durations.clone(),
        );
        registry.register(
            "coredns_proxy_healthcheck_failures",
            "Counter of the number of failed healthchecks",
            self.upstream_failures.clone(),
        );
        plimsoll_metrics::register_process(registry);
    }

    pub(crate) fn answered(&self, answered: &Answered<'_>) {
        let tcp = usize::from(answered.transport == Transport::Tcp);
        let family = usize::from(matches!(answered.client, IpAddr::V6(_)));
        self.requests[(tcp * 2 + family) * TYPES.len() + place(answered.query.kind)].inc();
        self.responses[rcode(answered.reply) * PLUGINS.len() + answered.plugin as usize].inc();
        if answered.query.wants_signatures() {
            self.signed.inc();
        }
        self.durations.observe(answered.took.as_secs_f64());
        self.request_sizes[tcp].observe(answered.length as f64);
        self.response_sizes[tcp].observe(answered.reply.len() as f64);
    }

    /// A look-up in the memory, which found a denial, another reply or nothing.
    pub(crate) fn looked_up(&self, denial: Option<bool>) {
        self.lookups.inc();
        match denial {
            Some(denial) => drop(self.hits[usize::from(denial)].inc()),
            None => drop(self.misses.inc()),
        }
    }

    pub(crate) fn entries(&self, success: usize, denial: usize) {
        for (gauge, count) in self.entries.iter().zip([success, denial]) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn exchanged(&self, server: &str, reply: &[u8], took: Duration) {
        let labels =
            ExchangeLabels { proxy_name: "forward", to: server.to_owned(), rcode: RCODES[rcode(reply)] };
        self.upstream_durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn check_failed(&self, server: &str) {
        self.upstream_failures.get_or_create(&upstream(server)).inc();
    }
}

/// The place of a reply's code among [`RCODES`].
fn rcode(reply: &[u8]) -> usize {
    reply.get(3).map_or(0, |byte| usize::from(byte & 0x0f)).min(RCODES.len() - 1)
}

/// Answers for `/metrics`, `/health` and `/ready`, which CoreDNS has on ports of their own.
pub(crate) fn page(metrics: &Metrics, ready: bool, path: &str, accept: &str) -> Option<Page> {
    let (status, media, text) = match path {
        "/metrics" => {
            let (media, text) = plimsoll_metrics::write(&[&metrics.registry], accept);
            (StatusCode::OK, media, text)
        }
        "/health" => (StatusCode::OK, TEXT, "OK".to_owned()),
        "/ready" if ready => (StatusCode::OK, TEXT, "OK".to_owned()),
        "/ready" => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "kubernetes".to_owned()),
        _ => return None,
    };
    Some((status, media, text))
}
