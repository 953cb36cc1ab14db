//! `/metrics/slis`: what health checks have found.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Check {
    name: String,
    r#type: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    name: String,
    status: &'static str,
    r#type: String,
}

/// The last outcome of each check, and how often it had which.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(super) registry: Registry,
    last: Family<Check, Gauge>,
    all: Family<Outcome, Counter>,
}

impl Checks {
    pub(super) fn new() -> Self {
        let mut this =
            Self { registry: Registry::default(), last: Family::default(), all: Family::default() };
        this.registry.register(
            "kubernetes_healthcheck",
            "[STABLE] This metric records the result of a single healthcheck.",
            this.last.clone(),
        );
        this.registry.register(
            "kubernetes_healthchecks",
            "[STABLE] This metric records the results of all healthcheck.",
            this.all.clone(),
        );
        this
    }

    /// A check of one of the three paths found this.
    pub(crate) fn found(&self, path: &str, name: &str, fine: bool) {
        let check = Check { name: name.to_owned(), r#type: path.to_owned() };
        self.last.get_or_create(&check).set(i64::from(fine));
        let status = if fine { "success" } else { "error" };
        self.all.get_or_create(&Outcome { name: check.name, status, r#type: check.r#type }).inc();
    }
}
