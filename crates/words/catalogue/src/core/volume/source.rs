//! What persistent volumes are made of.

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::Access;
use crate::pod_spec::volumes;
use crate::report::Report;

/// Sources of persistent volumes with the fields that each needs.
pub(super) const SOURCES: [(&str, &[&str]); 22] = [
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

/// Exactly one source, with all that it needs.
pub(super) fn check_source(spec: &Value, path: &Path, report: &mut Report) {
    volumes::check_one_source(spec, &SOURCES, path, report, |kind, source, at, report| match kind {
        "hostPath" => volumes::check_host_path(source, at, report),
        "fc" => volumes::check_fibre_channel(source, at, report),
        "csi" => {
            volumes::check_csi_driver(source.text("driver"), &at.child("driver"), report);
            check_secrets(source, at, report);
        }
        "nfs" if !source.text("path").starts_with('/') => {
            report.invalid(&at.child("path"), source.text("path"), "must be an absolute path");
        }
        "local" if !spec.has("nodeAffinity") => {
            report.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
        _ => {}
    });
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
