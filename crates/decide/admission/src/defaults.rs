//! Small additions to new objects: upstream's admission plugins that only fill something in.

use serde_json::{Value, json};

/// DefaultTolerationSeconds: pods stay 300 s on a node that is not ready or not reachable.
pub fn tolerations(pod: &mut Value) {
    let list = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let mut list = list;
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = list.iter().any(|toleration| {
            let same = toleration["key"].as_str().is_none_or(|found| found.is_empty() || found == key);
            let effect = toleration["effect"].as_str().unwrap_or_default();
            same && (effect.is_empty() || effect == "NoExecute")
        });
        if !tolerated {
            list.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
    pod["spec"]["tolerations"] = Value::Array(list);
}

/// TaintNodesByCondition: a new node takes no pods before its agent says that it is ready.
pub fn not_ready_taint(node: &mut Value) {
    let key = "node.kubernetes.io/not-ready";
    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    if !taints.iter().any(|taint| taint["key"] == key && taint["effect"] == "NoSchedule") {
        taints.push(json!({"key": key, "effect": "NoSchedule"}));
    }
    node["spec"]["taints"] = Value::Array(taints);
}

/// StorageObjectInUseProtection: a claim or volume in use is not deleted.
pub fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|one| one == finalizer) {
        finalizers.push(json!(finalizer));
    }
    object["metadata"]["finalizers"] = Value::Array(finalizers);
}

/// DefaultStorageClass: a claim that names no class gets the default one.
pub fn storage_class(claim: &mut Value, classes: impl FnOnce() -> Vec<Value>) {
    let named = claim["spec"]["storageClassName"].is_string()
        || claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].is_string();
    if named {
        return;
    }
    if let Some(class) = newest_default(classes(), "storageclass.kubernetes.io/is-default-class") {
        claim["spec"]["storageClassName"] = class;
    }
}

/// DefaultIngressClass: an Ingress that names no class gets the default one.
pub fn ingress_class(ingress: &mut Value, classes: impl FnOnce() -> Vec<Value>) {
    let named = ingress["spec"]["ingressClassName"].is_string()
        || ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"].is_string();
    if named {
        return;
    }
    if let Some(class) = newest_default(classes(), "ingressclass.kubernetes.io/is-default-class") {
        ingress["spec"]["ingressClassName"] = class;
    }
}

/// Of several defaults the newest counts, then the first by name.
fn newest_default(classes: Vec<Value>, annotation: &str) -> Option<Value> {
    let text = |class: &Value, field: &str| class["metadata"][field].as_str().unwrap_or_default().to_owned();
    let mut defaults: Vec<Value> =
        classes.into_iter().filter(|class| class["metadata"]["annotations"][annotation] == "true").collect();
    defaults.sort_by_key(|class| (std::cmp::Reverse(text(class, "creationTimestamp")), text(class, "name")));
    defaults.into_iter().next().map(|class| class["metadata"]["name"].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_are_added_unless_tolerated_already() {
        for (given, expected) in [
            (json!([]), 2),
            (json!([{"operator": "Exists"}]), 1),
            (
                json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]),
                2,
            ),
            (json!([{"key": "a", "effect": "NoSchedule"}]), 3),
        ] {
            let mut pod = json!({"spec": {"tolerations": given}});
            tolerations(&mut pod);
            assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(expected), "{pod}");
        }
    }

    #[test]
    fn the_newest_default_class_is_chosen() {
        let class = |name: &str, time: &str, default: &str| json!({"metadata": {"name": name, "creationTimestamp": time, "annotations": {"storageclass.kubernetes.io/is-default-class": default}}});
        let classes = || {
            vec![
                class("a", "2026-01-01", "true"),
                class("b", "2026-02-01", "true"),
                class("c", "2026-03-01", "false"),
            ]
        };
        let mut claim = json!({"spec": {}});
        storage_class(&mut claim, classes);
        assert_eq!(claim["spec"]["storageClassName"], "b");
        let mut none = json!({"spec": {"storageClassName": ""}});
        storage_class(&mut none, classes);
        assert_eq!(none["spec"]["storageClassName"], "");
    }
}
