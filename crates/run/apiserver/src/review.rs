//! Questions to the server that are asked by creating an object: reviews.

use jiff::Timestamp;
use plimsoll_access::Decision;
use plimsoll_access::access_review::{Question, check};
use plimsoll_admission::rbac::Rule;
use plimsoll_catalogue::Kind;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::object::{self, metadata_mut};
use crate::server::Api;
use crate::user::User;

/// Answers a review, or `None` when the kind is no review.
pub(crate) async fn answer(
    api: &Api,
    kind: &Kind,
    user: &User,
    namespace: &str,
    mut review: Value,
    now: Timestamp,
) -> Option<Result<Value, Status>> {
    let status = match kind.kind {
        "SelfSubjectAccessReview" => own_access(api, kind, user, &review).await,
        "SubjectAccessReview" => named_access(api, kind, &review, None).await,
        "LocalSubjectAccessReview" => named_access(api, kind, &review, Some(namespace)).await,
        "SelfSubjectRulesReview" => rules(api, user, &review["spec"]),
        "SelfSubjectReview" => Ok(json!({"userInfo": user.to_info()})),
        "TokenReview" => token(api, &review["spec"]).await,
        _ => return None,
    };
    Some(status.map(|status| {
        review["status"] = status;
        metadata_mut(&mut review).insert("creationTimestamp".to_owned(), object::time(now));
        review
    }))
}

async fn own_access(api: &Api, kind: &Kind, user: &User, review: &Value) -> Result<Value, Status> {
    let mut errors = check(&review["spec"], false);
    errors.extend(bare(review, ""));
    refuse(kind, errors)?;
    Ok(access(api, user, &review["spec"]).await)
}

/// A review about the user it names; a local one is about one namespace.
async fn named_access(
    api: &Api,
    kind: &Kind,
    review: &Value,
    namespace: Option<&str>,
) -> Result<Value, Status> {
    let spec = &review["spec"];
    let mut errors = check(spec, true);
    errors.extend(bare(review, namespace.unwrap_or_default()));
    if let Some(namespace) = namespace {
        let at = Path::root("spec.resourceAttributes.namespace");
        let given = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
        if spec["resourceAttributes"].is_object() && given != namespace {
            errors.push(FieldError::invalid(&at, &json!(given), "must match metadata.namespace"));
        }
        if spec["nonResourceAttributes"].is_object() {
            let at = Path::root("spec.nonResourceAttributes");
            let detail = "disallowed on this kind of request";
            errors.push(FieldError::invalid(&at, &spec["nonResourceAttributes"], detail));
        }
    }
    refuse(kind, errors)?;
    Ok(access(api, &User::from_info(spec), spec).await)
}

/// Reviews are not kept, so there is nothing to say about them in metadata.
fn bare(review: &Value, namespace: &str) -> Option<FieldError> {
    let fields = review["metadata"].as_object().into_iter().flatten();
    let odd = fields.filter(|(key, value)| match key.as_str() {
        "creationTimestamp" | "managedFields" => false,
        "namespace" => *value != namespace,
        _ => !value.is_null(),
    });
    let detail = if namespace.is_empty() { "must be empty" } else { "must be empty except for namespace" };
    let path = Path::root("metadata");
    (odd.count() > 0).then(|| FieldError::invalid(&path, &review["metadata"], detail))
}

fn refuse(kind: &Kind, errors: Vec<FieldError>) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(kind.group, kind.kind, "", &errors)) }
}

async fn access(api: &Api, user: &User, spec: &Value) -> Value {
    let question = Question::read(spec);
    let verdict = api.authorizers.decide(user, &question.attributes()).await;
    let (mut status, reason) = match verdict.decision {
        Decision::Allow(reason) => (json!({"allowed": true}), reason),
        Decision::Deny(reason) => (json!({"allowed": false, "denied": true}), reason),
        Decision::NoOpinion(reason) => (json!({"allowed": false}), reason),
    };
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    let errors: Vec<String> = question.flaws.iter().cloned().chain(verdict.errors).collect();
    match &errors[..] {
        [] => {}
        [one] => status["evaluationError"] = json!(one),
        all => status["evaluationError"] = json!(format!("[{}]", all.join(", "))),
    }
    status
}

fn rules(api: &Api, user: &User, spec: &Value) -> Result<Value, Status> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, missing) = api.authorizers.rules(user, namespace);
    let (paths, resources): (Vec<&Rule>, Vec<&Rule>) =
        rules.iter().partition(|rule| rule.resources.is_empty());
    let resource = |rule: &&Rule| {
        let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
        if !rule.names.is_empty() {
            value["resourceNames"] = json!(rule.names);
        }
        value
    };
    let path = |rule: &&Rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths});
    let mut status = json!({
        "incomplete": !missing.is_empty(),
        "resourceRules": resources.iter().map(resource).collect::<Vec<_>>(),
        "nonResourceRules": paths.iter().map(path).collect::<Vec<_>>(),
    });
    if !missing.is_empty() {
        status["evaluationError"] = json!(missing.join(", "));
    }
    Ok(status)
}

async fn token(api: &Api, spec: &Value) -> Result<Value, Status> {
    let audiences = spec["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> = audiences.filter_map(Value::as_str).map(str::to_owned).collect();
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    Ok(match api.authenticators.token(api, token, &audiences).await {
        Ok(Some((user, audiences))) => {
            json!({"authenticated": true, "user": user.to_info(), "audiences": audiences})
        }
        Ok(None) => json!({"authenticated": false, "user": {}}),
        Err(error) => json!({"authenticated": false, "user": {}, "error": error}),
    })
}
