//! ValidatingAdmissionPolicies: expressions that say yes or no.

use std::time::Instant;

use plimsoll_admission::policy::{
    Action, Binding, Decision, Denial, Judgement, Policy, forbidden_by_validating, judge,
};
use plimsoll_admission::webhook::FailurePolicy;
use plimsoll_audit::Level;
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use super::expressions::{Scene, answered};
use super::params;
use super::policies::Active;
use super::seen::Seen;
use super::subject::Subject;
use crate::audit;
use crate::metrics::Enforcement;

/// Asks each policy that wants the request; the first refusal counts.
pub(crate) async fn validate(
    subject: &Subject<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let policies = subject.api.policies.validating();
    let attributes = subject.attributes(object, old);
    if policies.is_empty() || attributes.is_exempt() || attributes.is_beyond_policies() {
        return Ok(());
    }
    let mut outcome = Outcome::default();
    for active in policies.iter() {
        ask(subject, active, object, old, &mut outcome).await?;
    }
    forbidden_by_validating(&attributes, &outcome.denials).map_or(Ok(()), Err)
}

#[derive(Default)]
struct Outcome {
    denials: Vec<Denial>,
    /// Audit annotations of the policy that is being asked.
    notes: Vec<(String, String)>,
}

impl Outcome {
    /// The policy or a binding cannot be used.
    fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, cause: &str) {
        if policy.failure_policy == FailurePolicy::Ignore {
            return;
        }
        let what = if binding.is_some() { "binding" } else { "policy" };
        self.denials.push(Denial {
            policy: policy.name.clone(),
            binding: binding.map(|binding| binding.name.clone()),
            message: format!("failed to configure {what}: {cause}"),
            reason: String::new(),
        });
    }
}

async fn ask(
    subject: &Subject<'_>,
    active: &Active,
    object: Option<&Value>,
    old: Option<&Value>,
    outcome: &mut Outcome,
) -> Result<(), Status> {
    let policy = &*active.policy;
    let attributes = subject.attributes(object, old);
    let target = match policy.criteria.target(&attributes, subject) {
        Ok(Some(target)) => target,
        Ok(None) => return Ok(()),
        Err(status) => {
            outcome.misconfigured(policy, None, &status.message);
            return Ok(());
        }
    };
    if let Err(cause) = params::known(subject, policy) {
        outcome.misconfigured(policy, None, &cause);
        return Ok(());
    }
    let seen = Seen::new(subject, &target)?;
    let (shown, before) = (seen.show_present(subject, object).await?, seen.show_present(subject, old).await?);
    for binding in &active.bindings {
        match binding.criteria.as_ref().map(|criteria| criteria.target(&attributes, subject)) {
            None | Some(Ok(Some(_))) => {}
            Some(Ok(None)) => continue,
            Some(Err(status)) => {
                outcome.misconfigured(policy, Some(binding), &status.message);
                continue;
            }
        }
        let params = match params::collect(subject, policy, binding, attributes.namespace).await {
            Ok(params) => params,
            Err(cause) => {
                outcome.misconfigured(policy, Some(binding), &cause);
                continue;
            }
        };
        let scene = Scene::new(subject, &seen, object, old).with_namespace(subject)?;
        for param in &params {
            let since = Instant::now();
            let run = |authorizer: &dyn plimsoll_cel::Authorizer| {
                let input = scene.input(shown.as_deref(), before.as_deref(), param, authorizer);
                judge(policy, input, &|| since.elapsed())
            };
            let judgement = answered(subject, run).await;
            take(subject, policy, binding, judgement, outcome);
        }
    }
    publish(&policy.name, std::mem::take(&mut outcome.notes));
    Ok(())
}

fn take(
    subject: &Subject<'_>,
    policy: &Policy,
    binding: &Binding,
    judgement: Judgement,
    outcome: &mut Outcome,
) {
    let denial = |message: String, reason: String| Denial {
        policy: policy.name.clone(),
        binding: Some(binding.name.clone()),
        message,
        reason,
    };
    let told = |action, decision: &Decision| {
        let names = (policy.name.as_str(), binding.name.as_str());
        subject.api.metrics.policies.validated(names, action, &decision.message, decision.took);
    };
    for decision in &judgement.overlooked {
        told(Enforcement::Allow, decision);
    }
    for decision in judgement.decisions {
        for action in &binding.actions {
            told(enforcement(*action), &decision);
            match action {
                Action::Deny => {
                    outcome.denials.push(denial(decision.message.clone(), decision.reason.clone()));
                }
                Action::Audit => note_failure(policy, binding, &decision),
                Action::Warn => subject.warnings.extend([format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, decision.message
                )]),
            }
        }
    }
    outcome.notes.extend(judgement.annotations);
    for error in judgement.annotation_errors {
        told(Enforcement::Deny, &error);
        outcome.denials.push(denial(error.message, error.reason));
    }
}

fn enforcement(action: Action) -> Enforcement {
    match action {
        Action::Deny => Enforcement::Deny,
        Action::Audit => Enforcement::Audit,
        Action::Warn => Enforcement::Warn,
    }
}

fn note_failure(policy: &Policy, binding: &Binding, decision: &Decision) {
    let actions: Vec<&str> = binding.actions.iter().map(|action| action.name()).collect();
    let failure = json!([{
        "message": decision.message, "policy": policy.name, "binding": binding.name,
        "expressionIndex": decision.index, "validationActions": actions,
    }]);
    let key = "validation.policy.admission.k8s.io/validation_failure";
    audit::note(key, failure.to_string(), Level::Metadata);
}

/// Several values of one key stand beside each other, each once.
fn publish(policy: &str, notes: Vec<(String, String)>) {
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    for (key, value) in notes {
        match told.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => told.push((key, vec![value])),
        }
    }
    for (key, values) in told {
        audit::note(format!("{policy}/{key}"), values.join(", "), Level::Metadata);
    }
}
