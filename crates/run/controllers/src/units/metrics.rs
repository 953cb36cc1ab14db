//! Asks the APIs of metrics: metrics.k8s.io, custom.metrics.k8s.io, external.metrics.k8s.io
//! (kube-controller-manager: pkg/controller/podautoscaler/metrics/client.go, v1.37).

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier, MetricSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use plimsoll_meta::quantity::Quantity;
use plimsoll_reconcile::autoscale::{Reading, Sample, Samples};
use serde_json::Value;

use super::scale::get;
use crate::kinds::Kinds;

/// Over how long a custom metric was taken that does not say.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// The versions of custom metrics, the newest first.
const CUSTOM: [&str; 2] = ["/apis/custom.metrics.k8s.io/v1beta2", "/apis/custom.metrics.k8s.io/v1beta1"];

/// The APIs of metrics.
pub(super) struct Metrics {
    client: kube::Client,
    kinds: Arc<Kinds>,
}

impl Metrics {
    pub(super) fn new(client: kube::Client, kinds: Arc<Kinds>) -> Self {
        Self { client, kinds }
    }

    /// What a metric says now; `selector` selects the target's pods.
    pub(super) async fn read(&self, namespace: &str, selector: &str, spec: &MetricSpec) -> Reading {
        if let Some(source) = &spec.resource {
            return Reading::Pods(self.resource(namespace, selector, &source.name, None).await);
        }
        if let Some(source) = &spec.container_resource {
            let container = Some(source.container.as_str());
            return Reading::Pods(self.resource(namespace, selector, &source.name, container).await);
        }
        if let Some(source) = &spec.pods {
            return Reading::Pods(self.of_pods(namespace, selector, &source.metric).await);
        }
        if let Some(source) = &spec.object {
            let object = &source.described_object;
            let found = self.of_object(namespace, object, &source.metric).await;
            return Reading::One(found.map_err(|error| {
                let (metric, kind, name) = (&source.metric.name, &object.kind, &object.name);
                format!("unable to get metric {metric}: {error} on {kind} {namespace}/{name}")
            }));
        }
        match &spec.external {
            Some(source) => Reading::One(self.external(namespace, &source.metric).await),
            None => Reading::One(Err(format!("unknown metric source type {:?}", spec.type_))),
        }
    }

