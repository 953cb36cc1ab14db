//! Security contexts of pods and containers.

use serde_json::Value;

use plimsoll_meta::field::Path;

use crate::access::Access;
use crate::report::{Report, names_of};

/// The security context of the pod, and the namespaces that it shares with the node.
pub(super) fn check_pod(spec: &Value, path: &Path, report: &mut Report) {
    let null = Value::Null;
    let context = spec.at("securityContext").unwrap_or(&null);
    let at = path.child("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        check_id(context.at(field), &at.child(field), report);
    }
    for (index, group) in context.list("supplementalGroups").iter().enumerate() {
        check_id(Some(group), &at.child("supplementalGroups").index(index), report);
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let message = "ShareProcessNamespace and HostPID cannot both be enabled";
        report.invalid(&at.child("shareProcessNamespace"), true, message);
    }
    check_sysctls(context, &at.child("sysctls"), report);
    report.choice_if_set(context, "fsGroupChangePolicy", &at, &["Always", "OnRootMismatch"]);
    report.choice_if_set(context, "supplementalGroupsPolicy", &at, &["Merge", "Strict"]);
    check_profile(context.at("seccompProfile"), "seccomp", &at.child("seccompProfile"), report);
    check_profile(context.at("appArmorProfile"), "AppArmor", &at.child("appArmorProfile"), report);
    check_user_namespace(spec, path, report);
}

/// The security context of a container.
pub(super) fn check_container(container: &Value, path: &Path, report: &mut Report) {
    let Some(context) = container.at("securityContext") else { return };
    for field in ["runAsUser", "runAsGroup"] {
        check_id(context.at(field), &path.child(field), report);
    }
    report.choice_if_set(context, "procMount", path, &["Default", "Unmasked"]);
    check_profile(context.at("seccompProfile"), "seccomp", &path.child("seccompProfile"), report);
    check_profile(context.at("appArmorProfile"), "AppArmor", &path.child("appArmorProfile"), report);
    if context.at("allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if context.flag("privileged") {
            let message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            report.invalid(path, context.clone(), message);
        }
        if context.texts("capabilities.add").contains(&"CAP_SYS_ADMIN") {
            let message =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            report.invalid(path, context.clone(), message);
        }
    }
}

fn check_id(value: Option<&Value>, path: &Path, report: &mut Report) {
    if let Some(number) = value.and_then(Value::as_i64) {
        report.range(path, number, 0, i64::from(i32::MAX));
    }
}

fn check_sysctls(context: &Value, path: &Path, report: &mut Report) {
    let sysctls = context.list("sysctls");
    for (at, sysctl) in sysctls.iter().enumerate() {
        let (path, name) = (path.index(at).child("name"), sysctl.text("name"));
        if name.is_empty() {
            report.required(&path, "");
        } else if !is_sysctl(name) {
            let message = format!("must have at most 253 characters and match regex {SYSCTL}");
            report.invalid(&path, name, message);
        } else if names_of(&sysctls[..at]).any(|other| other == name) {
            report.duplicate(&path, name);
        }
    }
}

const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// Segments of lower case letters and digits, with dashes and underscores inside, parted by dots
/// or slashes.
fn is_sysctl(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
    let ends = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segment = |part: &str| {
        let bytes = part.as_bytes();
        let whole = bytes.first().is_some_and(|&c| ends(c)) && bytes.last().is_some_and(|&c| ends(c));
        whole && bytes.iter().all(|&c| inner(c))
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

fn check_profile(profile: Option<&Value>, noun: &str, path: &Path, report: &mut Report) {
    let Some(profile) = profile else { return };
    let kind = profile.text("type");
    let is_seccomp = noun == "seccomp";
    match kind {
        "" if is_seccomp => {
            report.required(&path.child("type"), "type is required when seccompProfile is set")
        }
        "" => report.required(&path.child("type"), "type is required when appArmorProfile is set"),
        "Localhost" if !profile.has("localhostProfile") => {
            let message = format!("must be set when {noun} type is Localhost");
            report.required(&path.child("localhostProfile"), message);
        }
        "Localhost" if is_seccomp => {
            check_descending(profile.text("localhostProfile"), &path.child("localhostProfile"), report)
        }
        "Localhost" => {}
        "RuntimeDefault" | "Unconfined" => {
            if profile.has("localhostProfile") {
                let message = format!("can only be set when {noun} type is Localhost");
                let shown = if is_seccomp { profile.clone() } else { profile["localhostProfile"].clone() };
                report.invalid(&path.child("localhostProfile"), shown, message);
            }
        }
        other => {
            report.not_supported(&path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"])
        }
    }
}

/// A relative path that never goes up.
pub(super) fn check_descending(target: &str, path: &Path, report: &mut Report) {
    if target.starts_with('/') {
        report.invalid(path, target, "must be a relative path");
    }
    check_no_backsteps(target, path, report);
}

pub(super) fn check_no_backsteps(target: &str, path: &Path, report: &mut Report) {
    if target.split('/').any(|part| part == "..") {
        report.invalid(path, target, "must not contain '..'");
    }
}

/// A user namespace of its own goes with no other namespace of the node.
fn check_user_namespace(spec: &Value, path: &Path, report: &mut Report) {
    if spec.at("hostUsers") != Some(&Value::Bool(false)) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.flag(field) {
            report.forbidden(&path.child(shown), "when `hostUsers` is false");
        }
    }
}

/// What one operating system does not know must not be set for it.
pub(super) fn check_os(spec: &Value, path: &Path, report: &mut Report) {
    let Some(os) = spec.at("os") else { return };
    match os.text("name") {
        "" => report.required(&path.child("os").child("name"), "cannot be empty"),
        "linux" => check_linux(spec, path, report),
        "windows" => check_windows(spec, path, report),
        other => report.not_supported(&path.child("os"), other, &["linux", "windows"]),
    }
}

fn check_linux(spec: &Value, path: &Path, report: &mut Report) {
    if spec.has("securityContext.windowsOptions") {
        let at = path.child("securityContext").child("windowsOptions");
        report.forbidden(&at, "windows options cannot be set for a linux pod");
    }
    for list in super::default::CONTAINER_LISTS {
        for (at, container) in spec.list(list).iter().enumerate() {
            if container.has("securityContext.windowsOptions") {
                let at = path.child(list).index(at).child("securityContext").child("windowsOptions");
                report.forbidden(&at, "windows options cannot be set for a linux pod");
            }
        }
    }
}

fn check_windows(spec: &Value, path: &Path, report: &mut Report) {
    const MESSAGE: &str = "cannot be set for a windows pod";
    let context = path.child("securityContext");
    for field in ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"] {
        if spec.flag(field) || (field == "hostUsers" && spec.has(field)) {
            report.forbidden(&path.child(field), MESSAGE);
        }
    }
    let of_pods = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
    ];
    for field in of_pods {
        if spec.at("securityContext").is_some_and(|found| found.has(field)) {
            report.forbidden(&context.child(field), MESSAGE);
        }
    }
    let of_containers = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for list in super::default::CONTAINER_LISTS {
        for (at, container) in spec.list(list).iter().enumerate() {
            for field in of_containers {
                if container.at("securityContext").is_some_and(|found| found.has(field)) {
                    report.forbidden(
                        &path.child(list).index(at).child("securityContext").child(field),
                        MESSAGE,
                    );
                }
            }
        }
    }
}
