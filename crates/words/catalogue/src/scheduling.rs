//! The group `scheduling.k8s.io`.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage};
use crate::report::Report;
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
    generation: Generation::First,
    strategy: &PriorityClass,
    ..Kind::BASE
}];

struct PriorityClass;

impl Strategy for PriorityClass {
    fn default(&self, object: &mut Value) {
        object.fill("preemptionPolicy", "PreemptLowerPriority");
        object.fill("value", 0);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let name = object.text("metadata.name");
        if name.starts_with("system-") {
            if let Some(error) = system_class_error(object) {
                report.forbidden(
                    &Path::root("metadata").child("name"),
                    format!("priority class names with 'system-' prefix are reserved for system use only. error: {error}"),
                );
            }
        } else if object.count("value") > HIGHEST {
            let message = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            report.forbidden(&Path::root("value"), message);
        }
        report.choice_if_set(
            object,
            "preemptionPolicy",
            &Path::default(),
            &["PreemptLowerPriority", "Never"],
        );
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        if new.count("value") != old.count("value") {
            report.forbidden(&Path::root("value"), "may not be changed in an update.");
        }
        report.immutable(new, old, "preemptionPolicy");
        report.into_errors()
    }
}

/// The highest value of a class that is not the system's.
const HIGHEST: i64 = 1_000_000_000;

/// The classes of the system exist in just one form.
fn system_class_error(object: &Value) -> Option<String> {
    let name = object.text("metadata.name");
    let value = match name {
        "system-node-critical" => 2_000_001_000,
        "system-cluster-critical" => 2_000_000_000,
        _ => return Some(format!("{name} is not a known system priority class")),
    };
    if object.count("value") != value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    object.flag("globalDefault").then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
