//! Admission policies: expressions that judge and change objects.

use std::time::Duration;

use http::Method;
use plimsoll_apiserver::User;
use serde_json::{Value, json};

use crate::support::{Answer, Cluster, admin};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// Constraints on one resource of the namespace `default`.
fn constraints(operations: &[&str], group: &str, resource: &str) -> Value {
    json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        "resourceRules": [{"operations": operations, "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]}],
    })
}

/// Creates a policy and a binding, both named `name`, and waits until they are in force: until `probe`, asked
/// again and again, is answered as expected.
async fn enforce(cluster: &Cluster, side: &str, name: &str, mut spec: Value, mut binding: Value) {
    spec["failurePolicy"] = spec.get("failurePolicy").cloned().unwrap_or(json!("Fail"));
    let policy = cluster
        .post(&format!("{GROUP}/{side}admissionpolicies"), json!({"metadata": {"name": name}, "spec": spec}))
        .await;
    assert_eq!(policy.code, 201, "{policy:?}");
    binding["policyName"] = json!(name);
    let path = format!("{GROUP}/{side}admissionpolicybindings");
    let bound = cluster.post(&path, json!({"metadata": {"name": name}, "spec": binding})).await;
    assert_eq!(bound.code, 201, "{bound:?}");
}

/// Asks until the answer fulfils the condition.
async fn until(mut ask: impl AsyncFnMut() -> Answer, done: impl Fn(&Answer) -> bool) -> Answer {
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let answer = ask().await;
            if done(&answer) {
                return answer;
            }
            // Asking in memory never waits, and the time limit needs a turn, too.
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("in time")
}

fn dry(path: &str) -> String {
    format!("{path}?dryRun=All")
}

