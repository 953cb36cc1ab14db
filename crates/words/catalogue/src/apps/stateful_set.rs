//! StatefulSets.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};

use super::{BASE, stored, workload};
use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::core::volume;
use crate::kind::{Generation, Kind, Subresource};
use crate::object_meta;
use crate::pod_spec::default;
use crate::report::Report;
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
        spec.fill("serviceName", "");
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

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        check_spec(object.at("spec").unwrap_or(&null), &Path::root("spec"), &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        if subresource == Some("status") {
            return workload::check_status(new, old, STATUS_COUNTS, STATUS_PARTS);
        }
        let mut report = Report::new();
        report.extend(self.validate(new));
        let fixed = |object: &Value| {
            let mut spec = object["spec"].clone();
            CHANGEABLE.iter().for_each(|field| spec.drop_key(field));
            spec
        };
        if !access::same(Some(&fixed(new)), Some(&fixed(old))) {
            report.forbidden(
                &Path::root("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            );
        }
        report.into_errors()
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
    claim.put("apiVersion", "v1");
    claim.put("kind", "PersistentVolumeClaim");
    if let Some(spec) = claim.object("spec") {
        volume::claim_spec(spec);
    }
    if let Some(status) = claim.object("status") {
        status.fill_zero("phase", "Pending");
    }
}

const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

const STATUS_COUNTS: &[&str] = &[
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
];

const STATUS_PARTS: &[(&str, &str, &str)] = &[
    ("readyReplicas", "replicas", "status.replicas"),
    ("currentReplicas", "replicas", "status.replicas"),
    ("updatedReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "readyReplicas", "status.readyReplicas"),
];

fn check_spec(spec: &Value, path: &Path, report: &mut Report) {
    match spec.text("podManagementPolicy") {
        "" => report.required(&path.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            report.invalid(&path.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'")
        }
    }
    let null = Value::Null;
    check_strategy(spec.at("updateStrategy").unwrap_or(&null), &path.child("updateStrategy"), report);
    let retention = spec.at("persistentVolumeClaimRetentionPolicy").unwrap_or(&null);
    for field in ["whenDeleted", "whenScaled"] {
        let at = path.child("persistentVolumeClaimRetentionPolicy");
        report.choice_if_set(retention, field, &at, &["Delete", "Retain"]);
    }
    report.not_negative(spec, "replicas", path);
    report.not_negative(spec, "minReadySeconds", path);
    if let Some(ordinals) = spec.at("ordinals") {
        report.not_negative(ordinals, "start", &path.child("ordinals"));
    }
    report.not_negative(spec, "revisionHistoryLimit", path);
    workload::check_selector(spec, "statefulset", path, report);
    workload::check_valid(spec, "", path, report);
    workload::check_match(spec, path, report);
    // Volumes of claims are added later, so that the template alone is not complete.
    let template = path.child("template");
    object_meta::check_labels(
        spec.map("template.metadata.labels"),
        &template.child("labels"),
        report.errors(),
    );
    let annotations = spec.map("template.metadata.annotations");
    object_meta::check_annotations(annotations, &template.child("annotations"), report.errors());
    workload::check_always(spec, "StatefulSet", path, report);
}

fn check_strategy(strategy: &Value, path: &Path, report: &mut Report) {
    let at = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.at("rollingUpdate")) {
        ("", _) => report.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            report.invalid(&at, rolling.clone(), "only allowed for updateStrategy 'RollingUpdate'");
        }
        ("RollingUpdate", Some(rolling)) => {
            report.not_negative(rolling, "partition", &at);
            if let Some(unavailable) = rolling.at("maxUnavailable") {
                let at = at.child("maxUnavailable");
                workload::check_number_or_percent(unavailable, &at, report);
                if workload::amount(Some(unavailable)) == 0 {
                    report.invalid(&at, unavailable.clone(), "cannot be 0");
                }
                workload::check_at_most_all(unavailable, &at, report);
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => report.invalid(path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}
