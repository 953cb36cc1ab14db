//! Evictions: budgets are asked, and the pod says why it goes.

use serde_json::{Value, json};

use crate::support::{Answer, Cluster};

const SPACE: &str = "/api/v1/namespaces/default";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn with_pod(phase: &str, ready: &str) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.post(&format!("{SPACE}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "web"}, "finalizers": ["example.com/stay"]},
        "spec": {"containers": [{"name": "a", "image": "a"}]}});
    assert_eq!(cluster.post(&format!("{SPACE}/pods"), pod).await.code, 201);
    let status = json!({"status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}});
    merge(&cluster, &format!("{SPACE}/pods/p/status"), status).await;
    cluster
}

async fn merge(cluster: &Cluster, path: &str, patch: Value) {
    let answer = cluster.patch(path, "application/merge-patch+json", patch).await;
    assert_eq!(answer.code, 200, "{}", answer.message());
}

async fn with_budget(cluster: &Cluster, policy: Option<&str>, status: Value) {
    let mut budget = json!({"metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    if let Some(policy) = policy {
        budget["spec"]["unhealthyPodEvictionPolicy"] = json!(policy);
    }
    assert_eq!(cluster.post(BUDGETS, budget).await.code, 201);
    merge(cluster, &format!("{BUDGETS}/b/status"), json!({"status": status})).await;
}

async fn evict(cluster: &Cluster) -> Answer {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    cluster.post(&format!("{SPACE}/pods/p/eviction"), eviction).await
}

fn budget(current: i32, desired: i32, allowed: i32, observed: i32) -> Value {
    json!({"currentHealthy": current, "desiredHealthy": desired, "expectedPods": 2, "disruptionsAllowed": allowed,
        "observedGeneration": observed, "conditions": [{"type": "DisruptionAllowed", "status": "True",
            "reason": "SufficientPods", "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_pod_says_so_and_its_budget_counts_it() {
    let cluster = with_pod("Running", "True").await;
    with_budget(&cluster, None, budget(2, 1, 1, 1)).await;
    assert_eq!(evict(&cluster).await.code, 201);
    let pod = cluster.get(&format!("{SPACE}/pods/p")).await.json();
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let told = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget");
    let told = told.expect("the condition is there");
    assert_eq!(
        (&told["status"], &told["reason"], &told["message"]),
        (&json!("True"), &json!("EvictionByEvictionAPI"), &json!("Eviction API: evicting"))
    );
    let status = cluster.get(&format!("{BUDGETS}/b")).await.json()["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"]["p"].is_string());
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_refuse_with_their_cause() {
    let short = "The disruption budget b needs 1 healthy pods and has 1 currently";
    let unseen = "The disruption budget b is still being processed by the server.";
    // The budget's status; what is answered: cause, seconds to wait.
    for (status, cause, wait) in [(budget(1, 1, 0, 1), short, None), (budget(2, 1, 1, 0), unseen, Some(10))] {
        let cluster = with_pod("Running", "True").await;
        with_budget(&cluster, None, status).await;
        let answer = evict(&cluster).await;
        let told = answer.json();
        assert_eq!((answer.code, &told["reason"]), (429, &json!("TooManyRequests")));
        assert_eq!(told["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
        assert_eq!(told["details"]["causes"], json!([{"reason": "DisruptionBudget", "message": cause}]));
        assert_eq!(told["details"]["retryAfterSeconds"].as_i64(), wait);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_not_ready_go_by_the_policy() {
    // Phase, policy, healthy and desired pods; the answer.
    let cases = [
        ("Running", None, (1, 1), 201),
        ("Running", None, (0, 1), 429),
        ("Running", None, (0, 0), 429),
        ("Running", Some("IfHealthyBudget"), (0, 1), 429),
        ("Running", Some("AlwaysAllow"), (0, 1), 201),
        ("Pending", None, (0, 1), 201),
        ("Failed", None, (0, 1), 201),
    ];
    for (phase, policy, (current, desired), code) in cases {
        let cluster = with_pod(phase, "False").await;
        with_budget(&cluster, policy, budget(current, desired, 0, 1)).await;
        assert_eq!(evict(&cluster).await.code, code, "{phase} {policy:?} {current} of {desired}");
    }
}
