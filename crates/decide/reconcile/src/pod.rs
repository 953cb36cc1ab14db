//! Facts about pods that several controllers need.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;

/// The phase, or "" before there is one.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether it has ended for good.
pub fn finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether its deletion was asked for.
pub fn deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it runs, or may still.
pub fn active(pod: &Pod) -> bool {
    !finished(pod) && !deleting(pod)
}

/// Whether it ends, but has not ended.
pub fn terminating(pod: &Pod) -> bool {
    !finished(pod) && deleting(pod)
}

/// One of its conditions.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// Whether it is ready.
pub fn ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when it has been ready, if it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether it has been ready long enough; else, if it is ready, after how long it will.
pub fn available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !ready(pod) {
        return Availability::No;
    }
    if min_ready_seconds <= 0 {
        return Availability::Yes;
    }
    let Some(since) = ready_since(pod) else { return Availability::No };
    let wait = i64::from(min_ready_seconds) * 1000 - since.until(now).map_or(0, |span| milliseconds(&span));
    if wait <= 0 {
        Availability::Yes
    } else {
        Availability::After(Duration::from_millis(wait.unsigned_abs()))
    }
}

fn milliseconds(span: &k8s_openapi::jiff::Span) -> i64 {
    span.total(k8s_openapi::jiff::Unit::Millisecond).map_or(0, |total| total as i64)
}

/// When a pod counts as available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Now.
    Yes,
    /// When it has been ready that much longer.
    After(Duration),
    /// It is not ready.
    No,
}

/// The node it is bound to, or "".
pub fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// A pod made by a template for its owner; the server completes the name.
pub fn from_template(namespace: &str, owner: &OwnerReference, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix(&owner.name)),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// `name-`, or `name` where a dash would make no valid prefix.
fn prefix(name: &str) -> String {
    let dashed = format!("{name}-");
    if plimsoll_meta::name::is_dns1123_subdomain(&format!("{dashed}0")).is_ok() {
        dashed
    } else {
        name.to_owned()
    }
}

/// How often its containers were restarted: the most of one container.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|status| status.restart_count).max().unwrap_or_default()
}

/// [`restarts`] of the init containers that run beside the others.
pub fn sidecar_restarts(pod: &Pod) -> i32 {
    let declared = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<_> = declared
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    let statuses = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    let of_sidecars = statuses.filter(|status| sidecars.contains(&status.name.as_str()));
    of_sidecars.map(|status| status.restart_count).max().unwrap_or_default()
}

/// When it was made.
pub fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}
