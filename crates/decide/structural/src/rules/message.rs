//! What is said when a rule does not hold.

use plimsoll_cel::{Bindings, Budget, EvalError, Program};
use plimsoll_meta::field::{ErrorKind, FieldError, Path};

use crate::schema::Rule;

/// The most bytes that a computed message may have.
const LONGEST: usize = 5 * 1024;

/// What a message expression came to.
pub(super) enum Computed {
    /// A message.
    Text(String),
    /// Nothing that can be said; the rule's own message stands in.
    Unusable,
    /// It cost too much: no further rules.
    TooExpensive(String),
}

/// Evaluates a message expression.
pub(super) fn compute(
    program: &Program,
    rule: &Rule,
    values: &Bindings<'_>,
    budget: &mut Budget,
) -> Computed {
    let result = program.evaluate(values, budget);
    if budget.is_exhausted() {
        let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
        return Computed::TooExpensive(why.to_owned());
    }
    match result {
        Err(EvalError::CostLimit) => Computed::TooExpensive(format!(
            "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
            rule.message_expression
        )),
        Err(EvalError::Failed(_)) => Computed::Unusable,
        Ok(value) => match value.as_str().map(str::trim) {
            Some(text) if !text.is_empty() && text.len() <= LONGEST && !text.contains('\n') => {
                Computed::Text(text.to_owned())
            }
            _ => Computed::Unusable,
        },
    }
}

/// The rule as errors name it.
pub(super) fn name(rule: &Rule) -> &str {
    if rule.message.is_empty() { rule.rule.trim() } else { rule.message.trim() }
}

/// What is said of a rule without a message expression.
pub(super) fn plain(rule: &Rule) -> String {
    match rule.message.is_empty() {
        true => format!("failed rule: {}", name(rule)),
        false => name(rule).to_owned(),
    }
}

/// The error that the rule's reason asks for.
pub(super) fn error(rule: &Rule, path: &Path, kind: &str, detail: String) -> FieldError {
    match rule.reason.as_str() {
        "FieldValueForbidden" => FieldError::forbidden(path, detail),
        "FieldValueRequired" => FieldError::required(path, detail),
        "FieldValueDuplicate" => FieldError::duplicate(path, &kind.into()),
        _ => FieldError::invalid(path, &kind.into(), detail),
    }
}

/// An error that is no fault of the one who asked.
pub(super) fn internal(path: &Path, detail: &str) -> FieldError {
    FieldError { kind: ErrorKind::Internal, field: path.to_string(), value: None, detail: detail.to_owned() }
}
