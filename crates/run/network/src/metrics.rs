//! What Prometheus is told of the rules of Services, under kube-proxy's names.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plimsoll_kernel::nft;
use plimsoll_metrics::Histogram;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Upper bounds of what a change of rules takes, in seconds: a millisecond and fourteen times the double.
const RULES: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];

/// Upper bounds of what passes between a change of endpoints and its rules, in seconds.
const PROGRAMMING: &[f64] = &[
    0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0,
    18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, 27.0, 28.0, 29.0, 30.0, 31.0, 32.0, 33.0, 34.0,
    35.0, 36.0, 37.0, 38.0, 39.0, 40.0, 41.0, 42.0, 43.0, 44.0, 45.0, 46.0, 47.0, 48.0, 49.0, 50.0, 51.0,
    52.0, 53.0, 54.0, 55.0, 56.0, 57.0, 58.0, 59.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 100.0,
    105.0, 110.0, 115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    ip_family: &'static str,
}

type Family<M> = family::Family<Labels, M>;
type Histograms = family::Family<Labels, Histogram, fn() -> Histogram>;

/// Counters of the rules' loop; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    rules: Histograms,
    programming: Histograms,
    last: Family<Gauge<f64, std::sync::atomic::AtomicU64>>,
    failures: Family<Counter>,
    services: Family<Counter>,
    endpoints: Family<Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            rules: Histograms::new_with_constructor(|| Histogram::new(RULES)),
            programming: Histograms::new_with_constructor(|| Histogram::new(PROGRAMMING)),
            last: Family::default(),
            failures: Family::default(),
            services: Family::default(),
            endpoints: Family::default(),
        };
        metrics.registry = Arc::new(metrics.registered());
        metrics
    }
}

impl Metrics {
    /// All of them, to be told beside others.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    fn registered(&self) -> Registry {
        let mut all = Registry::with_prefix("kubeproxy");
        all.register(
            "sync_proxy_rules_duration_seconds",
            "[ALPHA] SyncProxyRules latency in seconds",
            self.rules.clone(),
        );
        all.register(
            "network_programming_duration_seconds",
            "[ALPHA] In Cluster Network Programming Latency in seconds",
            self.programming.clone(),
        );
        all.register(
            "sync_proxy_rules_last_timestamp_seconds",
            "[ALPHA] The last time proxy rules were successfully synced",
            self.last.clone(),
        );
        all.register(
            "sync_proxy_rules_nftables_sync_failures",
            "[ALPHA] Cumulative proxy nftables sync failures",
            self.failures.clone(),
        );
        all.register(
            "sync_proxy_rules_service_changes",
            "[ALPHA] Cumulative proxy rules Service changes",
            self.services.clone(),
        );
        all.register(
            "sync_proxy_rules_endpoint_changes",
            "[ALPHA] Cumulative proxy rules Endpoint changes",
            self.endpoints.clone(),
        );
        all
    }

    /// The rules of a family were brought up to date in so long, or could not be.
    pub(crate) fn synced(&self, family: nft::Family, took: Duration, success: bool) {
        let labels = labels(family);
        if !success {
            self.failures.get_or_create(&labels).inc();
            return;
        }
        self.rules.get_or_create(&labels).observe(took.as_secs_f64());
        self.last.get_or_create(&labels).set(since_epoch().as_secs_f64());
    }

    /// So many Services and EndpointSlices changed.
    pub(crate) fn changed(&self, family: nft::Family, services: u64, endpoints: u64) {
        let labels = labels(family);
        self.services.get_or_create(&labels).inc_by(services);
        self.endpoints.get_or_create(&labels).inc_by(endpoints);
    }

    /// The rules follow what happened to endpoints so many seconds after the epoch.
    pub(crate) fn programmed(&self, family: nft::Family, happened: f64) {
        let took = since_epoch().as_secs_f64() - happened;
        self.programming.get_or_create(&labels(family)).observe(took.max(0.0));
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn labels(family: nft::Family) -> Labels {
    Labels { ip_family: if family == nft::Family::Ipv4 { "IPv4" } else { "IPv6" } }
}
