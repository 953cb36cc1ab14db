//! Webhooks: who is asked about what, and what their answers do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Cluster};
use crate::webhook_server::{Behaviour, WebhookServer, patched};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Where markers would be made.
const MARKERS: &str = "/api/v1/namespaces/kube-node-lease/configmaps?dryRun=All";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";

/// Rules about one resource.
fn rules(operations: &[&str], group: &str, resource: &str) -> Value {
    json!([{"operations": operations, "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]}])
}

/// A webhook for the namespace `default` and for what is in none.
fn hook(server: &WebhookServer, name: &str, path: &str, rules: Value) -> Value {
    json!({"name": format!("{name}.example.com"), "clientConfig": server.config(path), "rules": rules,
        "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}})
}

/// Registers webhooks and waits until they are asked.
async fn register(cluster: &Cluster, server: &WebhookServer, plural: &str, name: &str, mut hooks: Value) {
    let mut marker = hook(server, &format!("marker-{name}"), "marker", rules(&["CREATE"], "", "configmaps"));
    marker["namespaceSelector"] = json!({});
    marker["objectSelector"] = json!({"matchLabels": {"marker": name}});
    let marked = format!("{:?} denied the request", marker["name"].as_str().unwrap_or_default());
    hooks.as_array_mut().expect("a list").push(marker);
    let path = format!("{CONFIGURATIONS}/{plural}");
    let made = cluster.post(&path, json!({"metadata": {"name": name}, "webhooks": hooks})).await;
    assert_eq!(made.code, 201, "{made:?}");
    let object = json!({"metadata": {"name": "marker", "labels": {"marker": name}}});
    let asked = async || cluster.post(MARKERS, object.clone()).await.message().contains(&marked);
    tokio::time::timeout(Duration::from_secs(10), async { while !asked().await {} })
        .await
        .expect("registered");
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

fn warnings(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_changed_in_order_and_shown_again() {
    let cluster = Cluster::start().await;
    let server = WebhookServer::start(
        cluster.folder.path(),
        &[
            (
                "first",
                Behaviour::Respond(|request| {
                    let first = request["object"]["data"]["first"].is_null();
                    match first {
                        true => patched(json!([{"op": "add", "path": "/data/first", "value": "yes"},
                        {"op": "add", "path": "/odd", "value": {"unknown": true}}])),
                        false => json!({"allowed": true, "warnings": ["seen again"]}),
                    }
                }),
            ),
            (
                "second",
                Behaviour::Respond(|request| {
                    assert_eq!(request["object"]["data"]["first"], "yes");
                    patched(json!([{"op": "add", "path": "/data/second", "value": "yes"}]))
                }),
            ),
        ],
    )
    .await;
    let rules = || rules(&["CREATE"], "", "configmaps");
    let mut first = hook(&server, "first", "first", rules());
    first["reinvocationPolicy"] = json!("IfNeeded");
    let second = hook(&server, "second", "second", rules());
    register(&cluster, &server, "mutatingwebhookconfigurations", "b", json!([second])).await;
    register(&cluster, &server, "mutatingwebhookconfigurations", "a", json!([first])).await;

    let made = cluster.post(MAPS, map("a")).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert_eq!(made.json()["data"], json!({"k": "v", "first": "yes", "second": "yes"}));
    assert_eq!(made.json()["odd"], Value::Null, "unknown fields are pruned");
    assert_eq!(warnings(&made), ["299 - \"seen again\""]);
    let (first, second) = (server.calls("first"), server.calls("second"));
    assert_eq!((first.len(), second.len()), (2, 1));
    assert_eq!(first[0]["object"]["kind"], "ConfigMap");
    assert_eq!(first[0]["object"]["metadata"]["uid"], Value::Null, "identity comes after");
    assert_eq!(first[0]["userInfo"]["username"], "admin");
    assert_eq!(first[0]["options"]["kind"], "CreateOptions");
    assert_eq!((&first[0]["name"], &first[0]["namespace"]), (&json!("a"), &json!("default")));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_refused_with_the_reason_and_the_warnings() {
    let cluster = Cluster::start().await;
    let server = WebhookServer::start(
        cluster.folder.path(),
        &[(
            "no",
            Behaviour::Respond(|request| match request["operation"].as_str() {
                Some("DELETE") => {
                    json!({"allowed": request["oldObject"]["data"]["k"] != "v", "status": {"reason": "Keep"}})
                }
                _ => json!({"allowed": request["object"]["data"]["bad"].is_null(), "warnings": ["careful"],
                "status": {"message": "bad data", "code": 403, "reason": "Forbidden"}}),
            }),
        )],
    )
    .await;
    let rules = rules(&["CREATE", "UPDATE", "DELETE"], "", "configmaps");
    register(
        &cluster,
        &server,
        "validatingwebhookconfigurations",
        "no",
        json!([hook(&server, "no", "no", rules)]),
    )
    .await;

    let made = cluster.post(MAPS, map("good")).await;
    assert_eq!((made.code, warnings(&made)), (201, vec!["299 - \"careful\""]), "{made:?}");
    let refused = cluster.post(MAPS, json!({"metadata": {"generateName": "a-"}, "data": {"bad": "1"}})).await;
    assert_eq!((refused.code, warnings(&refused)), (403, vec!["299 - \"careful\""]));
    assert_eq!(refused.message(), "admission webhook \"no.example.com\" denied the request: bad data");
    assert_eq!(refused.json()["reason"], "Forbidden");
    let call = server.calls("no").pop().expect("a call");
    assert!(call["name"].as_str().is_some_and(|name| name.starts_with("a-")), "{call}");
    assert!(call["object"]["metadata"]["uid"].is_string(), "{call}");

    let path = format!("{MAPS}/good");
    let patch = json!({"data": {"bad": "1"}});
    assert_eq!(cluster.patch(&path, "application/merge-patch+json", patch).await.code, 403);
    let call = server.calls("no").pop().expect("a call");
    assert_eq!(call["oldObject"]["data"], json!({"k": "v"}));
    assert_eq!(call["options"]["kind"], "UpdateOptions");

    for kept in [cluster.delete(&path).await, cluster.delete(MAPS).await] {
        assert_eq!(kept.message(), "admission webhook \"no.example.com\" denied the request: Keep");
    }
    let call = server.calls("no").pop().expect("a call");
    assert_eq!((&call["object"], &call["options"]["kind"]), (&Value::Null, &json!("DeleteOptions")));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_refusals_unless_they_are_ignored() {
    let cluster = Cluster::start().await;
    let server = WebhookServer::start(
        cluster.folder.path(),
        &[
            ("broken", Behaviour::Fail(500)),
            ("slow", Behaviour::Hang),
            ("odd", Behaviour::Respond(|_| json!({"uid": 1}))),
        ],
    )
    .await;
    let only = |label: &str, mut hook: Value| {
        hook["objectSelector"] = json!({"matchLabels": {"case": label}});
        hook
    };
    let rules = || rules(&["CREATE"], "", "configmaps");
    let mut slow = only("slow", hook(&server, "slow", "slow", rules()));
    slow["timeoutSeconds"] = json!(1);
    let mut ignored = only("ignored", hook(&server, "ignored", "broken", rules()));
    ignored["failurePolicy"] = json!("Ignore");
    let mut stranger = only("stranger", hook(&server, "stranger", "odd", rules()));
    stranger["clientConfig"]["caBundle"] = json!(authority_of_nobody(&cluster));
    let mut missing = only("missing", hook(&server, "missing", "odd", rules()));
    missing["clientConfig"] = json!({"service": {"namespace": "web", "name": "hook", "path": "/x"}});
    let hooks =
        json!([only("broken", hook(&server, "broken", "broken", rules())), slow, ignored, stranger, missing]);
    register(&cluster, &server, "validatingwebhookconfigurations", "v", hooks.clone()).await;
    register(&cluster, &server, "mutatingwebhookconfigurations", "m", hooks).await;

    let address = server.address;
    for (case, expected) in [
        (
            "broken",
            "failed calling webhook \"broken.example.com\": failed to call webhook: an error on the server (\"out of order\") has prevented the request from succeeding".to_owned(),
        ),
        (
            "slow",
            format!("failed calling webhook \"slow.example.com\": failed to call webhook: Post \"https://{address}/slow?timeout=1s\": context deadline exceeded"),
        ),
        (
            "stranger",
            format!("failed calling webhook \"stranger.example.com\": failed to call webhook: Post \"https://{address}/odd?timeout=10s\": tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        ),
        (
            "missing",
            "failed calling webhook \"missing.example.com\": failed to call webhook: Post \"https://hook.web.svc:443/x?timeout=10s\": service \"hook\" not found".to_owned(),
        ),
    ] {
        let object = json!({"metadata": {"name": case, "labels": {"case": case}}});
        let answer = cluster.post(MAPS, object).await;
        assert_eq!((answer.code, answer.json()["reason"].clone()), (500, json!("InternalError")), "{answer:?}");
        assert_eq!(answer.message(), format!("Internal error occurred: {expected}"));
    }
    let object = json!({"metadata": {"name": "ignored", "labels": {"case": "ignored"}}});
    assert_eq!(cluster.post(MAPS, object).await.code, 201);
    assert_eq!(server.calls("broken").len(), 3, "one for the refusal, two ignored");
}

/// The cluster's own authority, which did not issue the webhook's certificate.
fn authority_of_nobody(cluster: &Cluster) -> String {
    use base64::Engine;
    let pem = std::fs::read(cluster.authority.certificate()).expect("an authority");
    base64::prelude::BASE64_STANDARD.encode(pem)
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_and_connections_are_judged_by_what_they_carry() {
    let cluster = Cluster::start().await;
    let server = WebhookServer::start(
        cluster.folder.path(),
        &[
            ("scale", Behaviour::Respond(|request| {
                assert_eq!(request["kind"]["kind"], "Scale");
                patched(json!([{"op": "replace", "path": "/spec/replicas", "value": 7}]))
            })),
            ("exec", Behaviour::Respond(|request| {
                json!({"allowed": request["object"]["kind"] != "PodExecOptions", "status": {"message": "no shells"}})
            })),
            ("review", Behaviour::Respond(|_| json!({"allowed": false}))),
        ],
    )
    .await;
    let scale = hook(&server, "scale", "scale", rules(&["UPDATE"], "apps", "deployments/scale"));
    let exec = hook(&server, "exec", "exec", rules(&["CONNECT"], "", "pods/*"));
    let review = hook(&server, "review", "review", rules(&["*"], "authorization.k8s.io", "*"));
    register(&cluster, &server, "mutatingwebhookconfigurations", "m", json!([scale])).await;
    register(&cluster, &server, "validatingwebhookconfigurations", "v", json!([exec, review])).await;

    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let object = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    assert_eq!(cluster.post(deployments, object).await.code, 201);
    let patch = json!({"spec": {"replicas": 3}});
    let path = format!("{deployments}/web/scale");
    let scaled = cluster.patch(&path, "application/merge-patch+json", patch).await;
    assert_eq!((scaled.code, scaled.json()["spec"]["replicas"].clone()), (200, json!(7)), "{scaled:?}");
    let [call] = &server.calls("scale")[..] else { panic!("one call") };
    assert_eq!((&call["subResource"], &call["oldObject"]["spec"]["replicas"]), (&json!("scale"), &json!(1)));

    let exec = cluster.post("/api/v1/namespaces/default/pods/p/exec?command=sh", json!({})).await;
    assert_eq!(exec.message(), "admission webhook \"exec.example.com\" denied the request: no shells");
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let refused = cluster.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review).await;
    assert_eq!(
        (refused.code, refused.message()),
        (400, "admission webhook \"review.example.com\" denied the request without explanation".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_are_never_judged_and_other_versions_are_equivalent() {
    let cluster = Cluster::start().await;
    let server = WebhookServer::start(
        cluster.folder.path(),
        &[("no", Behaviour::Respond(|_| json!({"allowed": false})))],
    )
    .await;
    let all = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    let events = json!([{"operations": ["*"], "apiGroups": ["events.k8s.io"], "apiVersions": ["v1"], "resources": ["events"]}]);
    let mut labelled = hook(&server, "all", "no", all);
    labelled["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": "kube-public"}});
    let hooks = json!([labelled, hook(&server, "events", "no", events)]);
    register(&cluster, &server, "validatingwebhookconfigurations", "v", hooks).await;

    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}});
    let refused = cluster.post("/api/v1/namespaces/default/events", event).await;
    assert_eq!(refused.code, 400, "{refused:?}");
    let call = server.calls("no").pop().expect("a call");
    assert_eq!(
        (&call["kind"]["group"], &call["requestKind"]["group"], &call["object"]["apiVersion"]),
        (&json!("events.k8s.io"), &json!(""), &json!("events.k8s.io/v1"))
    );

    assert_eq!(cluster.post(MAPS, map("elsewhere")).await.code, 201);
    assert_eq!(cluster.post("/api/v1/namespaces/kube-public/configmaps", map("a")).await.code, 400);
    let gone = cluster.delete(&format!("{CONFIGURATIONS}/validatingwebhookconfigurations/v")).await;
    assert_eq!(gone.code, 200, "{gone:?}");
    let made = async || cluster.post("/api/v1/namespaces/kube-public/configmaps", map("a")).await.code == 201;
    tokio::time::timeout(Duration::from_secs(10), async { while !made().await {} })
        .await
        .expect("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_told_what_webhooks_did() {
    let rules_of_audit = "- {level: Request, verbs: [create], resources: [{resources: [configmaps]}], namespaces: [default]}\n";
    let (cluster, scratch) = crate::audit::recording(rules_of_audit).await;
    let server = WebhookServer::start(
        cluster.folder.path(),
        &[
            (
                "change",
                Behaviour::Respond(|request| {
                    let mut answer = match request["object"]["data"]["new"].is_null() {
                        true => patched(json!([{"op": "add", "path": "/data/new", "value": "x"}])),
                        false => json!({"allowed": true}),
                    };
                    answer["auditAnnotations"] = json!({"seen": request["name"], "not a key": "x"});
                    answer
                }),
            ),
            ("broken", Behaviour::Fail(500)),
        ],
    )
    .await;
    let rules = || rules(&["CREATE"], "", "configmaps");
    let mut change = hook(&server, "change", "change", rules());
    change["reinvocationPolicy"] = json!("IfNeeded");
    let mut broken = hook(&server, "broken", "broken", rules());
    broken["failurePolicy"] = json!("Ignore");
    let mut more = hook(&server, "more", "change", rules());
    more["objectSelector"] = json!({"matchLabels": {"none": "x"}});
    register(&cluster, &server, "mutatingwebhookconfigurations", "m", json!([more, change, broken.clone()]))
        .await;
    register(&cluster, &server, "validatingwebhookconfigurations", "v", json!([broken])).await;
    let made = cluster.post(MAPS, map("noted")).await;
    assert_eq!(made.code, 201, "{made:?}");
    let events = crate::audit::events(&scratch);
    let of = |name: &str| {
        events
            .iter()
            .find(|event| event["objectRef"]["name"] == name && event["stage"] == "ResponseComplete")
            .map(|event| event["annotations"].clone())
            .unwrap_or_default()
    };
    assert_eq!(
        of("noted"),
        json!({
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason": "",
            "change.example.com/seen": "noted",
            "mutation.webhook.admission.k8s.io/round_0_index_1":
                r#"{"configuration":"m","webhook":"change.example.com","mutated":true}"#,
            "patch.webhook.admission.k8s.io/round_0_index_1":
                r#"{"configuration":"m","webhook":"change.example.com","patch":[{"op":"add","path":"/data/new","value":"x"}],"patchType":"JSONPatch"}"#,
            "mutation.webhook.admission.k8s.io/round_0_index_2":
                r#"{"configuration":"m","webhook":"broken.example.com","mutated":false}"#,
            "failed-open.mutation.webhook.admission.k8s.io/round_0_index_2": "broken.example.com",
            "failed-open.validating.webhook.admission.k8s.io/round_0_index_0": "broken.example.com",
        }),
    );
}
