//! Questions to the server that are asked by creating an object: reviews.

use std::collections::BTreeMap;

use jiff::Timestamp;
use plimsoll_admission::rbac::{Attributes, Rule};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::authenticate;
use crate::authorize;
use crate::object;
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
        "SelfSubjectAccessReview" => access(api, user, &review["spec"]).await,
        "SubjectAccessReview" => named_access(api, &review["spec"]).await,
        "LocalSubjectAccessReview" => local_access(api, &review["spec"], namespace).await,
        "SelfSubjectRulesReview" => rules(api, user, &review["spec"]),
        "SelfSubjectReview" => Ok(json!({"userInfo": info(user)})),
        "TokenReview" => token(api, &review["spec"]),
        _ => return None,
    };
    Some(status.map(|status| {
        review["status"] = status;
        object::metadata_mut(&mut review).insert("creationTimestamp".to_owned(), object::time(now));
        review
    }))
}

async fn named_access(api: &Api, spec: &Value) -> Result<Value, Status> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra: BTreeMap<String, Vec<String>> = spec["extra"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.clone(), texts(values)))
        .collect();
    let user = User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        extra,
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(Status::bad_request("at least one of user or group must be specified"));
    }
    access(api, &user, spec).await
}

async fn local_access(api: &Api, spec: &Value, namespace: &str) -> Result<Value, Status> {
    match spec["resourceAttributes"]["namespace"].as_str() {
        Some(given) if given == namespace => named_access(api, spec).await,
        given => Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match metadata.namespace: {:?}, {namespace:?}",
            given.unwrap_or_default()
        ))),
    }
}

async fn access(api: &Api, user: &User, spec: &Value) -> Result<Value, Status> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() == path.is_object() {
        return Err(Status::bad_request(
            "exactly one of resourceAttributes or nonResourceAttributes must be specified",
        ));
    }
    let text = |value: &'static str| resource[value].as_str().unwrap_or_default();
    let wanted = if resource.is_object() {
        Attributes {
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            path: "",
        }
    } else {
        let text = |value: &str| path[value].as_str().unwrap_or_default();
        Attributes { verb: text("verb"), path: text("path"), ..Attributes::default() }
    };
    Ok(match authorize::allowed(api, user, &wanted).await {
        Some(reason) if reason.is_empty() => json!({"allowed": true}),
        Some(reason) => json!({"allowed": true, "reason": reason}),
        None => json!({"allowed": false}),
    })
}

fn rules(api: &Api, user: &User, spec: &Value) -> Result<Value, Status> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut rules = authorize::rules(api, user, namespace);
    if user.groups.iter().any(|group| group == plimsoll_admission::MASTERS) {
        let all = || vec!["*".to_owned()];
        rules = vec![
            Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() },
            Rule { verbs: all(), paths: all(), ..Rule::default() },
        ];
    }
    let (paths, resources): (Vec<&Rule>, Vec<&Rule>) =
        rules.iter().partition(|rule| rule.resources.is_empty());
    let resource = |rule: &&Rule| {
        let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
        if !rule.names.is_empty() {
            value["resourceNames"] = json!(rule.names);
        }
        value
    };
    Ok(json!({
        "incomplete": false,
        "resourceRules": resources.iter().map(resource).collect::<Vec<_>>(),
        "nonResourceRules": paths.iter().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths})).collect::<Vec<_>>(),
    }))
}

fn token(api: &Api, spec: &Value) -> Result<Value, Status> {
    let audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let token = spec["token"].as_str().unwrap_or_default();
    Ok(match authenticate::token_user(api, token, &audiences) {
        Some((user, audiences)) => {
            json!({"authenticated": true, "user": info(&user), "audiences": audiences})
        }
        None => {
            json!({"authenticated": false, "user": {}, "error": "token is invalid, expired or its account is gone"})
        }
    })
}

fn info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}
