//! What a validating policy thinks of a request.

use std::time::Duration;

use plimsoll_cel::{Type, Value};

use super::activation::{Activation, Failed, Input};
use super::conditions::Match;
use super::definition::{AuditAnnotation, Policy, Validation};
use super::expression::Expression;
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
    /// What failed and is overlooked, since the policy wants that.
    pub overlooked: Vec<Decision>,
    /// For the audit log: keys (without the policy's name) and values.
    pub annotations: Vec<(String, String)>,
    /// Annotations that could not be made; each is a refusal.
    pub annotation_errors: Vec<Decision>,
}

/// A validation that does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Its place in the list of validations, or of annotations.
    pub index: usize,
    /// For the client.
    pub message: String,
    /// Reason of the status; empty for an evaluation that failed.
    pub reason: String,
    /// How long its expression took.
    pub took: Duration,
}

/// Evaluates a policy for a request. `clock` tells the time since some moment, to time each expression.
pub fn judge(policy: &Policy, input: Input<'_>, clock: &dyn Fn() -> Duration) -> Judgement {
    let activation = match Activation::new(input, &policy.variables) {
        Ok(activation) => activation,
        Err(error) => return whole(policy, error),
    };
    let mut timed = Timed { activation, clock };
    let activation = &mut timed.activation;
    match policy.conditions.evaluate(activation, policy.failure_policy) {
        Match::Yes => {}
        Match::No => return Judgement::default(),
        Match::Failed(error) => return whole(policy, error),
    }
    match validations(policy, &mut timed) {
        Ok(judgement) => annotated(policy, &mut timed, judgement),
        Err(error) => whole(policy, error),
    }
}

/// Variables, and a clock for the expressions that use them.
struct Timed<'a> {
    activation: Activation<'a>,
    clock: &'a dyn Fn() -> Duration,
}

impl<'a> Timed<'a> {
    fn evaluate(&mut self, expression: &Expression) -> (Result<Value<'a>, Failed>, Duration) {
        let since = (self.clock)();
        let outcome = self.activation.evaluate(expression);
        (outcome, (self.clock)().saturating_sub(since))
    }
}

/// The policy as a whole failed.
fn whole(policy: &Policy, message: String) -> Judgement {
    let mut judgement = Judgement::default();
    judgement.failed(policy, Decision { message, ..Decision::default() });
    judgement
}

impl Judgement {
    /// An evaluation failed.
    fn failed(&mut self, policy: &Policy, decision: Decision) {
        match policy.failure_policy {
            FailurePolicy::Fail => self.decisions.push(decision),
            FailurePolicy::Ignore => self.overlooked.push(decision),
        }
    }
}

fn validations(policy: &Policy, timed: &mut Timed<'_>) -> Result<Judgement, String> {
    timed.activation.set_budget(plimsoll_cel::RUNTIME_BUDGET);
    let mut outcomes = Vec::with_capacity(policy.validations.len());
    for validation in &policy.validations {
        match timed.evaluate(&validation.expression) {
            (Ok(value), took) => outcomes.push((Ok(value.as_bool() == Some(true)), took)),
            (Err(Failed::One(error)), took) => outcomes.push((Err(error), took)),
            (Err(Failed::All(error)), _) => return Err(error),
        }
    }
    let activation = &mut timed.activation;
    let mut judgement = Judgement::default();
    let mut spent = None;
    for (index, (validation, (outcome, took))) in policy.validations.iter().zip(outcomes).enumerate() {
        let failed = |message: String| Decision { index, message, reason: String::new(), took };
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
                judgement.decisions.push(Decision {
                    index,
                    message: message.unwrap_or_else(|| plain_message(validation)),
                    reason: reason(validation).to_owned(),
                    took,
                });
                continue;
            }
        };
        judgement.failed(policy, decision);
    }
    Ok(judgement)
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

fn annotated(policy: &Policy, timed: &mut Timed<'_>, mut judgement: Judgement) -> Judgement {
    timed.activation.set_budget(plimsoll_cel::RUNTIME_BUDGET);
    for (index, annotation) in policy.audit_annotations.iter().enumerate() {
        let (outcome, took) = timed.evaluate(&annotation.value);
        match outcome.and_then(|value| annotation_value(annotation, &value)) {
            Ok(Some(value)) => judgement.annotations.push((annotation.key.clone(), value)),
            Ok(None) => {}
            Err(Failed::All(error)) => return whole(policy, error),
            Err(Failed::One(message)) if policy.failure_policy == FailurePolicy::Fail => {
                judgement.annotation_errors.push(Decision { index, message, took, ..Decision::default() });
            }
            Err(Failed::One(_)) => {}
        }
    }
    judgement
}

fn annotation_value(annotation: &AuditAnnotation, value: &Value<'_>) -> Result<Option<String>, Failed> {
    match (value, value.as_str().map(str::trim)) {
        (Value::Null, _) | (_, Some("")) => Ok(None),
        (_, Some(text)) => Ok(Some(cut(text).to_owned())),
        (value, None) => Err(wrong_type(annotation, &value.ty())),
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
