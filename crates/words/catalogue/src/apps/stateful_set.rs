//! StatefulSets.

use serde_json::{Value, json};

use super::{BASE, stored};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::core::volume;
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
use crate::strategy::Strategy;

pub(super) const STATEFUL_SET: Kind = Kind {
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    subresources: &[Subresource::SCALE, Subresource::status("StatefulSet")],
    definition: "io.k8s.api.apps.v1.StatefulSet",
    storage: stored("/registry/statefulsets"),
    columns: &[
        column::NAME,
        Column::text("Ready", "ready pods, of all that are wanted", |object, _| {
            format!("{}/{}", object.count("status.readyReplicas"), object.count("spec.replicas")).into()
        }),
        column::AGE,
        column::CONTAINERS,
        column::IMAGES,
    ],
    generation: Generation::Spec,
    strategy: &StatefulSet,
    ..BASE
};

struct StatefulSet;

impl Strategy for StatefulSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill_zero("podManagementPolicy", "OrderedReady");
        spec.fill("replicas", 1);
        spec.fill("revisionHistoryLimit", 10);
        default::template(spec);
        update_strategy(spec);
        if let Some(policy) = spec.object("persistentVolumeClaimRetentionPolicy") {
            policy.fill_zero("whenDeleted", "Retain");
            policy.fill_zero("whenScaled", "Retain");
        }
        spec.elements("volumeClaimTemplates").iter_mut().for_each(claim);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"replicas": 0, "availableReplicas": 0}));
    }
}

fn update_strategy(spec: &mut Value) {
    let Some(strategy) = spec.object("updateStrategy") else { return };
    if strategy.text("type").is_empty() {
        strategy.put("type", "RollingUpdate");
        strategy.object("rollingUpdate");
    }
    if strategy.text("type") == "RollingUpdate"
        && let Some(rolling) = strategy.inside("rollingUpdate")
    {
        rolling.fill("partition", 0);
        rolling.fill("maxUnavailable", 1);
    }
}

/// Claims in a stateful set carry their kind and an initial status.
fn claim(claim: &mut Value) {
    claim.fill_zero("apiVersion", "v1");
    claim.fill_zero("kind", "PersistentVolumeClaim");
    if let Some(spec) = claim.object("spec") {
        volume::claim_spec(spec);
    }
    if let Some(status) = claim.object("status") {
        status.fill_zero("phase", "Pending");
    }
}
