//! How many pods a PodDisruptionBudget lets go
//! (kube-controller-manager: pkg/controller/disruption, v1.37).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    Condition, LabelSelector, LabelSelectorRequirement, Time,
};
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
    pub expected: Result<Expected, Unknown>,
}

/// How many pods there should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The sum of what the pods' controllers want.
    pub replicas: i32,
    /// Whether there are pods without a controller, which are not counted.
    pub unmanaged: bool,
}

/// Why that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// A pod's controller is not there; the pod's name.
    NoController(String),
    /// A pod's controller does not say, in this sentence.
    Silent(String),
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoController(pod) => write!(f, "found no controllers for pod {pod:?}"),
            Self::Silent(sentence) => f.write_str(sentence),
        }
    }
}

/// Whether it takes the pods' controllers to say how many pods there should be: a number of pods that have
/// to be available is enough.
pub fn asks_controllers(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(_), _) | (None, Some(IntOrString::String(_))) => true,
        (None, Some(IntOrString::Int(_)) | None) => false,
    }
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let budget = observed.budget;
    let Some(spec) = &budget.spec else { return Vec::new() };
    let old = budget.status.clone().unwrap_or_default();
    let expected = if asks_controllers(budget) {
        match &observed.expected {
            Ok(expected) => *expected,
            Err(reason) => return failed(budget, &old, reason, now),
        }
    } else {
        let replicas = i32::try_from(observed.pods.len()).unwrap_or(i32::MAX);
        Expected { replicas, unmanaged: false }
    };
    let total = expected.replicas;
    let desired = match (&spec.max_unavailable, &spec.min_available) {
        (Some(max), _) => (total - share::of(Some(max), total, Round::Up)).max(0),
        (None, Some(min)) => share::of(Some(min), total, Round::Up),
        (None, None) => 0,
    };
    let (disrupted, again, mut actions) = disrupted(budget, &old, observed.pods, now);
    if observed.pods.is_empty() {
        actions.push(Action::event(budget, Severity::Normal, "NoPods", "No matching pods found"));
    }
    if expected.unmanaged {
        actions.push(Action::event(budget, Severity::Warning, "UnmanagedPods", unmanaged(spec)));
    }
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
    reason: &Unknown,
    now: Timestamp,
) -> Vec<Action> {
    let mut status = old.clone();
    status.disruptions_allowed = Some(0);
    // Required fields of a status that was never written.
    for field in [&mut status.current_healthy, &mut status.desired_healthy, &mut status.expected_pods] {
        field.get_or_insert(0);
    }
    set(&mut status, "False", "SyncFailed", &reason.to_string(), old.observed_generation, now);
    let Some(write) = Action::update_status(budget, old, &status) else { return Vec::new() };
    let warn = |why, message| Action::event(budget, Severity::Warning, why, message);
    let mut actions = Vec::new();
    if let Unknown::NoController(_) = reason {
        actions.push(warn("NoControllers", reason.to_string()));
    }
    let message = format!("Failed to calculate the number of expected pods: {reason}");
    actions.extend([warn("CalculateExpectedPodCountFailed", message), write]);
    actions
}

fn unmanaged(spec: &PodDisruptionBudgetSpec) -> String {
    let selector = spec.selector.as_ref().map(written).unwrap_or_else(|| "nil".to_owned());
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

/// A selector as upstream prints it.
fn written(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let expression = |one: &LabelSelectorRequirement| {
        let values = one.values.clone().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator)
    };
    let expressions = selector.match_expressions.iter().flatten().map(expression);
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<Vec<_>>().join(" ").trim_end(),
        expressions.collect::<String>()
    )
}

