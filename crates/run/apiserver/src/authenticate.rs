//! Who is asking: client certificate, bearer token, or nobody; and impersonation.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use plimsoll_admission::rbac::Attributes;
use plimsoll_meta::status::Status;
use plimsoll_pki::{Claims, Subject};
use serde_json::Value;

use crate::authorize;
use crate::object::meta;
use crate::registry;
use crate::server::Api;
use crate::user::{AUTHENTICATED, User};

/// Issuer of service account tokens.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// Over TLS, perhaps with a client certificate that the authority signed.
    Remote(Option<Subject>),
    /// From a part of this process.
    Inside(User),
}

/// The user that a request's credentials prove.
pub(crate) async fn authenticate(api: &Api, peer: &Peer, headers: &HeaderMap) -> Result<User, Status> {
    match peer {
        Peer::Inside(user) => return Ok(user.clone()),
        Peer::Remote(Some(subject)) => {
            let groups: Vec<&str> = subject.organizations.iter().map(String::as_str).collect();
            return Ok(User::authenticated(&subject.common_name, &groups));
        }
        Peer::Remote(None) => {}
    }
    match bearer(headers) {
        Some(token) => token_user(api, token, &[]).map(|(user, _)| user).ok_or_else(Status::unauthorized),
        None => Ok(User::anonymous()),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The user of a service account token and the audiences it is good for; `None` for tokens that
/// are not valid or whose account or pod is gone. No wanted audience means the API's.
pub(crate) fn token_user(api: &Api, token: &str, wanted: &[String]) -> Option<(User, Vec<String>)> {
    let now = jiff::Timestamp::now().as_second();
    let claims = api.tokens.verify(token, now).ok()?;
    let audiences: Vec<String> = match wanted {
        [] => claims.aud.iter().filter(|audience| *audience == ISSUER).cloned().collect(),
        _ => claims.aud.iter().filter(|audience| wanted.contains(audience)).cloned().collect(),
    };
    if claims.iss != ISSUER || audiences.is_empty() {
        return None;
    }
    Some((account_user(api, &claims)?, audiences))
}

fn account_user(api: &Api, claims: &Claims) -> Option<User> {
    let bound = &claims.bound;
    let namespace = bound["namespace"].as_str()?;
    let name = bound["serviceaccount"]["name"].as_str()?;
    let uid = bound["serviceaccount"]["uid"].as_str()?;
    if !exists(api, "serviceaccounts", namespace, name, uid) {
        return None;
    }
    let mut user = User::authenticated(
        &format!("system:serviceaccount:{namespace}:{name}"),
        &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")],
    );
    user.uid = uid.to_owned();
    let mut extra = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if let (Some(pod), Some(pod_uid)) = (bound["pod"]["name"].as_str(), bound["pod"]["uid"].as_str()) {
        if !exists(api, "pods", namespace, pod, pod_uid) {
            return None;
        }
        extra("pod-name", pod);
        extra("pod-uid", pod_uid);
    }
    if let (Some(secret), Some(secret_uid)) =
        (bound["secret"]["name"].as_str(), bound["secret"]["uid"].as_str())
        && !exists(api, "secrets", namespace, secret, secret_uid)
    {
        return None;
    }
    if let Some(node) = bound["node"]["name"].as_str() {
        extra("node-name", node);
    }
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    Some(user)
}

fn exists(api: &Api, plural: &str, namespace: &str, name: &str, uid: &str) -> bool {
    stored(api, plural, namespace, name).is_some_and(|object| meta(&object, "uid") == uid)
}

/// A core object that a decision about credentials needs.
pub(crate) fn stored(api: &Api, plural: &str, namespace: &str, name: &str) -> Option<Value> {
    let kind = plimsoll_catalogue::find("", "v1", plural)?;
    let entry = api.store.get(&kind.key(namespace, name)?)?;
    registry::served(kind, &entry).ok()
}

/// The user in whose name the request shall be done, if the asking one may do that.
pub(crate) async fn impersonate(api: &Api, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let extras = extras(headers);
    let (name, uid) = (text("impersonate-user"), text("impersonate-uid"));
    if name.is_empty() {
        return match groups.is_empty() && uid.is_empty() && extras.is_empty() {
            true => Ok(user),
            false => {
                Err(Status::bad_request("requested a group, uid or extra to impersonate without a user"))
            }
        };
    }
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let base = Attributes { verb: "impersonate", ..Attributes::default() };
    let mut wanted = vec![match account {
        Some((namespace, name)) => Attributes { resource: "serviceaccounts", namespace, name, ..base },
        None => Attributes { resource: "users", name, ..base },
    }];
    wanted.extend(groups.iter().map(|name| Attributes { resource: "groups", name, ..base }));
    let special = Attributes { group: "authentication.k8s.io", ..base };
    if !uid.is_empty() {
        wanted.push(Attributes { resource: "uids", name: uid, ..special });
    }
    wanted.extend(extras.iter().map(|(key, name)| Attributes {
        resource: "userextras",
        subresource: key,
        name,
        ..special
    }));
    for wanted in &wanted {
        authorize::require(api, &user, wanted).await?;
    }
    let mut groups = groups;
    if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    if name != "system:anonymous" && !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    let mut impersonated = User { name: name.to_owned(), uid: uid.to_owned(), groups, ..User::default() };
    for (key, value) in extras {
        impersonated.extra.entry(key).or_default().push(value);
    }
    Ok(impersonated)
}

fn extras(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix("impersonate-extra-"), value.to_str()) {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            found.push((key, value.to_owned()));
        }
    }
    found
}
