//! Pod Security: what the labels of a namespace do to pods.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Cluster, admin};

async fn namespace(cluster: &Cluster, name: &str, labels: &[(&str, &str)]) {
    let labels: Value = labels
        .iter()
        .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), json!(value)))
        .collect();
    let made =
        cluster.post("/api/v1/namespaces", json!({"metadata": {"name": name, "labels": labels}})).await;
    assert_eq!(made.code, 201, "{made:?}");
    let account = json!({"metadata": {"name": "default"}});
    assert_eq!(cluster.post(&format!("/api/v1/namespaces/{name}/serviceaccounts"), account).await.code, 201);
}

fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_violate_the_enforced_level_are_refused() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "strict", &[("enforce", "restricted")]).await;
    let refused = cluster.post("/api/v1/namespaces/strict/pods", pod(json!({}))).await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        r#"pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
    );
    assert_eq!(refused.json()["details"], json!({"name": "x", "kind": "pods"}));
    let good = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "i", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    });
    let made = cluster.post("/api/v1/namespaces/strict/pods", pod(good)).await;
    assert_eq!(made.code, 201, "{made:?}");
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "i"}]}});
    let path = "/api/v1/namespaces/strict/pods/x/ephemeralcontainers";
    let refused = cluster.patch(path, "application/strategic-merge-patch+json", debugger).await;
    assert_eq!(refused.code, 403, "{refused:?}");
    assert!(refused.message().contains(r#"violates PodSecurity "restricted:latest""#), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_and_lesser_modes_only_warn() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "warned", &[("warn", "baseline"), ("warn-version", "v1.30")]).await;
    let expected =
        "299 - \"would violate PodSecurity \\\"baseline:v1.30\\\": host namespaces (hostPID=true)\"";
    let made = cluster.post("/api/v1/namespaces/warned/pods", pod(json!({"hostPID": true}))).await;
    assert_eq!((made.code, made.headers["warning"].to_str().expect("text")), (201, expected));
    let mut template = pod(json!({"hostPID": true}));
    template["metadata"] = json!({"labels": {"a": "b"}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let made = cluster.post("/apis/apps/v1/namespaces/warned/deployments", deployment).await;
    assert_eq!((made.code, made.headers["warning"].to_str().expect("text")), (201, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_checked_and_existing_pods_are_counted() {
    let cluster = Cluster::start().await;
    let wrong =
        json!({"metadata": {"name": "w", "labels": {"pod-security.kubernetes.io/enforce": "strict"}}});
    let refused = cluster.post("/api/v1/namespaces", wrong).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (
            422,
            r#"Namespace "w" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted"#
        )
    );
    namespace(&cluster, "open", &[]).await;
    let made = cluster.post("/api/v1/namespaces/open/pods", pod(json!({"hostPID": true}))).await;
    assert_eq!(made.code, 201, "{made:?}");
    let patch = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let changed = cluster.patch("/api/v1/namespaces/open", "application/merge-patch+json", patch).await;
    let warnings: Vec<&str> =
        changed.headers.get_all("warning").iter().map(|value| value.to_str().expect("text")).collect();
    assert_eq!(
        warnings,
        [
            "299 - \"existing pods in namespace \\\"open\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"x: host namespaces\"",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exemptions_and_defaults_come_from_a_file() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("admission.yaml");
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    defaults: {enforce: baseline}\n    exemptions: {usernames: [admin]}\n";
    std::fs::write(&file, text).expect("a scratch file");
    let cluster = Cluster::start_with(|config| config.safeguards.admission.configuration = Some(file)).await;
    namespace(&cluster, "plain", &[]).await;
    let path = "/api/v1/namespaces/plain/pods";
    let other = plimsoll_apiserver::User::authenticated("other", &["system:masters"]);
    let refused = cluster.ask_as(other, Method::POST, path, &[], Some(pod(json!({"hostIPC": true})))).await;
    assert_eq!(refused.code, 403, "{refused:?}");
    let made = cluster.ask_as(admin(), Method::POST, path, &[], Some(pod(json!({"hostIPC": true})))).await;
    assert_eq!(made.code, 201, "{made:?}");
}
