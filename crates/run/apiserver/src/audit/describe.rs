//! What a request is about, in the words of the audit log.

use http::{HeaderMap, Request};
use plimsoll_audit::{Attributes, ObjectReference, UserInfo};

use super::Source;
use crate::body::RequestBody;
use crate::stages::{self, Asked};
use crate::target::Target;
use crate::user::User;

pub(super) fn user(user: &User) -> UserInfo {
    UserInfo {
        username: user.name.clone(),
        uid: user.uid.clone(),
        groups: user.groups.clone(),
        extra: user.extra.clone(),
    }
}

/// The verb, also of requests that are refused because of it.
pub(super) fn verb(asked: &Asked, target: &Target) -> String {
    let method = || asked.method.as_str().to_ascii_lowercase();
    match target {
        Target::Resource(path) => match stages::verb(asked, path) {
            "" => method(),
            verb => verb.to_owned(),
        },
        Target::Other => method(),
    }
}

/// What the policy looks at.
pub(super) fn attributes<'a>(asked: &'a Asked, target: &'a Target, verb: &'a str) -> Attributes<'a> {
    let base =
        Attributes { user: &asked.user.name, groups: &asked.user.groups, verb, ..Attributes::default() };
    match target {
        Target::Other => Attributes { path: Some(&asked.path), ..base },
        Target::Resource(path) => Attributes {
            group: &path.group,
            resource: &path.resource,
            subresource: &path.subresource,
            namespace: &path.namespace,
            name: &path.name,
            ..base
        },
    }
}

pub(super) fn reference(target: &Target) -> Option<ObjectReference> {
    let Target::Resource(path) = target else { return None };
    Some(ObjectReference {
        resource: path.resource.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        api_group: path.group.clone(),
        api_version: path.version.clone(),
        subresource: path.subresource.clone(),
        ..ObjectReference::default()
    })
}

/// Requests whose answers last: they have an event when the answer begins, too.
pub(super) fn is_long_running(target: &Target, verb: &str) -> bool {
    const SUBRESOURCES: [&str; 5] = ["attach", "exec", "proxy", "log", "portforward"];
    let subresource = match target {
        Target::Resource(path) => path.subresource.as_str(),
        Target::Other => "",
    };
    matches!(verb, "watch" | "proxy") || SUBRESOURCES.contains(&subresource)
}

/// The client's address and those of the proxies that name it.
pub(super) fn source_ips(request: &Request<RequestBody>) -> Vec<String> {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let forwarded = text("x-forwarded-for").unwrap_or_default();
    let mut found: Vec<String> =
        forwarded.split(',').map(str::trim).filter(|part| is_address(part)).map(str::to_owned).collect();
    if let Some(real) = text("x-real-ip").map(str::trim).filter(|part| is_address(part))
        && !found.iter().any(|known| known == real)
    {
        found.push(real.to_owned());
    }
    let own = request
        .extensions()
        .get::<Source>()
        .map_or_else(|| "127.0.0.1".to_owned(), |Source(address)| address.ip().to_canonical().to_string());
    if found.last() != Some(&own) {
        found.push(own);
    }
    found
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// How a client without valid credentials has tried, as upstream says it.
pub(super) fn attempts(headers: &HeaderMap, query_token: bool) -> String {
    let authorization =
        headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scheme = authorization.split(' ').next().unwrap_or_default().to_ascii_lowercase();
    let mut tried = Vec::new();
    if matches!(scheme.as_str(), "basic" | "bearer") {
        tried.push(scheme);
    }
    if query_token {
        tried.push("access_token".to_owned());
    }
    match tried.is_empty() {
        true => "Authentication failed, no credentials provided".to_owned(),
        false => format!("Authentication failed, attempted: {}", tried.join(", ")),
    }
}
