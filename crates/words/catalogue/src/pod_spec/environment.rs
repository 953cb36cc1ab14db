//! Environment variables, and values taken from fields of the pod.

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::Access;
use crate::quantities;
use crate::report::Report;

/// Fields of the pod that variables may show.
const FOR_VARIABLES: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of the pod that files may show.
pub(super) const FOR_FILES: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `env` and `envFrom` of a container.
pub(super) fn check(container: &Value, path: &Path, report: &mut Report) {
    for (at, variable) in container.list("env").iter().enumerate() {
        let path = path.child("env").index(at);
        let name = variable.text("name");
        if name.is_empty() {
            report.required(&path.child("name"), "");
        } else {
            report.rule(&path.child("name"), name, variable_name(name));
        }
        if let Some(source) = variable.at("valueFrom") {
            check_source(source, variable.text("value"), &path.child("valueFrom"), report);
        }
    }
    for (at, source) in container.list("envFrom").iter().enumerate() {
        check_from(source, &path.child("envFrom"), at, report);
    }
}

fn variable_name(name: &str) -> Result<(), Vec<String>> {
    let allowed = |c: u8| (b' '..=b'~').contains(&c) && c != b'=';
    match name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(vec![
            "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned(),
        ]),
    }
}

fn check_source(source: &Value, value: &str, path: &Path, report: &mut Report) {
    let kinds = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let found: Vec<&str> = kinds.into_iter().filter(|kind| source.has(kind)).collect();
    for kind in &found {
        let (inner, at) = (&source[*kind], path.child(kind));
        match *kind {
            "fieldRef" => check_field_ref(inner, &FOR_VARIABLES, &at, report),
            "resourceFieldRef" => check_resource_ref(inner, false, &at, report),
            "fileKeyRef" => {
                for field in ["volumeName", "path", "key"] {
                    report.need(inner, field, &at);
                }
            }
            _ => check_key_ref(inner, &at, report),
        }
    }
    if found.is_empty() {
        let message = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        report.invalid(path, "", message);
    } else if !value.is_empty() {
        report.invalid(path, "", "may not be specified when `value` is not empty");
    } else if found.len() > 1 {
        report.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn check_key_ref(reference: &Value, path: &Path, report: &mut Report) {
    let name = reference.text("name");
    report.rule(&path.child("name"), name, name::is_dns1123_subdomain(name));
    if report.need(reference, "key", path) {
        let key = reference.text("key");
        report.rule(&path.child("key"), key, name::is_config_key(key));
    }
}

fn check_from(source: &Value, list: &Path, at: usize, report: &mut Report) {
    let path = list.index(at);
    let prefix = source.text("prefix");
    if !prefix.is_empty() {
        report.rule(&path.child("prefix"), prefix, variable_name(prefix));
    }
    let mut found = 0;
    for kind in ["configMapRef", "secretRef"] {
        let Some(reference) = source.at(kind) else { continue };
        found += 1;
        if report.need(reference, "name", &path.child(kind)) {
            let name = reference.text("name");
            report.rule(&path.child(kind).child("name"), name, name::is_dns1123_subdomain(name));
        }
    }
    match found {
        0 => report.invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"),
        1 => {}
        _ => report.invalid(list, "", "may not have more than one field specified at a time"),
    }
}

/// A field of the pod, by its path.
pub(super) fn check_field_ref(reference: &Value, allowed: &[&str], path: &Path, report: &mut Report) {
    if !report.need(reference, "apiVersion", path) || !report.need(reference, "fieldPath", path) {
        return;
    }
    let (version, field) = (reference.text("apiVersion"), reference.text("fieldPath"));
    let at = path.child("fieldPath");
    if version != "v1" {
        let message = format!("error converting fieldPath: unsupported pod version: {version}");
        report.invalid(&at, field, message);
        return;
    }
    match subscript(field) {
        Some(("metadata.annotations", key)) => {
            report.rule(path, key, name::is_qualified_name(&key.to_lowercase()))
        }
        Some(("metadata.labels", key)) => report.rule(path, key, name::is_qualified_name(key)),
        Some((base, _)) if is_known(base) => report.invalid(
            &at,
            field,
            format!("error converting fieldPath: field label does not support subscript: {field}"),
        ),
        None if allowed.contains(&field) => {}
        None if is_known(field) => report.not_supported(&at, field, allowed),
        _ => report.invalid(
            &at,
            field,
            format!("error converting fieldPath: field label not supported: {field}"),
        ),
    }
}

fn is_known(field: &str) -> bool {
    FOR_VARIABLES.contains(&field)
        || FOR_FILES.contains(&field)
        || matches!(field, "spec.restartPolicy" | "spec.schedulerName" | "status.phase" | "spec.host")
}

/// `metadata.labels['app']` as the field and the key.
fn subscript(field: &str) -> Option<(&str, &str)> {
    let (base, rest) = field.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

/// A request or limit of a container.
pub(super) fn check_resource_ref(reference: &Value, in_file: bool, path: &Path, report: &mut Report) {
    let resource = reference.text("resource");
    if in_file && reference.text("containerName").is_empty() {
        report.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        report.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !is_huge_page(resource) {
        report.not_supported(&path.child("resource"), resource, &RESOURCES);
    }
    check_divisor(resource, reference, &path.child("divisor"), report);
}

fn is_huge_page(resource: &str) -> bool {
    resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-")
}

fn check_divisor(resource: &str, reference: &Value, path: &Path, report: &mut Report) {
    let Some(divisor) = quantities::parse(reference.at("divisor")).filter(|divisor| !divisor.is_zero())
    else {
        return;
    };
    const SIZES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let text = divisor.to_string();
    let sizes = |noun: &str| {
        format!("only divisor's values {} are supported with the {noun} resource", SIZES.join(", "))
    };
    let message = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") if !["1m", "1"].contains(&text.as_str()) => {
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned()
        }
        Some("memory") if !SIZES.contains(&text.as_str()) => sizes("memory"),
        Some("ephemeral-storage") if !SIZES.contains(&text.as_str()) => sizes("local ephemeral storage"),
        Some(name) if name.starts_with("hugepages-") && !SIZES.contains(&text.as_str()) => sizes("hugepages"),
        _ => return,
    };
    report.invalid(path, resource, message);
}
