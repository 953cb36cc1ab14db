//! DaemonSets.

use serde_json::{Value, json};

use super::{BASE, stored};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
use crate::strategy::Strategy;

pub(super) const DAEMON_SET: Kind = Kind {
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[Subresource::status("DaemonSet")],
    definition: "io.k8s.api.apps.v1.DaemonSet",
    storage: stored("/registry/daemonsets"),
    columns: &[
        column::NAME,
        Column::integer("Desired", "nodes that should run the pod", |object, _| {
            object.count("status.desiredNumberScheduled").into()
        }),
        Column::integer("Current", "nodes that run the pod", |object, _| {
            object.count("status.currentNumberScheduled").into()
        }),
        Column::integer("Ready", "nodes with a ready pod", |object, _| {
            object.count("status.numberReady").into()
        }),
        Column::integer("Up-to-date", "nodes with a pod of the newest template", |object, _| {
            object.count("status.updatedNumberScheduled").into()
        }),
        Column::integer("Available", "nodes whose pod has been ready for long enough", |object, _| {
            object.count("status.numberAvailable").into()
        }),
        Column::text("Node Selector", "labels of the chosen nodes", |object, _| {
            column::labels(object.at("spec.template.spec.nodeSelector")).into()
        }),
        column::AGE,
        column::CONTAINERS,
        column::IMAGES,
        column::SELECTOR,
    ],
    generation: Generation::Spec,
    strategy: &DaemonSet,
    ..BASE
};

struct DaemonSet;

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill("revisionHistoryLimit", 10);
        default::template(spec);
        if let Some(strategy) = spec.object("updateStrategy") {
            strategy.fill_zero("type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = strategy.object("rollingUpdate")
            {
                rolling.fill("maxUnavailable", 1);
                rolling.fill("maxSurge", 0);
            }
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put(
            "status",
            json!({
                "currentNumberScheduled": 0,
                "desiredNumberScheduled": 0,
                "numberMisscheduled": 0,
                "numberReady": 0,
            }),
        );
    }
}
