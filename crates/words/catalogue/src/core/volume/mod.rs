//! PersistentVolumes, and what they share with the claims on them ([`claim`]).

mod claim;
mod source;

use serde_json::{Map, Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::stored;
use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::pod_spec::{default, placement, update};
use crate::quantities;
use crate::report::{IMMUTABLE, POSITIVE, Report};
use crate::strategy::Strategy;

pub(super) use claim::CLAIM;
pub(crate) use claim::{check_claim_spec, claim_spec};
use source::{SOURCES, check_source};

pub(super) const VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    subresources: &[Subresource::status("PersistentVolume")],
    definition: "io.k8s.api.core.v1.PersistentVolume",
    storage: stored("/registry/persistentvolumes"),
    columns: &[
        column::NAME,
        Column::text("Capacity", "size", |volume, _| {
            quantities::shown(volume.at("spec.capacity.storage")).into()
        }),
        Column::text("Access Modes", "how the volume may be mounted", |volume, _| {
            access_modes(volume.list("spec.accessModes")).into()
        }),
        Column::text("Reclaim Policy", "what becomes of the volume when it is released", |volume, _| {
            volume.text("spec.persistentVolumeReclaimPolicy").into()
        }),
        Column::text("Status", "phase of the volume", |volume, _| phase(volume).into()),
        Column::text("Claim", "claim that the volume is bound to", |volume, _| {
            match volume.at("spec.claimRef") {
                Some(claim) => format!("{}/{}", claim.text("namespace"), claim.text("name")).into(),
                None => "".into(),
            }
        }),
        Column::text("StorageClass", "class of the volume", |volume, _| class(volume).into()),
        Column::text("VolumeAttributesClass", "attributes of the volume", |volume, _| {
            column::or(volume.text("spec.volumeAttributesClassName"), "<unset>")
        }),
        Column::text("Reason", "why the volume is in its phase", |volume, _| {
            volume.text("status.reason").into()
        }),
        column::AGE,
        VOLUME_MODE,
    ],
    strategy: &Volume,
    ..Kind::BASE
};

const VOLUME_MODE: Column = Column::text("VolumeMode", "file system or block device", |object, _| {
    column::or(object.text("spec.volumeMode"), "<unset>")
})
.wide();

struct Volume;

impl Strategy for Volume {
    fn default(&self, volume: &mut Value) {
        if let Some(spec) = volume.object("spec") {
            spec.fill_zero("persistentVolumeReclaimPolicy", "Retain");
            spec.fill("volumeMode", "Filesystem");
            quantities::canonicalize(spec.inside("capacity"));
            for (source, defaults) in default::source_defaults() {
                if let Some(found) = spec.inside(source) {
                    for (key, value) in defaults.as_object().into_iter().flatten() {
                        found.fill(key, value.clone());
                    }
                }
            }
        }
        if let Some(status) = volume.inside("status") {
            status.fill_zero("phase", "Pending");
        }
    }

    fn prepare_create(&self, volume: &mut Value) {
        volume.put("status", json!({"phase": "Pending"}));
    }

    fn validate(&self, volume: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        check_volume_spec(volume.at("spec").unwrap_or(&Value::Null), &Path::root("spec"), &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        if subresource.is_some() {
            return Vec::new();
        }
        let mut errors = self.validate(new);
        let mut report = Report::new();
        check_volume_update(new, old, &mut report);
        errors.extend(report.into_errors());
        errors
    }
}

fn phase(object: &Value) -> String {
    match object.has("metadata.deletionTimestamp") {
        true => "Terminating".to_owned(),
        false => object.text("status.phase").to_owned(),
    }
}

/// The class, as the old annotation or the field tells it.
fn class(object: &Value) -> String {
    let old = object.map("metadata.annotations").get("volume.beta.kubernetes.io/storage-class");
    old.and_then(Value::as_str).unwrap_or(object.text("spec.storageClassName")).to_owned()
}

fn access_modes(modes: &[Value]) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |name: &str| modes.iter().any(|mode| mode == name);
    short.into_iter().filter(|(name, _)| has(name)).map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

fn check_access_modes(spec: &Value, missing: &str, path: &Path, report: &mut Report) {
    let modes = spec.texts("accessModes");
    let path = path.child("accessModes");
    if modes.is_empty() {
        report.required(&path, missing);
    }
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        report.not_supported(&path, *mode, &ACCESS_MODES);
    }
    if modes.contains(&"ReadWriteOncePod") && modes.len() > 1 {
        report.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn check_positive(amount: Option<&Value>, path: &Path, report: &mut Report) {
    if let Some(quantity) = quantities::parse(amount)
        && quantity.sign() <= 0
    {
        report.invalid(path, quantity.to_string(), POSITIVE);
    }
}

fn check_volume_spec(spec: &Value, path: &Path, report: &mut Report) {
    check_access_modes(spec, "", path, report);
    check_capacity(spec, &path.child("capacity"), report);
    let policies = ["Delete", "Recycle", "Retain"];
    report.choice_if_set(spec, "persistentVolumeReclaimPolicy", path, &policies);
    if let Some(required) = spec.at("nodeAffinity") {
        let path = path.child("nodeAffinity").child("required");
        match required.at("required") {
            None => report.required(&path, "must specify required node constraints"),
            Some(selector) => placement::check_node_selector(selector, &path, report),
        }
    }
    check_source(spec, path, report);
    if spec.text("hostPath.path") == "/" && spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        let message = "may not be 'recycle' for a hostPath mount of '/'";
        report.forbidden(&path.child("persistentVolumeReclaimPolicy"), message);
    }
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        report.rule(&path.child("storageClassName"), class, name::is_dns1123_subdomain(class));
    }
    report.choice_if_set(spec, "volumeMode", path, &VOLUME_MODES);
}

