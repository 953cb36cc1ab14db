//! `matchConditions` of webhooks and policies: expressions that all must hold.

use plimsoll_cel::{Environment, Type};

use super::activation::{Activation, Input};
use super::environment::{Known, Offer, environment};
use super::expression::Expression;
use crate::webhook::{Condition, FailurePolicy};

/// What all conditions together may cost (apiserver: pkg/apis/cel/config.go).
const BUDGET: u64 = 2_500_000;

/// Conditions, compiled.
#[derive(Debug, Default)]
pub struct Conditions(Vec<(String, Expression)>);

/// Whether conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// All hold.
    Yes,
    /// One does not, or one failed and failures are ignored.
    No,
    /// One failed, none said no.
    Failed(String),
}

impl Conditions {
    /// Those of a webhook.
    pub fn of_webhook(conditions: Vec<Condition>) -> Self {
        let offer = Offer { params: false, authorizer: true, mutation: false };
        Self::compile(conditions, &environment(offer, &Known::default(), None))
    }

    pub(crate) fn compile(conditions: Vec<Condition>, environment: &Environment) -> Self {
        let compile = |one: Condition| {
            let expression = Expression::compile(&one.expression, environment, &[Type::Bool]);
            (one.name, expression)
        };
        Self(conditions.into_iter().map(compile).collect())
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the conditions of a webhook hold for a request.
    pub fn hold(&self, input: Input<'_>, failure_policy: FailurePolicy) -> Match {
        match Activation::new(input, &[]) {
            Ok(mut activation) => self.evaluate(&mut activation, failure_policy),
            Err(error) => failed(error, failure_policy),
        }
    }

    pub(crate) fn evaluate(&self, activation: &mut Activation<'_>, failure_policy: FailurePolicy) -> Match {
        if self.0.is_empty() {
            return Match::Yes;
        }
        activation.set_budget(BUDGET);
        let mut errors = Vec::new();
        for (_, expression) in &self.0 {
            match activation.evaluate(expression) {
                Ok(value) if value.as_bool() == Some(false) => return Match::No,
                Ok(_) => {}
                Err(super::activation::Failed::One(error)) => errors.push(error),
                Err(super::activation::Failed::All(error)) => return failed(error, failure_policy),
            }
        }
        match &errors[..] {
            [] => Match::Yes,
            [only] => failed(only.clone(), failure_policy),
            several => failed(format!("[{}]", several.join(", ")), failure_policy),
        }
    }
}

fn failed(error: String, failure_policy: FailurePolicy) -> Match {
    match failure_policy {
        FailurePolicy::Fail => Match::Failed(error),
        FailurePolicy::Ignore => Match::No,
    }
}
