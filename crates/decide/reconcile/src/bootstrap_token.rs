//! Bootstrap tokens that have expired
//! (kube-controller-manager: pkg/controller/bootstrap/tokencleaner.go, v1.37).

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;

use crate::action::Action;

/// The type of Secrets that are bootstrap tokens.
pub const TYPE: &str = "bootstrap.kubernetes.io/token";

/// What to do about a token. One whose expiration cannot be read counts as expired.
pub fn decide(token: &Secret, now: Timestamp) -> Vec<Action> {
    let expiration = token.data.as_ref().and_then(|data| data.get("expiration")).map(|bytes| &bytes.0);
    let Some(expiration) = expiration.filter(|_| token.type_.as_deref() == Some(TYPE)) else {
        return Vec::new();
    };
    let due = std::str::from_utf8(expiration).ok().and_then(|text| text.parse::<Timestamp>().ok());
    match due {
        Some(due) if due > now => {
            vec![Action::RequeueAfter(Duration::try_from(due.duration_since(now)).unwrap_or_default())]
        }
        _ => vec![Action::delete(token).into()],
    }
}
