use super::*;

fn all(style: Style) -> Map<String, Value> {
    paths(&plimsoll_catalogue::kinds().iter().collect::<Vec<_>>(), style)
}

#[test]
fn operations_have_the_names_that_clients_are_generated_with() {
    let paths = all(Style::V2);
    for (path, method, name, action) in [
        ("/api/v1/namespaces/{namespace}/pods", "get", "listCoreV1NamespacedPod", "list"),
        (
            "/api/v1/namespaces/{namespace}/pods",
            "delete",
            "deleteCoreV1CollectionNamespacedPod",
            "deletecollection",
        ),
        ("/api/v1/pods", "get", "listCoreV1PodForAllNamespaces", "list"),
        ("/api/v1/nodes/{name}", "put", "replaceCoreV1Node", "put"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/status", "get", "readCoreV1NamespacedPodStatus", "get"),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/exec",
            "get",
            "connectCoreV1GetNamespacedPodExec",
            "connect",
        ),
        (
            "/api/v1/namespaces/{namespace}/services/{name}/proxy/{path}",
            "head",
            "connectCoreV1HeadNamespacedServiceProxyWithPath",
            "connect",
        ),
        ("/api/v1/watch/pods", "get", "watchCoreV1PodListForAllNamespaces", "watchlist"),
        ("/api/v1/watch/nodes/{name}", "get", "watchCoreV1Node", "watch"),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            "post",
            "createRbacAuthorizationV1ClusterRole",
            "post",
        ),
    ] {
        let operation = &paths[path][method];
        assert_eq!(
            (operation["operationId"].as_str(), operation["x-kubernetes-action"].as_str()),
            (Some(name), Some(action))
        );
    }
}
