//! What processes may do and as whom they run.

use std::collections::BTreeSet;

use super::super::pod::{Pod, Violation, containers, items, quoted, setters, text};

/// `privileged: true`
pub(crate) fn privileged(pod: Pod<'_>) -> Option<Violation> {
    let bad = pod.containers_that(|container| container["securityContext"]["privileged"] == true);
    (!bad.is_empty()).then(|| {
        let detail = format!("{} must not set securityContext.privileged=true", containers(&bad));
        Violation::new("privileged", detail)
    })
}

/// `allowPrivilegeEscalation` must be false.
pub(crate) fn escalation(pod: Pod<'_>) -> Option<Violation> {
    let bad =
        pod.containers_that(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    (!bad.is_empty()).then(|| {
        let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
        Violation::new("allowPrivilegeEscalation != false", detail)
    })
}

/// [`escalation`], where the field exists.
pub(crate) fn escalation_unless_windows(pod: Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { escalation(pod) }
}

/// The capabilities that containers have by default.
const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Only default capabilities may be added.
pub(crate) fn capabilities_baseline(pod: Pod<'_>) -> Option<Violation> {
    let (bad, added) = adding_others_than(pod, DEFAULT_CAPABILITIES);
    (!bad.is_empty()).then(|| Violation::new("non-default capabilities", must_not_add(&bad, &added)))
}

/// All must be dropped and only one may be added.
pub(crate) fn capabilities_restricted(pod: Pod<'_>) -> Option<Violation> {
    let keeping = pod.containers_that(|container| {
        !items(&container["securityContext"]["capabilities"]["drop"]).any(|dropped| dropped == "ALL")
    });
    let (adding, added) = adding_others_than(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details
            .push(format!(r#"{} must set securityContext.capabilities.drop=["ALL"]"#, containers(&keeping)));
    }
    if !adding.is_empty() {
        details.push(must_not_add(&adding, &added));
    }
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

/// [`capabilities_restricted`], where the fields exist.
pub(crate) fn capabilities_unless_windows(pod: Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { capabilities_restricted(pod) }
}

fn adding_others_than<'a>(pod: Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let mut others = BTreeSet::new();
    let bad = pod.containers_that(|container| {
        let added = items(&container["securityContext"]["capabilities"]["add"]).map(text);
        let found: Vec<&str> = added.filter(|name| !allowed.contains(name)).collect();
        let any = !found.is_empty();
        others.extend(found);
        any
    });
    (bad, others)
}

fn must_not_add(bad: &[&str], added: &BTreeSet<&str>) -> String {
    format!("{} must not include {} in securityContext.capabilities.add", containers(bad), quoted(added))
}

/// /proc must be masked as usual.
pub(crate) fn proc_mount(pod: Pod<'_>) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let bad = pod.containers_that(|container| {
        let found = container["securityContext"]["procMount"].as_str().filter(|kind| *kind != "Default");
        types.extend(found);
        found.is_some()
    });
    (!bad.is_empty()).then(|| {
        let detail =
            format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(&types));
        Violation::new("procMount", detail)
    })
}

/// [`proc_mount`], unless the pod's users are its own.
pub(crate) fn proc_mount_relaxed(pod: Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { proc_mount(pod) }
}

/// Containers must run as another user than root.
pub(crate) fn non_root(pod: Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let whole = pod.spec["securityContext"]["runAsNonRoot"].as_bool();
    let own = |container: &serde_json::Value| container["securityContext"]["runAsNonRoot"].as_bool();
    let explicit = pod.containers_that(|container| own(container) == Some(false));
    if let Some(who) = setters(whole == Some(false), &explicit) {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return Some(Violation::new(REASON, detail));
    }
    let implicit = pod.containers_that(|container| own(container).is_none() && whole != Some(true));
    (!implicit.is_empty()).then(|| {
        let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&implicit));
        Violation::new(REASON, detail)
    })
}

/// [`non_root`], unless the pod's users are its own.
pub(crate) fn non_root_relaxed(pod: Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { non_root(pod) }
}

/// Nobody may ask for user 0.
pub(crate) fn user(pod: Pod<'_>) -> Option<Violation> {
    let bad = pod.containers_that(|container| container["securityContext"]["runAsUser"] == 0);
    let who = setters(pod.spec["securityContext"]["runAsUser"] == 0, &bad)?;
    Some(Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

/// [`user`], unless the pod's users are its own.
pub(crate) fn user_relaxed(pod: Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { user(pod) }
}
