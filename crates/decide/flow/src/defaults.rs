//! The objects that every cluster has, and how they are kept (upstream: `pkg/apis/flowcontrol/bootstrap`).

use serde_json::{Value, json};

/// `"true"` on an object says that the server keeps its spec.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

const EVERYBODY: &[&str] = &["system:unauthenticated", "system:authenticated"];
const LEASES: &[&str] = &["get", "create", "update"];

/// All priority levels, the mandatory ones first.
pub fn levels() -> Vec<Value> {
    let mut levels = vec![
        level(
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        level(
            "catch-all",
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}}),
        ),
    ];
    for (name, shares, lendable, queues, hand) in [
        ("system", 30, 33, 64, 6),
        ("node-high", 40, 25, 64, 6),
        ("leader-election", 10, 0, 16, 4),
        ("workload-high", 40, 50, 128, 6),
        ("workload-low", 100, 90, 128, 6),
        ("global-default", 20, 50, 128, 6),
    ] {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        levels.push(level(
            name,
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": shares, "lendablePercent": lendable,
                "limitResponse": {"type": "Queue", "queuing": queuing}}}),
        ));
    }
    levels
}

/// All flow schemas, the mandatory ones first.
pub fn schemas() -> Vec<Value> {
    let manager = || user("system:kube-controller-manager");
    let scheduler = || user("system:kube-scheduler");
    let every = || [resources(&["*"], &["*"], &["*"], true)];
    let probes = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]);
    let leases = || resources(LEASES, &["coordination.k8s.io"], &["leases"], false);
    let accounts = || account("*");
    let nodes = [
        resources(&["*"], &[""], &["nodes", "nodes/status"], true),
        resources(&["*"], &["coordination.k8s.io"], &["leases"], false),
    ];
    let endpoints =
        vec![manager(), account("endpoint-controller"), account("endpointslicemirroring-controller")];
    let elections = [resources(LEASES, &[""], &["endpoints", "configmaps"], false), leases()];
    let (by_user, by_namespace) = (Some("ByUser"), Some("ByNamespace"));
    vec![
        schema("exempt", "exempt", 1, None, groups(&["system:masters"]), &every(), paths()),
        schema("catch-all", "catch-all", 10_000, by_user, groups(EVERYBODY), &every(), paths()),
        schema("probes", "exempt", 2, None, groups(EVERYBODY), &[], probes),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            by_user,
            vec![manager(), scheduler(), accounts()],
            &[leases()],
            Value::Null,
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            by_user,
            endpoints,
            &[resources(LEASES, &[""], &["endpoints"], false)],
            Value::Null,
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            by_user,
            vec![accounts()],
            &elections,
            Value::Null,
        ),
        schema("system-node-high", "node-high", 400, by_user, groups(&["system:nodes"]), &nodes, Value::Null),
        schema("system-nodes", "system", 500, by_user, groups(&["system:nodes"]), &every(), paths()),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            by_namespace,
            vec![manager()],
            &every(),
            paths(),
        ),
        schema("kube-scheduler", "workload-high", 800, by_namespace, vec![scheduler()], &every(), paths()),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            by_namespace,
            vec![accounts()],
            &every(),
            paths(),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            by_user,
            groups(&["system:serviceaccounts"]),
            &every(),
            paths(),
        ),
        schema("global-default", "global-default", 9900, by_user, groups(EVERYBODY), &every(), paths()),
    ]
}

/// Must an object of this name be as it is here, whatever users say?
pub fn mandatory(name: &str) -> bool {
    matches!(name, "exempt" | "catch-all")
}

/// The object as it has to be written; `None` when it may stay as it is.
///
/// Mandatory objects are always put right, but for the shares of the exempt level. Of the others only those are
/// written whose spec the server keeps: by the annotation, or because nobody has changed it yet.
pub fn maintained(wanted: &Value, present: &Value) -> Option<Value> {
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let is_mandatory = mandatory(name);
    let keeps = match present["metadata"]["annotations"][AUTO_UPDATE].as_str() {
        Some("true") => true,
        Some("false") => false,
        _ => present["metadata"]["generation"] == 1,
    };
    let keeps = keeps || is_mandatory;
    let mut new = present.clone();
    if new["metadata"]["annotations"][AUTO_UPDATE].as_str().is_none() || is_mandatory {
        new["metadata"]["annotations"][AUTO_UPDATE] = json!(if keeps { "true" } else { "false" });
    }
    if keeps {
        let exempt = present["spec"]["exempt"].clone();
        new["spec"] = wanted["spec"].clone();
        if is_mandatory && exempt.is_object() && new["spec"]["exempt"].is_object() {
            new["spec"]["exempt"] = exempt;
        }
    }
    (new != *present).then_some(new)
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

fn level(name: &str, spec: Value) -> Value {
    object("PriorityLevelConfiguration", name, spec)
}

fn schema(
    name: &str,
    level: &str,
    precedence: u32,
    distinguisher: Option<&str>,
    subjects: Vec<Value>,
    resources: &[Value],
    paths: Value,
) -> Value {
    let mut rule = json!({"subjects": subjects});
    if !resources.is_empty() {
        rule["resourceRules"] = json!(resources);
    }
    if !paths.is_null() {
        rule["nonResourceRules"] = paths;
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule],
    });
    if let Some(distinguisher) = distinguisher {
        spec["distinguisherMethod"] = json!({"type": distinguisher});
    }
    object("FlowSchema", name, spec)
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}})
}

fn resources(verbs: &[&str], groups: &[&str], resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn paths() -> Value {
    json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}])
}
