//! DaemonSets.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};

use super::{BASE, stored, workload};
use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
use crate::report::Report;
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
        set_template_generation(object, 1);
    }

    /// An annotation counts the templates: older clients know the field that it stands for.
    fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        if subresource.is_some() {
            return;
        }
        let before = old.map("metadata.annotations").get(TEMPLATE_GENERATION);
        let before = before.and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(0);
        let changed = !access::same(new.at("spec.template"), old.at("spec.template"));
        set_template_generation(new, before + i64::from(changed));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
        if spec.has("selector") {
            workload::check_selector(spec, "daemonset", &path, &mut report);
        }
        workload::check_match(spec, &path, &mut report);
        workload::check_template(spec, "DaemonSet", &path, &mut report);
        report.not_negative(spec, "minReadySeconds", &path);
        check_strategy(
            spec.at("updateStrategy").unwrap_or(&null),
            &path.child("updateStrategy"),
            &mut report,
        );
        report.not_negative(spec, "revisionHistoryLimit", &path);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        if subresource == Some("status") {
            return workload::check_status(new, old, STATUS_COUNTS, &[]);
        }
        let mut report = Report::new();
        report.extend(self.validate(new));
        workload::check_selector_kept(new, old, &mut report);
        report.into_errors()
    }
}

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

const STATUS_COUNTS: &[&str] = &[
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

fn set_template_generation(object: &mut Value, generation: i64) {
    if let Some(annotations) = object.object("metadata").and_then(|metadata| metadata.object("annotations")) {
        annotations.put(TEMPLATE_GENERATION, generation.to_string());
    }
}

fn check_strategy(strategy: &Value, path: &Path, report: &mut Report) {
    match (strategy.text("type"), strategy.at("rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => report.required(&path.child("rollingUpdate"), ""),
        ("RollingUpdate", Some(rolling)) => check_rolling(rolling, &path.child("rollingUpdate"), report),
        _ => report.not_supported(path, strategy.clone(), &["RollingUpdate", "OnDelete"]),
    }
}

fn check_rolling(rolling: &Value, path: &Path, report: &mut Report) {
    let null = Value::Null;
    for field in ["maxUnavailable", "maxSurge"] {
        let value = rolling.at(field).unwrap_or(&null);
        workload::check_number_or_percent(value, &path.child(field), report);
        workload::check_at_most_all(value, &path.child(field), report);
    }
    let amount = |field| workload::amount(rolling.at(field));
    match (amount("maxUnavailable") != 0, amount("maxSurge") != 0) {
        (true, true) => {
            let message = "may not be set when maxUnavailable is non-zero";
            report.invalid(&path.child("maxSurge"), rolling["maxSurge"].clone(), message);
        }
        (false, false) => report.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}
