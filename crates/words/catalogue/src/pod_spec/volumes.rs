//! The volumes of a pod.

use std::collections::BTreeSet;

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use super::environment;
use super::security::{check_descending, check_no_backsteps};
use crate::access::Access;
use crate::core::volume;
use crate::object_meta;
use crate::quantities;
use crate::report::{Report, names_of};

/// Sources in the order in which upstream looks for them, with the fields that each needs.
const SOURCES: [(&str, &[&str]); 30] = [
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["registry", "volume"]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &["driver"]),
    ("ephemeral", &["volumeClaimTemplate"]),
    ("image", &[]),
];

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

pub(super) fn check(spec: &Value, path: &Path, report: &mut Report) {
    let volumes = spec.list("volumes");
    for (at, volume) in volumes.iter().enumerate() {
        let path = path.child("volumes").index(at);
        let name = volume.text("name");
        if name.is_empty() {
            report.required(&path.child("name"), "");
        } else {
            report.rule(&path.child("name"), name, name::is_dns1123_label(name));
        }
        if !name.is_empty() && names_of(&volumes[..at]).any(|other| other == name) {
            report.duplicate(&path.child("name"), name);
        }
        check_source(volume, &path, report);
    }
}

fn check_source(volume: &Value, path: &Path, report: &mut Report) {
    check_one_source(volume, &SOURCES, path, report, check_details);
}

