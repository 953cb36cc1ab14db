//! PersistentVolumes and the claims on them.

use serde_json::{Map, Value, json};

use super::stored;
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::pod_spec::default;
use crate::quantities;
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
    }

    fn fields(&self, claim: &Value) -> Vec<(&'static str, String)> {
        vec![("name", claim.text("metadata.name").to_owned())]
    }
}

struct Volume;

impl Strategy for Volume {
    fn default(&self, volume: &mut Value) {
        if let Some(spec) = volume.object("spec") {
            spec.fill_zero("persistentVolumeReclaimPolicy", "Retain");
            spec.fill("volumeMode", "Filesystem");
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

    fn fields(&self, volume: &Value) -> Vec<(&'static str, String)> {
        vec![("name", volume.text("metadata.name").to_owned())]
    }
}

/// Defaults of a claim's specification; stateful sets carry such claims, too.
pub(crate) fn claim_spec(spec: &mut Value) {
    spec.fill("volumeMode", "Filesystem");
    spec.fill("resources", Value::Object(Map::new()));
    mirror_data_source(spec);
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
