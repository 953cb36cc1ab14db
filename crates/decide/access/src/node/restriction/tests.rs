//! What agents may write about themselves and their pods, as tables.

use super::*;
use serde_json::json;

struct Fixed;

impl Cluster for Fixed {
    fn object(&self, plural: &str, _namespace: &str, name: &str) -> Option<Value> {
        match (plural, name) {
            ("nodes", "n") => Some(json!({"metadata": {"uid": "nu"}})),
            ("pods", "p" | "q") => Some(json!({"metadata": {"name": name, "uid": "pu"}, "spec": {
                "nodeName": if name == "p" { "n" } else { "m" },
                "volumes": [
                    {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}},
                    {"name": "w", "csi": {"driver": "d"}}]}})),
            ("csidrivers", "d") => Some(json!({"spec": {"tokenRequests": [{"audience": "disk"}]}})),
            _ => None,
        }
    }

    fn common_name(&self, request: &str) -> Result<String, String> {
        Ok(request.to_owned())
    }
}

/// `OPERATION group/resource/subresource namespace/name`
fn tried(request: &str, object: Value, old: Value) -> Result<(), Refusal> {
    let parts: Vec<&str> = request.split(' ').collect();
    let path: Vec<&str> = parts[1].split('/').collect();
    let (namespace, name) = parts[2].split_once('/').expect("place");
    let attempt = Attempt {
        operation: match parts[0] {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            _ => Operation::Delete,
        },
        group: path[0],
        resource: path[1],
        subresource: path.get(2).unwrap_or(&""),
        namespace,
        name,
        object: &object,
        old: &old,
    };
    admit(&User::authenticated("system:node:n", &["system:nodes"]), &attempt, &Fixed)
}

fn refused(request: &str, object: Value, old: Value, expected: &str) {
    match tried(request, object, old) {
        Err(Refusal::Forbidden(message) | Refusal::Audience { message, .. }) => {
            assert_eq!(message, expected, "{request}");
        }
        other => panic!("{request}: {other:?}"),
    }
}

fn mirror() -> Value {
    json!({"metadata": {"annotations": {MIRROR: "x"}, "ownerReferences": [
        {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "nu", "controller": true}]},
        "spec": {"nodeName": "n"}})
}

#[test]
fn agents_make_mirror_pods_of_their_own_only() {
    let create = |object: Value| tried("CREATE /pods a/x", object, json!(null));
    assert_eq!(create(mirror()), Ok(()));
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 8] = [
        (
            |pod| pod["metadata"]["annotations"] = json!({}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
        ),
        (
            |pod| pod["spec"]["nodeName"] = json!("m"),
            "node \"n\" can only create pods with spec.nodeName set to itself",
        ),
        (
            |pod| pod["metadata"]["ownerReferences"] = json!([]),
            "node \"n\" can only create pods with an owner reference set to itself",
        ),
        (
            |pod| pod["metadata"]["ownerReferences"][0]["uid"] = json!("z"),
            "node n UID mismatch: expected z got nu",
        ),
        (
            |pod| pod["metadata"]["ownerReferences"][0]["controller"] = json!(null),
            "node \"n\" can only create pods with a controller owner reference set to itself",
        ),
        (
            |pod| pod["spec"]["serviceAccountName"] = json!("sa"),
            "node \"n\" can not create pods that reference a service account",
        ),
        (
            |pod| pod["spec"]["volumes"] = json!([{"secret": {"secretName": "s"}}]),
            "node \"n\" can not create pods that reference secrets",
        ),
        (
            |pod| pod["spec"]["volumes"] = json!([{"persistentVolumeClaim": {"claimName": "s"}}]),
            "node \"n\" can not create pods that reference persistentvolumeclaims",
        ),
    ];
    for (change, expected) in changes {
        let mut pod = mirror();
        change(&mut pod);
        refused("CREATE /pods a/x", pod, json!(null), expected);
    }
}

#[test]
fn agents_write_about_their_own_pods_only() {
    let on = |node: &str| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": node}});
    assert_eq!(tried("UPDATE /pods/status a/p", on("n"), on("n")), Ok(()));
    assert_eq!(tried("DELETE /pods a/p", json!(null), on("n")), Ok(()));
    assert_eq!(tried("CREATE /pods/eviction a/p", json!({}), json!(null)), Ok(()));
    for (request, object, old, expected) in [
        (
            "UPDATE /pods/status a/p",
            on("m"),
            on("m"),
            "node \"n\" can only update pod status for pods with spec.nodeName set to itself",
        ),
        (
            "UPDATE /pods/status a/p",
            json!({"spec": {"nodeName": "n"}}),
            on("n"),
            "node \"n\" cannot update labels through pod status",
        ),
        (
            "DELETE /pods a/p",
            json!(null),
            on("m"),
            "node \"n\" can only delete pods with spec.nodeName set to itself",
        ),
        (
            "UPDATE /pods a/p",
            on("n"),
            on("n"),
            "unexpected operation \"UPDATE\", node \"n\" can only create and delete mirror pods",
        ),
        (
            "CREATE /pods/eviction a/q",
            json!({}),
            json!(null),
            "node n can only evict pods with spec.nodeName set to itself",
        ),
        (
            "CREATE /pods/binding a/p",
            json!({}),
            json!(null),
            "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed",
        ),
        ("UPDATE /persistentvolumeclaims a/c", json!({}), json!({}), "may only update PVC status"),
        (
            "UPDATE /persistentvolumeclaims/status a/c",
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({}),
            "node \"n\" is not allowed to update fields other than status.capacity and status.conditions",
        ),
        (
            "CREATE coordination.k8s.io/leases kube-node-lease/m",
            json!({}),
            json!(null),
            "can only access node lease with the same name as the requesting node",
        ),
        (
            "CREATE resource.k8s.io/resourceslices /s",
            json!({"spec": {"nodeName": "m"}}),
            json!(null),
            "can only create ResourceSlice with the same NodeName as the requesting node",
        ),
        (
            "CREATE certificates.k8s.io/certificatesigningrequests /c",
            json!({"spec": {"signerName": "kubernetes.io/kubelet-serving", "request": "system:node:m"}}),
            json!(null),
            "can only create a node CSR with CN=system:node:n",
        ),
    ] {
        refused(request, object, old, expected);
    }
}

