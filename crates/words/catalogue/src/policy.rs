//! The group `policy`.

use serde_json::{Value, json};

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::names;
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    subresources: &[Subresource::status("PodDisruptionBudget")],
    definition: "io.k8s.api.policy.v1.PodDisruptionBudget",
    storage: Storage::Stored { prefix: "/registry/poddisruptionbudgets", group: "policy", version: "v1" },
    columns: &[
        column::NAME,
        Column::text("Min Available", "pods that must stay available", |object, _| {
            number_or_share(object, "spec.minAvailable")
        }),
        Column::text("Max Unavailable", "pods that may be unavailable", |object, _| {
            number_or_share(object, "spec.maxUnavailable")
        }),
        Column::integer("Allowed Disruptions", "pods that may be disrupted now", |object, _| {
            object.count("status.disruptionsAllowed").into()
        }),
        column::AGE,
    ],
    name_rule: names::path_segment,
    generation: Generation::Spec,
    unconditional_update: false,
    strategy: &PodDisruptionBudget,
    ..Kind::BASE
}];

struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn prepare_create(&self, object: &mut Value) {
        object.put(
            "status",
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
        );
    }
}

fn number_or_share(object: &Value, path: &str) -> Value {
    match object.at(path) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(number) => number.to_string().into(),
        None => "N/A".into(),
    }
}
