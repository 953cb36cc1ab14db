//! What the HorizontalPodAutoscaler's controller tells, under upstream's names.

use std::time::Duration;

use plimsoll_metrics::Histogram;
use plimsoll_reconcile::autoscale::{Change, Outcome, Trouble};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::unit::Key;

/// Seconds.
const TIMES: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Done {
    action: &'static str,
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    action: &'static str,
    error: &'static str,
    metric_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Hpa {
    hpa_name: String,
    namespace: String,
}

/// A look at an autoscaler: what came of it, and how long that took.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    /// The type of each metric, and how long it took to ask.
    pub(crate) asked: Vec<(String, Duration)>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Autoscaling {
    looks: Family<Done, Counter>,
    times: Family<Done, Histogram, fn() -> Histogram>,
    metrics: Family<Asked, Counter>,
    metric_times: Family<Asked, Histogram, fn() -> Histogram>,
    count: Gauge,
    desired: Family<Hpa, Gauge>,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            looks: Family::default(),
            times: Family::new_with_constructor(|| Histogram::new(TIMES)),
            metrics: Family::default(),
            metric_times: Family::new_with_constructor(|| Histogram::new(TIMES)),
            count: Gauge::default(),
            desired: Family::default(),
        }
    }
}

impl Autoscaling {
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("horizontal_pod_autoscaler_controller");
        let labels = "The label 'action' should be either 'scale_down', 'scale_up', or 'none'.";
        let errors = "the label 'error' should be either 'spec', 'internal', or 'none'.";
        let first = "Note that if both spec and internal errors happen during a reconciliation, the first one to \
                     occur is reported in `error` label.";
        let of_type = "The label 'metric_type' corresponds to HPA.spec.metrics[*].type";
        let [also, the] = ["Also, the", "The"].map(|word| errors.replacen("the", word, 1));
        registry.register(
            "reconciliations",
            format!("Number of reconciliations of HPA controller. {labels} {also} {first}"),
            self.looks.clone(),
        );
        registry.register(
            "reconciliation_duration_seconds",
            format!(
                "The time(seconds) that the HPA controller takes to reconcile once. {labels} {also} {first}"
            ),
            self.times.clone(),
        );
        registry.register(
            "metric_computation",
            format!("Number of metric computations. {labels} {also} {of_type}"),
            self.metrics.clone(),
        );
        registry.register(
            "metric_computation_duration_seconds",
            format!(
                "The time(seconds) that the HPA controller takes to calculate one metric. {labels} {the} {of_type}"
            ),
            self.metric_times.clone(),
        );
        registry.register(
            "num_horizontal_pod_autoscalers",
            "Current number of controlled HPA objects.",
            self.count.clone(),
        );
        registry.register(
            "desired_replicas",
            "Current desired replica count for HPA objects.",
            self.desired.clone(),
        );
    }

    /// Counts a look.
    pub(crate) fn looked(&self, looked: &Looked) {
        let words = |change: Change, trouble: Trouble| (change.word(), trouble.word());
        let (action, error) = words(looked.outcome.change, looked.outcome.trouble);
        let done = Done { action, error };
        self.looks.get_or_create(&done).inc();
        self.times.get_or_create(&done).observe(looked.took.as_secs_f64());
        for ((metric_type, took), (change, trouble)) in looked.asked.iter().zip(&looked.outcome.metrics) {
            let (action, error) = words(*change, *trouble);
            let asked = Asked { action, error, metric_type: metric_type.clone() };
            self.metrics.get_or_create(&asked).inc();
            self.metric_times.get_or_create(&asked).observe(took.as_secs_f64());
        }
    }

    /// So many replicas are wanted; `None` when the autoscaler is gone.
    pub(crate) fn wants(&self, key: &Key, replicas: Option<i32>) {
        let hpa = Hpa { hpa_name: key.name.clone(), namespace: key.namespace.clone() };
        match replicas {
            Some(replicas) => {
                self.desired.get_or_create(&hpa).set(replicas.into());
            }
            None => {
                self.desired.remove(&hpa);
            }
        }
    }

    /// So many autoscalers there are.
    pub(crate) fn count(&self, autoscalers: usize) {
        self.count.set(autoscalers.try_into().unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_under_the_names_of_upstream() {
        let (own, mut registry) = (Autoscaling::default(), Registry::default());
        own.register(&mut registry);
        let metrics = vec![(Change::Up, Trouble::None), (Change::None, Trouble::Internal)];
        let outcome = Outcome { change: Change::Up, trouble: Trouble::Internal, metrics };
        let second = Duration::from_secs(1);
        let asked = vec![("Resource".to_owned(), second), ("External".to_owned(), second)];
        own.looked(&Looked { outcome, took: Duration::from_millis(3), asked });
        own.wants(&Key::new("ns", "web"), Some(4));
        own.wants(&Key::new("ns", "old"), Some(4));
        own.wants(&Key::new("ns", "old"), None);
        own.count(1);
        let (_, text) = plimsoll_metrics::write(&[&registry], "*/*");
        for line in [
            "horizontal_pod_autoscaler_controller_reconciliations_total{action=\"scale_up\",error=\"internal\"} 1",
            "horizontal_pod_autoscaler_controller_reconciliation_duration_seconds_bucket{action=\"scale_up\",error=\"internal\",le=\"0.004\"} 1",
            "horizontal_pod_autoscaler_controller_metric_computation_total{action=\"none\",error=\"internal\",metric_type=\"External\"} 1",
            "horizontal_pod_autoscaler_controller_metric_computation_duration_seconds_sum{action=\"scale_up\",error=\"none\",metric_type=\"Resource\"} 1",
            "horizontal_pod_autoscaler_controller_num_horizontal_pod_autoscalers 1",
            "horizontal_pod_autoscaler_controller_desired_replicas{hpa_name=\"web\",namespace=\"ns\"} 4",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("\"old\""), "{text}");
        let help = "# HELP horizontal_pod_autoscaler_controller_metric_computation_total Number of metric computations. \
                    The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error'";
        assert!(text.contains(help), "{text}");
    }
}
