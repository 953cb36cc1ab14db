//! Volumes and claims.

use plimsoll_meta::field::Path;
use plimsoll_meta::quantity::Quantity;
use serde_json::Value;

use super::{annotated, labels};
use crate::access::Access;

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Sources of volumes that no longer work, and since when. Those with `true` can be in PersistentVolumes.
const GONE: [(&str, &str, bool); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+", true),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+", false),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+", true),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+", false),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+", true),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+", false),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+", true),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+", true),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+", true),
];

/// The source of a pod's volume.
pub(super) fn source(volume: &Value, at: &Path, told: &mut Vec<String>) {
    for (name, message, _) in GONE.iter().filter(|(name, ..)| volume.get(name).is_some()) {
        told.push(format!("{}: {message}", at.child(shown(name))));
    }
}

/// Upstream writes one of the names in its own way.
fn shown(name: &str) -> &str {
    if name == "storageos" { "storageOS" } else { name }
}

/// A PersistentVolume.
pub(super) fn volume(volume: &Value, told: &mut Vec<String>) {
    class_annotation(volume, told);
    let spec = Path::root("spec");
    let terms = spec.child("nodeAffinity").child("required").child("nodeSelectorTerms");
    for (place, term) in volume.list("spec.nodeAffinity.required.nodeSelectorTerms").iter().enumerate() {
        labels::expressions(term, &terms.index(place), told);
    }
    for (name, message, _) in
        GONE.iter().filter(|(name, _, both)| *both && volume["spec"].get(name).is_some())
    {
        told.push(format!("{}: {message}", spec.child(shown(name))));
    }
    if volume.text("spec.persistentVolumeReclaimPolicy") == "Recycle" {
        told.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
}

/// The class as it was written long ago.
pub(super) fn class_annotation(object: &Value, told: &mut Vec<String>) {
    if annotated(object, CLASS) {
        told.push(format!(
            "{}: deprecated since v1.8; use \"storageClassName\" attribute instead",
            Path::root("metadata").child("annotations").key(CLASS)
        ));
    }
}

/// The specification of a claim.
pub(super) fn claim(spec: &Value, at: &Path, told: &mut Vec<String>) {
    for part in ["requests", "limits"] {
        let root = at.child("resources").child(part);
        whole(&spec["resources"][part], "storage", &root, told);
    }
}

/// There are no parts of bytes.
pub(super) fn whole(amounts: &Value, resource: &str, at: &Path, told: &mut Vec<String>) {
    let amount = amounts.get(resource).and_then(Value::as_str).and_then(|text| text.parse::<Quantity>().ok());
    if let Some(amount) = amount.filter(|amount| amount.milli() % 1000 != 0) {
        let amount = amount.to_string();
        told.push(format!(
            "{}: fractional byte value {amount:?} is invalid, must be an integer",
            at.key(resource)
        ));
    }
}
