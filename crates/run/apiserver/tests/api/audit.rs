//! The audit log: what is recorded of requests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use plimsoll_apiserver::{AuditLog, AuditMode, AuditOptions, AuditWebhook, Compression, User};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Cluster, admin};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn policy(folder: &Path, rules: &str) -> PathBuf {
    let file = folder.join("policy.yaml");
    std::fs::write(&file, format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}"))
        .expect("written");
    file
}

/// A server that records into a file of its folder.
pub(crate) async fn recording(rules: &str) -> (Cluster, TempDir) {
    recording_with(rules, |_| {}).await
}

/// The same with a configuration that is changed by `adjust` before.
pub(crate) async fn recording_with(
    rules: &str,
    adjust: impl FnOnce(&mut plimsoll_apiserver::Config),
) -> (Cluster, TempDir) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let log = AuditLog {
        path: scratch.path().join("audit.log"),
        mode: AuditMode::BlockingStrict,
        buffer: 100,
        max_size: 100,
        max_age: 0,
        max_backups: 0,
        compression: Compression::None,
        truncation: None,
    };
    let policy = policy(scratch.path(), rules);
    let cluster = Cluster::start_with(|config| {
        config.safeguards.audit = AuditOptions { policy: Some(policy), log: Some(log), webhook: None };
        adjust(config);
    })
    .await;
    (cluster, scratch)
}

