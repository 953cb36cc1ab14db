//! Policies: expressions that judge or change requests, and the bindings that put them into force.
//!
//! What enters: policies and bindings as objects, then a request with its parameters as JSON, and somebody who
//! answers authorization checks. What leaves: what is wrong with an expression when it is created, decisions
//! about requests in upstream's words (apiserver: pkg/admission/plugin/policy, v1.37), and changed objects.

mod activation;
mod binding;
pub mod check;
mod conditions;
mod definition;
mod environment;
mod expression;
mod json;
mod mutate;
mod refusal;
mod type_check;
mod validate;

#[cfg(test)]
mod tests;

pub use activation::{Activation, Input, OUT_OF_BUDGET};
pub use binding::{Action, Binding, ParamRef, Params};
pub use conditions::{Conditions, Match};
pub use definition::{AuditAnnotation, Mutation, ParamKind, Policy, Validation};
pub use expression::Expression;
pub use mutate::{Mutator, PatchForm, matches, mutate};
pub use refusal::{Denial, forbidden_by_mutating, forbidden_by_validating};
pub use type_check::{MAX_TYPES, Typed, named_resources, type_check};
pub use validate::{Decision, Judgement, judge};
