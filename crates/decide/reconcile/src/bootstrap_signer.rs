//! Signatures of `cluster-info`, by which those who hold a bootstrap token know their cluster
//! (kube-controller-manager: pkg/controller/bootstrap/bootstrapsigner.go, v1.37).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;

use crate::action::Action;
use crate::bootstrap_token::TYPE;

/// The ConfigMap's namespace and name.
pub const PLACE: (&str, &str) = ("kube-public", "cluster-info");
/// What is signed, and what begins the names of signatures.
const SIGNED: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";
/// What begins the names of tokens' Secrets.
const TOKEN: &str = "bootstrap-token-";

/// What to do about the ConfigMap, given all bootstrap tokens.
pub fn decide(info: &ConfigMap, tokens: &[impl AsRef<Secret>], now: Timestamp) -> Vec<Action> {
    let data = info.data.clone().unwrap_or_default();
    let Some(content) = data.get(SIGNED) else { return Vec::new() };
    let good = tokens.iter().filter_map(|token| signing(token.as_ref(), now));
    let wanted: BTreeMap<_, _> =
        good.map(|(id, secret)| (format!("{SIGNATURE}{id}"), sign(content, id, secret))).collect();
    let mut changes = serde_json::Map::new();
    for name in data.keys().filter(|name| name.starts_with(SIGNATURE) && !wanted.contains_key(*name)) {
        changes.insert(name.clone(), json!(null));
    }
    for (name, signature) in wanted.iter().filter(|(name, signature)| data.get(*name) != Some(signature)) {
        changes.insert(name.clone(), json!(signature));
    }
    if changes.is_empty() { Vec::new() } else { vec![Action::patch(info, json!({ "data": changes }))] }
}

/// The id and secret of a token that may sign now.
fn signing(token: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let field = |name: &str| std::str::from_utf8(&token.data.as_ref()?.get(name)?.0).ok();
    let id = token.metadata.name.as_deref()?.strip_prefix(TOKEN)?;
    let usable = token.type_.as_deref() == Some(TYPE)
        && id.len() == 6
        && id.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
        && field("token-id") == Some(id)
        && field("usage-bootstrap-signing") == Some("true");
    let lasts = field("expiration").is_none_or(|text| text.parse().is_ok_and(|due: Timestamp| due > now));
    let secret = field("token-secret").filter(|secret| !secret.is_empty())?;
    (usable && lasts).then_some((id, secret))
}

/// A signature without what is signed (JWS with HS256, detached).
fn sign(content: &str, id: &str, secret: &str) -> String {
    let header = BASE64.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let mut code = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("keys have any length");
    code.update(format!("{header}.{}", BASE64.encode(content)).as_bytes());
    format!("{header}..{}", BASE64.encode(code.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::testing::{at, object, summary};

    fn token(id: &str, changes: Value) -> Arc<Secret> {
        let mut fields =
            json!({"token-id": id, "token-secret": "abcdef0123456789", "usage-bootstrap-signing": "true"});
        for (key, value) in changes.as_object().into_iter().flatten() {
            fields[key] = value.clone();
        }
        let encode = |value: &Value| {
            json!(base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default()))
        };
        let data: serde_json::Map<_, _> = fields
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), encode(value)))
            .collect();
        Arc::new(object(json!({"metadata": {"name": format!("{TOKEN}{id}"), "namespace": "kube-system"},
            "type": TYPE, "data": data})))
    }

    /// From upstream's tests of detached signatures.
    const CONTENT: &str = "Hello from the other side. I must have called a thousand times.";
    const KNOWN: &str =
        "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8";

    #[test]
    fn signatures_are_those_that_kubeadm_checks() {
        assert_eq!(sign(CONTENT, "joshua", "my voice is my passcode"), KNOWN);
    }

    #[test]
    fn tokens_sign_while_they_may() {
        let soon = json!({"expiration": at(10).to_string()});
        let cases = [
            (json!({}), true),
            (soon.clone(), true),
            (json!({"expiration": at(-10).to_string()}), false),
            (json!({"expiration": "never"}), false),
            (json!({"usage-bootstrap-signing": "false"}), false),
            (json!({"token-id": "fedcba"}), false),
            (json!({"token-secret": ""}), false),
        ];
        for (changes, signs) in cases {
            assert_eq!(signing(&token("abcdef", changes.clone()), at(0)).is_some(), signs, "{changes}");
        }
    }

    #[test]
    fn signatures_follow_tokens_and_content() {
        let info = |data: Value| -> ConfigMap {
            object(json!({"metadata": {"name": "cluster-info", "namespace": "kube-public"}, "data": data}))
        };
        let tokens = [token("abcdef", json!({}))];
        let signed = sign("k", "abcdef", "abcdef0123456789");
        let cases = [
            (json!({}), None),
            (json!({"kubeconfig": "k"}), Some(json!({"data": {"jws-kubeconfig-abcdef": signed}}))),
            (json!({"kubeconfig": "k", "jws-kubeconfig-abcdef": signed}), None),
            (
                json!({"kubeconfig": "k", "jws-kubeconfig-abcdef": signed, "jws-kubeconfig-gone00": "x"}),
                Some(json!({"data": {"jws-kubeconfig-gone00": null}})),
            ),
        ];
        for (data, expected) in cases {
            let lines: Vec<_> = decide(&info(data.clone()), &tokens, at(0)).iter().map(summary).collect();
            let expected: Vec<_> =
                expected.iter().map(|body| format!("patch ConfigMap cluster-info {body}")).collect();
            assert_eq!(lines, expected, "{data}");
        }
    }
}
