//! ReplicationControllers, the ancestors of ReplicaSets.

use serde_json::{Value, json};

use super::stored;
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
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

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.replicas", object.count("status.replicas").to_string())]
    }
}
