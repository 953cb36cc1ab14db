//! Tokens of service accounts: whose they are, once their signature holds
//! (pkg/serviceaccount/claims.go and legacy.go, v1.37).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::User;
use crate::document::{list, text};

/// Issuer of the tokens that Secrets of type `kubernetes.io/service-account-token` hold.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// Tokens of this many seconds are what every pod asks for; they are made to last longer, see [`expiry`].
const WARNED: i64 = 3607;
/// Seconds that such tokens last, so that programs that never read them anew go on.
const EXTENDED: i64 = 365 * 86_400;
/// Things deleted longer ago than this many seconds do not count any more.
const LEEWAY: i64 = 60;
/// Label of a Secret with the day on which its token was last used.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// Label of a Secret with the day since which its token is not accepted.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Something that a token refers to is gone.
const INVALIDATED: &str = "service account token has been invalidated";

/// Finds objects of the core group by plural, namespace and name.
pub type Find<'a> = dyn Fn(&str, &str, &str) -> Option<Value> + Sync + 'a;

/// How long a token lasts that was asked for with `seconds`, and after how many seconds its use is
/// worth a warning.
pub fn expiry(seconds: i64, bound_to_pod: bool, for_the_api: bool, extend: bool) -> (i64, Option<i64>) {
    match extend && bound_to_pod && for_the_api && seconds == WARNED {
        true => (EXTENDED, Some(seconds)),
        false => (seconds, None),
    }
}

/// Holds the times of a token against `now`.
pub fn check_time(claims: &Value, now: Timestamp) -> Result<(), String> {
    let now = now.as_second() as f64;
    let leeway = LEEWAY as f64;
    let at = |claim: &str| claims[claim].as_f64();
    if at("nbf").is_some_and(|from| now + leeway < from) {
        return Err("service account token is not valid yet".to_owned());
    }
    if at("exp").is_none_or(|until| now - leeway > until) {
        return Err("service account token has expired".to_owned());
    }
    if at("iat").is_some_and(|made| now + leeway < made) {
        return Err("service account token is issued in the future".to_owned());
    }
    Ok(())
}

/// The user of a bound token; `claims` are all of its claims.
pub fn user(claims: &Value, find: &Find<'_>, now: Timestamp) -> Result<User, String> {
    let bound = &claims["kubernetes.io"];
    let namespace = text(bound, "namespace").unwrap_or_default();
    let (name, uid) = reference(bound, "serviceaccount").unwrap_or_default();
    account(find, &namespace, &name, &uid, now)?;
    let mut user = account_user(&namespace, &name, &uid);
    let mut tell = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if let Some((secret, secret_uid)) = reference(bound, "secret") {
        still(find("secrets", &namespace, &secret), &secret_uid, now).map_err(|found| match found {
            Some(found) => {
                format!("secret UID ({found}) does not match service account secret ref claim ({secret_uid})")
            }
            None => INVALIDATED.to_owned(),
        })?;
    }
    let pod = reference(bound, "pod");
    if let Some((pod, pod_uid)) = &pod {
        still(find("pods", &namespace, pod), pod_uid, now).map_err(|found| match found {
            Some(found) => {
                format!("pod UID ({found}) does not match service account pod ref claim ({pod_uid})")
            }
            None => INVALIDATED.to_owned(),
        })?;
        tell("pod-name", pod);
        tell("pod-uid", pod_uid);
    }
    if let Some((node, node_uid)) = reference(bound, "node") {
        // With a pod the node only tells where the pod ran when the token was made.
        if pod.is_none() {
            still(find("nodes", "", &node), &node_uid, now).map_err(|found| match found {
                Some(found) => {
                    format!("node UID ({found}) does not match service account node ref claim ({node_uid})")
                }
                None => INVALIDATED.to_owned(),
            })?;
        }
        tell("node-name", &node);
        if !node_uid.is_empty() {
            tell("node-uid", &node_uid);
        }
    }
    if let Some(id) = text(claims, "jti") {
        tell("credential-id", &format!("JTI={id}"));
    }
    Ok(user)
}

