//! What is wrong with the expressions of an object that configures admission
//! (upstream: pkg/apis/admissionregistration/validation, v1.37).

use plimsoll_cel::{Environment, Type};
use plimsoll_meta::field::{FieldError, Path};
use serde_json::{Value, json};

use super::definition::{list, text};
use super::environment::{Known, Offer, environment};
use super::expression::Expression;
use super::mutate::{PatchForm, patch_type};

/// The errors of a webhook configuration or policy; `old` is its state before.
pub fn check(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match object["kind"].as_str() {
        Some("MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => webhooks(object, old),
        Some("ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy") => policy(object, old),
        _ => Vec::new(),
    }
}

fn webhooks(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let conditions = |object: &Value| -> Vec<Value> {
        list(&object["webhooks"]).map(|hook| hook["matchConditions"].clone()).collect()
    };
    if old.is_some_and(|old| conditions(old) == conditions(object)) {
        return Vec::new();
    }
    let types =
        environment(Offer { params: false, authorizer: true, mutation: false }, &Known::default(), None);
    let mut errors = Vec::new();
    for (at, hook) in list(&object["webhooks"]).enumerate() {
        let path = Path::root("webhooks").index(at).child("matchConditions");
        check_conditions(&hook["matchConditions"], &path, &types, &mut errors);
    }
    errors
}

fn policy(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (spec, path) = (&object["spec"], Path::root("spec"));
    let params = spec["paramKind"].is_object();
    let mutation = object["kind"] == "MutatingAdmissionPolicy";
    let offer = Offer { params, authorizer: true, mutation };
    let mut errors = Vec::new();
    let kept = old.is_some_and(|old| {
        ["paramKind", "matchConditions"].iter().all(|field| old["spec"][*field] == spec[*field])
    });
    if !kept {
        let types = environment(Offer { mutation: false, ..offer }, &Known::default(), None);
        check_conditions(&spec["matchConditions"], &path.child("matchConditions"), &types, &mut errors);
    }
    let variables = check_variables(&spec["variables"], &path.child("variables"), offer, &mut errors);
    // Without variables of its own, a policy is checked without the name `variables`, too.
    let composed = (!variables.is_empty()).then_some(&variables[..]);
    let whole = environment(offer, &Known::default(), composed);
    let messages = environment(Offer { authorizer: false, ..offer }, &Known::default(), composed);
    for (at, validation) in list(&spec["validations"]).enumerate() {
        let path = path.child("validations").index(at);
        check_text(&validation["expression"], &path.child("expression"), &whole, &[Type::Bool], &mut errors);
        let message = &validation["messageExpression"];
        check_text(message, &path.child("messageExpression"), &messages, &[Type::String], &mut errors);
    }
    for (at, annotation) in list(&spec["auditAnnotations"]).enumerate() {
        let path = path.child("auditAnnotations").index(at).child("valueExpression");
        let wanted = [Type::String, Type::Null];
        check_text(&annotation["valueExpression"], &path, &whole, &wanted, &mut errors);
    }
    for (at, mutation) in list(&spec["mutations"]).enumerate() {
        let (form, field) = match text(&mutation["patchType"]) {
            "ApplyConfiguration" => (PatchForm::Apply, "applyConfiguration"),
            "JSONPatch" => (PatchForm::Json, "jsonPatch"),
            _ => continue,
        };
        let path = path.child("mutations").index(at).child(field).child("expression");
        check_text(&mutation[field]["expression"], &path, &whole, &[patch_type(form)], &mut errors);
    }
    errors
}

fn check_conditions(conditions: &Value, path: &Path, types: &Environment, errors: &mut Vec<FieldError>) {
    for (at, condition) in list(conditions).enumerate() {
        let path = path.index(at).child("expression");
        let trimmed = json!(text(&condition["expression"]).trim());
        check_text(&trimmed, &path, types, &[Type::Bool], errors);
    }
}

fn check_variables(
    variables: &Value,
    path: &Path,
    offer: Offer,
    errors: &mut Vec<FieldError>,
) -> Vec<(String, Type)> {
    let mut known: Vec<(String, Type)> = Vec::new();
    for (at, variable) in list(variables).enumerate() {
        let types = environment(offer, &Known::default(), Some(&known));
        let path = path.index(at).child("expression");
        let ty = check_text(&variable["expression"], &path, &types, &[], errors);
        known.push((text(&variable["name"]).to_owned(), ty));
    }
    known
}

/// Compiles a text that is not empty (an empty one is another rule's) and tells its type.
fn check_text(
    value: &Value,
    path: &Path,
    types: &Environment,
    wanted: &[Type],
    errors: &mut Vec<FieldError>,
) -> Type {
    let given = text(value);
    if given.trim().is_empty() {
        return Type::Dyn;
    }
    let expression = Expression::compile(given, types, wanted);
    if let Some(error) = expression.error() {
        errors.push(FieldError::invalid(path, &json!(given), error));
    }
    expression.ty()
}