#[test]
fn agents_change_their_own_node_within_bounds() {
    let node =
        |labels: Value, taints: Value| json!({"metadata": {"labels": labels}, "spec": {"taints": taints}});
    let usual = json!({"kubernetes.io/hostname": "n", "node.kubernetes.io/x": "y", "mine": "z"});
    assert_eq!(tried("CREATE /nodes /n", node(usual.clone(), json!([])), json!(null)), Ok(()));
    assert_eq!(
        tried("UPDATE /nodes/status /n", node(usual.clone(), json!(null)), node(json!({}), json!([]))),
        Ok(())
    );
    let bad =
        json!({"node-role.kubernetes.io/x": "", "a.node-restriction.kubernetes.io/b": "", "k8s.io/c": ""});
    let named = "a.node-restriction.kubernetes.io/b, k8s.io/c, node-role.kubernetes.io/x";
    for (request, object, old, expected) in [
        (
            "CREATE /nodes /n",
            node(bad.clone(), json!([])),
            json!(null),
            format!("node \"n\" is not allowed to set the following labels: {named}"),
        ),
        (
            "UPDATE /nodes /n",
            node(json!({}), json!([])),
            node(bad, json!([])),
            format!("is not allowed to modify labels: {named}"),
        ),
        (
            "UPDATE /nodes /n",
            node(json!({}), json!([{"key": "a"}])),
            node(json!({}), json!([])),
            "node \"n\" is not allowed to modify taints".to_owned(),
        ),
        (
            "UPDATE /nodes /m",
            json!({}),
            json!({}),
            "node \"n\" is not allowed to modify node \"m\"".to_owned(),
        ),
    ] {
        refused(request, object, old, &expected);
    }
}

#[test]
fn agents_get_tokens_for_their_own_pods_only() {
    let request = |pod: &str, uid: &str, audiences: Value| {
        json!({"spec": {"audiences": audiences, "boundObjectRef":
            {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}}})
    };
    for audiences in [json!([]), json!(["vault"]), json!(["disk"])] {
        let wanted = request("p", "pu", audiences);
        assert_eq!(tried("CREATE /serviceaccounts/token a/sa", wanted, json!(null)), Ok(()));
    }
    for (object, expected) in [
        (json!({"spec": {}}), "node requested token not bound to a pod"),
        (request("p", "", json!([])), "node requested token with a pod binding without a uid"),
        (
            request("p", "old", json!([])),
            "the UID in the bound object reference (old) does not match the UID in record. The object might have been deleted and then recreated",
        ),
        (request("q", "pu", json!([])), "node requested token bound to a pod scheduled on a different node"),
        (request("p", "pu", json!(["a", "b"])), "node may only request 0 or 1 audiences"),
        (
            request("p", "pu", json!(["evil"])),
            "audience \"evil\" not found in pod spec volume, system:node:n is not authorized to request tokens for this audience",
        ),
    ] {
        refused("CREATE /serviceaccounts/token a/sa", object, json!(null), expected);
    }
    let gone = request("gone", "u", json!([]));
    let outcome = tried("CREATE /serviceaccounts/token a/sa", gone, json!(null));
    assert_eq!(outcome, Err(Refusal::Missing("pods", "gone".to_owned())));
}

#[test]
fn agents_let_go_of_their_own_folders() {
    let volume = |node: &str, finalizers: Value, size: &str| {
        json!({"metadata": {"name": "v", "labels": {local::NODE: node}, "finalizers": finalizers},
            "spec": {"capacity": {"storage": size}}})
    };
    let held = || json!(["a", local::FINALIZER]);
    let update = "UPDATE /persistentvolumes /v";
    assert_eq!(tried(update, volume("n", json!(["a"]), "1Gi"), volume("n", held(), "1Gi")), Ok(()));
    let only = "node \"n\" may only let go of volumes whose folders are its own";
    refused(update, volume("m", json!(["a"]), "1Gi"), volume("m", held(), "1Gi"), only);
    refused(update, volume("n", json!([]), "1Gi"), volume("n", held(), "1Gi"), only);
    refused(update, volume("n", json!(["a"]), "2Gi"), volume("n", held(), "1Gi"), only);
    refused(
        "DELETE /persistentvolumes /v",
        json!(null),
        volume("n", held(), "1Gi"),
        "unexpected operation \"DELETE\"",
    );
}