/// Exactly one of `sources`, which are named with the fields that each needs; `details` checks the rest of it.
pub(crate) fn check_one_source(
    volume: &Value,
    sources: &[(&str, &[&str])],
    path: &Path,
    report: &mut Report,
    details: impl Fn(&str, &Value, &Path, &mut Report),
) {
    let mut found = 0;
    for (kind, needs) in sources {
        let Some(source) = volume.at(kind) else { continue };
        let at = path.child(kind);
        found += 1;
        if found > 1 {
            report.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        for field in *needs {
            report.need(source, field, &at);
        }
        details(kind, source, &at, report);
    }
    if found == 0 {
        report.required(path, "must specify a volume type");
    }
}

fn check_details(kind: &str, source: &Value, path: &Path, report: &mut Report) {
    match kind {
        "emptyDir" if quantities::parse(source.at("sizeLimit")).is_some_and(|limit| limit.sign() < 0) => {
            report.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
        }
        "hostPath" => check_host_path(source, path, report),
        "nfs" if !source.text("path").is_empty() && !source.text("path").starts_with('/') => {
            report.invalid(&path.child("path"), source.text("path"), "must be an absolute path");
        }
        "secret" | "configMap" => {
            check_mode(source, "defaultMode", path, report);
            check_items(source, path, report);
        }
        "downwardAPI" => {
            check_mode(source, "defaultMode", path, report);
            source.list("items").iter().for_each(|file| check_pod_file(file, path, report));
        }
        "projected" => check_projected(source, path, report),
        "fc" => check_fibre_channel(source, path, report),
        "csi" => check_csi_driver(source.text("driver"), &path.child("driver"), report),
        "ephemeral" => check_ephemeral(source, path, report),
        "image" => report.choice_if_set(source, "pullPolicy", path, &["Always", "IfNotPresent", "Never"]),
        _ => {}
    }
}

/// A directory or file of the node; persistent volumes have such sources, too.
pub(crate) fn check_host_path(source: &Value, path: &Path, report: &mut Report) {
    check_no_backsteps(source.text("path"), &path.child("path"), report);
    let types =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    report.choice_if_set(source, "type", path, &types);
}

/// A target with its unit, or the world wide identifier of the volume.
pub(crate) fn check_fibre_channel(source: &Value, path: &Path, report: &mut Report) {
    let (targets, identifiers) = (source.list("targetWWNs"), source.list("wwids"));
    const MESSAGE: &str = "must specify either targetWWNs or wwids, but not both";
    match (targets.is_empty(), identifiers.is_empty()) {
        (true, true) => report.required(&path.child("targetWWNs"), MESSAGE),
        (false, false) => report.invalid(&path.child("targetWWNs"), targets.to_vec(), MESSAGE),
        (false, true) => match source.int("lun") {
            None => report.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
            Some(unit) => report.range(&path.child("lun"), unit, 0, 255),
        },
        (true, false) => {}
    }
}

fn check_mode(holder: &Value, field: &str, path: &Path, report: &mut Report) {
    if let Some(mode) = holder.int(field)
        && !(0..=0o777).contains(&mode)
    {
        report.invalid(&path.child(field), mode, FILE_MODE);
    }
}

fn check_items(source: &Value, path: &Path, report: &mut Report) {
    for (at, item) in source.list("items").iter().enumerate() {
        check_item(item, &path.child("items").index(at), report);
    }
}

fn check_item(item: &Value, path: &Path, report: &mut Report) {
    report.need(item, "key", path);
    report.need(item, "path", path);
    check_file_path(item.text("path"), &path.child("path"), report);
    check_mode(item, "mode", path, report);
}

/// A path inside of a volume, which may not begin with the dots that hide its history.
fn check_file_path(target: &str, path: &Path, report: &mut Report) {
    check_descending(target, path, report);
    if target.starts_with("..") && !target.starts_with("../") && target != ".." {
        report.invalid(path, target, "must not start with '..'");
    }
}

/// A file with a field of the pod. Upstream names no index here.
fn check_pod_file(file: &Value, path: &Path, report: &mut Report) {
    report.need(file, "path", path);
    check_file_path(file.text("path"), &path.child("path"), report);
    match (file.at("fieldRef"), file.at("resourceFieldRef")) {
        (Some(field), other) => {
            environment::check_field_ref(field, &environment::FOR_FILES, &path.child("fieldRef"), report);
            if other.is_some() {
                report.invalid(
                    path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        }
        (None, Some(resource)) => {
            environment::check_resource_ref(resource, true, &path.child("resourceFieldRef"), report);
        }
        (None, None) => report.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    check_mode(file, "mode", path, report);
}

fn check_projected(source: &Value, path: &Path, report: &mut Report) {
    check_mode(source, "defaultMode", path, report);
    let mut taken = BTreeSet::new();
    for (at, projection) in source.list("sources").iter().enumerate() {
        let at = path.child("sources").index(at);
        let kinds = [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ];
        let mut found = 0;
        for kind in kinds {
            let Some(inner) = projection.at(kind) else { continue };
            found += 1;
            check_projection(kind, inner, &at.child(kind), report);
            if kind == "serviceAccountToken" {
                report.need(inner, "path", path);
            }
            for target in targets(kind, inner).into_iter().filter(|target| !target.is_empty()) {
                if !taken.insert(target) {
                    let shown = if kind == "downwardAPI" { target } else { inner.text("name") };
                    report.invalid(path, shown, "conflicting duplicate paths");
                }
            }
        }
        if found > 1 {
            report.forbidden(&at, "may not specify more than 1 volume type per source");
        } else if found == 0 {
            report.required(
                &at,
                "must specify one of: `secret`, `configMap`, `downwardAPI`, `serviceAccountToken`, \
                 `clusterTrustBundle` or `podCertificate`",
            );
        }
    }
}

/// The files that a projection makes, as far as they are named.
fn targets<'a>(kind: &str, inner: &'a Value) -> Vec<&'a str> {
    match kind {
        "secret" | "configMap" | "downwardAPI" => {
            inner.list("items").iter().map(|item| item.text("path")).collect()
        }
        "podCertificate" => {
            ["credentialBundlePath", "keyPath", "certificateChainPath"].map(|field| inner.text(field)).into()
        }
        _ => vec![inner.text("path")],
    }
}

fn check_projection(kind: &str, inner: &Value, path: &Path, report: &mut Report) {
    match kind {
        "secret" | "configMap" => {
            report.need(inner, "name", path);
            check_items(inner, path, report);
        }
        "downwardAPI" => inner.list("items").iter().for_each(|file| check_pod_file(file, path, report)),
        "serviceAccountToken" => {
            let (seconds, at) = (inner.count("expirationSeconds"), path.child("expirationSeconds"));
            if seconds < 600 {
                report.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
            }
            if seconds > 1 << 32 {
                report.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            check_file_path(inner.text("path"), &path.child("path"), report);
        }
        "clusterTrustBundle" => check_trust_bundle(inner, path, report),
        _ => {
            report.need(inner, "signerName", path);
            report.need(inner, "keyType", path);
        }
    }
}

fn check_trust_bundle(inner: &Value, path: &Path, report: &mut Report) {
    match (inner.has("name"), inner.has("signerName")) {
        (true, true) => report.invalid(path, inner.clone(), "only one of name and signerName may be used"),
        (false, false) => report.required(path, "either name or signerName must be specified"),
        _ => {}
    }
    if inner.has("name") && inner.has("labelSelector") {
        report.invalid(
            &path.child("labelSelector"),
            inner["labelSelector"].clone(),
            "labelSelector must be unset if name is specified",
        );
    }
    report.need(inner, "path", path);
    check_file_path(inner.text("path"), &path.child("path"), report);
}

/// The name of a CSI driver.
pub(crate) fn check_csi_driver(driver: &str, path: &Path, report: &mut Report) {
    if driver.len() > 63 {
        report.push(plimsoll_meta::field::FieldError::too_long(path, 63));
    }
    report.rule(path, driver, name::is_dns1123_subdomain(&driver.to_lowercase()));
}

fn check_ephemeral(source: &Value, path: &Path, report: &mut Report) {
    let Some(template) = source.at("volumeClaimTemplate") else { return };
    let path = path.child("volumeClaimTemplate");
    let metadata = path.child("metadata");
    object_meta::check_labels(template.map("metadata.labels"), &metadata.child("labels"), report.errors());
    object_meta::check_annotations(
        template.map("metadata.annotations"),
        &metadata.child("annotations"),
        report.errors(),
    );
    volume::check_claim_spec(template.at("spec").unwrap_or(&Value::Null), &path.child("spec"), report);
}
