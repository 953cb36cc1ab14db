//! The conditions of a pod that its node sets (kubelet: pkg/kubelet/status/generate.go).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::resize::{IN_PROGRESS, PENDING};
use crate::spec::{Role, is_sidecar, pod_spec, specs};

pub(crate) const OWNED: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// The condition of pods that end for a reason that is not their own.
pub(crate) const DISRUPTION: &str = "DisruptionTarget";

/// Says that the node ends the pod.
pub(crate) fn disruption(pod: &Pod, message: &str, last: &[PodCondition], now: Timestamp) -> PodCondition {
    let before = last.iter().find(|it| it.type_ == DISRUPTION).cloned();
    let value = TrueBecause("TerminationByKubelet");
    let condition = condition(DISRUPTION, value, before, pod.metadata.generation, now);
    PodCondition { message: Some(message.to_owned()), ..condition }
}

/// All conditions: those of others as the API has them, and the node's own.
///
/// A condition that stays as it was in `last` (or in the API) keeps its time.
pub(crate) fn of(
    pod: &Pod,
    status: &PodStatus,
    sandbox: bool,
    last: &[PodCondition],
    now: Timestamp,
) -> Vec<PodCondition> {
    let mut conditions = foreign(pod);
    let containers_ready = containers_ready(pod, status);
    let ready = ready(pod, &conditions, &containers_ready);
    let own = [
        ("PodReadyToStartContainers", if sandbox { True } else { False("", String::new()) }),
        ("Initialized", initialized(pod, status)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", True),
    ];
    for (type_, value) in own {
        let known = |list: &[PodCondition]| list.iter().find(|it| it.type_ == type_).cloned();
        let before = known(last).or_else(|| {
            known(pod.status.as_ref().and_then(|it| it.conditions.as_deref()).unwrap_or_default())
        });
        conditions.push(condition(type_, value, before, pod.metadata.generation, now));
    }
    conditions
}

/// The conditions that others set, as the API has them.
pub(crate) fn foreign(pod: &Pod) -> Vec<PodCondition> {
    let api = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_own = |name: &str| OWNED.contains(&name) || [PENDING, IN_PROGRESS].contains(&name);
    api.into_iter().flatten().filter(|it| !is_own(&it.type_)).cloned().collect()
}

#[derive(Clone)]
enum Value {
    True,
    TrueBecause(&'static str),
    False(&'static str, String),
}
use Value::{False, True, TrueBecause};

fn condition(
    type_: &str,
    value: Value,
    before: Option<PodCondition>,
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let (status, reason, message) = match value {
        True => ("True", "", String::new()),
        TrueBecause(reason) => ("True", reason, String::new()),
        False(reason, message) => ("False", reason, message),
    };
    let kept = before.filter(|before| before.status == status).and_then(|before| before.last_transition_time);
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: some(reason),
        message: some(&message),
        last_transition_time: Some(kept.unwrap_or(Time(now))),
        last_probe_time: None,
        observed_generation: generation,
    }
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.into_iter().find(|status| status.name == name)
}

fn containers_ready(pod: &Pod, status: &PodStatus) -> Value {
    match status.phase.as_deref() {
        Some("Succeeded") => return False("PodCompleted", String::new()),
        Some("Failed") => return False("PodFailed", String::new()),
        _ => {}
    }
    let watched = specs(pod).into_iter().filter(|spec| matches!(spec.role, Role::Sidecar | Role::Main));
    let unready: Vec<_> = watched
        .map(|spec| spec.container.name)
        .filter(|name| find(status, name).is_none_or(|status| !status.ready))
        .collect();
    if unready.is_empty() {
        return True;
    }
    False("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}

fn ready(pod: &Pod, conditions: &[PodCondition], containers_ready: &Value) -> Value {
    if let False(..) = containers_ready {
        return containers_ready.clone();
    }
    let gates = pod_spec(pod).readiness_gates.iter().flatten();
    let closed: Vec<_> = gates
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match conditions.iter().find(|condition| condition.type_ == *name) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate \"{name}\" does not exist."))
                }
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if closed.is_empty() { True } else { False("ReadinessGatesNotReady", closed.join(", ")) }
}

fn initialized(pod: &Pod, status: &PodStatus) -> Value {
    if status.phase.as_deref() == Some("Succeeded") {
        return TrueBecause("PodCompleted");
    }
    let has_run = |status: &ContainerStatus| {
        status.started == Some(true)
            || [&status.state, &status.last_state]
                .into_iter()
                .flatten()
                .any(|state| state.running.is_some() || state.terminated.is_some())
    };
    // Sidecars that restart later do not take the pod back to its beginning.
    if status.container_statuses.iter().flatten().any(|it| it.container_id.is_some() && has_run(it)) {
        return True;
    }
    let init = pod_spec(pod).init_containers.iter().flatten();
    let incomplete: Vec<_> = init
        .filter(|container| {
            !find(status, &container.name)
                .is_some_and(|it| if is_sidecar(container) { it.started == Some(true) } else { it.ready })
        })
        .map(|container| container.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return True;
    }
    False(
        "ContainersNotInitialized",
        format!("containers with incomplete status: [{}]", incomplete.join(" ")),
    )
}
