//! Counting what probes say.

use std::time::Duration;

use plimsoll_metrics::Histogram;
use plimsoll_podlife::probe::ProbeKind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Distribution;
use super::labels::{Probed, ProbedFor, probe_type};

/// Results in the order in which each probe has its counters.
const RESULTS: [&str; 3] = ["successful", "failed", "unknown"];

/// Whose probe it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeOf<'a> {
    pub(crate) container: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) kind: ProbeKind,
}

/// All probes' series.
pub(super) struct Probes {
    counts: Family<Probed, Counter>,
    times: Distribution<ProbedFor>,
}

/// The series of one probe.
#[derive(Clone, Debug)]
pub(crate) struct ProbeSeries {
    counts: [Counter; RESULTS.len()],
    times: Histogram,
}

impl ProbeSeries {
    /// A probe gave a verdict, or none, after so long.
    pub(crate) fn add(&self, verdict: Option<bool>, took: Duration) {
        let [successful, failed, unknown] = &self.counts;
        match verdict {
            Some(true) => {
                // Upstream times those that succeed.
                self.times.observe(took.as_secs_f64());
                successful
            }
            Some(false) => failed,
            None => unknown,
        }
        .inc();
    }
}

impl Probes {
    pub(super) fn register(all: &mut Registry) -> Self {
        let this = Self { counts: Family::default(), times: Family::new_with_constructor(super::usual) };
        let all = all.sub_registry_with_prefix("prober");
        all.register(
            "probe",
            "[ALPHA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
            this.counts.clone(),
        );
        all.register(
            "probe_duration_seconds",
            "[ALPHA] Duration in seconds for a probe response.",
            this.times.clone(),
        );
        this
    }

    pub(super) fn series(&self, of: ProbeOf<'_>) -> ProbeSeries {
        ProbeSeries {
            counts: RESULTS.map(|result| self.counts.get_or_create_owned(&counted(of, result))),
            times: self.times.get_or_create_owned(&timed(of)),
        }
    }

    pub(super) fn forget(&self, of: ProbeOf<'_>) {
        for result in RESULTS {
            self.counts.remove(&counted(of, result));
        }
        self.times.remove(&timed(of));
    }
}

fn counted(of: ProbeOf<'_>, result: &'static str) -> Probed {
    Probed {
        container: of.container.to_owned(),
        namespace: of.namespace.to_owned(),
        pod: of.pod.to_owned(),
        pod_uid: of.uid.to_owned(),
        probe_type: probe_type(of.kind),
        result,
    }
}

fn timed(of: ProbeOf<'_>) -> ProbedFor {
    ProbedFor {
        container: of.container.to_owned(),
        namespace: of.namespace.to_owned(),
        pod: of.pod.to_owned(),
        probe_type: probe_type(of.kind),
    }
}
