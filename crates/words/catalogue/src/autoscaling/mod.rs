//! The group `autoscaling`. Both versions are stored as `v2`.

pub(crate) mod convert;
mod targets;
mod validate;

use serde_json::{Value, json};

use plimsoll_meta::field::FieldError;

use crate::access::{Access, Fill};
use crate::apps::workload;
use crate::column::{self, Column};
use crate::kind::{Kind, Storage, Subresource};
use crate::report::Report;
use crate::strategy::Strategy;

/// The rows, the preferred version first.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        version: "v2",
        definition: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        columns: V2_COLUMNS,
        strategy: &AutoscalerV2,
        ..BASE
    },
    Kind {
        version: "v1",
        definition: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
        columns: V1_COLUMNS,
        strategy: &AutoscalerV1,
        ..BASE
    },
];

const BASE: Kind = Kind {
    group: "autoscaling",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[Subresource::status("HorizontalPodAutoscaler")],
    storage: Storage::Stored {
        prefix: "/registry/horizontalpodautoscalers",
        group: "autoscaling",
        version: "v2",
    },
    ..Kind::BASE
};

const V2_COLUMNS: &[Column] = &[
    column::NAME,
    REFERENCE,
    targets_column(|object, _| targets::shown(object).into()),
    MIN,
    MAX,
    REPLICAS,
    column::AGE,
];

const V1_COLUMNS: &[Column] = &[
    column::NAME,
    REFERENCE,
    targets_column(|object, _| targets::shown(&convert::to_v2(object.clone())).into()),
    MIN,
    MAX,
    REPLICAS,
    column::AGE,
];

const REFERENCE: Column = Column::text("Reference", "what is scaled", |object, _| {
    format!("{}/{}", object.text("spec.scaleTargetRef.kind"), object.text("spec.scaleTargetRef.name")).into()
});
const MIN: Column = Column::text("MinPods", "fewest pods", |object, _| {
    object.int("spec.minReplicas").map_or_else(|| "<unset>".into(), |count| count.to_string().into())
});
const MAX: Column = Column::text("MaxPods", "most pods", |object, _| object.count("spec.maxReplicas").into());
const REPLICAS: Column =
    Column::text("Replicas", "pods now", |object, _| object.count("status.currentReplicas").into());

const fn targets_column(cell: column::Cell) -> Column {
    Column::text("Targets", "measured and wanted values", cell)
}

struct AutoscalerV2;

impl Strategy for AutoscalerV2 {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill("minReplicas", 1);
        if spec.list("metrics").is_empty() {
            spec.put("metrics", json!([convert::cpu_metric(80)]));
        }
        if let Some(behavior) = spec.inside("behavior") {
            scaling_rules(behavior);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"desiredReplicas": 0}));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        validate::check(object, None, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        if subresource == Some("status") {
            return workload::check_counts(new, &["currentReplicas", "desiredReplicas"], &[]);
        }
        let mut report = Report::new();
        validate::check(new, Some(old), &mut report);
        report.into_errors()
    }
}

struct AutoscalerV1;

impl Strategy for AutoscalerV1 {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill("minReplicas", 1);
        let has_metrics = object.map("metadata.annotations").contains_key(convert::METRICS);
        if let (false, Some(spec)) = (has_metrics, object.inside("spec")) {
            spec.fill("targetCPUUtilizationPercentage", 80);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"currentReplicas": 0, "desiredReplicas": 0}));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        AutoscalerV2.validate(&convert::to_v2(object.clone()))
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        AutoscalerV2.validate_update(&convert::to_v2(new.clone()), &convert::to_v2(old.clone()), subresource)
    }
}

/// Without rules of its own a direction doubles (up) or drops (down) the pods in 15 s.
fn scaling_rules(behavior: &mut Value) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    if let Some(up) = behavior.object("scaleUp") {
        up.fill("stabilizationWindowSeconds", 0);
        up.fill("selectPolicy", "Max");
        up.fill("policies", json!([pods, percent]));
    }
    if let Some(down) = behavior.object("scaleDown") {
        down.fill("selectPolicy", "Max");
        down.fill("policies", json!([percent]));
    }
}
