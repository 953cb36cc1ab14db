//! `serviceaccounts/token`: tokens for service accounts, bound to pods if wanted.

use http::{Request, Response, StatusCode};
use plimsoll_catalogue::Kind;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use plimsoll_pki::Claims;
use serde_json::{Value, json};

use crate::admit::{Operation, chain};
use crate::authenticate::{ISSUER, stored};
use crate::body::{self, RequestBody, ResponseBody};
use crate::object::{self, meta};
use crate::server::Api;
use crate::stages::Asked;
use crate::subresource::{self, same_name};
use crate::target::ResourcePath;

const REQUEST: (&str, &str, &str) =
    ("authentication.k8s.io/v1", "TokenRequest", "io.k8s.api.authentication.v1.TokenRequest");
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
    same_name(&wanted, target)?;
    chain::action(api, asked, kind, target, Operation::Create, &mut wanted).await?;
    let account = stored(api, "serviceaccounts", &target.namespace, &target.name)
        .ok_or_else(|| Status::not_found("", "serviceaccounts", &target.name))?;
    let seconds = wanted["spec"]["expirationSeconds"].as_i64().unwrap_or(USUAL);
    if !(LEAST..=1 << 32).contains(&seconds) {
        let path = Path::root("spec").child("expirationSeconds");
        let error =
            FieldError::invalid(&path, &json!(seconds), "may not specify a duration less than 10 minutes");
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
    }
    let now = jiff::Timestamp::now();
    let audiences: Vec<String> = wanted["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let audiences = if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences };
    let claims = Claims {
        aud: audiences.clone(),
        exp: now.as_second() + seconds,
        iat: now.as_second(),
        nbf: now.as_second(),
        iss: ISSUER.to_owned(),
        jti: uuid::Uuid::new_v4().to_string(),
        sub: format!("system:serviceaccount:{}:{}", target.namespace, target.name),
        bound: bound(api, target, &account, &wanted["spec"]["boundObjectRef"])?,
    };
    let token = api.tokens.sign(&claims).map_err(Status::internal)?;
    let until = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
    wanted["metadata"] =
        json!({"name": target.name, "namespace": target.namespace, "creationTimestamp": object::time(now)});
    wanted["spec"]["audiences"] = json!(audiences);
    wanted["spec"]["expirationSeconds"] = json!(seconds);
    wanted["status"] = json!({"token": token, "expirationTimestamp": object::time(until)});
    Ok(body::json(StatusCode::CREATED, &wanted))
}

/// What the token is bound to: the account, and the pod or secret that asked for it.
fn bound(api: &Api, target: &ResourcePath, account: &Value, reference: &Value) -> Result<Value, Status> {
    let mut bound = json!({
        "namespace": target.namespace,
        "serviceaccount": {"name": target.name, "uid": meta(account, "uid")},
    });
    let Some(kind) = reference["kind"].as_str() else { return Ok(bound) };
    let name = reference["name"].as_str().unwrap_or_default();
    let plural = match kind {
        "Pod" => "pods",
        "Secret" => "secrets",
        _ => {
            let path = Path::root("spec").child("boundObjectRef");
            let error = FieldError::invalid(&path, &json!(kind), "cannot bind token to object of this kind");
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
        }
    };
    let object =
        stored(api, plural, &target.namespace, name).ok_or_else(|| Status::not_found("", plural, name))?;
    let uid = reference["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && uid != meta(&object, "uid") {
        let cause = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", plural, name, cause));
    }
    if kind == "Pod" && object["spec"]["serviceAccountName"] != target.name.as_str() {
        let cause = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            target.name
        );
        return Err(Status::bad_request(cause));
    }
    bound[kind.to_ascii_lowercase()] = json!({"name": name, "uid": meta(&object, "uid")});
    if let (true, Some(node)) = (kind == "Pod", object["spec"]["nodeName"].as_str()) {
        let found = stored(api, "nodes", "", node);
        bound["node"] = json!({"name": node, "uid": found.as_ref().map_or("", |node| meta(node, "uid"))});
    }
    Ok(bound)
}
