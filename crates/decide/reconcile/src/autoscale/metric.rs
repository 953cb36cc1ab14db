//! What each metric of an autoscaler asks for, and what all of them do.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};

use super::reading::{Reading, Samples};
use super::replicas::{Case, Proposal};
use super::{Change, Look, Trouble, milli, quantity};

/// What all metrics ask for.
pub(super) struct Evaluated {
    /// The most that one asks for; none when they cannot be gone by.
    pub(super) replicas: Option<i32>,
    /// Which metric does.
    pub(super) metric: String,
    pub(super) statuses: Option<Vec<MetricStatus>>,
    /// Why some, or all, are not known.
    pub(super) error: Option<String>,
}

/// What one metric asks for.
struct Asked {
    replicas: i32,
    metric: String,
    status: MetricStatus,
}

/// Why a metric asks for nothing.
struct Unknown {
    /// Of the condition and the event.
    reason: &'static str,
    /// What is told there.
    message: String,
    /// What is told of all metrics together.
    whole: String,
    trouble: Trouble,
}

/// Asks all metrics.
pub(super) fn evaluate(case: &Case<'_>, look: &mut Look<'_>) -> Evaluated {
    let none = Vec::new();
    let specs = look.observed.hpa.spec.metrics.as_ref().unwrap_or(&none);
    let (mut replicas, mut metric) = (0, String::new());
    let (mut statuses, mut first, mut unknown) = (Vec::new(), None, 0);
    for (number, spec) in specs.iter().enumerate() {
        let reading = look.observed.readings.get(number);
        match reading.ok_or_else(|| unsupported(spec)).and_then(|reading| ask(case, spec, reading)) {
            Ok(asked) => {
                look.outcome.metrics.push((Change::of(case.current, asked.replicas), Trouble::None));
                statuses.push(asked.status);
                if replicas == 0 || asked.replicas > replicas {
                    (replicas, metric) = (asked.replicas, asked.metric);
                }
            }
            Err(error) => {
                look.outcome.metrics.push((Change::None, error.trouble));
                look.warn(error.reason, error.message.clone());
                // One without a value has its place, as upstream's list has.
                statuses.push(MetricStatus::default());
                unknown += 1;
                first.get_or_insert(error);
            }
        }
    }
    let total = specs.len();
    let error = first.as_ref().map(|first| {
        format!("invalid metrics ({unknown} invalid out of {total}), first error is: {}", first.whole)
    });
    if let Some(first) = first.filter(|_| unknown >= total || replicas < case.current) {
        let message = format!("the HPA was unable to compute the replica count: {}", first.message);
        look.conditions.set("ScalingActive", "False", first.reason, message);
        return Evaluated { replicas: None, metric: String::new(), statuses: None, error };
    }
    let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
    look.conditions.set("ScalingActive", "True", "ValidMetricFound", message);
    Evaluated { replicas: Some(replicas), metric, statuses: Some(statuses), error }
}

fn unsupported(spec: &MetricSpec) -> Unknown {
    let message = format!("unknown metric source type {:?}", spec.type_);
    Unknown { reason: "InvalidMetricSourceType", whole: message.clone(), message, trouble: Trouble::Spec }
}

