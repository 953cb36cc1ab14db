//! Tokens in Secrets that accounts got without asking, in former times: those that nobody uses are first
//! marked, then refused, and at last deleted
//! (kube-controller-manager: pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go, v1.37).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::jiff::civil::Date;
use k8s_openapi::jiff::{Span, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::account_secret;
use crate::action::Action;

/// The ConfigMap in `kube-system` that tells since when the API server notes the use of tokens.
pub const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// Days without use after which a token is marked, and days with the mark after which it is deleted.
const DAYS: i64 = 365;
/// How often each Secret is looked at.
const AGAIN: Duration = Duration::from_secs(86_400);
/// Labels of Secrets with dates, see `plimsoll_access::account_token`.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// What becomes of a Secret; `since` is what the ConfigMap says, `is_used` tells whether pods use it.
pub fn decide(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    since: Option<&str>,
    is_used: impl FnOnce(&str) -> bool,
    now: Timestamp,
) -> Vec<Action> {
    let mut actions = vec![Action::RequeueAfter(AGAIN)];
    let today = now.to_zoned(TimeZone::UTC).date();
    let Some(limit) = today.checked_sub(Span::new().days(DAYS)).ok() else { return actions };
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    if !is_tracked_long_enough(since, limit) || !is_forgotten(secret, limit) {
        return actions;
    }
    // Only tokens that nobody asked for are listed by their account.
    let Some(account) = account.filter(|account| account_secret::belongs(secret, account)) else {
        return actions;
    };
    let listed = account.secrets.iter().flatten().any(|one| one.name.as_deref() == Some(name));
    if !listed || is_used(name) {
        return actions;
    }
    match label(secret, INVALID_SINCE).and_then(|date| date.parse::<Date>().ok()) {
        None => {
            let labels = json!({"metadata": {"labels": {INVALID_SINCE: today.to_string()}}});
            actions.push(Action::patch(secret, labels));
        }
        Some(marked) if marked < limit => actions.push(Action::delete(secret).into()),
        Some(_) => {}
    }
    actions
}

/// The day that tracking began does not count in full.
fn is_tracked_long_enough(since: Option<&str>, limit: Date) -> bool {
    since.and_then(|since| since.parse::<Date>().ok()).is_some_and(|since| since < limit)
}

/// Whether the token is old and was not used lately; a date that cannot be read tells nothing.
fn is_forgotten(secret: &Secret, limit: Date) -> bool {
    let created = secret.metadata.creation_timestamp.as_ref();
    let created = created.map(|at| at.0.to_zoned(TimeZone::UTC).date());
    let used = match label(secret, LAST_USED) {
        None => false,
        Some(date) => date.parse::<Date>().map_or(true, |used| used >= limit),
    };
    secret.metadata.deletion_timestamp.is_none() && created.is_some_and(|at| at < limit) && !used
}

fn label<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Whether a pod names a Secret, in whatever field.
pub fn uses(pod: &Pod, secret: &str) -> bool {
    serde_json::to_value(&pod.spec).is_ok_and(|spec| names(&spec, secret))
}

fn names(value: &Value, secret: &str) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(field, inner)| match field.as_str() {
            "secretName" => inner == secret,
            "imagePullSecrets" => inner.as_array().into_iter().flatten().any(|one| one["name"] == secret),
            "secret" | "secretRef" | "secretKeyRef" | "nodePublishSecretRef" if inner["name"] == secret => {
                true
            }
            _ => names(inner, secret),
        }),
        Value::Array(elements) => elements.iter().any(|element| names(element, secret)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn forgotten_tokens_are_marked_and_then_deleted() {
        let now: Timestamp = "2026-06-15T12:00:00Z".parse().expect("a time");
        let account: ServiceAccount = object(
            json!({"metadata": {"name": "sa", "namespace": "a", "uid": "u"}, "secrets": [{"name": "s"}]}),
        );
        let secret = |created: &str, labels: Value| -> Secret {
            object(
                json!({"type": "kubernetes.io/service-account-token", "metadata": {"name": "s", "namespace": "a",
                "creationTimestamp": format!("{created}T00:00:00Z"), "labels": labels,
                "annotations": {"kubernetes.io/service-account.name": "sa", "kubernetes.io/service-account.uid": "u"}}}),
            )
        };
        let told = |secret: &Secret, since: &str, used: bool| -> Vec<String> {
            let actions = decide(secret, Some(&account), Some(since), |_| used, now);
            actions.iter().filter(|one| !matches!(one, Action::RequeueAfter(_))).map(summary).collect()
        };
        let (old, long) = ("2020-01-01", "2024-01-01");
        let marked = told(&secret(old, json!({})), long, false);
        assert!(
            marked.len() == 1
                && marked[0].contains(r#""kubernetes.io/legacy-token-invalid-since":"2026-06-15""#),
            "{marked:?}"
        );
        let nothing: [(Value, &str, &str, bool); 6] = [
            (json!({}), old, "2026-01-01", false),
            (json!({}), "2026-06-01", long, false),
            (json!({}), old, long, true),
            (json!({LAST_USED: "2025-06-15"}), old, long, false),
            (json!({LAST_USED: "yesterday"}), old, long, false),
            (json!({INVALID_SINCE: "2026-06-01"}), old, long, false),
        ];
        for (labels, created, since, used) in nothing {
            let secret = secret(created, labels.clone());
            assert!(told(&secret, since, used).is_empty(), "{labels} {created} {since} {used}");
        }
        let both = json!({LAST_USED: "2025-06-14", INVALID_SINCE: "2025-06-14"});
        assert_eq!(told(&secret(old, both), long, false), ["delete Secret s"]);
        let asked_for: ServiceAccount =
            object(json!({"metadata": {"name": "sa", "namespace": "a", "uid": "u"}}));
        let kept = decide(&secret(old, json!({})), Some(&asked_for), Some(long), |_| false, now);
        assert_eq!(kept.len(), 1, "a token that somebody asked for stays");
    }

    #[test]
    fn pods_name_secrets_in_many_places() {
        for spec in [
            json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]}),
            json!({"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}]}),
            json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]}),
            json!({"initContainers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}], "containers": []}),
            json!({"imagePullSecrets": [{"name": "s"}]}),
        ] {
            let mut spec = spec;
            if spec["containers"].is_null() {
                spec["containers"] = json!([]);
            }
            let pod: Pod = object(json!({"metadata": {"name": "p"}, "spec": spec}));
            assert!(uses(&pod, "s") && !uses(&pod, "t"), "{spec}");
        }
    }
}
