//! Where volumes come from.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::pod::{Pod, Violation, items, plural, quoted, text};

/// Folders of the host.
pub(crate) fn host_path(pod: Pod<'_>) -> Option<Violation> {
    let volumes = items(&pod.spec["volumes"]).filter(|volume| volume["hostPath"].is_object());
    let bad: Vec<&str> = volumes.map(|volume| text(&volume["name"])).collect();
    (!bad.is_empty()).then(|| {
        let detail = format!("{} {}", plural("volume", "volumes", bad.len()), quoted(&bad));
        Violation::new("hostPath volumes", detail)
    })
}

const ALLOWED: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The other types, in the order in which upstream looks for them.
const OTHERS: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "azureDisk",
    "vsphereVolume",
    "quobyte",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

/// Only volumes that bring no access to the host.
pub(crate) fn restricted(pod: Pod<'_>) -> Option<Violation> {
    let has = |volume: &Value, types: &[&'static str]| {
        types.iter().find(|kind| volume[**kind].is_object()).copied()
    };
    let volumes = items(&pod.spec["volumes"]).filter(|volume| has(volume, ALLOWED).is_none());
    let bad: Vec<(&str, &str)> =
        volumes.map(|volume| (text(&volume["name"]), has(volume, OTHERS).unwrap_or("unknown"))).collect();
    if bad.is_empty() {
        return None;
    }
    let types: BTreeSet<&str> = bad.iter().map(|(_, kind)| *kind).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(bad.iter().map(|(name, _)| name)),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", types.len()),
        quoted(&types),
    );
    Some(Violation::new("restricted volume types", detail))
}