fn ask(case: &Case<'_>, spec: &MetricSpec, reading: &Reading) -> Result<Asked, Unknown> {
    let kind = spec.type_.clone();
    let of_pods = || match reading {
        Reading::Pods(samples) => samples.clone(),
        Reading::One(_) => Err("the metric is not one of pods".to_owned()),
    };
    let one = || match reading {
        Reading::One(value) => value.clone(),
        Reading::Pods(_) => Err("the metric is one of pods".to_owned()),
    };
    let empty = MetricStatus { type_: kind, ..MetricStatus::default() };
    if let Some(source) = &spec.resource {
        let fail = failing(
            "FailedGetResourceMetric",
            format!("failed to get {} resource metric value", source.name),
        );
        let (proposal, metric) =
            resource(case, of_pods(), &source.target, &source.name, None).map_err(fail)?;
        let current = value(&proposal, Shown::Average);
        let status = ResourceMetricStatus { name: source.name.clone(), current };
        return Ok(asked(proposal, metric, MetricStatus { resource: Some(status), ..empty }));
    }
    if let Some(source) = &spec.container_resource {
        let what = format!("failed to get {} container metric value", source.container);
        let (proposal, metric) =
            resource(case, of_pods(), &source.target, &source.name, Some(&source.container))
                .map_err(failing("FailedGetContainerResourceMetric", what))?;
        let status = ContainerResourceMetricStatus {
            name: source.name.clone(),
            container: source.container.clone(),
            current: value(&proposal, Shown::Average),
        };
        return Ok(asked(proposal, metric, MetricStatus { container_resource: Some(status), ..empty }));
    }
    if let Some(source) = &spec.pods {
        let fail = failing("FailedGetPodsMetric", "failed to get pods metric value".to_owned());
        let aim = source.target.average_value.as_ref().map(milli).unwrap_or_default();
        let proposal = case.by_metric(of_pods(), aim, &source.metric.name).map_err(fail)?;
        let current = value(&proposal, Shown::Average);
        let status = PodsMetricStatus { metric: source.metric.clone(), current };
        let metric = format!("pods metric {}", source.metric.name);
        return Ok(asked(proposal, metric, MetricStatus { pods: Some(status), ..empty }));
    }
    if let Some(source) = &spec.object {
        let object = &source.described_object;
        let fail = failing("FailedGetObjectMetric", "failed to get object metric value".to_owned());
        let name = &source.metric.name;
        let (proposal, shown, metric) = match (&source.target.value, &source.target.average_value) {
            (Some(aim), _) if source.target.type_ == "Value" => {
                let proposal = one().and_then(|usage| case.by_value(usage, milli(aim))).map_err(fail)?;
                (proposal, Shown::Value, format!("{} metric {name}", object.kind))
            }
            (_, Some(aim)) if source.target.type_ == "AverageValue" => {
                let usage = one().map_err(|error| format!("failed to get {name} object metric: {error}"));
                let proposal = case.by_share(usage.map_err(fail)?, milli(aim));
                (proposal, Shown::Average, external(&source.metric))
            }
            _ => {
                let text = "invalid object metric source: neither a value target nor an average value target was set";
                return Err(fail(text.to_owned()));
            }
        };
        let current = value(&proposal, shown);
        let status =
            ObjectMetricStatus { metric: source.metric.clone(), current, described_object: object.clone() };
        return Ok(asked(proposal, metric, MetricStatus { object: Some(status), ..empty }));
    }
    if let Some(source) = &spec.external {
        let name = &source.metric.name;
        let fail = failing("FailedGetExternalMetric", format!("failed to get {name} external metric value"));
        let (proposal, shown) = if let Some(aim) = &source.target.average_value {
            let usage = one().map_err(|error| format!("failed to get {name} external metric: {error}"));
            (case.by_share(usage.map_err(fail)?, milli(aim)), Shown::Average)
        } else if let Some(aim) = &source.target.value {
            let proposal = one().and_then(|usage| case.by_value(usage, milli(aim)));
            let proposal = proposal.map_err(|error| format!("failed to get external metric {name}: {error}"));
            (proposal.map_err(fail)?, Shown::Value)
        } else {
            let text =
                "invalid external metric source: neither a value target nor an average value target was set";
            return Err(fail(text.to_owned()));
        };
        let current = value(&proposal, shown);
        let status = ExternalMetricStatus { metric: source.metric.clone(), current };
        let metric = external(&source.metric);
        return Ok(asked(proposal, metric, MetricStatus { external: Some(status), ..empty }));
    }
    Err(unsupported(spec))
}

fn asked(proposal: Proposal, metric: String, status: MetricStatus) -> Asked {
    Asked { replicas: proposal.replicas, metric, status }
}

fn failing(reason: &'static str, what: String) -> impl FnOnce(String) -> Unknown {
    move |message| {
        let is_spec = message.starts_with("invalid ");
        let trouble = if is_spec { Trouble::Spec } else { Trouble::Internal };
        Unknown { reason, whole: format!("{what}: {message}"), message, trouble }
    }
}

fn resource(
    case: &Case<'_>,
    samples: Result<Samples, String>,
    target: &MetricTarget,
    name: &str,
    container: Option<&str>,
) -> Result<(Proposal, String), String> {
    if let Some(aim) = &target.average_value {
        let proposal = case.by_amount(samples, milli(aim), name);
        let proposal = proposal.map_err(|error| format!("failed to get {name} usage: {error}"))?;
        return Ok((proposal, format!("{name} resource")));
    }
    let Some(aim) = target.average_utilization else {
        let text = "invalid resource metric source: neither an average utilization target nor an average value (usage) \
                    target was set";
        return Err(text.to_owned());
    };
    let proposal = case.by_utilization(samples, aim, name, container);
    let proposal = proposal.map_err(|error| format!("failed to get {name} utilization: {error}"))?;
    let of = if container.is_some() { "container resource" } else { "resource" };
    Ok((proposal, format!("{name} {of} utilization (percentage of request)")))
}

/// How the value stands in the status.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Value,
    Average,
}

fn value(proposal: &Proposal, shown: Shown) -> MetricValueStatus {
    let usage = Some(quantity(proposal.usage));
    MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: usage.clone().filter(|_| shown == Shown::Average),
        value: usage.filter(|_| shown == Shown::Value),
    }
}

fn external(metric: &MetricIdentifier) -> String {
    let selector = metric.selector.as_ref().map_or("nil".to_owned(), |selector| {
        let labels = selector.match_labels.iter().flatten().map(|(name, value)| format!("{name}:{value}"));
        let labels: Vec<_> = labels.collect();
        format!("&LabelSelector{{MatchLabels:map[string]string{{{}}},}}", labels.join(","))
    });
    format!("external metric {}({selector})", metric.name)
}
