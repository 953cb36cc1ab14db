//! Asking in somebody else's name (apiserver: pkg/endpoints/filters/impersonation.go, v1.37).

use http::{HeaderMap, HeaderValue};
use plimsoll_access::{ANONYMOUS, UNAUTHENTICATED};
use plimsoll_admission::rbac::Attributes;
use plimsoll_meta::status::Status;

use crate::authorize;
use crate::server::Api;
use crate::user::{AUTHENTICATED, User};

/// The user in whose name the request shall be done, if the asking one may do that.
pub(crate) async fn impersonate(api: &Api, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let one = |name: &str| headers.get(name).map_or(Ok(""), text);
    let groups = headers.get_all("impersonate-group").iter().map(|value| text(value).map(str::to_owned));
    let groups = groups.collect::<Result<Vec<String>, Status>>()?;
    let extras = extras(headers)?;
    let (name, uid) = (one("impersonate-user")?, one("impersonate-uid")?);
    if name.is_empty() {
        return match groups.is_empty() && uid.is_empty() && extras.is_empty() {
            true => Ok(user),
            false => {
                Err(Status::bad_request("requested a group, uid or extra to impersonate without a user"))
            }
        };
    }
    let account = service_account(name);
    let base = Attributes { verb: "impersonate", version: "v1", ..Attributes::default() };
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
    let mut impersonated = User {
        name: name.to_owned(),
        uid: uid.to_owned(),
        groups: settled(name, groups, account.map(|(namespace, _)| namespace)),
        ..User::default()
    };
    for (key, value) in extras {
        impersonated.extra.entry(key).or_default().push(value);
    }
    Ok(impersonated)
}

/// The groups that come with the name where none, or not all, were asked for.
fn settled(name: &str, mut groups: Vec<String>, account: Option<&str>) -> Vec<String> {
    if let (Some(namespace), true) = (account, groups.is_empty()) {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let has = |wanted: &str| groups.iter().any(|group| group == wanted);
    let missing = match name == ANONYMOUS {
        true => (!has(UNAUTHENTICATED)).then_some(UNAUTHENTICATED),
        false => (!has(AUTHENTICATED) && !has(UNAUTHENTICATED)).then_some(AUTHENTICATED),
    };
    groups.extend(missing.map(str::to_owned));
    groups
}

/// Namespace and name of a service account.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let account = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!account.1.contains(':')).then_some(account)
}

fn extras(headers: &HeaderMap) -> Result<Vec<(String, String)>, Status> {
    let mut found = Vec::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            found.push((key, text(value)?.to_owned()));
        }
    }
    Ok(found)
}

/// What cannot be read is refused: left out, the request would be done in the name of who asks.
fn text(value: &HeaderValue) -> Result<&str, Status> {
    let refused = || Status::bad_request("a header that asks for impersonation is not UTF-8");
    std::str::from_utf8(value.as_bytes()).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_whole_or_refused() {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).expect("a header's value");
        assert_eq!(text(&value("jürgen".as_bytes())).ok(), Some("jürgen"));
        assert_eq!(text(&value(b"j\xfcrgen")).map_err(|status| status.code), Err(400));
        assert_eq!(service_account("system:serviceaccount:a:b"), Some(("a", "b")));
        for user in ["system:serviceaccount:a", "system:serviceaccount:a:b:c", "ann"] {
            assert_eq!(service_account(user), None, "{user}");
        }
    }

    #[test]
    fn names_come_with_their_groups() {
        for (name, groups, account, expected) in [
            ("ann", &[][..], None, &["system:authenticated"][..]),
            ("ann", &["dev"], None, &["dev", "system:authenticated"]),
            ("ann", &["system:unauthenticated"], None, &["system:unauthenticated"]),
            ("system:anonymous", &[], None, &["system:unauthenticated"]),
            (
                "system:serviceaccount:a:b",
                &[],
                Some("a"),
                &["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"],
            ),
            ("system:serviceaccount:a:b", &["x"], Some("a"), &["x", "system:authenticated"]),
        ] {
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            assert_eq!(settled(name, groups, account), expected, "{name}");
        }
    }
}
