//! Who is asking, in upstream's order: front proxy, client certificate, bearer token, nobody.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use plimsoll_meta::status::Status;
use plimsoll_pki::Subject;
use serde_json::Value;

use crate::peer::{Certified, Peer};
use crate::registry;
use crate::server::Api;
use crate::user::User;

/// Begin of the WebSocket protocol that carries a token, for browsers cannot set headers.
const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// The user that a request's credentials prove; `path` is what it asks for.
pub(crate) async fn authenticate(
    api: &Api,
    peer: &Peer,
    headers: &HeaderMap,
    path: &str,
) -> Result<User, Status> {
    let certified = match peer {
        Peer::Inside(user) => return Ok(user.clone()),
        Peer::Remote(certified) => certified,
    };
    if let Some(user) = proxied(api, certified, headers) {
        return Ok(user);
    }
    if let Some(subject) = &certified.client {
        return Ok(named(subject));
    }
    match bearer(headers) {
        Some(token) => match api.authenticators.token(api, &token, &[]).await {
            Ok(Some((user, _))) => Ok(user),
            Ok(None) => Err(Status::unauthorized()),
            Err(error) => {
                tracing::debug!(error, "a token is not accepted");
                Err(Status::unauthorized())
            }
        },
        // Who shows a certificate that proves nothing is not nobody.
        None if !certified.present && api.authenticators.anonymous.allows(path) => Ok(User::anonymous()),
        None => Err(Status::unauthorized()),
    }
}

fn named(subject: &Subject) -> User {
    let groups: Vec<&str> = subject.organizations.iter().map(String::as_str).collect();
    User::authenticated(&subject.common_name, &groups)
}

/// The user that a front proxy tells of.
fn proxied(api: &Api, certified: &Certified, headers: &HeaderMap) -> Option<User> {
    let (proxy, rules) = (certified.proxy.as_ref()?, api.authenticators.front_proxy.as_ref()?);
    if !rules.allows(&proxy.common_name) {
        return None;
    }
    let texts = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    rules.user(&texts.collect::<Vec<_>>())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let header = || {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
    };
    header().or_else(|| {
        let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
        let mut offered = offered.flat_map(|value| value.split(',')).map(str::trim);
        let encoded = offered.find_map(|one| one.strip_prefix(BEARER_PROTOCOL))?;
        String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
    })
}

/// A core object that a decision about credentials needs.
pub(crate) fn stored(api: &Api, plural: &str, namespace: &str, name: &str) -> Option<Value> {
    let kind = plimsoll_catalogue::find("", "v1", plural)?;
    let entry = api.store.get(&kind.key(namespace, name)?)?;
    registry::served(kind, &entry).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn tokens_come_in_two_headers() {
        let websocket = format!("v5.channel.k8s.io, {BEARER_PROTOCOL}{}", URL_SAFE_NO_PAD.encode("t"));
        for (name, value, expected) in [
            (AUTHORIZATION, "Bearer t", Some("t")),
            (AUTHORIZATION, "bearer  t ", Some("t")),
            (AUTHORIZATION, "Basic t", None),
            (AUTHORIZATION, "Bearer ", None),
            (SEC_WEBSOCKET_PROTOCOL, websocket.as_str(), Some("t")),
            (SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).expect("header"));
            assert_eq!(bearer(&headers).as_deref(), expected, "{value}");
        }
    }
}