/// The user of a token that a Secret holds; such a token is good while Secret and account are there.
pub fn legacy_user(token: &str, claims: &Value, find: &Find<'_>, now: Timestamp) -> Result<User, String> {
    let claim =
        |name: &str| text(claims, &format!("kubernetes.io/serviceaccount/{name}")).unwrap_or_default();
    let namespace = claim("namespace");
    let (secret, name, uid) =
        (claim("secret.name"), claim("service-account.name"), claim("service-account.uid"));
    for (missing, what) in [
        (namespace.is_empty(), "namespace"),
        (secret.is_empty(), "secretName"),
        (name.is_empty(), "serviceAccountName"),
        (uid.is_empty(), "serviceAccountUID"),
    ] {
        if missing {
            return Err(format!("{what} claim is missing"));
        }
    }
    if claims["sub"] != format!("system:serviceaccount:{namespace}:{name}") {
        return Err(format!("sub claim is invalid: {}", claims["sub"]));
    }
    let invalid = || INVALIDATED.to_owned();
    let found =
        find("secrets", &namespace, &secret).filter(|found| !deleted(found, now)).ok_or_else(invalid)?;
    let held = found["data"]["token"].as_str().and_then(|held| STANDARD.decode(held).ok());
    if held.as_deref() != Some(token.as_bytes()) {
        return Err(invalid());
    }
    let owner = account(find, &namespace, &name, &uid, now)?;
    let labels = &found["metadata"]["labels"];
    // Tokens that nobody asked for are listed by their account.
    let unasked = list(&owner, "secrets").iter().any(|one| one["name"] == secret);
    if unasked && text(labels, INVALID_SINCE).is_some() {
        return Err(format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{name} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        ));
    }
    Ok(account_user(&namespace, &name, &uid))
}

/// The Secret that a token is held by, as namespace and name.
pub fn legacy_secret(claims: &Value) -> (&str, &str) {
    let claim = |name: &str| claims[name].as_str().unwrap_or_default();
    (claim("kubernetes.io/serviceaccount/namespace"), claim("kubernetes.io/serviceaccount/secret.name"))
}

/// The date that the label [`LAST_USED`] of a Secret must get because its token is used now; none if it
/// has it. Servers' clocks may be on both sides of midnight.
pub fn new_last_use(secret: &Value, now: Timestamp) -> Option<String> {
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let known = text(&secret["metadata"]["labels"], LAST_USED).unwrap_or_default();
    let tomorrow = today.tomorrow().map(|date| date.to_string()).unwrap_or_default();
    (known != today.to_string() && known != tomorrow).then(|| today.to_string())
}

/// The user that a service account is.
pub fn account_user(namespace: &str, name: &str, uid: &str) -> User {
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
    let user = User::authenticated(&format!("system:serviceaccount:{namespace}:{name}"), &groups);
    User { uid: uid.to_owned(), ..user }
}

fn account(find: &Find<'_>, namespace: &str, name: &str, uid: &str, now: Timestamp) -> Result<Value, String> {
    let account = find("serviceaccounts", namespace, name)
        .ok_or_else(|| format!("serviceaccounts {name:?} not found"))?;
    if deleted(&account, now) {
        return Err(format!("service account {namespace}/{name} has been deleted"));
    }
    let found = text(&account["metadata"], "uid").unwrap_or_default();
    match found == uid {
        true => Ok(account),
        false => Err(format!("service account UID ({found}) does not match claim ({uid})")),
    }
}

fn reference(bound: &Value, field: &str) -> Option<(String, String)> {
    let reference = bound.get(field).filter(|found| found.is_object())?;
    Some((text(reference, "name").unwrap_or_default(), text(reference, "uid").unwrap_or_default()))
}

/// Whether an object is still the one that was meant; the uid that is there now if it is another.
fn still(object: Option<Value>, uid: &str, now: Timestamp) -> Result<(), Option<String>> {
    let object = object.filter(|object| !deleted(object, now)).ok_or(None)?;
    let found = text(&object["metadata"], "uid").unwrap_or_default();
    if found == uid { Ok(()) } else { Err(Some(found)) }
}