/// Takes back that a pod is about to be disrupted when nobody has deleted it; the node's agent may take
/// its time.
pub fn settle(spared: &Pod, now: Timestamp) -> Vec<Action> {
    let Some(told) = pod::condition(spared, "DisruptionTarget").filter(|told| told.status == "True") else {
        return Vec::new();
    };
    if !pod::active(spared) || told.reason.as_deref() == Some("TerminationByKubelet") {
        return Vec::new();
    }
    let since = told.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    let due = since.checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
    if due > now {
        return vec![Action::RequeueAfter(Duration::try_from(due.duration_since(now)).unwrap_or_default())];
    }
    let old = spared.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let conditions = status.conditions.iter_mut().flatten();
    for condition in conditions.filter(|condition| condition.type_ == "DisruptionTarget") {
        condition.status = "False".to_owned();
        condition.last_transition_time = Some(Time(now));
    }
    Action::update_status(spared, &old, &status).into_iter().collect()
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
    use crate::testing::{at, object, summary};

    #[test]
    fn budgets_allow_what_is_healthy_beyond_need() {
        // Spec, expected replicas, healthy and sick pods; desired healthy, allowed.
        let cases = [
            (json!({"minAvailable": 2}), Ok(3), 3, 0, 2, 1),
            (json!({"minAvailable": 2}), Err(Unknown::NoController("p".to_owned())), 2, 1, 2, 0),
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
            let expected = expected.map(|replicas| Expected { replicas, unmanaged: false });
            let actions = decide(&Observed { budget: &budget, pods: &pods, expected }, at(0));
            let Some(Action::Patch(patch)) = actions.last() else { panic!("{label}: {actions:?}") };
            let status: &Value = &patch.body["status"];
            assert_eq!(
                (status["desiredHealthy"].clone(), status["disruptionsAllowed"].clone()),
                (json!(desired), json!(allowed)),
                "{label}"
            );
        }
    }

    fn budget(status: Value) -> PodDisruptionBudget {
        object(json!({"metadata": {"name": "b", "namespace": "ns", "generation": 2},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}, "status": status}))
    }

    #[test]
    fn the_condition_says_why_disruptions_are_allowed_or_not() {
        let pods = |count: usize| -> Vec<Arc<Pod>> {
            let pod = |number: usize| {
                object(json!({"metadata": {"name": format!("p{number}")},
                    "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))
            };
            (0..count).map(|number| Arc::new(pod(number))).collect()
        };
        let known = |replicas| Ok(Expected { replicas, unmanaged: false });
        let silent = "jobs.batch does not implement the scale subresource";
        let cases = [
            (known(2), 2, "True", "SufficientPods", "", 2),
            (known(3), 2, "False", "InsufficientPods", "", 2),
            (Err(Unknown::Silent(silent.to_owned())), 2, "False", "SyncFailed", silent, 1),
            (
                Err(Unknown::NoController("p".to_owned())),
                2,
                "False",
                "SyncFailed",
                r#"found no controllers for pod "p""#,
                1,
            ),
        ];
        for (expected, count, status, reason, message, generation) in cases {
            let budget = budget(json!({"observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 1,
                "expectedPods": 1, "disruptionsAllowed": 7}));
            let pods = pods(count);
            let actions =
                decide(&Observed { budget: &budget, pods: &pods, expected: expected.clone() }, at(0));
            let Some(Action::Patch(patch)) = actions.last() else { panic!("{reason}: {actions:?}") };
            let condition = &patch.body["status"]["conditions"][0];
            assert_eq!(
                (
                    &condition["status"],
                    &condition["reason"],
                    &condition["message"],
                    &condition["observedGeneration"]
                ),
                (&json!(status), &json!(reason), &json!(message), &json!(generation))
            );
            let told: Vec<_> = actions.iter().map(summary).filter(|line| line.starts_with("event")).collect();
            assert_eq!(told.is_empty(), expected.is_ok(), "{told:?}");
        }
    }

    #[test]
    fn pods_nobody_controls_are_told() {
        let pod: Arc<Pod> = Arc::new(object(json!({"metadata": {"name": "p"}})));
        let budget = budget(json!(null));
        let expected = Ok(Expected { replicas: 0, unmanaged: true });
        let actions = decide(&Observed { budget: &budget, pods: &[pod], expected }, at(0));
        let told = summary(&actions[0]);
        let start = "event UnmanagedPods Pods selected by this PodDisruptionBudget (selector: &LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged.";
        assert!(told.starts_with(start), "{told}");
        let expected = Ok(Expected::default());
        let actions = decide(&Observed { budget: &budget, pods: &[], expected }, at(0));
        assert_eq!(summary(&actions[0]), "event NoPods No matching pods found");
    }

    #[test]
    fn evicted_pods_are_gone_for_two_minutes() {
        let budget = budget(json!({"disruptedPods": {"p": at(0).to_string(), "other": at(0).to_string()}}));
        let pod: Arc<Pod> = Arc::new(object(json!({"metadata": {"name": "p"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})));
        // Seconds since the eviction; healthy pods and what follows.
        let cases = [
            (100, 0, "again 20s"),
            (121, 1, "event NotDeleted Pod was expected by PDB ns/b to be deleted but it wasn't"),
        ];
        for (now, healthy, line) in cases {
            let expected = Ok(Expected { replicas: 1, unmanaged: false });
            let observed = Observed { budget: &budget, pods: std::slice::from_ref(&pod), expected };
            let actions = decide(&observed, at(now));
            let lines: Vec<_> = actions.iter().map(summary).collect();
            assert!(lines.iter().any(|one| one == line), "{lines:?}");
            let patch = actions.iter().find_map(|action| match action {
                Action::Patch(patch) => Some(patch),
                _ => None,
            });
            assert_eq!(patch.expect("the status changes").body["status"]["currentHealthy"], healthy);
        }
    }

    #[test]
    fn a_disruption_that_does_not_come_is_taken_back() {
        let make = |reason: &str, deleting: Option<i64>, phase: &str| -> Pod {
            object(
                json!({"metadata": {"name": "p", "deletionTimestamp": deleting.map(|second| at(second).to_string())},
                "status": {"phase": phase, "conditions": [{"type": "DisruptionTarget", "status": "True",
                    "reason": reason, "lastTransitionTime": at(0).to_string()}]}}),
            )
        };
        let cases = [
            (make("EvictionByEvictionAPI", None, "Running"), 50, Some("again 70s")),
            (make("EvictionByEvictionAPI", None, "Running"), 120, Some("patch Pod/status p ")),
            (make("EvictionByEvictionAPI", Some(0), "Running"), 120, None),
            (make("EvictionByEvictionAPI", None, "Failed"), 120, None),
            (make("TerminationByKubelet", None, "Running"), 120, None),
        ];
        for (pod, now, expected) in cases {
            let lines: Vec<_> = settle(&pod, at(now)).iter().map(summary).collect();
            assert_eq!(lines.len(), usize::from(expected.is_some()), "{lines:?}");
            assert!(expected.is_none_or(|start| lines[0].starts_with(start)), "{lines:?}");
        }
        let Action::Patch(patch) = &settle(&make("x", None, "Running"), at(120))[0] else {
            panic!("it patches")
        };
        let condition = &patch.body["status"]["conditions"][0];
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("x")));
    }
}
