//! Pods that do not tolerate what their node has become
//! (kube-controller-manager: pkg/controller/tainteviction, v1.37).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Severity};
use crate::{node, pod};

/// What to do about a pod on a node. `since` is when the node's taints were first seen, for taints that
/// do not say when they were added.
pub fn decide(running: &Pod, on: &Node, since: Timestamp, now: Timestamp) -> Vec<Action> {
    if pod::deleting(running) || pod::finished(running) {
        return Vec::new();
    }
    let tolerations = running.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node::taints(on).iter().filter(|taint| taint.effect == "NoExecute");
    let deadline = taints.filter_map(|taint| deadline(taint, tolerations, since)).min();
    match deadline {
        None => Vec::new(),
        Some(deadline) if deadline <= now => evict(running, now),
        Some(deadline) => {
            let wait = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
            vec![Action::RequeueAfter(wait + Duration::from_millis(1))]
        }
    }
}

/// When a taint ends the pod; never if it is tolerated without limit.
fn deadline(taint: &Taint, tolerations: &[Toleration], since: Timestamp) -> Option<Timestamp> {
    let added = taint.time_added.as_ref().map_or(since, |time| time.0);
    let mut tolerating = tolerations.iter().filter(|one| tolerates(one, taint)).peekable();
    if tolerating.peek().is_none() {
        return Some(Timestamp::MIN);
    }
    let seconds = tolerating.filter_map(|one| one.toleration_seconds).min()?;
    Some(added.checked_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(Timestamp::MAX))
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let effect = text(&toleration.effect);
    let key = text(&toleration.key);
    let value = taint.value.as_deref().unwrap_or_default();
    let wanted = text(&toleration.value);
    let number = || Some((value.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?));
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref().unwrap_or("Equal") {
            "Exists" => true,
            "Lt" => number().is_some_and(|(value, bound)| value < bound),
            "Gt" => number().is_some_and(|(value, bound)| value > bound),
            _ => !key.is_empty() && wanted == value,
        }
}

/// Tells that a pod that was to be evicted stays after all.
pub fn spared(running: &Pod) -> Action {
    let namespace = running.metadata.namespace.as_deref().unwrap_or_default();
    let name = running.metadata.name.as_deref().unwrap_or_default();
    let message = format!("Cancelling deletion of Pod {namespace}/{name}");
    Action::event(running, Severity::Normal, "TaintManagerEviction", message)
}

fn evict(running: &Pod, now: Timestamp) -> Vec<Action> {
    let namespace = running.metadata.namespace.as_deref().unwrap_or_default();
    let name = running.metadata.name.as_deref().unwrap_or_default();
    let message = format!("Marking for deletion Pod {namespace}/{name}");
    let mut actions = vec![Action::event(running, Severity::Normal, "TaintManagerEviction", message)];
    let reason = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
    actions.extend(disrupted(running, reason, None, now));
    actions.push(Action::delete(running).into());
    actions
}

/// Writes into a pod's status why it is being deleted.
pub fn disrupted(doomed: &Pod, why: (&str, &str), phase: Option<&str>, now: Timestamp) -> Option<Action> {
    let old = doomed.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().any(|one| one.type_ == "DisruptionTarget" && one.status == "True");
    if !known && !why.0.is_empty() {
        conditions.retain(|one| one.type_ != "DisruptionTarget");
        conditions.push(PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some(why.0.to_owned()),
            message: Some(why.1.to_owned()),
            last_transition_time: Some(Time(now)),
            ..PodCondition::default()
        });
    }
    if let Some(phase) = phase {
        status.phase = Some(phase.to_owned());
    }
    Action::update_status(doomed, &old, &status)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, object, summary};

    #[test]
    fn tolerations_decide_when_a_pod_goes() {
        let unreachable =
            json!([{"key": node::UNREACHABLE, "effect": "NoExecute", "timeAdded": at(0).to_string()}]);
        let for_time = |seconds: Value| json!([{"key": node::UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        let cases = [
            (json!([]), for_time(json!(300)), 10, None),
            (unreachable.clone(), json!([]), 0, Some("delete Pod p")),
            (unreachable.clone(), for_time(json!(300)), 10, Some("again 290.001s")),
            (unreachable.clone(), for_time(json!(300)), 300, Some("delete Pod p")),
            (unreachable.clone(), for_time(json!(null)), 9999, None),
            (unreachable.clone(), json!([{"operator": "Exists"}]), 9999, None),
            (unreachable, json!([{"key": "other", "operator": "Exists"}]), 0, Some("delete Pod p")),
            (json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]), json!([]), 0, None),
            (
                json!([{"key": "k", "value": "v", "effect": "NoExecute"}]),
                json!([{"key": "k", "value": "v"}]),
                0,
                None,
            ),
            (
                json!([{"key": "k", "value": "v", "effect": "NoExecute"}]),
                json!([{"key": "k", "value": "w"}]),
                0,
                Some("delete Pod p"),
            ),
            (
                json!([{"key": "k", "value": "5", "effect": "NoExecute"}]),
                json!([{"key": "k", "operator": "Lt", "value": "7"}]),
                0,
                None,
            ),
        ];
        for (taints, tolerations, now, expected) in cases {
            let label = format!("{taints} {tolerations} at {now}");
            let on: Node = object(json!({"metadata": {"name": "n"}, "spec": {"taints": taints}}));
            let running: Pod = object(json!({"metadata": {"name": "p", "namespace": "ns"},
                "spec": {"containers": [], "tolerations": tolerations}, "status": {"phase": "Running"}}));
            let got = decide(&running, &on, at(0), at(now));
            assert_eq!(got.last().map(summary).as_deref(), expected, "{label}");
        }
    }
}
