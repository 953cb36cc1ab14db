//! How many pods a PodDisruptionBudget lets go
//! (kube-controller-manager: pkg/controller/disruption, v1.37).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Severity};
use crate::pod;
use crate::share::{self, Round};

/// How long an evicted pod may take to be deleted before it counts as staying.
const PATIENCE: SignedDuration = SignedDuration::from_secs(120);

/// What is known when deciding.
pub struct Observed<'a> {
    /// The budget.
    pub budget: &'a PodDisruptionBudget,
    /// The pods that it selects.
    pub pods: &'a [Arc<Pod>],
    /// The replicas that the controllers of these pods want, or why that is not known.
    pub expected: Result<i32, String>,
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let budget = observed.budget;
    let Some(spec) = &budget.spec else { return Vec::new() };
    let old = budget.status.clone().unwrap_or_default();
    let pods = i32::try_from(observed.pods.len()).unwrap_or(i32::MAX);
    let counted = matches!(spec.min_available, Some(IntOrString::Int(_)));
    let total = if counted { Ok(pods) } else { observed.expected.clone() };
    let total = match total {
        Ok(total) => total,
        Err(reason) => return failed(budget, &old, &reason, now),
    };
    let desired = match (&spec.max_unavailable, &spec.min_available) {
        (Some(max), _) => (total - share::of(Some(max), total, Round::Up)).max(0),
        (None, Some(min)) => share::of(Some(min), total, Round::Up),
        (None, None) => 0,
    };
    let (disrupted, again, mut actions) = disrupted(budget, &old, observed.pods, now);
    let healthy = |pod: &&Arc<Pod>| {
        let gone = pod.metadata.name.as_ref().is_some_and(|name| disrupted.contains_key(name));
        pod::ready(pod) && !pod::deleting(pod) && !gone
    };
    let healthy = i32::try_from(observed.pods.iter().filter(healthy).count()).unwrap_or(i32::MAX);
    let allowed = if total > 0 { (healthy - desired).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(total),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: old.conditions.clone(),
    };
    let (value, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set(&mut status, value, reason, "", budget.metadata.generation, now);
    actions.extend(Action::update_status(budget, &old, &status));
    actions.extend(again.map(Action::RequeueAfter));
    actions
}

/// Nothing may go while it is not known how much there should be.
fn failed(
    budget: &PodDisruptionBudget,
    old: &PodDisruptionBudgetStatus,
    reason: &str,
    now: Timestamp,
) -> Vec<Action> {
    let mut status = old.clone();
    status.disruptions_allowed = Some(0);
    set(&mut status, "False", "SyncFailed", reason, budget.metadata.generation, now);
    let message = format!("Failed to calculate the number of expected pods: {reason}");
    let tell = Action::event(budget, Severity::Warning, "CalculateExpectedPodCountFailed", message);
    Action::update_status(budget, old, &status).into_iter().flat_map(|write| [tell.clone(), write]).collect()
}

/// Evicted pods whose deletion is still awaited, when to look at them again, and what to tell.
fn disrupted(
    budget: &PodDisruptionBudget,
    old: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>, Vec<Action>) {
    let (mut kept, mut again, mut actions) = (BTreeMap::new(), None::<Duration>, Vec::new());
    for one in pods.iter().filter(|one| !pod::deleting(one)) {
        let name = one.metadata.name.clone().unwrap_or_default();
        let Some(since) = old.disrupted_pods.as_ref().and_then(|pods| pods.get(&name)) else { continue };
        let due = since.0.checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
        if due > now {
            let wait = Duration::try_from(due.duration_since(now)).unwrap_or_default();
            again = Some(again.map_or(wait, |known| known.min(wait)));
            kept.insert(name, since.clone());
        } else {
            let (namespace, budget) = (budget.metadata.namespace.as_deref(), budget.metadata.name.as_deref());
            let place = format!("{}/{}", namespace.unwrap_or_default(), budget.unwrap_or_default());
            let message = format!("Pod was expected by PDB {place} to be deleted but it wasn't");
            actions.push(Action::event(&**one, Severity::Warning, "NotDeleted", message));
        }
    }
    (kept, again, actions)
}

fn set(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter_mut().find(|condition| condition.type_ == "DisruptionAllowed");
    let new = Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match known {
        Some(known) => {
            let since = known.last_transition_time.clone();
            let same = known.status == new.status;
            *known = Condition { last_transition_time: if same { since } else { Time(now) }, ..new };
        }
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, object};

    #[test]
    fn budgets_allow_what_is_healthy_beyond_need() {
        // Spec, expected replicas, healthy and sick pods; desired healthy, allowed.
        let cases = [
            (json!({"minAvailable": 2}), Ok(3), 3, 0, 2, 1),
            (json!({"minAvailable": 2}), Err("none".to_owned()), 2, 1, 2, 0),
            (json!({"minAvailable": "50%"}), Ok(3), 3, 0, 2, 1),
            (json!({"maxUnavailable": 1}), Ok(3), 3, 0, 2, 1),
            (json!({"maxUnavailable": 1}), Ok(3), 2, 1, 2, 0),
            (json!({"maxUnavailable": "30%"}), Ok(10), 10, 0, 7, 3),
            (json!({"maxUnavailable": 0}), Ok(3), 3, 0, 3, 0),
            (json!({"minAvailable": 1}), Ok(0), 0, 0, 1, 0),
        ];
        for (spec, expected, healthy, sick, desired, allowed) in cases {
            let label = spec.to_string();
            let budget: PodDisruptionBudget =
                object(json!({"metadata": {"name": "b", "namespace": "ns"}, "spec": spec}));
            let pod = |number: usize| -> Arc<Pod> {
                let status = if number < healthy { "True" } else { "False" };
                Arc::new(object(json!({"metadata": {"name": format!("p{number}")},
                    "status": {"conditions": [{"type": "Ready", "status": status}]}})))
            };
            let pods: Vec<_> = (0..healthy + sick).map(pod).collect();
            let actions = decide(&Observed { budget: &budget, pods: &pods, expected }, at(0));
            let Action::Patch(patch) = &actions[0] else { panic!("{label}: {actions:?}") };
            let status: &Value = &patch.body["status"];
            assert_eq!(
                (status["desiredHealthy"].clone(), status["disruptionsAllowed"].clone()),
                (json!(desired), json!(allowed)),
                "{label}"
            );
        }
    }
}
