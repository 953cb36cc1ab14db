//! Admission plugins that look at single kinds.

use serde_json::{Value, json};

use crate::support::Cluster;

async fn account(cluster: &Cluster) {
    let path = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(cluster.post(path, json!({"metadata": {"name": "default"}})).await.code, 201);
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "i:1"}]}})
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_the_account_of_its_namespace() {
    let cluster = Cluster::start().await;
    let (made, ()) = tokio::join!(cluster.post(PODS, pod("early")), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        account(&cluster).await;
    });
    assert_eq!(made.code, 201, "{made:?}");
    let made = made.json();
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert!(made["spec"].get("initContainers").is_none(), "nothing is made up: {made}");
    let mut ghost = pod("ghost");
    ghost["spec"]["serviceAccountName"] = json!("ghost");
    let refused = cluster.post(PODS, ghost).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (
            403,
            r#"pods "ghost" is forbidden: error looking up service account default/ghost: serviceaccount "ghost" not found"#
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn runtime_classes_give_overhead_and_place() {
    let cluster = Cluster::start().await;
    account(&cluster).await;
    let class = json!({"metadata": {"name": "vm"}, "handler": "kata", "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}}});
    assert_eq!(cluster.post("/apis/node.k8s.io/v1/runtimeclasses", class).await.code, 201);
    let mut asking = pod("vm");
    asking["spec"]["runtimeClassName"] = json!("vm");
    let made = cluster.post(PODS, asking).await.json();
    assert_eq!(
        (&made["spec"]["overhead"]["cpu"], &made["spec"]["nodeSelector"]["vm"]),
        (&json!("250m"), &json!("yes"))
    );
    let mut wrong = pod("no");
    wrong["spec"]["runtimeClassName"] = json!("none");
    let refused = cluster.post(PODS, wrong).await;
    assert_eq!(refused.message(), r#"pods "no" is forbidden: pod rejected: RuntimeClass "none" not found"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_pods_carry_the_zone_of_their_node() {
    let cluster = Cluster::start().await;
    account(&cluster).await;
    let node = json!({"metadata": {"name": "n", "labels": {"topology.k8s.io/zone": "z1"}}});
    let node = cluster.post("/api/v1/nodes", node).await;
    assert_eq!(node.json()["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    assert_eq!(cluster.post(PODS, pod("a")).await.code, 201);
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(cluster.post(&format!("{PODS}/a/binding"), binding).await.code, 201);
    let bound = cluster.get(&format!("{PODS}/a")).await.json();
    assert_eq!(bound["metadata"]["labels"], json!({"topology.k8s.io/zone": "z1"}));
    assert_eq!(bound["metadata"]["generation"], 1, "nobody wished for anything new");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_grow_only_where_their_class_allows_it() {
    let cluster = Cluster::start().await;
    for (name, grows) in [("fixed", false), ("grows", true)] {
        let class = json!({"metadata": {"name": name}, "provisioner": "p", "allowVolumeExpansion": grows});
        assert_eq!(cluster.post("/apis/storage.k8s.io/v1/storageclasses", class).await.code, 201);
        let claim = json!({"metadata": {"name": name}, "spec": {"storageClassName": name, "accessModes": ["ReadWriteOnce"],
            "volumeName": "v", "resources": {"requests": {"storage": "1Gi"}}}});
        let path = "/api/v1/namespaces/default/persistentvolumeclaims";
        let made = cluster.post(path, claim).await;
        assert_eq!(made.json()["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
        let path = format!("{path}/{name}");
        let merge = "application/merge-patch+json";
        cluster.patch(&format!("{path}/status"), merge, json!({"status": {"phase": "Bound"}})).await;
        let larger = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        let answer = cluster.patch(&path, merge, larger).await;
        assert_eq!(answer.code == 200, grows, "{answer:?}");
        if !grows {
            assert_eq!(
                answer.message(),
                r#"persistentvolumeclaims "fixed" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"#
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_can_be_switched() {
    let cluster = Cluster::start_with(|config| {
        config.safeguards.admission.enable = vec!["AlwaysPullImages".into(), "DenyServiceExternalIPs".into()];
        config.safeguards.admission.disable =
            vec!["ServiceAccount".into(), "DefaultTolerationSeconds".into()];
    })
    .await;
    let made = cluster.post(PODS, pod("a")).await.json();
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert!(made["spec"].get("tolerations").is_none() && made["spec"].get("serviceAccountName").is_none());
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]}});
    let refused = cluster.post("/api/v1/namespaces/default/services", service).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (403, r#"services "s" is forbidden: Use of external IPs is denied by admission control."#)
    );
}
