//! What a validating policy thinks of a request.

use plimsoll_cel::{Type, Value};

use super::activation::{Activation, Failed, Input};
use super::conditions::Match;
use super::definition::{AuditAnnotation, Policy, Validation};
use crate::webhook::FailurePolicy;

/// Longest message that an expression may make, in bytes (apiserver: pkg/apis/cel/config.go).
const LONGEST_MESSAGE: usize = 5 * 1024;
/// Longest value of an audit annotation, in bytes.
const LONGEST_ANNOTATION: usize = 10 * 1024;

/// What a policy with one parameter thinks of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What does not hold.
    pub decisions: Vec<Decision>,
    /// For the audit log: keys (without the policy's name) and values.
    pub annotations: Vec<(String, String)>,
    /// Annotations that could not be made; each is a refusal.
    pub annotation_errors: Vec<String>,
}

/// A validation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its place in the list of validations.
    pub index: usize,
    /// For the client.
    pub message: String,
    /// Reason of the status; empty for an evaluation that failed.
    pub reason: String,
}

/// Evaluates a policy for a request.
pub fn judge(policy: &Policy, input: Input<'_>) -> Judgement {
    let mut activation = match Activation::new(input, &policy.variables) {
        Ok(activation) => activation,
        Err(error) => return whole(policy, error),
    };
    match policy.conditions.evaluate(&mut activation, policy.failure_policy) {
        Match::Yes => {}
        Match::No => return Judgement::default(),
        Match::Failed(error) => return whole(policy, error),
    }
    match validations(policy, &mut activation) {
        Ok(decisions) => annotated(policy, &mut activation, decisions),
        Err(error) => whole(policy, error),
    }
}

/// The policy as a whole failed.
fn whole(policy: &Policy, message: String) -> Judgement {
    let decisions = match policy.failure_policy {
        FailurePolicy::Fail => vec![Decision { index: 0, message, reason: String::new() }],
        FailurePolicy::Ignore => Vec::new(),
    };
    Judgement { decisions, ..Judgement::default() }
}

fn validations(policy: &Policy, activation: &mut Activation<'_>) -> Result<Vec<Decision>, String> {
    activation.set_budget(plimsoll_cel::RUNTIME_BUDGET);
    let mut outcomes = Vec::with_capacity(policy.validations.len());
    for validation in &policy.validations {
        match activation.evaluate(&validation.expression) {
            Ok(value) => outcomes.push(Ok(value.as_bool() == Some(true))),
            Err(Failed::One(error)) => outcomes.push(Err(error)),
            Err(Failed::All(error)) => return Err(error),
        }
    }
    let mut decisions = Vec::new();
    let mut spent = None;
    for (index, (validation, outcome)) in policy.validations.iter().zip(outcomes).enumerate() {
        let failed = |message: String| Decision { index, message, reason: String::new() };
        // Upstream evaluates all message expressions, so one that costs too much fails the others.
        let message = match spent {
            None => own_message(validation, activation),
            Some(_) => None,
        };
        if activation.budget() == 0 && spent.is_none() && validation.message_expression.is_some() {
            spent = Some(super::OUT_OF_BUDGET);
        }
        let decision = match (outcome, spent) {
            (Err(error), _) => failed(error),
            (Ok(_), Some(error)) => failed(format!("failed messageExpression: {error}")),
            (Ok(true), None) => continue,
            (Ok(false), None) => {
                decisions.push(Decision {
                    index,
                    message: message.unwrap_or_else(|| plain_message(validation)),
                    reason: reason(validation).to_owned(),
                });
                continue;
            }
        };
        if policy.failure_policy == FailurePolicy::Fail {
            decisions.push(decision);
        }
    }
    Ok(decisions)
}

fn reason(validation: &Validation) -> &str {
    if validation.reason.is_empty() { "Invalid" } else { &validation.reason }
}

/// The message that the validation's expression makes, if it is fit to be shown.
fn own_message(validation: &Validation, activation: &mut Activation<'_>) -> Option<String> {
    let value = activation.evaluate(validation.message_expression.as_ref()?).ok()?;
    let message = value.as_str()?.trim().to_owned();
    (!message.is_empty() && message.len() <= LONGEST_MESSAGE && !message.contains('\n')).then_some(message)
}

fn plain_message(validation: &Validation) -> String {
    match validation.message.trim() {
        "" => format!("failed expression: {}", validation.expression.text.trim()),
        message => message.to_owned(),
    }
}

fn annotated(policy: &Policy, activation: &mut Activation<'_>, decisions: Vec<Decision>) -> Judgement {
    activation.set_budget(plimsoll_cel::RUNTIME_BUDGET);
    let mut judgement = Judgement { decisions, ..Judgement::default() };
    for annotation in &policy.audit_annotations {
        match annotation_value(annotation, activation) {
            Ok(Some(value)) => judgement.annotations.push((annotation.key.clone(), value)),
            Ok(None) => {}
            Err(Failed::All(error)) => return whole(policy, error),
            Err(Failed::One(error)) if policy.failure_policy == FailurePolicy::Fail => {
                judgement.annotation_errors.push(error);
            }
            Err(Failed::One(_)) => {}
        }
    }
    judgement
}

fn annotation_value(
    annotation: &AuditAnnotation,
    activation: &mut Activation<'_>,
) -> Result<Option<String>, Failed> {
    match activation.evaluate(&annotation.value)? {
        Value::Null => Ok(None),
        value => match (value.as_str().map(str::trim), value.ty()) {
            (Some(""), _) => Ok(None),
            (Some(text), _) => Ok(Some(cut(text).to_owned())),
            (None, ty) => Err(wrong_type(annotation, &ty)),
        },
    }
}

fn wrong_type(annotation: &AuditAnnotation, ty: &Type) -> Failed {
    Failed::One(format!(
        "valueExpression '{}' resulted in unsupported return type: {ty}. Return type must be either string or null.",
        annotation.value.text
    ))
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_ANNOTATION);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
