//! `serviceaccounts/token`: tokens for service accounts, bound to other objects if wanted
//! (pkg/registry/core/serviceaccount/storage/token.go, v1.37).

use http::{Request, Response, StatusCode};
use plimsoll_access::account_token::expiry;
use plimsoll_catalogue::Kind;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::admit::{Operation, chain};
use crate::authenticate::stored;
use crate::body::{self, RequestBody, ResponseBody};
use crate::object::{self, meta};
use crate::server::Api;
use crate::stages::Asked;
use crate::subresource;
use crate::target::ResourcePath;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const REQUEST: (&str, &str, &str) =
    ("authentication.k8s.io/v1", KIND, "io.k8s.api.authentication.v1.TokenRequest");
/// Seconds that a token holds when none are asked for.
const USUAL: i64 = 3600;
/// Fewest seconds that can be asked for.
const LEAST: i64 = 600;

pub(crate) async fn create(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let mut wanted = subresource::typed_body(asked, request, REQUEST).await?;
    same_account(&wanted, target)?;
    chain::action(api, asked, kind, target, Operation::Create, &mut wanted).await?;
    let account = stored(api, "serviceaccounts", &target.namespace, &target.name)
        .ok_or_else(|| Status::not_found("", "serviceaccounts", &target.name))?;
    let rules = &api.authenticators.accounts;
    if wanted["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        wanted["spec"]["audiences"] = json!(rules.audiences);
    }
    let mut seconds = wanted["spec"]["expirationSeconds"].as_i64().unwrap_or(USUAL);
    check_seconds(seconds)?;
    let now = jiff::Timestamp::now();
    let mut bound = json!({
        "namespace": target.namespace,
        "serviceaccount": {"name": target.name, "uid": meta(&account, "uid")},
    });
    let reference = &wanted["spec"]["boundObjectRef"];
    let to_pod = reference.is_object() && bind(api, target, reference, &mut bound)? == "Pod";
    if let Some(longest) = rules.longest.filter(|longest| *longest > 0 && seconds > *longest) {
        let text = format!("requested expiration of {seconds} seconds shortened to {longest} seconds");
        asked.warnings.extend([text]);
        seconds = longest;
    }
    let audiences = wanted["spec"]["audiences"].as_array().cloned().unwrap_or_default();
    let for_the_api = audiences.iter().all(|one| rules.audiences.iter().any(|own| one == own.as_str()));
    let (lasts, warn_after) = expiry(seconds, to_pod, for_the_api, rules.extend);
    if let Some(after) = warn_after {
        bound["warnafter"] = json!(now.as_second() + after);
    }
    let claims = json!({
        "aud": audiences, "exp": now.as_second() + lasts, "iat": now.as_second(), "nbf": now.as_second(),
        "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": bound,
        "sub": format!("system:serviceaccount:{}:{}", target.namespace, target.name),
    });
    let token = rules.sign(claims).map_err(Status::internal)?;
    let until = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
    let metadata = object::metadata_mut(&mut wanted);
    metadata.insert("name".to_owned(), json!(target.name));
    metadata.insert("namespace".to_owned(), json!(target.namespace));
    metadata.insert("creationTimestamp".to_owned(), json!(object::time(now)));
    wanted["spec"]["expirationSeconds"] = json!(seconds);
    wanted["status"] = json!({"token": token, "expirationTimestamp": object::time(until)});
    Ok(body::json(StatusCode::CREATED, &wanted))
}

fn invalid(error: FieldError, name: &str) -> Status {
    Status::invalid(GROUP, KIND, name, &[error])
}

/// A request may name the account that its path names, and no other.
fn same_account(wanted: &Value, target: &ResourcePath) -> Result<(), Status> {
    for (field, right, what) in
        [("name", &target.name, "name"), ("namespace", &target.namespace, "namespace")]
    {
        let given = meta(wanted, field);
        if !given.is_empty() && given != right {
            let path = Path::root("metadata").child(field);
            let detail = format!("must match the service account {what} if specified");
            return Err(invalid(FieldError::invalid(&path, &json!(given), detail), &target.name));
        }
    }
    Ok(())
}

fn check_seconds(seconds: i64) -> Result<(), Status> {
    let detail = match seconds {
        ..LEAST => "may not specify a duration less than 10 minutes",
        4_294_967_297.. => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let path = Path::root("spec").child("expirationSeconds");
    Err(invalid(FieldError::invalid(&path, &json!(seconds), detail), ""))
}

/// Binds the token to the object that the request names; the object's kind comes back.
fn bind<'r>(
    api: &Api,
    target: &ResourcePath,
    reference: &'r Value,
    bound: &mut Value,
) -> Result<&'r str, Status> {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind, name) = (reference["kind"].as_str().unwrap_or_default(), text("name"));
    // As Go takes apart what stands in `apiVersion`: without a slash it is of the core group.
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let (plural, namespace) = match (group, kind) {
        ("", "Pod") => ("pods", target.namespace.as_str()),
        ("", "Secret") => ("secrets", target.namespace.as_str()),
        ("", "Node") => ("nodes", ""),
        _ => {
            let cause = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(cause));
        }
    };
    let object = stored(api, plural, namespace, name).ok_or_else(|| Status::not_found("", plural, name))?;
    if kind == "Pod" && object["spec"]["serviceAccountName"] != target.name.as_str() {
        let cause = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            target.name
        );
        return Err(Status::bad_request(cause));
    }
    let uid = text("uid");
    if !uid.is_empty() && uid != meta(&object, "uid") {
        let cause = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", kind, name, cause));
    }
    bound[kind.to_ascii_lowercase()] = json!({"name": name, "uid": meta(&object, "uid")});
    if let (true, Some(node)) =
        (kind == "Pod", object["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()))
    {
        let found = stored(api, "nodes", "", node);
        let mut place = json!({ "name": node });
        if let Some(found) = &found {
            place["uid"] = json!(meta(found, "uid"));
        }
        bound["node"] = place;
    }
    Ok(kind)
}
