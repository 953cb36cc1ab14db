//! The group `policy`.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};

use crate::access::{Access, Fill};
use crate::apps::workload;
use crate::column::{self, Column};
use crate::conditions;
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::label_selector;
use crate::names;
use crate::report::Report;
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
    name_rule: names::any,
    generation: Generation::Spec,
    unconditional_update: false,
    strategy: &PodDisruptionBudget,
    ..Kind::BASE
}];

struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
        if spec.has("minAvailable") && spec.has("maxUnavailable") {
            report.invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
        }
        for field in ["minAvailable", "maxUnavailable"] {
            if let Some(value) = spec.at(field) {
                workload::check_number_or_percent(value, &path.child(field), &mut report);
                workload::check_at_most_all(value, &path.child(field), &mut report);
            }
        }
        if let Some(selector) = spec.at("selector") {
            label_selector::check(selector, &path.child("selector"), &mut report);
        }
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        report.choice_if_set(spec, "unhealthyPodEvictionPolicy", &path, &policies);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, _old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        match subresource {
            Some("status") => {
                let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
                let mut report = Report::new();
                let path = Path::root("status").child("conditions");
                conditions::check(new.list("status.conditions"), &path, &mut report);
                report.extend(workload::check_counts(new, &counts, &[]));
                report.into_errors()
            }
            _ => self.validate(new),
        }
    }

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
