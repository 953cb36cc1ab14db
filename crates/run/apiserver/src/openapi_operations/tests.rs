use std::collections::BTreeMap;
use std::path::Path;

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

/// The published document of v1.36; none where it is not at hand.
fn published() -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/reference/openapi-v2.json");
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Names and answers of one operation, by what generated clients depend on.
fn facts(document: &Value, item: &Value, operation: &Value) -> BTreeMap<&'static str, Value> {
    let mut facts = BTreeMap::new();
    for key in [
        "operationId",
        "x-kubernetes-action",
        "x-kubernetes-group-version-kind",
        "tags",
        "consumes",
        "produces",
        "schemes",
    ] {
        facts.insert(key, operation[key].clone());
    }
    let answers = operation["responses"].as_object().into_iter().flatten();
    facts.insert(
        "responses",
        answers.map(|(code, answer)| (code.clone(), answer["schema"].clone())).collect(),
    );
    let mut parameters: Vec<String> = [item, operation]
        .iter()
        .flat_map(|holder| holder["parameters"].as_array().into_iter().flatten())
        .map(|parameter| {
            let aside = parameter["$ref"].as_str().and_then(|to| to.rsplit('/').next());
            let parameter = aside.map_or(parameter, |name| &document["parameters"][name]);
            let text = |key: &str| parameter[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {} {}", text("in"), text("name"), text("type"), parameter["schema"]["$ref"])
        })
        // New in v1.36 and alpha.
        .filter(|parameter| !parameter.contains("shardSelector"))
        .collect();
    parameters.sort();
    facts.insert("parameters", json!(parameters));
    facts
}

/// Kinds that v1.36 serves with all alpha switches on, and v1.37 has moved or removed; and paths that are
/// no kind's and described elsewhere.
fn explained(path: &str) -> bool {
    let kinds = path.contains("alpha") || path.contains("beta");
    let documents = path.ends_with('/') || path.starts_with("/logs/");
    kinds || documents
}

#[test]
fn operations_are_those_that_upstream_publishes() {
    let Some(published) = published() else { return };
    let ours = all(Style::V2);
    let mut differences = Vec::new();
    for (path, item) in
        published["paths"].as_object().into_iter().flatten().filter(|(path, _)| !explained(path))
    {
        let Some(mine) = ours.get(path) else {
            differences.push(format!("{path} is missing"));
            continue;
        };
        for (method, operation) in
            item.as_object().into_iter().flatten().filter(|(key, _)| *key != "parameters")
        {
            if mine.get(method).is_none() {
                differences.push(format!("{method} {path} is missing"));
                continue;
            }
            let (theirs, mine) =
                (facts(&published, item, operation), facts(&Value::Null, mine, &mine[method]));
            for (key, value) in theirs {
                if mine[key] != value {
                    differences.push(format!("{method} {path} {key}: {value} here {}", mine[key]));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
