//! One request, as the expressions of one policy see it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use plimsoll_cel::{
    Authorizer, Bindings, Budget, Check, EvalError, Fields, Map, PER_CALL_LIMIT, RUNTIME_BUDGET, Value,
};
use serde_json::Value as Json;

use super::environment::{Known, Offer, environment};
use super::expression::Expression;

/// What ends the evaluation of a policy.
pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The values of the variables.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The object as it shall be; null when it is deleted.
    pub object: &'a Json,
    /// The object as it is; null before it exists.
    pub old: &'a Json,
    /// The parameters; null if there are none.
    pub params: &'a Json,
    /// `AdmissionRequest`.
    pub request: &'a Json,
    /// The request's namespace; null for objects in none.
    pub namespace: &'a Json,
    /// Who answers authorization checks.
    pub authorizer: &'a dyn Authorizer,
    /// The check of the request's own resource.
    pub check: &'a Check,
}

/// Variables with their values, and what their evaluation may still cost.
pub struct Activation<'a> {
    bindings: Bindings<'a>,
    variables: Rc<Variables<'a>>,
    budget: u64,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// This expression failed.
    One(String),
    /// Nothing further is evaluated.
    All(String),
}

impl Failed {
    pub(crate) fn into_message(self) -> String {
        match self {
            Self::One(message) | Self::All(message) => message,
        }
    }
}

/// Hands checks on to somebody borrowed.
struct Borrowed<'a>(&'a dyn Authorizer);

impl Authorizer for Borrowed<'_> {
    fn authorize(&self, check: &Check) -> plimsoll_cel::Decision {
        self.0.authorize(check)
    }
}

impl<'a> Activation<'a> {
    /// Prepares a request for the expressions that `variables` belong to.
    ///
    /// # Errors
    /// When a value does not fit its declared type.
    pub(crate) fn new(input: Input<'a>, variables: &'a [(String, Expression)]) -> Result<Self, String> {
        let offer = Offer { params: true, authorizer: true, mutation: false };
        let types = environment(offer, &Known::default(), None);
        let authorizer: Rc<dyn Authorizer + 'a> = Rc::new(Borrowed(input.authorizer));
        let mut bindings = Bindings::new()
            .bind("authorizer", Value::authorizer(Rc::clone(&authorizer)))
            .bind("authorizer.requestResource", Value::resource_check(authorizer, input.check.clone()));
        for (name, json) in [
            ("object", input.object),
            ("oldObject", input.old),
            ("params", input.params),
            ("request", input.request),
            ("namespaceObject", input.namespace),
        ] {
            let value = match json {
                Json::Null => Value::Null,
                json => types
                    .value(name, json)
                    .map_err(|error| format!("failed to prepare {name} variable for evaluation: {error}"))?,
            };
            bindings.set(name, value);
        }
        let variables = Rc::new_cyclic(|this| Variables {
            expressions: variables,
            bindings: bindings.clone(),
            known: RefCell::default(),
            cost: Cell::new(0),
            this: this.clone(),
        });
        let bindings = bindings.bind("variables", variables.value());
        Ok(Self { bindings, variables, budget: RUNTIME_BUDGET })
    }

    /// Sets what all evaluations from now on may cost together.
    pub(crate) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
    }

    /// What is left of it.
    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// The value of an expression.
    pub(crate) fn evaluate(&mut self, expression: &Expression) -> Result<Value<'a>, Failed> {
        let program = expression
            .program
            .as_ref()
            .map_err(|error| Failed::One(format!("compilation error: {error}")))?;
        let mut budget = Budget::with_limits(PER_CALL_LIMIT, u64::MAX);
        let outcome = program.evaluate(&self.bindings, &mut budget);
        let cost = budget.spent().saturating_add(self.variables.cost.take());
        match self.budget.checked_sub(cost) {
            Some(rest) => self.budget = rest,
            None => {
                self.budget = 0;
                return Err(Failed::All(OUT_OF_BUDGET.to_owned()));
            }
        }
        outcome.map_err(|error| {
            Failed::One(format!("expression '{}' resulted in error: {error}", expression.text))
        })
    }
}

/// The variables that a policy defines, evaluated when they are read for the first time.
struct Variables<'a> {
    expressions: &'a [(String, Expression)],
    bindings: Bindings<'a>,
    known: RefCell<HashMap<String, Result<Value<'a>, EvalError>>>,
    cost: Cell<u64>,
    this: Weak<Variables<'a>>,
}

impl<'a> Variables<'a> {
    fn value(&self) -> Value<'a> {
        match self.this.upgrade() {
            Some(this) => Value::Map(Map::lazy(this)),
            None => Value::Null,
        }
    }

    fn evaluate(&self, name: &str, expression: &'a Expression) -> Result<Value<'a>, EvalError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            EvalError::Failed(format!("composited variable {name:?} fails to {what}: {error}"))
        };
        let program = expression.program.as_ref().map_err(|error| failed("compile", error))?;
        let bindings = self.bindings.clone().bind("variables", self.value());
        let mut budget = Budget::with_limits(PER_CALL_LIMIT, u64::MAX);
        let outcome = program.evaluate(&bindings, &mut budget);
        self.cost.set(self.cost.get().saturating_add(budget.spent()));
        outcome.map_err(|error| failed("evaluate", &error))
    }
}

impl<'a> Fields<'a> for Variables<'a> {
    fn get(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        if let Some(known) = self.known.borrow().get(name) {
            return Some(known.clone());
        }
        let (_, expression) = self.expressions.iter().find(|(known, _)| known == name)?;
        let value = self.evaluate(name, expression);
        self.known.borrow_mut().insert(name.to_owned(), value.clone());
        Some(value)
    }

    fn names(&self) -> Vec<String> {
        self.expressions.iter().map(|(name, _)| name.clone()).collect()
    }
}
