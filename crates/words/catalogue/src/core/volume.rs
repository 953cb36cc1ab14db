//! PersistentVolumes and the claims on them.

use serde_json::{Map, Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::stored;
use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::label_selector;
use crate::pod_spec::{default, placement, update, volumes};
use crate::quantities;
use crate::report::{IMMUTABLE, POSITIVE, Report};
use crate::strategy::Strategy;

pub(super) const CLAIM: Kind = Kind {
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

/// Sources of persistent volumes with the fields that each needs.
const SOURCES: [(&str, &[&str]); 22] = [
    ("hostPath", &["path"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &["registry", "volume"]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &["path"]),
    ("storageos", &["volumeName"]),
    ("csi", &["driver", "volumeHandle"]),
];

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
    check_volume_source(spec, path, report);
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

fn check_volume_source(spec: &Value, path: &Path, report: &mut Report) {
    let mut found = 0;
    for (kind, needs) in SOURCES {
        let Some(source) = spec.at(kind) else { continue };
        let at = path.child(kind);
        found += 1;
        if found > 1 {
            report.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        for field in needs {
            report.need(source, field, &at);
        }
        match kind {
            "hostPath" => volumes::check_host_path(source, &at, report),
            "fc" => volumes::check_fibre_channel(source, &at, report),
            "csi" => {
                volumes::check_csi_driver(source.text("driver"), &at.child("driver"), report);
                check_secrets(source, &at, report);
            }
            "nfs" if !source.text("path").starts_with('/') => {
                report.invalid(&at.child("path"), source.text("path"), "must be an absolute path");
            }
            "local" if !spec.has("nodeAffinity") => {
                report.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
            }
            _ => {}
        }
    }
    if found == 0 {
        report.required(path, "must specify a volume type");
    }
}

/// Secrets that a CSI driver is called with.
const CSI_SECRETS: [&str; 4] = [
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
];

fn check_secrets(source: &Value, path: &Path, report: &mut Report) {
    for field in CSI_SECRETS {
        let Some(secret) = source.at(field) else { continue };
        let path = path.child(field);
        let (name, namespace) = (secret.text("name"), secret.text("namespace"));
        if report.need(secret, "name", &path) {
            report.rule(&path.child("name"), name, name::is_dns1123_subdomain(name));
        }
        if report.need(secret, "namespace", &path) {
            report.rule(&path.child("namespace"), namespace, name::is_dns1123_label(namespace));
        }
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
