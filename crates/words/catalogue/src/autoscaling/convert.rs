//! Between `autoscaling/v1` and `v2`: what `v1` has no fields for stands in annotations, as JSON
//! in the field names of old (upstream: `pkg/apis/autoscaling/v1/conversion.go`).

use serde_json::{Map, Value, json};

use crate::access::{Access, Fill};

/// Annotation with all metrics but the utilization of the cpu.
pub(super) const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Sources of metrics: their name in `type`, their field, and the fields that differ.
const SOURCES: [(&str, &str); 5] = [
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("Pods", "pods"),
    ("Object", "object"),
    ("External", "external"),
];

/// The metric that `targetCPUUtilizationPercentage` stands for.
pub(super) fn cpu_metric(percent: i64) -> Value {
    json!({
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
    })
}

/// A `v2` object as `v1` shows it.
pub(crate) fn to_v1(mut object: Value) -> Value {
    object.put("apiVersion", "autoscaling/v1");
    let metrics = take(&mut object, "spec", "metrics");
    let behavior = take(&mut object, "spec", "behavior");
    let current = take(&mut object, "status", "currentMetrics");
    let conditions = take(&mut object, "status", "conditions");
    let mut others = Vec::new();
    for metric in elements(&metrics) {
        match cpu_percent(metric, "target") {
            Some(percent) => put_in(&mut object, "spec", "targetCPUUtilizationPercentage", percent),
            None => others.push(rename(metric, old_source)),
        }
    }
    let current_percent = elements(&current).iter().find_map(|metric| cpu_percent(metric, "current"));
    if let Some(percent) = current_percent {
        put_in(&mut object, "status", "currentCPUUtilizationPercentage", percent);
    }
    if let Some(status) = object.inside("status") {
        status.fill("currentReplicas", 0);
        status.fill("desiredReplicas", 0);
    }
    let current: Vec<Value> = elements(&current).iter().map(|metric| rename(metric, old_status)).collect();
    annotate(&mut object, METRICS, Value::Array(others));
    annotate(&mut object, CURRENT_METRICS, Value::Array(current));
    annotate(&mut object, CONDITIONS, conditions.unwrap_or_default());
    annotate(&mut object, BEHAVIOR, behavior.as_ref().map(capitalized).unwrap_or_default());
    object
}

/// A `v1` object as `v2` shows it.
pub(crate) fn to_v2(mut object: Value) -> Value {
    object.put("apiVersion", "autoscaling/v2");
    let percent =
        take(&mut object, "spec", "targetCPUUtilizationPercentage").and_then(|value| value.as_i64());
    take(&mut object, "status", "currentCPUUtilizationPercentage");
    let others = annotation(&mut object, METRICS);
    let current = annotation(&mut object, CURRENT_METRICS);
    let conditions = annotation(&mut object, CONDITIONS);
    let behavior = annotation(&mut object, BEHAVIOR);
    let mut metrics: Vec<Value> = elements(&others).iter().map(|metric| rename(metric, new_source)).collect();
    metrics.extend(percent.map(cpu_metric));
    if !metrics.is_empty() {
        put_in(&mut object, "spec", "metrics", metrics);
    }
    if let Some(behavior) = behavior {
        put_in(&mut object, "spec", "behavior", uncapitalized(&behavior));
    }
    let current: Vec<Value> = elements(&current).iter().map(|metric| rename(metric, new_status)).collect();
    if !current.is_empty() {
        put_in(&mut object, "status", "currentMetrics", current);
    }
    if let Some(conditions) = conditions {
        put_in(&mut object, "status", "conditions", conditions);
    }
    object
}

fn take(object: &mut Value, parent: &str, field: &str) -> Option<Value> {
    object.inside(parent)?.as_object_mut()?.remove(field).filter(|value| !value.is_null())
}

fn put_in(object: &mut Value, parent: &str, field: &str, value: impl Into<Value>) {
    if let Some(parent) = object.object(parent) {
        parent.put(field, value);
    }
}

fn elements(list: &Option<Value>) -> &[Value] {
    list.as_ref().and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Sets an annotation, or takes it away when there is nothing to tell.
fn annotate(object: &mut Value, name: &str, value: Value) {
    let is_empty = match &value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        other => other.is_null(),
    };
    if is_empty {
        if let Some(annotations) = object.inside("metadata.annotations") {
            annotations.drop_key(name);
        }
    } else if let Some(annotations) =
        object.object("metadata").and_then(|metadata| metadata.object("annotations"))
    {
        annotations.put(name, value.to_string());
    }
}

