//! ReplicaSets.

use serde_json::{Value, json};

use super::{BASE, stored};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
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
}
