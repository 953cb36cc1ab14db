//! Who asks and what he may do, from the outside.

use http::Method;
use plimsoll_apiserver::User;
use serde_json::{Value, json};

use crate::support::{Cluster, admin};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn agent(node: &str) -> User {
    User::authenticated(&format!("system:node:{node}"), &["system:nodes"])
}

async fn account(cluster: &Cluster, name: &str) {
    let made =
        cluster.post("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": name}})).await;
    assert_eq!(made.code, 201, "{made:?}");
}

async fn pod(cluster: &Cluster, name: &str, node: &str) -> Value {
    let object = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "serviceAccountName": "web",
        "containers": [{"name": "c", "image": "i", "env": [{"name": "e", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}});
    let made = cluster.post(PODS, object).await;
    assert_eq!(made.code, 201, "{made:?}");
    made.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_reach_what_their_pods_need_and_nothing_else() {
    let cluster = Cluster::start().await;
    account(&cluster, "web").await;
    for name in ["s", "t"] {
        assert_eq!(cluster.post(SECRETS, json!({"metadata": {"name": name}})).await.code, 201);
    }
    let pod = pod(&cluster, "p", "n").await;
    let get =
        async |path: String, node: &str| cluster.ask_as(agent(node), Method::GET, &path, &[], None).await;
    assert_eq!(get(format!("{SECRETS}/s"), "n").await.code, 200);
    for (name, node) in [("t", "n"), ("s", "m")] {
        let refused = get(format!("{SECRETS}/{name}"), node).await;
        let expected = format!(
            "secrets \"{name}\" is forbidden: User \"system:node:{node}\" cannot get resource \"secrets\" in API group \"\" in the namespace \"default\": no relationship found between node '{node}' and this object"
        );
        assert_eq!((refused.code, refused.message()), (403, expected));
    }
    assert_eq!(get(format!("{PODS}?fieldSelector=spec.nodeName%3Dn"), "n").await.code, 200);
    assert_eq!(get(PODS.to_owned(), "n").await.code, 403);

    let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]});
    let tokens = "/api/v1/namespaces/default/serviceaccounts/web/token";
    let wanted = json!({"spec": {"audiences": [], "boundObjectRef": reference}});
    let made = cluster.ask_as(agent("n"), Method::POST, tokens, &[], Some(wanted.clone())).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(cluster.ask_as(agent("m"), Method::POST, tokens, &[], Some(wanted)).await.code, 403);
    let unbound =
        cluster.ask_as(agent("n"), Method::POST, tokens, &[], Some(json!({"spec": {"audiences": []}}))).await;
    assert_eq!(
        unbound.message(),
        "serviceaccounts \"web\" is forbidden: node requested token not bound to a pod"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_write_about_their_own_node_and_pods_only() {
    let cluster = Cluster::start().await;
    account(&cluster, "web").await;
    pod(&cluster, "p", "n").await;
    let nodes = "/api/v1/nodes";
    let node = |name: &str, label: &str| json!({"metadata": {"name": name, "labels": {label: "x"}}});
    let create =
        async |object: Value| cluster.ask_as(agent("n"), Method::POST, nodes, &[], Some(object)).await;
    let refused = create(node("m", "a")).await;
    assert_eq!(refused.message(), "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"");
    let refused = create(node("n", "node-role.kubernetes.io/x")).await;
    assert_eq!(
        refused.message(),
        "nodes \"n\" is forbidden: node \"n\" is not allowed to set the following labels: node-role.kubernetes.io/x"
    );
    assert_eq!(create(node("n", "kubernetes.io/hostname")).await.code, 201);
    let status = json!({"status": {"phase": "Running"}});
    let patch = async |node: &str| {
        let headers = [("content-type", "application/merge-patch+json")];
        let path = format!("{PODS}/p/status");
        cluster.ask_as(agent(node), Method::PATCH, &path, &headers, Some(status.clone())).await
    };
    assert_eq!(patch("n").await.code, 200);
    assert_eq!(
        patch("m").await.message(),
        "pods \"p\" is forbidden: node \"m\" can only update pod status for pods with spec.nodeName set to itself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_tell_why() {
    let cluster = Cluster::start().await;
    let review = async |spec: Value| cluster.post(REVIEWS, json!({ "spec": spec })).await;
    let allowed = review(json!({"user": "ann", "groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/version"}})).await;
    let status = allowed.json()["status"].clone();
    assert_eq!(status["allowed"], true);
    let reason = status["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("RBAC: allowed by ClusterRoleBinding \"system:"), "{reason}");
    assert!(reason.ends_with("to Group \"system:authenticated\""), "{reason}");
    let node = review(json!({"user": "system:node:n", "groups": ["system:nodes"], "resourceAttributes": {"verb": "get", "resource": "secrets", "namespace": "a", "name": "s"}})).await;
    assert_eq!(
        node.json()["status"],
        json!({"allowed": false, "reason": "no relationship found between node 'n' and this object"})
    );
    let both = json!({"resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"verb": "get"}});
    assert_eq!(review(both).await.code, 422);
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let asked = json!({"spec": {"namespace": "default"}});
    let answer = cluster.ask_as(agent("n"), Method::POST, rules, &[], Some(asked)).await;
    let status = answer.json()["status"].clone();
    assert_eq!(
        (status["incomplete"].clone(), status["evaluationError"].clone()),
        (json!(true), json!("node authorizer does not support user rule resolution"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_accounts_are_known_while_they_hold() {
    let cluster = Cluster::start().await;
    account(&cluster, "web").await;
    let pod = pod(&cluster, "p", "n").await;
    let tokens = "/api/v1/namespaces/default/serviceaccounts/web/token";
    let request = async |spec: Value| cluster.post(tokens, json!({ "spec": spec })).await;
    let review = async |token: &str, audiences: Value| {
        let spec = json!({"token": token, "audiences": audiences});
        let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
        cluster.post(reviews, json!({ "spec": spec })).await.json()["status"].clone()
    };
    let uid = pod["metadata"]["uid"].clone();
    let made = request(json!({"audiences": ["vault"], "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}})).await;
    assert_eq!(made.code, 201, "{made:?}");
    let token = made.json()["status"]["token"].as_str().expect("a token").to_owned();
    let known = review(&token, json!(["vault", "other"])).await;
    assert_eq!(known["user"]["username"], "system:serviceaccount:default:web");
    assert_eq!(known["audiences"], json!(["vault"]));
    assert_eq!(known["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(known["user"]["extra"]["authentication.kubernetes.io/node-name"], json!(["n"]));
    let foreign = review(&token, json!([])).await;
    assert_eq!(foreign["authenticated"], false);
    assert_eq!(
        foreign["error"],
        "token audiences [\"vault\"] is invalid for the target audiences [\"https://kubernetes.default.svc.cluster.local\"]"
    );
    assert_eq!(cluster.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await.code, 200);
    let gone = review(&token, json!(["vault"])).await;
    assert_eq!(gone["error"], "service account token has been invalidated");
    let keys = cluster.get("/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    assert_eq!(keys.json()["keys"][0]["alg"], "ES256");
    let discovery = cluster.get("/.well-known/openid-configuration").await.json();
    assert_eq!(discovery["jwks_uri"], "https://10.0.0.1:6443/openid/v1/jwks");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_tokens_have_limits() {
    let cluster = Cluster::start_with(|config| config.authentication.accounts.longest = Some(7200)).await;
    account(&cluster, "web").await;
    account(&cluster, "other").await;
    pod(&cluster, "p", "n").await;
    assert_eq!(cluster.post(SECRETS, json!({"metadata": {"name": "s"}})).await.code, 201);
    assert_eq!(cluster.post("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await.code, 201);
    let request = async |account: &str, body: Value| {
        cluster.post(&format!("/api/v1/namespaces/default/serviceaccounts/{account}/token"), body).await
    };
    let bound = |version: &str, kind: &str, name: &str, uid: &str| json!({"spec": {"audiences": [], "boundObjectRef": {"apiVersion": version, "kind": kind, "name": name, "uid": uid}}});
    let lasting = |seconds: i64| json!({"spec": {"audiences": [], "expirationSeconds": seconds}});
    let invalid = "TokenRequest.authentication.k8s.io";
    let stale = |kind: &str, name: &str| {
        format!(
            "Operation cannot be fulfilled on {kind} {name:?}: the UID in the bound object reference (old) does not match the UID in record. The object might have been deleted and then recreated"
        )
    };
    for (account, body, code, message) in [
        ("web", lasting(599), 422, format!("{invalid} \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes")),
        ("web", lasting(0), 422, format!("{invalid} \"\" is invalid: spec.expirationSeconds: Invalid value: 0: may not specify a duration less than 10 minutes")),
        ("web", lasting((1 << 32) + 1), 422, format!("{invalid} \"\" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds")),
        ("web", json!({"metadata": {"name": "x"}, "spec": {"audiences": []}}), 422, format!("{invalid} \"web\" is invalid: metadata.name: Invalid value: \"x\": must match the service account name if specified")),
        ("none", lasting(10), 404, "serviceaccounts \"none\" not found".to_owned()),
        ("web", bound("v1", "Service", "x", ""), 400, "cannot bind token to object of type /v1, Kind=Service".to_owned()),
        ("web", bound("apps/v1", "Deployment", "x", ""), 400, "cannot bind token to object of type apps/v1, Kind=Deployment".to_owned()),
        ("web", bound("v1", "Pod", "x", ""), 404, "pods \"x\" not found".to_owned()),
        ("web", bound("v1", "Secret", "x", ""), 404, "secrets \"x\" not found".to_owned()),
        ("web", bound("v1", "Node", "x", ""), 404, "nodes \"x\" not found".to_owned()),
        ("other", bound("v1", "Pod", "p", ""), 400, "cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name.".to_owned()),
        ("web", bound("v1", "Pod", "p", "old"), 409, stale("Pod", "p")),
        ("web", bound("v1", "Secret", "s", "old"), 409, stale("Secret", "s")),
        ("web", bound("v1", "Node", "n", "old"), 409, stale("Node", "n")),
    ] {
        let refused = request(account, body.clone()).await;
        assert_eq!((refused.code, refused.message()), (code, message), "{body}");
    }
    let long = request("web", lasting(86_400)).await;
    let warning = long.headers["warning"].to_str().expect("text");
    assert_eq!(warning, "299 - \"requested expiration of 86400 seconds shortened to 7200 seconds\"");
    assert_eq!(long.json()["spec"]["expirationSeconds"], 7200);
    let usual = request("web", json!({"spec": {"audiences": []}})).await.json();
    assert_eq!(
        (&usual["spec"]["expirationSeconds"], &usual["spec"]["audiences"]),
        (&json!(3600), &json!(["https://kubernetes.default.svc.cluster.local"]))
    );
    for (kind, name) in [("Secret", "s"), ("Node", "n")] {
        let made = request("web", bound("v1", kind, name, "")).await.json();
        let token = made["status"]["token"].as_str().expect("a token").to_owned();
        let review = json!({"spec": {"token": token}});
        let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
        let known = async || cluster.post(reviews, review.clone()).await.json()["status"].clone();
        assert_eq!(known().await["authenticated"], true, "{kind}");
        let plural = if kind == "Node" { "/api/v1/nodes" } else { SECRETS };
        assert_eq!(cluster.delete(&format!("{plural}/{name}")).await.code, 200);
        assert_eq!(known().await["error"], "service account token has been invalidated", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_need_the_signers_permission() {
    let cluster = Cluster::start().await;
    let request = |organization: &str| {
        use base64::Engine;
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "ann");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
        base64::engine::general_purpose::STANDARD.encode(pem)
    };
    let object = |name: &str, organization: &str| {
        json!({"metadata": {"name": name}, "spec": {"signerName": "kubernetes.io/kube-apiserver-client",
            "request": request(organization), "usages": ["client auth"], "username": "somebody else"}})
    };
    let refused = cluster.post(REQUESTS, object("bad", "system:masters")).await;
    assert_eq!(
        refused.message(),
        "certificatesigningrequests.certificates.k8s.io \"bad\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
    let made = cluster.post(REQUESTS, object("good", "dev")).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(made.json()["spec"]["username"], "admin");
    let role = json!({"metadata": {"name": "approver"}, "rules": [
        {"verbs": ["update", "get"], "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"]}]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    assert_eq!(cluster.post(&format!("{rbac}/clusterroles"), role).await.code, 201);
    let binding = json!({"metadata": {"name": "approver"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "approver"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}]});
    assert_eq!(cluster.post(&format!("{rbac}/clusterrolebindings"), binding).await.code, 201);
    let mut approved = made.json();
    approved["status"]["conditions"] =
        json!([{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]);
    let path = format!("{REQUESTS}/good/approval");
    let approve =
        async |user: User| cluster.ask_as(user, Method::PUT, &path, &[], Some(approved.clone())).await;
    cluster
        .until(async || {
            approve(User::authenticated("eve", &[])).await.message().contains("user not permitted")
        })
        .await;
    let refused = approve(User::authenticated("eve", &[])).await;
    assert_eq!(
        refused.message(),
        "certificatesigningrequests.certificates.k8s.io \"good\" is forbidden: user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
    );
    let done = approve(admin()).await;
    assert_eq!(done.code, 200, "{done:?}");
    let condition = &done.json()["status"]["conditions"][0];
    assert!(condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_servers_learn_whom_to_believe() {
    let cluster = Cluster::start().await;
    let map =
        cluster.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
    assert_eq!(map.json()["data"]["client-ca-file"], cluster.authority.pem());
}

#[tokio::test(flavor = "multi_thread")]
async fn impersonation_takes_permission_for_each_part() {
    let cluster = Cluster::start().await;
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [
        ("impersonate-user", "ann"),
        ("impersonate-group", "dev"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-example.com%2fscope", "one"),
    ];
    let answer = cluster.ask_as(admin(), Method::POST, who, &headers, Some(json!({}))).await;
    assert_eq!(
        answer.json()["status"]["userInfo"],
        json!({"username": "ann", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"example.com/scope": ["one"]}})
    );
    let refused =
        cluster.ask_as(User::authenticated("eve", &[]), Method::POST, who, &headers, Some(json!({}))).await;
    assert_eq!(
        refused.message(),
        "selfsubjectreviews.authentication.k8s.io is forbidden: User \"eve\" cannot impersonate-on:user-info:create resource \"selfsubjectreviews\" in API group \"authentication.k8s.io\" at the cluster scope"
    );
    let nobody = [("impersonate-group", "dev")];
    let nobody = cluster.ask_as(admin(), Method::POST, who, &nobody, Some(json!({}))).await;
    assert_eq!((nobody.code, nobody.json()["reason"].as_str()), (400, Some("BadRequest")));
}

#[tokio::test(flavor = "multi_thread")]
async fn impersonation_can_be_permitted_for_some_requests_only() {
    let cluster = Cluster::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "as-ann"}, "rules": [
        {"verbs": ["impersonate:user-info"], "apiGroups": ["authentication.k8s.io"], "resources": ["users"], "resourceNames": ["ann"]},
        {"verbs": ["impersonate-on:user-info:list"], "apiGroups": [""], "resources": ["pods"]}]});
    let view = json!({"metadata": {"name": "ann"}, "rules": [
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "configmaps"]}]});
    for (role, user) in [(role, "eve"), (view, "ann")] {
        let name = role["metadata"]["name"].clone();
        assert_eq!(cluster.post(&format!("{rbac}/clusterroles"), role).await.code, 201);
        let binding = json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
        assert_eq!(cluster.post(&format!("{rbac}/clusterrolebindings"), binding).await.code, 201);
    }
    let eve = User::authenticated("eve", &[]);
    let get = async |path: &str, user: &str| {
        let headers = [("impersonate-user", user)];
        cluster.ask_as(eve.clone(), Method::GET, path, &headers, None).await
    };
    cluster.until(async || get("/api/v1/namespaces/default/pods", "ann").await.code == 200).await;
    let other = get("/api/v1/namespaces/default/pods", "bob").await;
    assert_eq!(
        other.message(),
        "users.authentication.k8s.io \"bob\" is forbidden: User \"eve\" cannot impersonate:user-info resource \"users\" in API group \"authentication.k8s.io\" at the cluster scope"
    );
    assert_eq!(
        get("/api/v1/namespaces/default/configmaps", "ann").await.code,
        403,
        "ann may, but not for eve"
    );
    let own = cluster.ask_as(eve.clone(), Method::GET, "/api/v1/namespaces/default/pods", &[], None).await;
    assert_eq!(own.code, 403, "eve may not");
}
