//! ComponentStatus: the old way to ask whether the control plane is well.

use serde_json::Value;

use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::{Kind, Storage};
use crate::verbs::{Verb, Verbs};

pub(super) const COMPONENT_STATUS: Kind = Kind {
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short_names: &["cs"],
    namespaced: false,
    verbs: Verbs::of(&[Verb::Get, Verb::List]),
    definition: "io.k8s.api.core.v1.ComponentStatus",
    storage: Storage::Virtual,
    deprecation: "v1 ComponentStatus is deprecated in v1.19+",
    columns: &[
        column::NAME,
        Column::text("Status", "whether the component is healthy", |object, _| {
            match healthy(object).map(|condition| condition.text("status")) {
                None => "Unknown".into(),
                Some("True") => "Healthy".into(),
                Some(_) => "Unhealthy".into(),
            }
        }),
        Column::text("Message", "what the component says", |object, _| {
            healthy(object).map_or("", |condition| condition.text("message")).into()
        }),
        Column::text("Error", "why the component could not be asked", |object, _| {
            healthy(object).map_or("", |condition| condition.text("error")).into()
        }),
    ],
    ..Kind::BASE
};

fn healthy(object: &Value) -> Option<&Value> {
    object.list("conditions").iter().find(|condition| condition.text("type") == "Healthy")
}
