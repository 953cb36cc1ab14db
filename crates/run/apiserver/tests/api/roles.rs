//! Who may give what away, what he is told that he may do, and in whose name he may ask.

use http::Method;
use plimsoll_apiserver::User;
use serde_json::{Value, json};

use crate::support::{Answer, Cluster};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";

fn eve() -> User {
    User::authenticated("eve", &[])
}

/// Gives eve a ClusterRole with these rules, everywhere.
async fn grant(cluster: &Cluster, name: &str, rules: Value) {
    let role = json!({"metadata": {"name": name}, "rules": rules});
    assert_eq!(cluster.post(&format!("{RBAC}/clusterroles"), role).await.code, 201, "{name}");
    let made = cluster.post(&format!("{RBAC}/clusterrolebindings"), binding("ClusterRole", name)).await;
    assert_eq!(made.code, 201, "{name}");
}

fn binding(kind: &str, role: &str) -> Value {
    json!({"metadata": {"name": role}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "eve"}]})
}

async fn asks(cluster: &Cluster, method: Method, path: &str, object: Value) -> Answer {
    cluster.ask_as(eve(), method, path, &[], Some(object)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_more_than_he_has() {
    let cluster = Cluster::start().await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let role = |name: &str, verbs: &[&str], resource: &str| json!({"metadata": {"name": name}, "rules": [{"verbs": verbs, "apiGroups": [""], "resources": [resource]}]});
    grant(
        &cluster,
        "administers-roles",
        json!([{"verbs": ["create", "update", "get"], "apiGroups": [GROUP], "resources": ["roles", "rolebindings"]},
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]),
    )
    .await;
    cluster
        .until(async || asks(&cluster, Method::POST, &roles, role("own", &["get"], "pods")).await.code != 403)
        .await;
    let missing = |kind: &str, name: &str, rule: &str| {
        format!(
            "{kind}.{GROUP} {name:?} is forbidden: user \"eve\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{rule}"
        )
    };
    let secrets = r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#;
    let refused = asks(&cluster, Method::POST, &roles, role("more", &["get"], "secrets")).await;
    assert_eq!((refused.code, refused.message()), (403, missing("roles", "more", secrets)));
    let refused =
        asks(&cluster, Method::PUT, &format!("{roles}/own"), role("own", &["delete"], "pods")).await;
    let delete = r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#;
    assert_eq!(refused.message(), missing("roles", "own", delete));
    assert_eq!(cluster.post(&roles, role("more", &["get"], "secrets")).await.code, 201);
    // Roles are known to the authorizer a moment after they were made.
    cluster
        .until(async || asks(&cluster, Method::POST, &bindings, binding("Role", "more")).await.code != 404)
        .await;
    let refused = asks(&cluster, Method::POST, &bindings, binding("Role", "more")).await;
    assert_eq!((refused.code, refused.message()), (403, missing("rolebindings", "more", secrets)));
    assert_eq!(asks(&cluster, Method::POST, &bindings, binding("Role", "own")).await.code, 201);
    // These verbs permit it, the first for this one role.
    grant(
        &cluster,
        "binds",
        json!([{"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["roles"], "resourceNames": ["more"]}]),
    )
    .await;
    cluster
        .until(async || asks(&cluster, Method::POST, &bindings, binding("Role", "more")).await.code == 201)
        .await;
    assert_eq!(cluster.post(&roles, role("other", &["list"], "secrets")).await.code, 201);
    cluster
        .until(async || asks(&cluster, Method::POST, &bindings, binding("Role", "other")).await.code == 403)
        .await;
    grant(
        &cluster,
        "escalates",
        json!([{"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["roles"]}]),
    )
    .await;
    let most = role("most", &["*"], "*");
    cluster.until(async || asks(&cluster, Method::POST, &roles, most.clone()).await.code == 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_what_he_may_do() {
    let cluster = Cluster::start().await;
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["p"]});
    let role = json!({"metadata": {"name": "one-pod"}, "rules": [rule]});
    assert_eq!(cluster.post(&format!("{RBAC}/namespaces/default/roles"), role).await.code, 201);
    let bound = binding("Role", "one-pod");
    assert_eq!(cluster.post(&format!("{RBAC}/namespaces/default/rolebindings"), bound).await.code, 201);
    let told = async |namespace: &str| {
        let reviews = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let answer = asks(&cluster, Method::POST, reviews, json!({"spec": {"namespace": namespace}})).await;
        assert_eq!(answer.code, 201, "{answer:?}");
        answer.json()["status"].clone()
    };
    let has =
        |status: &Value, field: &str, rule: &Value| status[field].as_array().expect("rules").contains(rule);
    cluster.until(async || has(&told("default").await, "resourceRules", &rule)).await;
    assert!(!has(&told("kube-system").await, "resourceRules", &rule), "it counts in its namespace only");
    let own = json!({"verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]});
    let public = json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"]});
    let status = told("default").await;
    assert!(has(&status, "resourceRules", &own), "{status}");
    assert!(has(&status, "nonResourceRules", &public), "{status}");
    let nowhere = asks(
        &cluster,
        Method::POST,
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        json!({"spec": {"namespace": ""}}),
    )
    .await;
    assert_eq!((nowhere.code, nowhere.message()), (400, "no namespace on request".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_another_user_needs_its_permission() {
    let cluster = Cluster::start().await;
    let authentication = "authentication.k8s.io";
    grant(
        &cluster,
        "is-ann",
        json!([
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["ann"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"]},
            {"verbs": ["impersonate"], "apiGroups": [authentication], "resources": ["uids"], "resourceNames": ["7"]},
            {"verbs": ["impersonate"], "apiGroups": [authentication], "resources": ["userextras/scopes"], "resourceNames": ["one"]},
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["robot"]},
        ]),
    )
    .await;
    let as_whom = async |headers: &[(&str, &str)]| {
        let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let answer = cluster.ask_as(eve(), Method::POST, who, headers, Some(json!({}))).await;
        if answer.code == 201 { Ok(answer.json()["status"]["userInfo"].clone()) } else { Err(answer.code) }
    };
    let ann = ("impersonate-user", "ann");
    cluster.until(async || as_whom(&[ann]).await.is_ok()).await;
    let whole =
        [ann, ("impersonate-uid", "7"), ("impersonate-group", "dev"), ("impersonate-extra-scopes", "one")];
    assert_eq!(
        as_whom(&whole).await,
        Ok(
            json!({"username": "ann", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["one"]}})
        )
    );
    for refused in [
        ("impersonate-uid", "8"),
        ("impersonate-group", "ops"),
        ("impersonate-group", "system:masters"),
        ("impersonate-extra-scopes", "two"),
        ("impersonate-extra-other", "one"),
    ] {
        assert_eq!(as_whom(&[ann, refused]).await, Err(403), "{refused:?}");
    }
    assert_eq!(as_whom(&[("impersonate-user", "bob")]).await, Err(403));
    let robot = as_whom(&[("impersonate-user", "system:serviceaccount:default:robot")]).await.expect("known");
    assert_eq!(
        robot["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    assert_eq!(as_whom(&[("impersonate-user", "system:serviceaccount:default:other")]).await, Err(403));
}
