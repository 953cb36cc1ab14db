//! What a Job's users say about failures and success.

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::Sync;
use super::conditions::Verdict;
use super::indexes::Indexes;

/// The first rule that a failed pod meets: the rule, its number and what of the pod met it.
fn matched<'a>(spec: &'a JobSpec, pod: &Pod) -> Option<(&'a PodFailurePolicyRule, usize, Cause)> {
    let rules = &spec.pod_failure_policy.as_ref()?.rules;
    rules.iter().enumerate().find_map(|(at, rule)| Some((rule, at, cause(rule, pod)?)))
}

/// Why a rule holds.
enum Cause {
    Exit { container: String, code: i32 },
    Condition(String),
}

fn cause(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<Cause> {
    let status = pod.status.as_ref()?;
    if let Some(codes) = &rule.on_exit_codes {
        let main = status.container_statuses.iter().flatten();
        let init = status.init_container_statuses.iter().flatten();
        return main.chain(init).find_map(|container| exit(codes, container));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let meets = |kind: &str, value: &str| {
        patterns
            .iter()
            .any(|pattern| pattern.type_ == kind && pattern.status.as_deref().unwrap_or("True") == value)
    };
    let met = status.conditions.iter().flatten().find(|condition| meets(&condition.type_, &condition.status));
    met.map(|condition| Cause::Condition(condition.type_.clone()))
}

fn exit(rule: &PodFailurePolicyOnExitCodesRequirement, container: &ContainerStatus) -> Option<Cause> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let named = rule.container_name.as_ref().is_none_or(|name| *name == container.name);
    let listed = rule.values.contains(&code);
    let meets = if rule.operator == "NotIn" { !listed } else { listed };
    (code != 0 && named && meets).then(|| Cause::Exit { container: container.name.clone(), code })
}

/// Whether a failed pod counts towards the limits.
pub(super) fn counts(spec: &JobSpec, pod: &Pod) -> bool {
    matched(spec, pod).is_none_or(|(rule, _, _)| rule.action != "Ignore")
}

/// Whether a failed pod fails its index at once.
pub(super) fn fails_index(spec: &JobSpec, pod: &Pod) -> bool {
    matched(spec, pod).is_some_and(|(rule, _, _)| rule.action == "FailIndex")
}

/// The verdict of a rule that fails the whole Job.
pub(super) fn failure(sync: &Sync<'_>) -> Option<Verdict> {
    let failed = sync.pods.iter().filter(|pod| sync.has_failed(pod));
    let message = failed.into_iter().find_map(|pod| {
        let (rule, at, cause) = matched(&sync.spec, pod).filter(|(rule, _, _)| rule.action == "FailJob")?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let action = &rule.action;
        Some(match cause {
            Cause::Exit { container, code } => format!(
                "Container {container} for pod {namespace}/{name} failed with exit code {code} matching {action} rule at index {at}"
            ),
            Cause::Condition(kind) => {
                format!("Pod {namespace}/{name} has condition {kind} matching {action} rule at index {at}")
            }
        })
    })?;
    Some(Verdict::failed("PodFailurePolicy", &message))
}

/// The verdict of a rule by which enough has succeeded.
pub(super) fn success(spec: &JobSpec, succeeded: &Indexes) -> Option<Verdict> {
    let completions = usize::try_from(spec.completions?).unwrap_or_default();
    let rules = &spec.success_policy.as_ref()?.rules;
    let met = rules.iter().position(|rule| {
        let wanted = rule.succeeded_indexes.as_deref().map(|text| Indexes::parse(text, completions));
        let count = rule.succeeded_count.map(|count| usize::try_from(count).unwrap_or_default());
        match (wanted, count) {
            (Some(wanted), Some(count)) => succeeded.common(&wanted) >= count,
            (Some(wanted), None) => succeeded.common(&wanted) >= wanted.len(),
            (None, Some(count)) => succeeded.len() >= count,
            (None, None) => false,
        }
    })?;
    Some(Verdict::complete("SuccessPolicy", &format!("Matched rules at index {met}")))
}
