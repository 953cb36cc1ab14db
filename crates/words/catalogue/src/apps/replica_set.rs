//! ReplicaSets.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};

use super::{BASE, stored, workload};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const REPLICA_SET: Kind = Kind {
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[Subresource::SCALE, Subresource::status("ReplicaSet")],
    definition: "io.k8s.api.apps.v1.ReplicaSet",
    storage: stored("/registry/replicasets"),
    columns: &[
        column::NAME,
        Column::integer("Desired", "wanted pods", |object, _| object.count("spec.replicas").into()),
        Column::integer("Current", "existing pods", |object, _| object.count("status.replicas").into()),
        Column::integer("Ready", "ready pods", |object, _| object.count("status.readyReplicas").into()),
        column::AGE,
        column::CONTAINERS,
        column::IMAGES,
        column::SELECTOR,
    ],
    generation: Generation::Spec,
    strategy: &ReplicaSet,
    ..BASE
};

struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill("replicas", 1);
        default::template(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"replicas": 0}));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
        report.not_negative(spec, "replicas", &path);
        report.not_negative(spec, "minReadySeconds", &path);
        workload::check_selector(spec, "deployment", &path, &mut report);
        workload::check_valid(spec, "invalid label selector", &path, &mut report);
        workload::check_match(spec, &path, &mut report);
        workload::check_template(spec, "ReplicaSet", &path, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        if subresource == Some("status") {
            return workload::check_counts(new, STATUS_COUNTS, STATUS_PARTS);
        }
        let mut report = Report::new();
        report.extend(self.validate(new));
        workload::check_selector_kept(new, old, &mut report);
        report.into_errors()
    }
}

const STATUS_COUNTS: &[&str] = &[
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "terminatingReplicas",
    "observedGeneration",
];

const STATUS_PARTS: &[(&str, &str, &str)] = &[
    ("fullyLabeledReplicas", "replicas", "status.replicas"),
    ("readyReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "readyReplicas", "readyReplicas"),
];
