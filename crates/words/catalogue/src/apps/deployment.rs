//! Deployments.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};

use super::{BASE, stored, workload};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
use crate::report::Report;
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

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
        report.not_negative(spec, "replicas", &path);
        workload::check_selector(spec, "deployment", &path, &mut report);
        workload::check_valid(spec, "invalid label selector", &path, &mut report);
        workload::check_match(spec, &path, &mut report);
        workload::check_template(spec, "ReplicaSet", &path, &mut report);
        check_strategy(spec.at("strategy").unwrap_or(&null), &path.child("strategy"), &mut report);
        report.not_negative(spec, "minReadySeconds", &path);
        report.not_negative(spec, "revisionHistoryLimit", &path);
        report.not_negative(spec, "progressDeadlineSeconds", &path);
        if let Some(deadline) = spec.int("progressDeadlineSeconds")
            && deadline <= spec.count("minReadySeconds")
        {
            let at = path.child("progressDeadlineSeconds");
            report.invalid(&at, deadline, "must be greater than minReadySeconds");
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        if subresource == Some("status") {
            return workload::check_status(new, old, STATUS_COUNTS, STATUS_PARTS);
        }
        let mut report = Report::new();
        report.extend(self.validate(new));
        workload::check_selector_kept(new, old, &mut report);
        report.into_errors()
    }
}

const STATUS_COUNTS: &[&str] = &[
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "collisionCount",
];

const STATUS_PARTS: &[(&str, &str, &str)] = &[
    ("updatedReplicas", "replicas", "status.replicas"),
    ("readyReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "readyReplicas", "readyReplicas"),
];

fn check_strategy(strategy: &Value, path: &Path, report: &mut Report) {
    let at = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.at("rollingUpdate")) {
        ("Recreate", Some(_)) => {
            report.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'")
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => report.required(&at, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(rolling)) => check_rolling(rolling, &at, report),
        _ => report.not_supported(path, strategy.clone(), &["Recreate", "RollingUpdate"]),
    }
}

fn check_rolling(rolling: &Value, path: &Path, report: &mut Report) {
    let null = Value::Null;
    let unavailable = rolling.at("maxUnavailable").unwrap_or(&null);
    let at = path.child("maxUnavailable");
    workload::check_number_or_percent(unavailable, &at, report);
    workload::check_number_or_percent(
        rolling.at("maxSurge").unwrap_or(&null),
        &path.child("maxSurge"),
        report,
    );
    if workload::amount(Some(unavailable)) == 0 && workload::amount(rolling.at("maxSurge")) == 0 {
        report.invalid(&at, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
    }
    workload::check_at_most_all(unavailable, &at, report);
}