pub(crate) fn events(scratch: &TempDir) -> Vec<Value> {
    let text = std::fs::read_to_string(scratch.path().join("audit.log")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn of(events: &[Value], verb: &str, stage: &str) -> Value {
    events.iter().find(|event| event["verb"] == verb && event["stage"] == stage).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_tells_who_did_what_and_no_contents() {
    let (cluster, scratch) = recording("- {level: Metadata, resources: [{resources: [secrets]}]}\n").await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "hunter2"}});
    let headers = [
        ("audit-id", "my-own-id"),
        ("x-forwarded-for", "192.0.2.7"),
        ("impersonate-user", "bob"),
        ("impersonate-group", "system:masters"),
    ];
    let made = cluster.ask_as(admin(), Method::POST, SECRETS, &headers, Some(secret)).await;
    assert_eq!((made.code, made.headers["audit-id"].to_str().expect("text")), (201, "my-own-id"));
    let other = cluster.get("/api/v1/namespaces/default/configmaps").await;
    assert!(other.headers.contains_key("audit-id"));
    let events = events(&scratch);
    assert_eq!(events.len(), 2, "{events:#?}");
    let received = of(&events, "create", "RequestReceived");
    assert_eq!(received["responseStatus"], Value::Null);
    let done = of(&events, "create", "ResponseComplete");
    assert_eq!(done["kind"], "Event");
    assert_eq!(done["apiVersion"], "audit.k8s.io/v1");
    assert_eq!(done["level"], "Metadata");
    assert_eq!(done["auditID"], "my-own-id");
    assert_eq!(done["requestURI"], SECRETS);
    assert_eq!(
        done["user"],
        json!({"username": "admin", "groups": ["system:masters", "system:authenticated"]})
    );
    assert_eq!(done["impersonatedUser"]["username"], "bob");
    assert_eq!(done["sourceIPs"], json!(["192.0.2.7", "127.0.0.1"]));
    assert_eq!(done["userAgent"], "test");
    assert_eq!(
        done["objectRef"],
        json!({"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"})
    );
    assert_eq!(done["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(done["annotations"]["authorization.k8s.io/decision"], "allow");
    let time = done["stageTimestamp"].as_str().expect("a time");
    assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len(), "{time}");
    assert!(!serde_json::to_string(&events).expect("JSON").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_recorded_at_higher_levels() {
    let (cluster, scratch) = recording(
        "- {level: RequestResponse, omitManagedFields: true, omitStages: [RequestReceived], resources: [{resources: [configmaps]}]}\n",
    )
    .await;
    let maps = "/api/v1/namespaces/default/configmaps";
    cluster.post(maps, json!({"metadata": {"name": "m"}, "data": {"k": "1"}})).await;
    cluster.patch(&format!("{maps}/m"), "application/merge-patch+json", json!({"data": {"k": "2"}})).await;
    cluster.delete(&format!("{maps}/m")).await;
    cluster.get(&format!("{maps}/m")).await;
    let events = events(&scratch);
    assert_eq!(events.len(), 4, "{events:#?}");
    let made = of(&events, "create", "ResponseComplete");
    assert_eq!(made["requestObject"]["data"], json!({"k": "1"}));
    assert!(made["responseObject"]["metadata"]["uid"].is_string());
    assert_eq!(made["responseObject"]["metadata"]["managedFields"], Value::Null);
    assert_eq!(of(&events, "patch", "ResponseComplete")["requestObject"], json!({"data": {"k": "2"}}));
    let deleted = of(&events, "delete", "ResponseComplete");
    assert_eq!(deleted["responseStatus"]["status"], "Success");
    let missing = of(&events, "get", "ResponseComplete");
    assert_eq!(
        (&missing["responseStatus"]["code"], &missing["responseStatus"]["reason"]),
        (&json!(404), &json!("NotFound"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    let (cluster, scratch) =
        recording("- {level: Metadata, omitStages: [RequestReceived], users: [nobody, admin]}\n").await;
    let nobody = User::authenticated("nobody", &[]);
    let refused = cluster.ask_as(nobody, Method::GET, SECRETS, &[], None).await;
    assert_eq!(refused.code, 403);
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    cluster.post("/api/v1/namespaces", json!({"metadata": {"name": "n", "labels": labels}})).await;
    cluster.post("/api/v1/namespaces/n/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"hostPID": true, "containers": [{"name": "a", "image": "i"}]}});
    assert_eq!(cluster.post("/api/v1/namespaces/n/pods", pod).await.code, 403);
    let events = events(&scratch);
    let list = of(&events, "list", "ResponseComplete");
    assert_eq!(
        list["annotations"],
        json!({"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""})
    );
    assert_eq!(list["responseStatus"]["reason"], "Forbidden");
    let pod = events.last().expect("the pod");
    assert_eq!(pod["annotations"]["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");
    assert_eq!(pod["objectRef"]["name"], "p");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_have_an_event_when_they_begin_and_when_they_end() {
    let (cluster, scratch) = recording("- {level: Metadata, verbs: [watch]}\n").await;
    let path = format!("{SECRETS}?watch=1&timeoutSeconds=1");
    assert_eq!(cluster.get(&path).await.code, 200);
    let stages = || -> Vec<Value> { events(&scratch).iter().map(|event| event["stage"].clone()).collect() };
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while stages().len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("the last event");
    assert_eq!(stages(), ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_lists_of_events() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let file = scratch.path().join("webhook");
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}/events")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]});
    std::fs::write(&file, text.to_string()).expect("written");
    let webhook = AuditWebhook {
        configuration: file,
        mode: AuditMode::Batch,
        buffer: 100,
        batch_size: 2,
        batch_wait: Duration::from_secs(30),
        initial_backoff: Duration::from_millis(1),
        throttle: Some((10.0, 15.0)),
        truncation: None,
    };
    let policy = policy(scratch.path(), "- {level: Metadata, verbs: [delete]}\n");
    let cluster = Cluster::start_with(|config| {
        config.safeguards.audit = AuditOptions { policy: Some(policy), log: None, webhook: Some(webhook) };
    })
    .await;
    let received = tokio::spawn(async move {
        let mut answers = ["503 Service Unavailable", "200 OK"].into_iter();
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut text = String::new();
            while !text.ends_with("]}") {
                let mut part = [0; 8192];
                let length = stream.read(&mut part).await.expect("readable");
                text.push_str(&String::from_utf8_lossy(&part[..length]));
            }
            let Some(answer) = answers.next() else { return text };
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("writable");
            if answer.contains("200") {
                return text;
            }
        }
    });
    cluster.delete(&format!("{SECRETS}/none")).await;
    let text =
        tokio::time::timeout(Duration::from_secs(20), received).await.expect("in time").expect("no panic");
    assert!(text.starts_with("POST /events HTTP/1.1\r\n"), "{text}");
    let body = text.split("\r\n\r\n").nth(1).expect("a body");
    let list: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&json!("EventList"), Some(2)));
    assert_eq!(list["items"][1]["responseStatus"]["code"], 404);
}
