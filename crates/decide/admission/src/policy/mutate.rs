//! What a mutating policy makes of an object.

use std::sync::Arc;

use plimsoll_cel::{ObjectType, Type};
use serde_json::{Value as Json, json};

use super::activation::{Activation, Failed, Input};
use super::conditions::Match;
use super::definition::{Mutation, Policy};
use super::json::to_json;

/// How a mutation says what it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchForm {
    /// `Object{…}`, merged as server-side apply merges.
    Apply,
    /// `[JSONPatch{…}]`.
    Json,
}

/// What changes objects for mutations, as their kind wants it.
pub trait Mutator {
    /// Merges an apply configuration.
    ///
    /// # Errors
    /// When it does not fit the kind, or touches what is only changed as a whole.
    fn merge(&self, object: &Json, configuration: Json) -> Result<Json, String>;

    /// Applies the operations of a JSON patch; an object whose `test` fails stays as it is.
    ///
    /// # Errors
    /// When they do not fit the object.
    fn patch(&self, object: &Json, operations: Vec<Json>) -> Result<Json, String>;

    /// Brings a changed object back into the form of its kind: defaults, no unknown fields.
    ///
    /// # Errors
    /// When it is no object of its kind any more.
    fn settle(&self, object: Json) -> Result<Json, String>;
}

/// The type that the expressions of mutations must have.
pub(crate) fn patch_type(form: PatchForm) -> Type {
    let named = |name: &str| Type::Object(Arc::new(ObjectType::new(name, Default::default())));
    match form {
        PatchForm::Apply => named("Object"),
        PatchForm::Json => Type::list(named("JSONPatch")),
    }
}

/// Whether a policy's conditions hold for an object.
pub fn matches(policy: &Policy, input: Input<'_>) -> Match {
    match Activation::new(input, &policy.variables) {
        Ok(mut activation) => policy.conditions.evaluate(&mut activation, policy.failure_policy),
        Err(error) => Match::Failed(error),
    }
}

/// The object after one of a policy's mutations.
///
/// # Errors
/// Why it cannot be mutated.
pub fn mutate(
    policy: &Policy,
    mutation: &Mutation,
    input: Input<'_>,
    mutator: &dyn Mutator,
) -> Result<Json, String> {
    if let Some(error) = mutation.expression.error() {
        return Err(error.to_owned());
    }
    let mut activation = Activation::new(input, &policy.variables)?;
    let value = activation.evaluate(&mutation.expression).map_err(Failed::into_message)?;
    let changed = match mutation.form {
        PatchForm::Apply => {
            let mut configuration = to_json(&value)?;
            for field in ["apiVersion", "kind"] {
                configuration[field] = input.object[field].clone();
            }
            mutator
                .merge(input.object, configuration)
                .map_err(|error| format!("error applying patch: {error}"))?
        }
        PatchForm::Json => {
            let Json::Array(operations) = to_json(&value).map_err(|error| {
                format!(
                    "JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}"
                )
            })?
            else {
                return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
            };
            let operations = operations.into_iter().map(operation).collect();
            mutator.patch(input.object, operations).map_err(|error| format!("JSONPath: {error}"))?
        }
    };
    mutator.settle(changed)
}

/// An operation without the empty `from` of those that need none.
fn operation(operation: Json) -> Json {
    let mut written = json!({"op": operation["op"], "path": operation["path"]});
    if operation["from"].as_str().is_some_and(|from| !from.is_empty()) {
        written["from"] = operation["from"].clone();
    }
    if let Some(value) = operation.get("value") {
        written["value"] = value.clone();
    }
    written
}
