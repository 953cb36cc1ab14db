//! ReplicationControllers, the ancestors of ReplicaSets.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};

use super::stored;
use crate::access::{Access, Fill};
use crate::apps::workload;
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const REPLICATION_CONTROLLER: Kind = Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    subresources: &[Subresource::SCALE, Subresource::status("ReplicationController")],
    definition: "io.k8s.api.core.v1.ReplicationController",
    storage: stored("/registry/controllers"),
    columns: &[
        column::NAME,
        Column::integer("Desired", "wanted pods", |object, _| object.count("spec.replicas").into()),
        Column::integer("Current", "existing pods", |object, _| object.count("status.replicas").into()),
        Column::integer("Ready", "ready pods", |object, _| object.count("status.readyReplicas").into()),
        column::AGE,
        column::CONTAINERS,
        column::IMAGES,
        Column::text("Selector", "selector of the pods", |object, _| {
            column::labels(object.at("spec.selector")).into()
        })
        .wide(),
    ],
    generation: Generation::Spec,
    strategy: &ReplicationController,
    ..Kind::BASE
};

struct ReplicationController;

impl Strategy for ReplicationController {
    fn default(&self, object: &mut Value) {
        let labels = object.at("spec.template.metadata.labels").cloned();
        if let Some(spec) = object.object("spec") {
            spec.fill("replicas", 1);
            if spec.has("template") {
                default::template(spec);
            }
            if let (Some(labels), true) = (&labels, spec.map("selector").is_empty()) {
                spec.put("selector", labels.clone());
            }
        }
        if let (Some(labels), true) = (labels, object.map("metadata.labels").is_empty())
            && let Some(metadata) = object.object("metadata")
        {
            metadata.put("labels", labels);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"replicas": 0}));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
        report.not_negative(spec, "minReadySeconds", &path);
        if spec.map("selector").is_empty() {
            report.required(&path.child("selector"), "");
        }
        report.not_negative(spec, "replicas", &path);
        if !spec.has("template") {
            report.required(&path.child("template"), "");
            return report.into_errors();
        }
        let labels = spec.map("template.metadata.labels");
        if !spec.map("selector").iter().all(|(key, value)| labels.get(key) == Some(value)) {
            let at = path.child("template").child("metadata").child("labels");
            report.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
        }
        workload::check_template(spec, "ReplicationController", &path, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, _old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        match subresource {
            Some("status") => workload::check_counts(new, STATUS_COUNTS, STATUS_PARTS),
            _ => self.validate(new),
        }
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.replicas", object.count("status.replicas").to_string())]
    }
}

const STATUS_COUNTS: &[&str] =
    &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];

const STATUS_PARTS: &[(&str, &str, &str)] = &[
    ("fullyLabeledReplicas", "replicas", "status.replicas"),
    ("readyReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "readyReplicas", "readyReplicas"),
];
