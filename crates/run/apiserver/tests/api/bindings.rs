//! Bindings: what a scheduler of any make may say.

use serde_json::{Value, json};

use crate::support::{Answer, Cluster};

const SPACE: &str = "/api/v1/namespaces/default";

async fn with_pods(names: &[&str]) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.post(&format!("{SPACE}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    for name in names {
        let mut pod = json!({"metadata": {"name": name},
            "spec": {"schedulerName": "mine", "containers": [{"name": "a", "image": "a"}]}});
        if *name == "gated" {
            pod["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
        }
        assert_eq!(cluster.post(&format!("{SPACE}/pods"), pod).await.code, 201);
    }
    cluster
}

async fn bind(cluster: &Cluster, pod: &str, metadata: Value, target: Value) -> Answer {
    cluster
        .post(&format!("{SPACE}/pods/{pod}/binding"), json!({"metadata": metadata, "target": target}))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_binding_is_said_and_a_pod_is_bound_once() {
    let cluster = with_pods(&["a", "gated"]).await;
    let node = |name: &str| json!({"kind": "Node", "name": name});
    for (pod, metadata, target, code, expected) in [
        ("a", json!({}), json!({}), 422, "Binding \"a\" is invalid: target.name: Required value"),
        (
            "a",
            json!({}),
            json!({"kind": "Pod", "name": "n"}),
            422,
            "Binding \"a\" is invalid: target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
        ),
        (
            "a",
            json!({"name": "b"}),
            node("n"),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            "gated",
            json!({}),
            node("n"),
            409,
            "Operation cannot be fulfilled on pods/binding \"gated\": pod gated has non-empty .spec.schedulingGates",
        ),
        ("none", json!({}), node("n"), 404, "pods \"none\" not found"),
    ] {
        let answer = bind(&cluster, pod, metadata, target.clone()).await;
        assert_eq!((answer.code, answer.message().as_str()), (code, expected), "{pod} {target}");
    }
    assert_eq!(bind(&cluster, "a", json!({"labels": {"by": "mine"}}), node("n")).await.code, 201);
    let pod = cluster.get(&format!("{SPACE}/pods/a")).await.json();
    assert_eq!((&pod["spec"]["nodeName"], &pod["metadata"]["labels"]["by"]), (&json!("n"), &json!("mine")));
    let again = bind(&cluster, "a", json!({}), node("m")).await;
    assert_eq!(
        again.message(),
        "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n\""
    );
}

/// As schedulers did before there was the subresource.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_of_its_own_names_its_pod() {
    let cluster = with_pods(&["a"]).await;
    let bindings = format!("{SPACE}/bindings");
    let binding = |pod: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"name": "n"}});
    assert_eq!(cluster.post(&bindings, binding("none")).await.code, 404);
    let bound = cluster.post(&bindings, binding("a")).await;
    assert_eq!((bound.code, &bound.json()["status"]), (201, &json!("Success")));
    assert_eq!(cluster.get(&format!("{SPACE}/pods/a")).await.json()["spec"]["nodeName"], "n");
    assert_eq!(cluster.post(&bindings, binding("a")).await.code, 409);
}
