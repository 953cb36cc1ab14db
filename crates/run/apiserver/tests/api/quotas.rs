//! ResourceQuotas and LimitRanges as limits that hold, and the priority of pods.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::Cluster;

const SPACE: &str = "/api/v1/namespaces/default";

async fn with_quota(hard: Value) -> Cluster {
    let cluster = Cluster::start().await;
    let account = json!({"metadata": {"name": "default"}});
    cluster.post(&format!("{SPACE}/serviceaccounts"), account).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    assert_eq!(cluster.post(&format!("{SPACE}/resourcequotas"), quota).await.code, 201);
    until(&cluster, |status| status["hard"] == hard).await;
    cluster
}

async fn status(cluster: &Cluster) -> Value {
    cluster.get(&format!("{SPACE}/resourcequotas/q")).await.json()["status"].clone()
}

async fn until(cluster: &Cluster, holds: impl Fn(&Value) -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds(&status(cluster).await) {
        assert!(Instant::now() < end, "{}", status(cluster).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "a", "image": "a", "resources": {"requests": {"cpu": "100m"}}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_never_exceeds_a_quota() {
    let cluster = with_quota(json!({"pods": "10"})).await;
    let path = format!("{SPACE}/pods");
    let answers = join_all((0..64).map(|n| cluster.post(&path, pod(&format!("p{n}"))))).await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    let refused: Vec<String> =
        answers.iter().filter(|answer| answer.code == 403).map(|answer| answer.message()).collect();
    assert_eq!((made, refused.len()), (10, 54));
    assert!(
        refused.iter().all(|message| message.ends_with(
            "is forbidden: exceeded quota: q, requested: pods=1, used: pods=10, limited: pods=10"
        )),
        "{refused:?}"
    );
    assert_eq!(status(&cluster).await["used"], json!({"pods": "10"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_or_ends_makes_room_at_once() {
    let cluster =
        with_quota(json!({"pods": "1", "requests.cpu": "1", "configmaps": "1", "count/secrets": "1"})).await;
    let pods = format!("{SPACE}/pods");
    assert_eq!(cluster.post(&pods, pod("a")).await.code, 201);
    assert_eq!(
        status(&cluster).await["used"],
        json!({"pods": "1", "requests.cpu": "100m", "configmaps": "0", "count/secrets": "0"})
    );
    assert_eq!(cluster.post(&pods, pod("b")).await.code, 403);
    let mut ended = cluster.get(&format!("{pods}/a")).await.json();
    ended["status"] = json!({"phase": "Succeeded"});
    assert_eq!(cluster.put(&format!("{pods}/a/status"), ended).await.code, 200);
    assert_eq!(cluster.post(&pods, pod("b")).await.code, 201);
    assert_eq!(cluster.post(&pods, pod("c")).await.code, 403);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "b"}});
    assert_eq!(cluster.post(&format!("{pods}/b/eviction"), eviction).await.code, 201);
    assert_eq!(status(&cluster).await["used"]["requests.cpu"], "0");
    assert_eq!(cluster.post(&pods, pod("c")).await.code, 201);

    let maps = format!("{SPACE}/configmaps");
    assert_eq!(cluster.post(&maps, json!({"metadata": {"name": "a"}})).await.code, 201);
    assert_eq!(cluster.post(&maps, json!({"metadata": {"name": "b"}})).await.code, 403);
    assert_eq!(cluster.delete(&format!("{maps}/a")).await.code, 200);
    assert_eq!(cluster.post(&maps, json!({"metadata": {"name": "b"}})).await.code, 201);
    let unsaid = json!({"metadata": {"name": "d"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let refused = cluster.post(&pods, unsaid).await;
    assert_eq!(
        refused.message(),
        "pods \"d\" is forbidden: failed quota: q: must specify requests.cpu for: a"
    );
}

/// A pod of a node that is lost ends never; its successor has room nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn what_should_be_gone_makes_room() {
    let cluster = with_quota(json!({"pods": "1", "count/pods": "2"})).await;
    let pods = format!("{SPACE}/pods");
    leave_stuck(&cluster, 1).await;
    assert_eq!(cluster.post(&pods, pod("next")).await.code, 403);
    until(&cluster, |status| status["used"] == json!({"pods": "0", "count/pods": "1"})).await;
    assert_eq!(cluster.post(&pods, pod("next")).await.code, 201);
    // What it gave back is not given back again.
    let gone = cluster.delete(&format!("{pods}/stuck?gracePeriodSeconds=0")).await;
    assert_eq!(gone.code, 200);
    until(&cluster, |status| status["used"] == json!({"pods": "1", "count/pods": "1"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_comes_later_counts_what_should_be_gone_no_longer() {
    let cluster = with_quota(json!({"pods": "1"})).await;
    let quotas = format!("{SPACE}/resourcequotas");
    assert_eq!(cluster.delete(&format!("{quotas}/q")).await.code, 200);
    // Its time is after the second count of a new quota.
    leave_stuck(&cluster, 2).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}});
    assert_eq!(cluster.post(&quotas, quota).await.code, 201);
    for used in ["1", "0"] {
        until(&cluster, |status| status["used"] == json!({"pods": used})).await;
    }
}

/// A pod on a node that is lost, asked to end.
async fn leave_stuck(cluster: &Cluster, grace: i64) {
    let pods = format!("{SPACE}/pods");
    cluster.post("/api/v1/nodes", json!({"metadata": {"name": "lost"}})).await;
    let mut stuck = pod("stuck");
    stuck["spec"]["nodeName"] = json!("lost");
    stuck["spec"]["terminationGracePeriodSeconds"] = json!(grace);
    assert_eq!(cluster.post(&pods, stuck).await.code, 201);
    assert_eq!(cluster.delete(&format!("{pods}/stuck")).await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_quota_is_counted_anew() {
    let cluster = with_quota(json!({"pods": "5"})).await;
    for name in ["a", "b"] {
        let map = json!({"metadata": {"name": name}});
        assert_eq!(cluster.post(&format!("{SPACE}/configmaps"), map).await.code, 201);
    }
    let patch = json!({"spec": {"hard": {"configmaps": "9", "pods": null}}});
    let path = format!("{SPACE}/resourcequotas/q");
    assert_eq!(cluster.patch(&path, "application/merge-patch+json", patch).await.code, 200);
    until(&cluster, |status| status["used"] == json!({"configmaps": "2"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_namespace_hold() {
    let cluster = Cluster::start().await;
    cluster.post(&format!("{SPACE}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    let range = json!({"metadata": {"name": "limits"}, "spec": {"limits": [
        {"type": "Container", "max": {"cpu": "2"}, "default": {"memory": "1Gi"}, "min": {"cpu": "10m"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ]}});
    assert_eq!(cluster.post(&format!("{SPACE}/limitranges"), range).await.code, 201);
    let made = cluster.post(&format!("{SPACE}/pods"), pod("fits")).await.json();
    // The maximum is the default where there is none.
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}})
    );
    let told = &made["metadata"]["annotations"]["kubernetes.io/limit-ranger"];
    assert_eq!(
        told,
        "LimitRanger plugin set: memory request for container a; cpu, memory limit for container a"
    );
    let mut large = pod("large");
    large["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "3"}});
    let refused = cluster.post(&format!("{SPACE}/pods"), large).await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        "pods \"large\" is forbidden: maximum cpu usage per Container is 2, but limit is 3"
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "2Gi"}}}});
    let refused = cluster.post(&format!("{SPACE}/persistentvolumeclaims"), claim).await;
    assert_eq!(
        refused.message(),
        "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but \
         request is 2Gi"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_class_of_now_counts() {
    const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let cluster = Cluster::start().await;
    cluster.post(&format!("{SPACE}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default});
    let priority = |name: &'static str| {
        let cluster = &cluster;
        async move {
            let made = cluster.post(&format!("{SPACE}/pods"), pod(name)).await.json();
            (made["spec"]["priority"].clone(), made["spec"]["priorityClassName"].clone())
        }
    };
    let switch = |name: &str, on: bool| {
        let path = format!("{CLASSES}/{name}");
        let cluster = &cluster;
        async move { cluster.patch(&path, "application/merge-patch+json", json!({"globalDefault": on})).await }
    };
    assert_eq!(priority("before").await, (json!(0), Value::Null));
    assert_eq!(cluster.post(CLASSES, class("usual", 10, true)).await.code, 201);
    assert_eq!(priority("with").await, (json!(10), json!("usual")));
    let second = cluster.post(CLASSES, class("second", 20, true)).await;
    assert_eq!(
        (second.code, second.message().as_str()),
        (
            403,
            "priorityclasses.scheduling.k8s.io \"second\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"
        )
    );
    assert_eq!(cluster.post(CLASSES, class("second", 20, false)).await.code, 201);
    assert_eq!(switch("second", true).await.code, 403);
    assert_eq!(switch("usual", false).await.code, 200);
    assert_eq!(priority("between").await, (json!(0), Value::Null));
    assert_eq!(switch("second", true).await.code, 200);
    assert_eq!(switch("second", true).await.code, 200);
    assert_eq!(priority("after").await, (json!(20), json!("second")));
    assert_eq!(cluster.delete(&format!("{CLASSES}/second")).await.code, 200);
    assert_eq!(priority("none").await, (json!(0), Value::Null));
    // Pods keep what they came with.
    let kept = cluster.get(&format!("{SPACE}/pods/with")).await.json();
    assert_eq!(
        (&kept["spec"]["priority"], &kept["spec"]["priorityClassName"]),
        (&json!(10), &json!("usual"))
    );
}