fn check_capacity(spec: &Value, path: &Path, report: &mut Report) {
    let capacity = spec.map("capacity");
    if capacity.is_empty() {
        report.required(path, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        report.not_supported(path, capacity.clone(), &["storage"]);
    }
    for (resource, amount) in capacity {
        if let Some(quantity) = quantities::parse(Some(amount)).filter(|quantity| quantity.sign() < 0) {
            report.invalid(&path.key(resource), quantity.value(), "must be a valid resource quantity");
        }
        check_positive(Some(amount), &path.key(resource), report);
    }
}

fn check_volume_update(new: &Value, old: &Value, report: &mut Report) {
    let sources = |object: &Value| -> Map<String, Value> {
        let found = SOURCES
            .iter()
            .filter_map(|(kind, _)| Some(((*kind).to_owned(), object["spec"].at(kind)?.clone())));
        let mut found: Map<String, Value> = found.collect();
        if let Some(csi) = found.get_mut("csi") {
            csi.drop_key("controllerExpandSecretRef");
        }
        found
    };
    let (after, before) = (Value::Object(sources(new)), Value::Object(sources(old)));
    if !access::same(Some(&after), Some(&before)) {
        let changes = update::differences(&after, &before);
        let path = Path::root("spec").child("persistentvolumesource");
        report
            .forbidden(&path, format!("spec.persistentvolumesource is immutable after creation\n{changes}"));
    }
    if new.at("spec.volumeMode") != old.at("spec.volumeMode") {
        let value = new.at("spec.volumeMode").cloned().unwrap_or(Value::Null);
        report.invalid(&Path::root("volumeMode"), value, IMMUTABLE);
    }
    check_node_affinity_update(new, old, report);
}

/// Keys of nodes' labels before they became stable, with their names since.
const RENAMED: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
];

/// Once there, it stays; a key may take its new name.
fn check_node_affinity_update(new: &Value, old: &Value, report: &mut Report) {
    let (after, before) = (new.at("spec.nodeAffinity"), old.at("spec.nodeAffinity"));
    let Some(before) = before else { return };
    let renamed = renamed_to(before, after.unwrap_or(&Value::Null));
    if !access::same(after, Some(&renamed)) {
        let message = format!("{IMMUTABLE}, except for updating from beta label to GA");
        report.invalid(&Path::root("nodeAffinity"), after.cloned().unwrap_or(Value::Null), message);
    }
}

/// The old affinity, with the new names of those keys that the new one names anew in the same place.
fn renamed_to(before: &Value, after: &Value) -> Value {
    let mut renamed = before.clone();
    let terms = after.list("required.nodeSelectorTerms");
    for (term, wanted) in renamed.elements("required.nodeSelectorTerms").iter_mut().zip(terms) {
        let wanted = wanted.list("matchExpressions");
        for (expression, wanted) in term.elements("matchExpressions").iter_mut().zip(wanted) {
            if RENAMED.contains(&(expression.text("key"), wanted.text("key"))) {
                expression.put("key", wanted.text("key"));
            }
        }
    }
    renamed
}