fn deleted(object: &Value, now: Timestamp) -> bool {
    let at = object["metadata"]["deletionTimestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    at.is_some_and(|at| at.as_second() < now.as_second() - LEEWAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-01-01T00:10:00Z";

    fn now() -> Timestamp {
        NOW.parse().expect("time")
    }

    fn find(plural: &str, _namespace: &str, name: &str) -> Option<Value> {
        let gone = |at: &str| json!({"metadata": {"uid": "u", "deletionTimestamp": at}});
        match (plural, name) {
            ("serviceaccounts", "sa") => Some(json!({"metadata": {"uid": "su"}})),
            ("pods" | "secrets" | "nodes", "here") => Some(json!({"metadata": {"uid": "u"}})),
            ("pods", "going") => Some(gone("2026-01-01T00:09:30Z")),
            ("pods", "gone") => Some(gone("2026-01-01T00:08:30Z")),
            ("secrets", "legacy") => {
                Some(json!({"metadata": {"uid": "u"}, "data": {"token": STANDARD.encode("t")}}))
            }
            _ => None,
        }
    }

    #[test]
    fn tokens_hold_while_what_they_are_bound_to_is_there() {
        let one = |kind: &str, name: &str, uid: &str| json!({"namespace": "a", "serviceaccount": {"name": "sa", "uid": "su"}, kind: {"name": name, "uid": uid}});
        for (bound, expected) in [
            (json!({"namespace": "a", "serviceaccount": {"name": "sa", "uid": "su"}}), Ok("")),
            (
                json!({"namespace": "a", "serviceaccount": {"name": "sa", "uid": "old"}}),
                Err("service account UID (su) does not match claim (old)"),
            ),
            (
                json!({"namespace": "a", "serviceaccount": {"name": "x", "uid": "u"}}),
                Err("serviceaccounts \"x\" not found"),
            ),
            (one("pod", "here", "u"), Ok("pod-name=here pod-uid=u")),
            (one("pod", "going", "u"), Ok("pod-name=going pod-uid=u")),
            (one("pod", "gone", "u"), Err(INVALIDATED)),
            (one("pod", "none", "u"), Err(INVALIDATED)),
            (
                one("pod", "here", "old"),
                Err("pod UID (u) does not match service account pod ref claim (old)"),
            ),
            (one("secret", "here", "u"), Ok("")),
            (one("secret", "none", "u"), Err(INVALIDATED)),
            (one("node", "here", "u"), Ok("node-name=here node-uid=u")),
            (one("node", "none", "u"), Err(INVALIDATED)),
        ] {
            let claims = json!({ "kubernetes.io": bound });
            let found = user(&claims, &find, now()).map(|user| {
                assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:a:sa", "su"));
                let short = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
                let told: Vec<String> =
                    user.extra.iter().map(|(key, values)| format!("{}={}", short(key), values[0])).collect();
                told.join(" ")
            });
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{claims}");
        }
    }

    #[test]
    fn tokens_have_their_time() {
        let second = now().as_second();
        for (from, until, made, expected) in [
            (0, 10, 0, Ok(())),
            (0, -60, 0, Ok(())),
            (0, -61, 0, Err("service account token has expired")),
            (61, 100, 0, Err("service account token is not valid yet")),
            (0, 100, 61, Err("service account token is issued in the future")),
        ] {
            let claims = json!({"nbf": second + from, "exp": second + until, "iat": second + made});
            assert_eq!(
                check_time(&claims, now()).map_err(|error| error.to_string()),
                expected.map_err(str::to_owned)
            );
        }
        assert!(check_time(&json!({}), now()).is_err());
    }

    #[test]
    fn legacy_tokens_hold_while_their_secret_holds_them() {
        let claims = |secret: &str, name: &str| {
            json!({"sub": format!("system:serviceaccount:a:{name}"),
            "kubernetes.io/serviceaccount/namespace": "a", "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": name, "kubernetes.io/serviceaccount/service-account.uid": "su"})
        };
        assert!(legacy_user("t", &claims("legacy", "sa"), &find, now()).is_ok());
        assert!(legacy_user("other", &claims("legacy", "sa"), &find, now()).is_err());
        assert!(legacy_user("t", &claims("none", "sa"), &find, now()).is_err());
        assert!(legacy_user("t", &claims("legacy", "none"), &find, now()).is_err());
    }

    #[test]
    fn tokens_of_pods_last_longer_than_they_say() {
        for (seconds, pod, api, extend, expected) in [
            (3607, true, true, true, (EXTENDED, Some(3607))),
            (3607, true, true, false, (3607, None)),
            (3607, false, true, true, (3607, None)),
            (3607, true, false, true, (3607, None)),
            (3600, true, true, true, (3600, None)),
        ] {
            assert_eq!(expiry(seconds, pod, api, extend), expected);
        }
    }
}
