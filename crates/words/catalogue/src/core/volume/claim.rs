//! Claims on persistent volumes.

use serde_json::{Map, Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::{
    VOLUME_MODE, VOLUME_MODES, access_modes, check_access_modes, check_positive, class, phase, stored,
};
use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::label_selector;
use crate::pod_spec::{default, update};
use crate::quantities;
use crate::report::{IMMUTABLE, Report};
use crate::strategy::Strategy;

pub(in crate::core) const CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    subresources: &[Subresource::status("PersistentVolumeClaim")],
    definition: "io.k8s.api.core.v1.PersistentVolumeClaim",
    storage: stored("/registry/persistentvolumeclaims"),
    columns: &[
        column::NAME,
        Column::text("Status", "phase of the claim", |claim, _| phase(claim).into()),
        Column::text("Volume", "bound volume", |claim, _| claim.text("spec.volumeName").into()),
        Column::text("Capacity", "size of the bound volume", |claim, _| {
            match claim.text("spec.volumeName") {
                "" => "".into(),
                _ => quantities::shown(claim.at("status.capacity.storage")).into(),
            }
        }),
        Column::text("Access Modes", "how the bound volume may be mounted", |claim, _| {
            match claim.text("spec.volumeName") {
                "" => "".into(),
                _ => access_modes(claim.list("status.accessModes")).into(),
            }
        }),
        Column::text("StorageClass", "class of the claim", |claim, _| class(claim).into()),
        Column::text("VolumeAttributesClass", "attributes of the volume", |claim, _| {
            column::or(claim.text("spec.volumeAttributesClassName"), "<unset>")
        }),
        column::AGE,
        VOLUME_MODE,
    ],
    strategy: &Claim,
    ..Kind::BASE
};

struct Claim;

impl Strategy for Claim {
    fn default(&self, claim: &mut Value) {
        if let Some(spec) = claim.object("spec") {
            claim_spec(spec);
        }
        if let Some(status) = claim.inside("status") {
            status.fill_zero("phase", "Pending");
        }
    }

    fn prepare_create(&self, claim: &mut Value) {
        claim.put("status", json!({"phase": "Pending"}));
        if let Some(spec) = claim.inside("spec") {
            drop_unknown_source(spec);
            mirror_data_source(spec);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        if subresource.is_none()
            && let Some(spec) = new.inside("spec")
        {
            if !old.has("spec.dataSource") && !old.has("spec.dataSourceRef") {
                drop_unknown_source(spec);
            }
            mirror_data_source(spec);
        }
    }

    fn validate(&self, claim: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        check_claim_spec(claim.at("spec").unwrap_or(&Value::Null), &Path::root("spec"), &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        if subresource.is_some() {
            return Vec::new();
        }
        let mut errors = self.validate(new);
        let mut report = Report::new();
        check_claim_update(new, old, &mut report);
        errors.extend(report.into_errors());
        errors
    }
}

/// Defaults of a claim's specification; stateful sets carry such claims, too.
pub(crate) fn claim_spec(spec: &mut Value) {
    spec.fill("volumeMode", "Filesystem");
    spec.fill("resources", Value::Object(Map::new()));
    default::resource_amounts(spec);
}

/// `dataSource` means claims and snapshots only; what else it names was always left out silently.
fn drop_unknown_source(spec: &mut Value) {
    let known = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
    if spec.at("dataSource").is_some_and(|from| !known.contains(&(from.text("apiGroup"), from.text("kind"))))
    {
        spec.drop_key("dataSource");
    }
}

/// `dataSource` is the old name of a `dataSourceRef` without a namespace.
fn mirror_data_source(spec: &mut Value) {
    match (spec.at("dataSource").cloned(), spec.at("dataSourceRef").cloned()) {
        (Some(source), None) => spec.put("dataSourceRef", source),
        (None, Some(reference)) if !reference.has("namespace") => spec.put("dataSource", reference),
        _ => {}
    }
}

/// The specification of a claim; stateful sets and pods carry such claims, too.
pub(crate) fn check_claim_spec(spec: &Value, path: &Path, report: &mut Report) {
    check_access_modes(spec, "at least 1 access mode is required", path, report);
    if let Some(selector) = spec.at("selector") {
        label_selector::check(selector, &path.child("selector"), report);
    }
    let storage = path.child("resources").key("storage");
    match spec.map("resources.requests").get("storage") {
        None => report.required(&storage, ""),
        amount => check_positive(amount, &storage, report),
    }
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        report.rule(&path.child("storageClassName"), class, name::is_dns1123_subdomain(class));
    }
    report.choice_if_set(spec, "volumeMode", path, &VOLUME_MODES);
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.at(field) {
            check_data_source(source, &path.child(field), report);
        }
    }
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    if let (Some(source), Some(reference)) = (source, reference) {
        if !reference.text("namespace").is_empty() {
            report.invalid(path, json!({}), "may not be specified when dataSourceRef.namespace is specified");
        } else if !access::same(Some(source), Some(reference)) {
            // Upstream shows a path, whose fields nobody sees.
            report.invalid(path, json!({}), "must match dataSourceRef");
        }
    }
}

fn check_data_source(source: &Value, path: &Path, report: &mut Report) {
    report.need(source, "name", path);
    report.need(source, "kind", path);
    if source.text("apiGroup").is_empty() && source.text("kind") != "PersistentVolumeClaim" {
        let message = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        report.invalid(path, source.text("kind"), message);
    }
}

/// A claim is bound once, and a bound one may ask for more; the rest stays.
fn check_claim_update(new: &Value, old: &Value, report: &mut Report) {
    let (mut after, mut before) = (new["spec"].clone(), old["spec"].clone());
    let unset = |spec: &Value, field: &str| spec.text(field).is_empty();
    if unset(&before, "volumeName") {
        for spec in [&mut after, &mut before] {
            spec.drop_key("volumeName");
        }
    }
    if !before.has("storageClassName") && class(old).is_empty() && after.has("storageClassName") {
        after.drop_key("storageClassName");
    }
    for spec in [&mut after, &mut before] {
        spec.drop_key("volumeAttributesClassName");
    }
    let is_bound = new.text("status.phase") == "Bound";
    let size = |spec: &Value| quantities::parse(spec.map("resources.requests").get("storage"));
    let (new_size, old_size) = (size(&after), size(&before));
    if is_bound {
        for spec in [&mut after, &mut before] {
            spec.drop_key("resources");
        }
    }
    if !access::same(Some(&after), Some(&before)) {
        let changes = update::differences(&after, &before);
        report.forbidden(
            &Path::root("spec"),
            format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{changes}"
            ),
        );
    }
    let path = Path::root("spec").child("resources").child("requests").child("storage");
    if let (Some(new_size), Some(old_size)) = (new_size, old_size)
        && new_size < old_size
        && quantities::parse(old.map("status.capacity").get("storage")).is_none_or(|has| new_size <= has)
    {
        report.forbidden(&path, "field can not be less than status.capacity");
    }
    if new.at("spec.volumeMode") != old.at("spec.volumeMode") {
        let value = new.at("spec.volumeMode").cloned().unwrap_or(Value::Null);
        report.invalid(&Path::root("volumeMode"), value, IMMUTABLE);
    }
}