    async fn resource(
        &self,
        namespace: &str,
        selector: &str,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Samples, String> {
        let selector = encode(selector);
        let path =
            format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}");
        let found = get(&self.client, &path).await;
        let found =
            found.map_err(|error| format!("unable to fetch metrics from resource metrics API: {error}"))?;
        let items = items(&found);
        if items.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        let mut samples = Samples::new();
        for item in items {
            let name = item["metadata"]["name"].as_str().unwrap_or_default();
            let used = item["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
            let value = match container {
                Some(container) => {
                    let of = used.iter().find(|one| one["name"] == container).ok_or_else(|| {
                        format!("container {container} not present in metrics for pod {namespace}/{name}")
                    })?;
                    usage(of, resource)
                }
                None => used.iter().map(|one| usage(one, resource)).sum(),
            };
            // A pod of which a part is not known is not known.
            if let Some(value) = value {
                let window =
                    item["window"].as_str().and_then(|text| plimsoll_meta::duration::parse(text).ok());
                let window = window.and_then(|window| SignedDuration::try_from(window).ok());
                let sample =
                    Sample { value, at: time(&item["timestamp"]), window: window.unwrap_or_default() };
                samples.insert(name.to_owned(), sample);
            }
        }
        Ok(samples)
    }

    async fn of_pods(
        &self,
        namespace: &str,
        selector: &str,
        metric: &MetricIdentifier,
    ) -> Result<Samples, String> {
        let path = format!(
            "/namespaces/{namespace}/pods/*/{}?labelSelector={}&metricLabelSelector={}",
            encode(&metric.name),
            encode(selector),
            encode(&text(metric.selector.as_ref()))
        );
        let found = self.custom(&path).await?;
        let items = items(&found);
        if items.is_empty() {
            return Err("no metrics returned from custom metrics API".to_owned());
        }
        let sample = |item: &Value| {
            let window = item["windowSeconds"].as_i64().map_or(WINDOW, SignedDuration::from_secs);
            Sample { value: milli(&item["value"]).unwrap_or_default(), at: time(&item["timestamp"]), window }
        };
        let named = |item: &Value| item["describedObject"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(items.iter().map(|item| (named(item), sample(item))).collect())
    }

    async fn of_object(
        &self,
        namespace: &str,
        object: &CrossVersionObjectReference,
        metric: &MetricIdentifier,
    ) -> Result<i64, String> {
        let metric_name = encode(&metric.name);
        let place = if object.kind == "Namespace" && object.api_version.as_deref() == Some("v1") {
            format!("/namespaces/{}/metrics/{metric_name}", object.name)
        } else {
            let version = object.api_version.as_deref().unwrap_or("v1");
            let kind = self.kinds.find(version, &object.kind).ok_or_else(|| {
                let group = version.split_once('/').map(|(group, _)| group).unwrap_or_default();
                format!("no matches for kind {:?} in group {group:?}", object.kind)
            })?;
            let dot_group = version.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
            let plural = &kind.resource.plural;
            format!("/namespaces/{namespace}/{plural}{dot_group}/{}/{metric_name}", object.name)
        };
        let selector = encode(&text(metric.selector.as_ref()));
        let found = self.custom(&format!("{place}?metricLabelSelector={selector}")).await?;
        let first = items(&found).first().and_then(|item| milli(&item["value"]));
        first.ok_or_else(|| "no metrics returned from custom metrics API".to_owned())
    }

    /// Asks the newest version that is there.
    async fn custom(&self, path: &str) -> Result<Value, String> {
        let newest = get(&self.client, &format!("{}{path}", CUSTOM[0])).await;
        let found = match newest {
            Ok(found) => Ok(found),
            Err(error) => get(&self.client, &format!("{}{path}", CUSTOM[1])).await.map_err(|_| error),
        };
        found.map_err(|error| format!("unable to fetch metrics from custom metrics API: {error}"))
    }

    async fn external(&self, namespace: &str, metric: &MetricIdentifier) -> Result<i64, String> {
        let selector = text(metric.selector.as_ref());
        let place = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}");
        let path = format!("{place}/{}?labelSelector={}", encode(&metric.name), encode(&selector));
        let found = match get(&self.client, &path).await {
            Ok(found) if items(&found).is_empty() => {
                Err("no metrics returned from external metrics API".to_owned())
            }
            Ok(found) => Ok(items(&found).iter().filter_map(|item| milli(&item["value"])).sum()),
            Err(error) => Err(format!("unable to fetch metrics from external metrics API: {error}")),
        };
        found.map_err(|error| {
            format!("unable to get external metric {namespace}/{}/{selector}: {error}", metric.name)
        })
    }
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn usage(container: &Value, resource: &str) -> Option<i64> {
    milli(&container["usage"][resource])
}

fn milli(value: &Value) -> Option<i64> {
    value.as_str()?.parse::<Quantity>().ok().map(|quantity| quantity.milli())
}

fn time(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A selector as it stands in queries.
fn text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return String::new() };
    let labels = selector.match_labels.iter().flatten().map(|(name, value)| format!("{name}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.clone().unwrap_or_default().join(",");
        match one.operator.as_str() {
            "In" => format!("{} in ({values})", one.key),
            "NotIn" => format!("{} notin ({values})", one.key),
            "Exists" => one.key.clone(),
            _ => format!("!{}", one.key),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    #[test]
    fn selectors_stand_in_queries() {
        let one = |operator: &str, values: &[&str]| LabelSelectorRequirement {
            key: "k".to_owned(),
            operator: operator.to_owned(),
            values: Some(values.iter().map(|&value| value.to_owned()).collect()),
        };
        let selector = LabelSelector {
            match_labels: Some([("a".to_owned(), "b".to_owned())].into()),
            match_expressions: Some(vec![
                one("In", &["x", "y"]),
                one("NotIn", &["z"]),
                one("Exists", &[]),
                one("DoesNotExist", &[]),
            ]),
        };
        assert_eq!(text(Some(&selector)), "a=b,k in (x,y),k notin (z),k,!k");
    }
}
