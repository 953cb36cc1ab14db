//! Deployments.

use serde_json::Value;

use super::{BASE, stored};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
use crate::strategy::Strategy;

pub(super) const DEPLOYMENT: Kind = Kind {
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[Subresource::SCALE, Subresource::status("Deployment")],
    definition: "io.k8s.api.apps.v1.Deployment",
    storage: stored("/registry/deployments"),
    columns: &[
        column::NAME,
        Column::text("Ready", "ready pods, of all that are wanted", |object, _| {
            format!("{}/{}", object.count("status.readyReplicas"), object.count("spec.replicas")).into()
        }),
        Column::text("Up-to-date", "pods of the newest template", |object, _| {
            object.count("status.updatedReplicas").into()
        }),
        Column::text("Available", "pods that have been ready for long enough", |object, _| {
            object.count("status.availableReplicas").into()
        }),
        column::AGE,
        column::CONTAINERS,
        column::IMAGES,
        column::SELECTOR,
    ],
    generation: Generation::Spec,
    strategy: &Deployment,
    ..BASE
};

struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill("replicas", 1);
        spec.fill("revisionHistoryLimit", 10);
        spec.fill("progressDeadlineSeconds", 600);
        default::template(spec);
        if let Some(strategy) = spec.object("strategy") {
            strategy.fill_zero("type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = strategy.object("rollingUpdate")
            {
                rolling.fill("maxUnavailable", "25%");
                rolling.fill("maxSurge", "25%");
            }
        }
    }

    /// Deployments count a change of annotations, too.
    fn counts_generation(&self, new: &Value, old: &Value) -> bool {
        new.map("metadata.annotations") != old.map("metadata.annotations")
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }
}
