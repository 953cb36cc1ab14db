//! Secrets of type `kubernetes.io/service-account-token`: the token of the account that they name
//! (kube-controller-manager: pkg/controller/serviceaccount/tokens_controller.go, v1.37).

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::{Value, json};

use crate::action::Action;

/// The type of these Secrets.
pub const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// The account that a Secret names.
pub fn account(secret: &Secret) -> Option<&str> {
    annotation(secret, NAME).filter(|_| secret.type_.as_deref() == Some(TYPE))
}

/// Whether this is the account that a Secret was made for, and not a later one of the same name.
pub fn belongs(secret: &Secret, account: &ServiceAccount) -> bool {
    let named = annotation(secret, UID).unwrap_or_default();
    named.is_empty() || account.metadata.uid.as_deref() == Some(named)
}

/// Fills in what is missing, or deletes the Secret of an account that is gone. `sign` makes a token of claims.
pub fn decide(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    authority: &str,
    sign: impl FnOnce(Value) -> Option<String>,
) -> Vec<Action> {
    if secret.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let Some(account) = account.filter(|account| belongs(secret, account)) else {
        return vec![Action::delete(secret).into()];
    };
    let uid = account.metadata.uid.as_deref().unwrap_or_default();
    let has = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let mut data = json!({});
    if !authority.is_empty() && has("ca.crt") != Some(authority.as_bytes()) {
        data["ca.crt"] = json!(ByteString(authority.as_bytes().to_vec()));
    }
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    if has("namespace").is_none_or(<[u8]>::is_empty) {
        data["namespace"] = json!(ByteString(namespace.as_bytes().to_vec()));
    }
    if has("token").is_none_or(<[u8]>::is_empty) {
        let name = account.metadata.name.as_deref().unwrap_or_default();
        let claims = json!({
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
            "kubernetes.io/serviceaccount/secret.name": secret.metadata.name,
        });
        let Some(token) = sign(claims) else { return Vec::new() };
        data["token"] = json!(ByteString(token.into_bytes()));
    }
    if data.as_object().is_none_or(serde_json::Map::is_empty) {
        return Vec::new();
    }
    vec![Action::patch(secret, json!({"metadata": {"annotations": {UID: uid}}, "data": data}))]
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn secrets_get_the_token_of_their_account() {
        let secret = |uid: Value, data: Value| -> Secret {
            object(
                json!({"metadata": {"name": "s", "namespace": "a", "annotations": {NAME: "sa", UID: uid}}, "type": TYPE, "data": data}),
            )
        };
        let there: ServiceAccount = object(json!({"metadata": {"name": "sa", "uid": "u"}}));
        let told = |secret: &Secret, account: Option<&ServiceAccount>| -> Vec<String> {
            decide(secret, account, "CA", |claims| Some(format!("{}", claims["sub"])))
                .iter()
                .map(summary)
                .collect()
        };
        let empty = secret(json!(null), json!({}));
        assert_eq!(account(&empty), Some("sa"));
        let made = told(&empty, Some(&there));
        assert!(made[0].contains(r#""ca.crt":"Q0E=","namespace":"YQ==","token":""#), "{made:?}");
        assert!(made[0].contains(r#""kubernetes.io/service-account.uid":"u""#), "{made:?}");
        assert_eq!(told(&empty, None), ["delete Secret s"]);
        assert_eq!(told(&secret(json!("old"), json!({})), Some(&there)), ["delete Secret s"]);
        let full = json!({"ca.crt": "Q0E=", "namespace": "YQ==", "token": "dA=="});
        assert!(told(&secret(json!("u"), full), Some(&there)).is_empty());
    }
}