#[tokio::test(flavor = "multi_thread")]
async fn validations_refuse_warn_and_read_parameters() {
    let cluster = Cluster::start().await;
    let limits = json!({"metadata": {"name": "limits"}, "data": {"maximum": "3"}});
    assert_eq!(cluster.post(MAPS, limits).await.code, 201);
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": constraints(&["CREATE", "UPDATE"], "apps", "deployments"),
        "matchConditions": [{"name": "not-by-robots", "expression": "request.userInfo.username != 'robot'"}],
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
        "validations": [
            {"expression": "variables.replicas <= int(params.data.maximum)", "reason": "Forbidden",
             "messageExpression": "'at most ' + params.data.maximum + ' replicas in ' + namespaceObject.metadata.name"},
        ],
    });
    let reference = json!({"name": "limits", "parameterNotFoundAction": "Deny"});
    enforce(
        &cluster,
        "validating",
        "few",
        spec,
        json!({"paramRef": reference, "validationActions": ["Deny"]}),
    )
    .await;

    let path = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = |name: &str, replicas: i64| {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}})
    };
    let refused =
        until(async || cluster.post(&dry(path), deployment("web", 4)).await, |answer| answer.code != 201)
            .await;
    assert_eq!((refused.code, refused.json()["reason"].clone()), (403, json!("Forbidden")), "{refused:?}");
    assert_eq!(
        refused.message(),
        "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few' denied request: at most 3 replicas in default"
    );
    assert_eq!(cluster.post(path, deployment("web", 3)).await.code, 201);
    let robot = User::authenticated("robot", &["system:masters"]);
    let allowed = cluster.ask_as(robot, Method::POST, &dry(path), &[], Some(deployment("big", 9))).await;
    assert_eq!(allowed.code, 201, "{allowed:?}");
    let scaled = cluster
        .patch(&format!("{path}/web"), "application/merge-patch+json", json!({"spec": {"replicas": 7}}))
        .await;
    assert_eq!(scaled.code, 403, "{scaled:?}");

    let gone = cluster.delete(&format!("{MAPS}/limits")).await;
    assert_eq!(gone.code, 200, "{gone:?}");
    let missing = cluster.post(&dry(path), deployment("other", 1)).await;
    assert_eq!((missing.code, missing.json()["reason"].clone()), (422, json!("Invalid")));
    assert!(
        missing.message().ends_with("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"),
        "{missing:?}"
    );

    let spec = json!({
        "matchConstraints": constraints(&["*"], "", "configmaps"),
        "validations": [{"expression": "!authorizer.group('').resource('secrets').check('get').allowed() || !has(object.data)", "message": "no data"}],
    });
    enforce(&cluster, "validating", "data", spec, json!({"validationActions": ["Warn", "Audit"]})).await;
    let map = json!({"metadata": {"name": "m"}, "data": {"k": "v"}});
    let warned = until(
        async || cluster.post(&dry(MAPS), map.clone()).await,
        |answer| answer.headers.contains_key("warning"),
    )
    .await;
    assert_eq!(
        (warned.code, warned.headers["warning"].to_str().ok()),
        (
            201,
            Some(
                "299 - \"Validation failed for ValidatingAdmissionPolicy 'data' with binding 'data': no data\""
            )
        )
    );
    let told = String::from_utf8(cluster.get("/metrics").await.body.to_vec()).expect("text");
    for (name, action) in [("few", "deny"), ("data", "warn"), ("data", "audit")] {
        let labels = format!(
            r#"{{enforcement_action="{action}",error_type="invalid_error",policy="{name}",policy_binding="{name}"}} "#
        );
        for metric in ["check_total", "check_duration_seconds_count"] {
            let sample = format!("apiserver_validating_admission_policy_{metric}{labels}");
            assert!(told.contains(&sample), "{sample}\n{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutations_merge_patch_and_come_again() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": constraints(&["CREATE"], "", "configmaps"),
        "matchConditions": [{"name": "labelled", "expression": "has(object.metadata.labels)"}],
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{data: {'count': string(size(object.metadata.labels))}}"}},
        ],
    });
    enforce(&cluster, "mutating", "a-count", spec, json!({})).await;
    let spec = json!({
        "reinvocationPolicy": "Never",
        "matchConstraints": constraints(&["CREATE"], "", "configmaps"),
        "mutations": [
            {"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/by'), value: request.userInfo.username}]"}},
        ],
    });
    enforce(&cluster, "mutating", "b-label", spec, json!({})).await;
    let map = |name: &str| json!({"metadata": {"name": name, "labels": {"a": "b"}}, "data": {"k": "v"}});
    let labelled = |answer: &Answer| !answer.json()["metadata"]["labels"]["example.com/by"].is_null();
    let counted = |answer: &Answer| labelled(answer) && !answer.json()["data"]["count"].is_null();
    let made = until(async || cluster.post(&dry(MAPS), map("m")).await, counted).await;
    assert_eq!(made.json()["metadata"]["labels"], json!({"a": "b", "example.com/by": "admin"}));
    assert_eq!(
        made.json()["data"],
        json!({"k": "v", "count": "2"}),
        "the first policy sees the second's label"
    );

    let spec = json!({
        "reinvocationPolicy": "Never",
        "matchConstraints": constraints(&["CREATE"], "", "pods"),
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{spec: Object.spec{tolerations: [Object.spec.tolerations{key: 'x'}]}}"}}],
    });
    enforce(&cluster, "mutating", "c-atomic", spec, json!({})).await;
    let account = json!({"metadata": {"name": "default"}});
    cluster.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = dry("/api/v1/namespaces/default/pods");
    let refused = until(async || cluster.post(&pods, pod.clone()).await, |answer| answer.code != 201).await;
    assert_eq!(
        refused.message(),
        "policy 'c-atomic' with binding 'c-atomic' denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.tolerations"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_that_do_not_compile_are_refused() {
    let cluster = Cluster::start().await;
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": constraints(&["*"], "", "pods"), "validations": [{"expression": "object.x +"}]}});
    let refused = cluster.post(&format!("{GROUP}/validatingadmissionpolicies"), policy).await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let message = refused.message();
    assert!(
        message.starts_with("ValidatingAdmissionPolicy.admissionregistration.k8s.io \"p\" is invalid: spec.validations[0].expression: Invalid value: \"object.x +\": compilation failed: ERROR: <input>:1:11: Syntax error"),
        "{message}"
    );
    let hooks = json!({"metadata": {"name": "h"}, "webhooks": [{"name": "a.example.com", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://localhost:1"},
        "matchConditions": [{"name": "c", "expression": "object.kind"}]}]});
    let refused = cluster
        .ask_as(admin(), Method::POST, &format!("{GROUP}/validatingwebhookconfigurations"), &[], Some(hooks))
        .await;
    assert_eq!(
        refused.message(),
        "ValidatingWebhookConfiguration.admissionregistration.k8s.io \"h\" is invalid: webhooks[0].matchConditions[0].expression: Invalid value: \"object.kind\": must evaluate to bool but got dyn"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_are_held_against_the_types_they_are_about() {
    let cluster = Cluster::start().await;
    let definition = json!({"metadata": {"name": "ships.sea.io"}, "spec": {
        "group": "sea.io", "scope": "Namespaced", "names": {"plural": "ships", "kind": "Ship"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {"masts": {"type": "integer"}}}},
        }}}],
    }});
    let answer = cluster.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    assert_eq!(answer.code, 201, "{answer:?}");
    until(async || cluster.get("/apis/sea.io/v1/ships").await, |answer| answer.code == 200).await;
    let rule = |group: &str, resource: &str| json!({"operations": ["*"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]});
    let policies = format!("{GROUP}/validatingadmissionpolicies");
    let policy = json!({"metadata": {"name": "typed"}, "spec": {
        "matchConstraints": {"resourceRules": [rule("apps", "deployments"), rule("sea.io", "ships")]},
        "variables": [{"name": "size", "expression": "has(object.spec.replicas) ? object.spec.replicas : 0"}],
        "validations": [
            {"expression": "object.metadata.labels['a'] == 'b' && object.spec.masts > 1"},
            {"expression": "object.metadata.generation > 1", "messageExpression": "string(object.spec.replicas)"},
        ],
    }});
    let answer = cluster.post(&policies, policy.clone()).await;
    assert_eq!(answer.code, 201, "{answer:?}");
    let path = format!("{policies}/typed");
    let observed =
        |generation: i64| move |answer: &Answer| answer.json()["status"]["observedGeneration"] == generation;
    let answer = until(async || cluster.get(&path).await, observed(1)).await;
    let missing = |kind: &str, at: usize, field: &str, expression: &str| {
        let (line, dots) = (expression, ".".repeat(at - 1));
        format!(
            "{kind}: compilation failed: ERROR: <input>:1:{at}: undefined field '{field}'\n | {line}\n | {dots}^\n"
        )
    };
    let (first, second) =
        ("object.metadata.labels['a'] == 'b' && object.spec.masts > 1", "string(object.spec.replicas)");
    assert_eq!(
        answer.json()["status"]["typeChecking"],
        json!({"expressionWarnings": [
            {"fieldRef": "spec.validations[0].expression", "warning": missing("apps/v1, Kind=Deployment", 50, "masts", first)},
            {"fieldRef": "spec.validations[1].messageExpression", "warning": missing("sea.io/v1, Kind=Ship", 19, "replicas", second)},
        ]}),
    );
    let mut right = answer.json();
    right["spec"]["matchConstraints"]["resourceRules"] = json!([rule("sea.io", "ships")]);
    right["spec"]["validations"] = json!([{"expression": first}]);
    let answer = cluster.put(&path, right).await;
    assert_eq!(answer.code, 200, "{answer:?}");
    let answer = until(async || cluster.get(&path).await, observed(2)).await;
    assert_eq!(answer.json()["status"]["typeChecking"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_read_the_request_and_parameters_must_be_of_a_kind() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "matchConstraints": constraints(&["CREATE"], "", "configmaps"),
        "validations": [{"expression": "request.name != 'asked'",
            "messageExpression": "request.operation + ' ' + request.namespace + '/' + request.name + ' by ' + request.userInfo.username"}],
    });
    enforce(&cluster, "validating", "asks", spec, json!({"validationActions": ["Deny"]})).await;
    let ask = async || cluster.post(&dry(MAPS), json!({"metadata": {"name": "asked"}})).await;
    let refused = until(ask, |answer| answer.code == 422).await;
    assert!(refused.message().ends_with("denied request: CREATE default/asked by admin"), "{refused:?}");
    let spec = json!({
        "paramKind": {"apiVersion": "x.y/v1", "kind": "Foo"},
        "matchConstraints": constraints(&["CREATE"], "", "configmaps"), "validations": [{"expression": "true"}],
    });
    let binding =
        json!({"validationActions": ["Deny"], "paramRef": {"name": "a", "parameterNotFoundAction": "Allow"}});
    enforce(&cluster, "validating", "unknown", spec, binding).await;
    let ask = async || cluster.post(&dry(MAPS), json!({"metadata": {"name": "other"}})).await;
    let refused = until(ask, |answer| answer.code == 422).await;
    let cause = "ValidatingAdmissionPolicy 'unknown' denied request: failed to configure policy: failed to find resource \
                 referenced by paramKind: 'x.y/v1, Kind=Foo'";
    assert!(refused.message().ends_with(cause), "{refused:?}");
}
