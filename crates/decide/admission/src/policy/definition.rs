//! A policy, read and compiled once.

use plimsoll_cel::Type;
use serde_json::Value;

use super::conditions::Conditions;
use super::environment::{Known, Offer, environment};
use super::expression::Expression;
use super::mutate::{PatchForm, patch_type};
use crate::matching::Criteria;
use crate::webhook::{Condition, FailurePolicy};

/// A validating or mutating policy.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Which requests it is about.
    pub criteria: Criteria,
    /// What its errors mean.
    pub failure_policy: FailurePolicy,
    /// The kind of its parameters.
    pub param_kind: Option<ParamKind>,
    /// Further conditions on requests.
    pub conditions: Conditions,
    /// Named expressions, which others use as `variables.NAME`.
    pub(crate) variables: Vec<(String, Expression)>,
    /// What must hold.
    pub validations: Vec<Validation>,
    /// What is told to the audit log.
    pub audit_annotations: Vec<AuditAnnotation>,
    /// What is changed.
    pub mutations: Vec<Mutation>,
    /// Wants to see later changes.
    pub reinvoked: bool,
}

/// `paramKind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamKind {
    /// `v1` or `GROUP/VERSION`.
    pub api_version: String,
    /// For example `ConfigMap`.
    pub kind: String,
}

/// Something that must hold.
#[derive(Debug)]
pub struct Validation {
    pub(crate) expression: Expression,
    pub(crate) message: String,
    pub(crate) message_expression: Option<Expression>,
    /// Reason of the refusal; empty for the default one.
    pub(crate) reason: String,
}

/// Something to note.
#[derive(Debug)]
pub struct AuditAnnotation {
    pub(crate) key: String,
    pub(crate) value: Expression,
}

/// A change.
#[derive(Debug)]
pub struct Mutation {
    pub(crate) form: PatchForm,
    pub(crate) expression: Expression,
}

impl Policy {
    /// Reads and compiles a `ValidatingAdmissionPolicy` or `MutatingAdmissionPolicy`.
    pub fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let params = spec["paramKind"].is_object();
        let mutation = object["kind"] == "MutatingAdmissionPolicy";
        let offer = Offer { params, authorizer: true, mutation };
        let variables = variables(&spec["variables"], offer);
        let types: Vec<(String, Type)> =
            variables.iter().map(|(name, expression)| (name.clone(), expression.ty())).collect();
        let whole = environment(offer, &Known::default(), Some(&types));
        let messages = environment(Offer { authorizer: false, ..offer }, &Known::default(), Some(&types));
        Self {
            name: text(&object["metadata"]["name"]).to_owned(),
            criteria: Criteria::of_policy(&spec["matchConstraints"]),
            failure_policy: FailurePolicy::read(&spec["failurePolicy"]),
            param_kind: params.then(|| ParamKind {
                api_version: text(&spec["paramKind"]["apiVersion"]).to_owned(),
                kind: text(&spec["paramKind"]["kind"]).to_owned(),
            }),
            conditions: Conditions::compile(Condition::read_all(&spec["matchConditions"]), &whole),
            validations: list(&spec["validations"])
                .map(|one| Validation {
                    expression: Expression::compile(text(&one["expression"]), &whole, &[Type::Bool]),
                    message: text(&one["message"]).to_owned(),
                    message_expression: one["messageExpression"]
                        .as_str()
                        .filter(|text| !text.is_empty())
                        .map(|text| Expression::compile(text, &messages, &[Type::String])),
                    reason: text(&one["reason"]).to_owned(),
                })
                .collect(),
            audit_annotations: list(&spec["auditAnnotations"])
                .map(|one| AuditAnnotation {
                    key: text(&one["key"]).to_owned(),
                    value: Expression::compile(
                        text(&one["valueExpression"]),
                        &whole,
                        &[Type::String, Type::Null],
                    ),
                })
                .collect(),
            mutations: list(&spec["mutations"])
                .map(|one| {
                    let (form, expression) = match one["patchType"].as_str() {
                        Some("JSONPatch") => (PatchForm::Json, &one["jsonPatch"]["expression"]),
                        _ => (PatchForm::Apply, &one["applyConfiguration"]["expression"]),
                    };
                    let expression = Expression::compile(text(expression), &whole, &[patch_type(form)]);
                    Mutation { form, expression }
                })
                .collect(),
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            variables,
        }
    }
}

/// Variables in their order; each may use those before it.
fn variables(list_of: &Value, offer: Offer) -> Vec<(String, Expression)> {
    let mut known: Vec<(String, Type)> = Vec::new();
    let mut read = Vec::new();
    for one in list(list_of) {
        let name = text(&one["name"]).to_owned();
        let environment = environment(offer, &Known::default(), Some(&known));
        let expression = Expression::compile(text(&one["expression"]), &environment, &[]);
        known.push((name.clone(), expression.ty()));
        read.push((name, expression));
    }
    read
}

pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