fn annotation(object: &mut Value, name: &str) -> Option<Value> {
    let annotations = object.inside("metadata.annotations")?.as_object_mut()?;
    let text = annotations.remove(name)?;
    if annotations.is_empty() {
        object.inside("metadata")?.drop_key("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn cpu_percent(metric: &Value, part: &str) -> Option<i64> {
    let resource = metric
        .at("resource")
        .filter(|found| metric.text("type") == "Resource" && found.text("name") == "cpu")?;
    resource.at(part)?.int("averageUtilization")
}

/// Rewrites the source of a metric, whichever it has.
fn rename(metric: &Value, change: fn(&str, &Value) -> Value) -> Value {
    let mut renamed = json!({"type": metric.text("type")});
    for (kind, field) in SOURCES {
        if let Some(source) = metric.at(field) {
            renamed.put(field, change(kind, source));
        }
    }
    renamed
}

/// An object of those entries that have a value.
fn object(entries: &[(&str, Option<&Value>)]) -> Value {
    let present =
        entries.iter().filter_map(|(key, value)| value.map(|value| ((*key).to_owned(), value.clone())));
    Value::Object(present.collect::<Map<String, Value>>())
}

fn old_source(kind: &str, new: &Value) -> Value {
    let target = |field: &str| new.at("target").and_then(|target| target.at(field));
    let (name, selector) = (new.at("metric.name"), new.at("metric.selector"));
    match kind {
        "Resource" | "ContainerResource" => object(&[
            ("name", new.at("name")),
            ("container", new.at("container")),
            ("targetAverageUtilization", target("averageUtilization")),
            ("targetAverageValue", target("averageValue")),
        ]),
        "Pods" => object(&[
            ("metricName", name),
            ("selector", selector),
            ("targetAverageValue", target("averageValue")),
        ]),
        "Object" => object(&[
            ("target", new.at("describedObject")),
            ("metricName", name),
            ("selector", selector),
            ("targetValue", target("value").or(Some(&json!("0")))),
            ("averageValue", target("averageValue")),
        ]),
        _ => object(&[
            ("metricName", name),
            ("metricSelector", selector),
            ("targetValue", target("value")),
            ("targetAverageValue", target("averageValue")),
        ]),
    }
}

fn new_source(kind: &str, old: &Value) -> Value {
    let (average, value) = (old.at("targetAverageValue"), old.at("targetValue"));
    let target = |name: &str, entries: &[(&str, Option<&Value>)]| {
        let mut target = object(entries);
        target.put("type", name);
        target
    };
    match kind {
        "Resource" | "ContainerResource" => {
            let utilization = old.at("targetAverageUtilization");
            let name = if utilization.is_some() { "Utilization" } else { "AverageValue" };
            let target = target(name, &[("averageUtilization", utilization), ("averageValue", average)]);
            object(&[("name", old.at("name")), ("container", old.at("container")), ("target", Some(&target))])
        }
        "Pods" => {
            let target = target("AverageValue", &[("averageValue", average)]);
            object(&[("metric", Some(&metric(old, "selector"))), ("target", Some(&target))])
        }
        "Object" => {
            let average = old.at("averageValue");
            let name = if average.is_some() { "AverageValue" } else { "Value" };
            let value = value.filter(|_| average.is_none());
            let target = target(name, &[("value", value), ("averageValue", average)]);
            object(&[
                ("describedObject", old.at("target")),
                ("metric", Some(&metric(old, "selector"))),
                ("target", Some(&target)),
            ])
        }
        _ => {
            let name = if value.is_some() { "Value" } else { "AverageValue" };
            let target = target(name, &[("value", value), ("averageValue", average)]);
            object(&[("metric", Some(&metric(old, "metricSelector"))), ("target", Some(&target))])
        }
    }
}

fn metric(old: &Value, selector: &str) -> Value {
    object(&[("name", old.at("metricName")), ("selector", old.at(selector))])
}

fn old_status(kind: &str, new: &Value) -> Value {
    let current = |field: &str| new.at("current").and_then(|current| current.at(field));
    let (name, selector) = (new.at("metric.name"), new.at("metric.selector"));
    match kind {
        "Resource" | "ContainerResource" => object(&[
            ("name", new.at("name")),
            ("container", new.at("container")),
            ("currentAverageUtilization", current("averageUtilization")),
            ("currentAverageValue", current("averageValue")),
        ]),
        "Pods" => object(&[
            ("metricName", name),
            ("selector", selector),
            ("currentAverageValue", current("averageValue")),
        ]),
        "Object" => object(&[
            ("target", new.at("describedObject")),
            ("metricName", name),
            ("selector", selector),
            ("currentValue", current("value").or(Some(&json!("0")))),
            ("averageValue", current("averageValue")),
        ]),
        _ => object(&[
            ("metricName", name),
            ("metricSelector", selector),
            ("currentValue", current("value")),
            ("currentAverageValue", current("averageValue")),
        ]),
    }
}

fn new_status(kind: &str, old: &Value) -> Value {
    let average = old.at("currentAverageValue");
    match kind {
        "Resource" | "ContainerResource" => {
            let utilization = old.at("currentAverageUtilization");
            let current = object(&[("averageUtilization", utilization), ("averageValue", average)]);
            object(&[
                ("name", old.at("name")),
                ("container", old.at("container")),
                ("current", Some(&current)),
            ])
        }
        "Pods" => object(&[
            ("metric", Some(&metric(old, "selector"))),
            ("current", Some(&object(&[("averageValue", average)]))),
        ]),
        "Object" => {
            let current =
                object(&[("value", old.at("currentValue")), ("averageValue", old.at("averageValue"))]);
            object(&[
                ("describedObject", old.at("target")),
                ("metric", Some(&metric(old, "selector"))),
                ("current", Some(&current)),
            ])
        }
        _ => {
            let current = object(&[("value", old.at("currentValue")), ("averageValue", average)]);
            object(&[("metric", Some(&metric(old, "metricSelector"))), ("current", Some(&current))])
        }
    }
}

/// The annotation of the behavior spells field names with a capital.
fn capitalized(value: &Value) -> Value {
    with_keys(value, |first| first.to_ascii_uppercase())
}

fn uncapitalized(value: &Value) -> Value {
    with_keys(value, |first| first.to_ascii_lowercase())
}

fn with_keys(value: &Value, change: fn(&char) -> char) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| {
                let mut letters = key.chars();
                let first = letters.next().map(|first| change(&first));
                (first.into_iter().chain(letters).collect(), with_keys(value, change))
            });
            Value::Object(entries.collect())
        }
        Value::Array(items) => items.iter().map(|item| with_keys(item, change)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_survives_the_way_through_version_1() {
        let object = json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {
                "minReplicas": 1,
                "maxReplicas": 5,
                "behavior": {"scaleDown": {
                    "selectPolicy": "Max",
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                }},
                "metrics": [
                    {"type": "Pods", "pods": {
                        "metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "10"},
                    }},
                    {"type": "Object", "object": {
                        "describedObject": {"kind": "Service", "name": "web", "apiVersion": "v1"},
                        "metric": {"name": "hits"}, "target": {"type": "Value", "value": "2k"},
                    }},
                    {"type": "External", "external": {
                        "metric": {"name": "queue", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "AverageValue", "averageValue": "30"},
                    }},
                    {"type": "Resource", "resource": {
                        "name": "memory", "target": {"type": "Utilization", "averageUtilization": 70},
                    }},
                    cpu_metric(50),
                ],
            },
            "status": {
                "currentReplicas": 2,
                "desiredReplicas": 3,
                "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "current": {"averageUtilization": 40, "averageValue": "400m"},
                }}],
            },
        });
        let old = to_v1(object.clone());
        assert_eq!(old.int("spec.targetCPUUtilizationPercentage"), Some(50));
        assert_eq!(old.int("status.currentCPUUtilizationPercentage"), Some(40));
        assert!(
            old.map("metadata.annotations")[BEHAVIOR].as_str().is_some_and(|text| text.contains("ScaleDown"))
        );
        assert_eq!(to_v2(old), object);
    }

    #[test]
    fn the_simple_form_becomes_a_metric() {
        let old = json!({"apiVersion": "autoscaling/v1", "spec": {"targetCPUUtilizationPercentage": 60}});
        assert_eq!(
            to_v2(old),
            json!({"apiVersion": "autoscaling/v2", "spec": {"metrics": [cpu_metric(60)]}})
        );
    }
}
