//! Measured and wanted values in one cell.

use serde_json::Value;

use crate::access::Access;
use crate::column;
use crate::quantities;

/// `cpu: 12%/80%, 100/1k`, two metrics at most.
pub(super) fn shown(object: &Value) -> String {
    let current = object.list("status.currentMetrics");
    let metrics = object.list("spec.metrics").iter().enumerate();
    let texts: Vec<String> =
        metrics.map(|(at, metric)| one(metric, current.get(at).unwrap_or(&Value::Null))).collect();
    column::at_most(&texts, 2, ", ", "<none>")
}

fn one(metric: &Value, current: &Value) -> String {
    let (source, named) = match metric.text("type") {
        "External" => ("external", false),
        "Object" => ("object", false),
        "Pods" => ("pods", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let Some(spec) = metric.at(source) else { return "<unknown type>".to_owned() };
    let status = current.at(source);
    let text = match (named, spec.has("target.averageValue")) {
        (true, false) => utilization(spec, status),
        (false, false) => amounts(spec, status, "value"),
        (_, true) => amounts(spec, status, "averageValue"),
    };
    match () {
        () if named => format!("{}: {text}", spec.text("name")),
        () if spec.has("target.averageValue") && source != "pods" => format!("{text} (avg)"),
        () => text,
    }
}

fn amounts(spec: &Value, status: Option<&Value>, field: &str) -> String {
    let current = status.and_then(|status| status.at("current")).and_then(|current| current.at(field));
    let shown = current.map_or_else(|| "<unknown>".to_owned(), |value| quantities::shown(Some(value)));
    format!("{shown}/{}", quantities::shown(spec.at("target").and_then(|target| target.at(field))))
}

fn utilization(spec: &Value, status: Option<&Value>) -> String {
    let percent = |value: Option<i64>, otherwise: &str| {
        value.map_or(otherwise.to_owned(), |number| format!("{number}%"))
    };
    let current = status.and_then(|status| status.int("current.averageUtilization"));
    format!("{}/{}", percent(current, "<unknown>"), percent(spec.int("target.averageUtilization"), "<auto>"))
}
