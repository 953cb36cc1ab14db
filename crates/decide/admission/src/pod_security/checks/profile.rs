//! Confinement by the kernel: AppArmor, SELinux, seccomp and kernel parameters.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::pod::{Pod, Violation, containers, items, plural, quoted, setters, text};

const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// AppArmor may not be switched off.
pub(crate) fn app_armor(pod: Pod<'_>) -> Option<Violation> {
    let profile = |holder: &Value| forbidden_type(&holder["securityContext"]["appArmorProfile"]);
    let mut values = BTreeSet::new();
    values.extend(profile(pod.spec));
    let whole = !values.is_empty();
    let bad = pod.containers_that(|container| {
        let found = profile(container);
        let any = found.is_some();
        values.extend(found);
        any
    });
    let mut annotations: Vec<String> = pod
        .annotations()
        .filter(|(key, value)| key.starts_with(APP_ARMOR_ANNOTATION) && !app_armor_annotation_allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    annotations.sort();
    let noted =
        (!annotations.is_empty()).then(|| plural("annotation", "annotations", annotations.len()).to_owned());
    let who: Vec<String> = setters(whole, &bad).into_iter().chain(noted).collect();
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let detail = format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&values));
    Some(Violation::new(reason, detail))
}

fn app_armor_annotation_allowed(value: &str) -> bool {
    value.is_empty() || value == "runtime/default" || value.starts_with("localhost/")
}

/// The type of a profile that is neither the runtime's nor one of the host's.
fn forbidden_type(profile: &Value) -> Option<String> {
    if !profile.is_object() {
        return None;
    }
    let kind = text(&profile["type"]);
    (!["RuntimeDefault", "Localhost"].contains(&kind)).then(|| kind.to_owned())
}

/// SELinux types since v1.0.
pub(crate) fn se_linux_1_0(pod: Pod<'_>) -> Option<Violation> {
    se_linux(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

/// SELinux types since v1.31.
pub(crate) fn se_linux_1_31(pod: Pod<'_>) -> Option<Violation> {
    se_linux(pod, &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

fn se_linux(pod: Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let (mut user, mut role) = (false, false);
    let mut wrong = |holder: &Value| {
        let options = &holder["securityContext"]["seLinuxOptions"];
        let kind = text(&options["type"]);
        let bad_type = !allowed.contains(&kind);
        if bad_type {
            types.insert(kind.to_owned());
        }
        let (has_user, has_role) = (!text(&options["user"]).is_empty(), !text(&options["role"]).is_empty());
        user |= has_user;
        role |= has_role;
        bad_type || has_user || has_role
    };
    let whole = wrong(pod.spec);
    let bad = pod.containers_that(&mut wrong);
    let who = setters(whole, &bad)?;
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    data.extend(user.then(|| "user may not be set".to_owned()));
    data.extend(role.then(|| "role may not be set".to_owned()));
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", data.join("; "));
    Some(Violation::new("seLinuxOptions", detail))
}

const SECCOMP: &str = "seccompProfile";

/// Seccomp before it had fields.
pub(crate) fn seccomp_annotations(pod: Pod<'_>) -> Option<Violation> {
    let annotations = &pod.metadata["annotations"];
    let of_containers = pod.containers().map(|container| {
        format!("container.seccomp.security.alpha.kubernetes.io/{}", text(&container["name"]))
    });
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned()).chain(of_containers);
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| annotations[&key].as_str().map(|value| (key.clone(), value)))
        .filter(|(_, value)| {
            !["runtime/default", "docker/default"].contains(value) && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let detail = format!(
        "forbidden {} {}",
        plural("annotation", "annotations", forbidden.len()),
        forbidden.into_iter().collect::<Vec<_>>().join(", ")
    );
    Some(Violation::new(SECCOMP, detail))
}

/// Seccomp may not be switched off.
pub(crate) fn seccomp_baseline(pod: Pod<'_>) -> Option<Violation> {
    let profile = |holder: &Value| forbidden_type(&holder["securityContext"]["seccompProfile"]);
    let mut values = BTreeSet::new();
    values.extend(profile(pod.spec));
    let whole = !values.is_empty();
    let bad = pod.containers_that(|container| {
        let found = profile(container);
        let any = found.is_some();
        values.extend(found);
        any
    });
    let who = setters(whole, &bad)?;
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&values));
    Some(Violation::new(SECCOMP, detail))
}

/// Seccomp must be switched on.
pub(crate) fn seccomp_restricted(pod: Pod<'_>) -> Option<Violation> {
    if let Some(violation) = seccomp_baseline(pod) {
        return Some(violation);
    }
    let set = |holder: &Value| holder["securityContext"]["seccompProfile"].is_object();
    let without = pod.containers_that(|container| !set(container) && !set(pod.spec));
    (!without.is_empty()).then(|| {
        let detail = format!(
            r#"pod or {} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#,
            containers(&without)
        );
        Violation::new(SECCOMP, detail)
    })
}

/// [`seccomp_restricted`], where the fields exist.
pub(crate) fn seccomp_unless_windows(pod: Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { seccomp_restricted(pod) }
}

/// Kernel parameters that belong to the pod alone, with the minor version since which they are safe.
const SYSCTLS: &[(&str, u64)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
    ("net.ipv4.tcp_slow_start_after_idle", 37),
    ("net.ipv4.tcp_notsent_lowat", 37),
];

/// Kernel parameters that are safe since v1.`MINOR`.
pub(crate) fn sysctls<const MINOR: u64>(pod: Pod<'_>) -> Option<Violation> {
    let safe = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= MINOR);
    let names = items(&pod.spec["securityContext"]["sysctls"]).map(|sysctl| text(&sysctl["name"]));
    let forbidden: Vec<&str> = names.filter(|name| !safe(name)).collect();
    (!forbidden.is_empty()).then(|| Violation::new("forbidden sysctls", forbidden.join(", ")))
}
