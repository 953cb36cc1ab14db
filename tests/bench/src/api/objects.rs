//! The objects that the cases work with.

use super::connection::{Call, Endpoint};
use super::server::ApiServer;

/// Where config maps and pods are.
pub(crate) const MAPS: &str = "/api/v1/namespaces/bench/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/bench/pods";

/// Makes the namespace, its service account (no controller does it here) and the user's rights.
pub(crate) async fn prepare(server: &ApiServer) -> anyhow::Result<()> {
    let mut admin = Endpoint::new(server.address(), server.pki(), "admin")?.connect().await?;
    for (path, object) in [
        ("/api/v1/namespaces", r#"{"metadata":{"name":"bench"}}"#),
        ("/api/v1/namespaces/bench/serviceaccounts", r#"{"metadata":{"name":"default"}}"#),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/bench/rolebindings",
            r#"{"metadata":{"name":"bench"},"subjects":[{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"bench"}],
                "roleRef":{"kind":"ClusterRole","apiGroup":"rbac.authorization.k8s.io","name":"admin"}}"#,
        ),
    ] {
        admin.call(&Call::post(path, object)).await?;
    }
    // The binding is in force a moment after it is stored.
    let mut bench = super::endpoint(server)?.connect().await?;
    for _ in 0..500 {
        if bench.call(&Call::get(PODS)).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    anyhow::bail!("the benchmark's user may not read pods")
}

/// A small config map.
pub(crate) fn config_map(number: usize) -> Call {
    Call::post(
        MAPS,
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"map-{number}","labels":{{"app":"bench"}}}},"data":{{"key":"value {number}"}}}}"#
        ),
    )
}

/// A pod of a workload, about 2 KB when it is stored. It names a scheduler that does not exist, so that
/// nobody would act on it in a whole cluster either.
pub(crate) fn pod(number: usize) -> Call {
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"web-7d4b9c6f5-{number:06}","labels":{{"app":"web","pod-template-hash":"7d4b9c6f5","tier":"front"}}}},"spec":{{"schedulerName":"nobody","automountServiceAccountToken":false,"containers":[{{"name":"web","image":"registry.example.com/shop/web:v1.27.3","ports":[{{"containerPort":8080}}],"resources":{{"requests":{{"cpu":"100m","memory":"128Mi"}}}}}}]}}}}"#
    );
    Call::post(PODS, body)
}
