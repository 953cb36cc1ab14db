//! The group `scheduling.k8s.io`.

use serde_json::Value;

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage};
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    definition: "io.k8s.api.scheduling.v1.PriorityClass",
    storage: Storage::Stored {
        prefix: "/registry/priorityclasses",
        group: "scheduling.k8s.io",
        version: "v1",
    },
    columns: &[
        column::NAME,
        Column::integer("Value", "higher goes first", |object, _| object.count("value").into()),
        Column::boolean("Global-Default", "for pods that name no class", |object, _| {
            object.flag("globalDefault").into()
        }),
        column::AGE,
        Column::text("PreemptionPolicy", "whether others are pushed out", |object, _| {
            object.text("preemptionPolicy").into()
        })
        .wide(),
    ],
    generation: Generation::Content,
    strategy: &PriorityClass,
    ..Kind::BASE
}];

struct PriorityClass;

impl Strategy for PriorityClass {
    fn default(&self, object: &mut Value) {
        object.fill("preemptionPolicy", "PreemptLowerPriority");
        object.fill("value", 0);
    }
}
