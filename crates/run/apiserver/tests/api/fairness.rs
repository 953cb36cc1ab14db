//! Priority levels: the first objects, what answers tell, and who is turned away.

use std::time::Duration;

use http::{Method, Request};
use plimsoll_apiserver::{Gate, User};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::support::{Cluster, admin};

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

/// Asks until the answer is as it should be.
async fn until(
    cluster: &Cluster,
    path: &str,
    good: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    for _ in 0..6000 {
        let found = cluster.get(path).await.json();
        if good(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{path} stays as it is");
}

fn dangling(schema: &serde_json::Value) -> &str {
    schema["status"]["conditions"][0]["status"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_objects_are_kept_and_answers_name_them() {
    let cluster = Cluster::start().await;
    let is_settled = |list: &serde_json::Value| {
        let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        items.len() == 13 && items.iter().all(|schema| dangling(schema) == "False")
    };
    until(&cluster, &format!("{GROUP}/flowschemas"), is_settled).await;
    let uid =
        async |path: &str| cluster.get(&format!("{GROUP}/{path}")).await.json()["metadata"]["uid"].clone();
    let answer = cluster.get("/api/v1/nodes").await;
    assert_eq!(
        answer.headers["x-kubernetes-pf-flowschema-uid"],
        *uid("flowschemas/exempt").await.as_str().expect("a uid")
    );
    let level = uid("prioritylevelconfigurations/exempt").await;
    assert_eq!(answer.headers["x-kubernetes-pf-prioritylevel-uid"], *level.as_str().expect("a uid"));
    // Refused requests are marked, too.
    let answer = cluster.ask_as(User::authenticated("u", &[]), Method::GET, "/api/v1/nodes", &[], None).await;
    assert_eq!(answer.code, 403);
    assert_eq!(
        answer.headers["x-kubernetes-pf-flowschema-uid"],
        *uid("flowschemas/global-default").await.as_str().expect("a uid")
    );

    let before = uid("flowschemas/catch-all").await;
    assert_eq!(cluster.delete(&format!("{GROUP}/flowschemas/catch-all")).await.code, 200);
    let path = format!("{GROUP}/flowschemas/catch-all");
    until(&cluster, &path, |schema| {
        schema["metadata"]["uid"].is_string() && schema["metadata"]["uid"] != before
    })
    .await;

    let lost = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": "lost"}, "spec": {"priorityLevelConfiguration": {"name": "nowhere"}}});
    assert_eq!(cluster.post(&format!("{GROUP}/flowschemas"), lost).await.code, 201);
    let lost =
        until(&cluster, &format!("{GROUP}/flowschemas/lost"), |schema| dangling(schema) == "True").await;
    assert_eq!(
        lost["status"]["conditions"][0]["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"nowhere\" but there is no such object"
    );
    let dump = cluster.get("/debug/api_priority_and_fairness/dump_priority_levels").await;
    let text = String::from_utf8_lossy(&dump.body).into_owned();
    assert!(text.starts_with("PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, "), "{text}");
    assert!(text.contains("\nworkload-low, "), "{text}");
    // The request that asks is one of those that run.
    let dump = cluster.get("/debug/api_priority_and_fairness/dump_requests").await;
    let text = String::from_utf8_lossy(&dump.body).into_owned();
    let row: Vec<&str> = text.lines().nth(1).unwrap_or_default().split(',').map(str::trim).collect();
    assert_eq!(row[..5], ["exempt", "exempt", "-1", "-1", ""], "{text}");
    assert_eq!(row[6..9], ["1", "0", "0s"], "{text}");
}

/// Somebody who may do everything but is no exception.
async fn worker(cluster: &Cluster) -> User {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "worker"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "worker"}]});
    let made = cluster.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    assert_eq!(made.code, 201);
    let user = User::authenticated("worker", &[]);
    for _ in 0..6000 {
        if cluster.ask_as(user.clone(), Method::GET, "/api/v1/nodes", &[], None).await.code == 200 {
            return user;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the worker may not work");
}

/// Begins a request that a webhook keeps waiting.
async fn hang(cluster: &Cluster, user: User) -> (TcpStream, tokio::task::JoinHandle<()>) {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/", silent.local_addr().expect("an address"));
    let hooks = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "silent"}, "webhooks": [{"name": "silent.example.com", "clientConfig": {"url": url},
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 30,
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let made = cluster.post(path, hooks).await;
    assert_eq!(made.code, 201, "{}", made.message());
    // Until the webhook is known to the server, requests go through.
    for _ in 0..500 {
        let mut hanging = tokio::spawn(slow(cluster.server.service(user.clone(), "test")));
        tokio::select! {
            call = silent.accept() => return (call.expect("a call").0, hanging),
            ended = &mut hanging => ended.expect("the request ends"),
        }
    }
    panic!("the webhook is never called");
}

/// A request that the webhook is asked about.
async fn slow<S: tower::Service<Request<kube::client::Body>>>(service: S) {
    let object = json!({"metadata": {"generateName": "slow-"}});
    let request = Request::post("/api/v1/namespaces/default/configmaps")
        .header("content-type", "application/json")
        .body(kube::client::Body::from(object.to_string().into_bytes()))
        .expect("a request");
    drop(service.oneshot(request).await);
}

async fn refused(levels: Gate) {
    let cluster = Cluster::start_with(|config| {
        config.limits.max_requests_inflight = 1;
        config.limits.max_mutating_requests_inflight = 1;
        config.limits.priority_and_fairness = levels;
        // Who waits is turned away after a quarter of it; the request that hangs must outlast that on a slow machine.
        config.limits.request_timeout = Duration::from_secs(24);
    })
    .await;
    let user = worker(&cluster).await;
    let (call, hanging) = hang(&cluster, user.clone()).await;
    let path = "/api/v1/namespaces/default/configmaps/none";
    let (mut answer, mut waited) = (None, false);
    for _ in 0..100 {
        let asking = cluster.ask_as(user.clone(), Method::DELETE, path, &[], None);
        tokio::pin!(asking);
        let one = loop {
            tokio::select! {
                one = &mut asking => break one,
                told = cluster.get("/metrics") => {
                    let told = String::from_utf8_lossy(&told.body).into_owned();
                    waited |= told.contains("apiserver_current_inqueue_requests{request_kind=\"mutating\"} 1\n");
                }
            }
        };
        if one.code == 429 {
            answer = Some(one);
            break;
        }
    }
    assert!(!hanging.is_finished(), "the seat is still taken");
    let answer = answer.expect("there is one seat, and it is taken");
    assert_eq!(waited, levels == Gate::On, "those without levels do not wait");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.body, "Too many requests, please try again later.\n");
    // Administrators always pass.
    assert_eq!(cluster.ask_as(admin(), Method::DELETE, path, &[], None).await.code, 404);
    // When the client goes away its seat is free.
    hanging.abort();
    assert!(hanging.await.is_err());
    drop(call);
    assert_eq!(cluster.ask_as(user, Method::DELETE, path, &[], None).await.code, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_too_long_is_turned_away() {
    refused(Gate::On).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_limits_hold_without_levels() {
    refused(Gate::Off).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_count_for_no_limit_without_levels() {
    let cluster = Cluster::start_with(|config| {
        config.limits.max_requests_inflight = 1;
        config.limits.priority_and_fairness = Gate::Off;
    })
    .await;
    let user = worker(&cluster).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let watch = cluster.open(user.clone(), Method::GET, &format!("{maps}?watch=true"), &[], None).await;
    assert_eq!(watch.status(), 200);
    assert_eq!(cluster.ask_as(user, Method::GET, maps, &[], None).await.code, 200);
    drop(watch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_no_group_belongs_to_the_last_schema() {
    let cluster = Cluster::start().await;
    let stranger = User { name: "stranger".to_owned(), ..User::default() };
    let answer = cluster.ask_as(stranger, Method::GET, "/api/v1/nodes", &[], None).await;
    assert_eq!(answer.code, 403);
    let last = cluster.get(&format!("{GROUP}/flowschemas/catch-all")).await.json();
    let uid = last["metadata"]["uid"].as_str().expect("a uid").to_owned();
    assert_eq!(answer.headers["x-kubernetes-pf-flowschema-uid"], *uid);
}
