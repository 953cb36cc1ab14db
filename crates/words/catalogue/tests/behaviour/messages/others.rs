//! Error text of the other kinds.

use serde_json::{Value, json};

use super::check;

#[test]
fn other_kinds_are_checked() {
    check(
        "",
        "configmaps",
        json!({"data": {"a b": "x"}}),
        &[
            "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
         'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    check(
        "",
        "secrets",
        json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}}),
        &["data[tls.key]: Required value"],
    );
    check(
        "",
        "persistentvolumeclaims",
        json!({"spec": {"accessModes": null, "resources": null}}),
        &[
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources[storage]: Required value",
        ],
    );
    check(
        "",
        "persistentvolumes",
        json!({"spec": {"hostPath": null}}),
        &["spec: Required value: must specify a volume type"],
    );
    check(
        "",
        "resourcequotas",
        json!({"spec": {"hard": {"x": "1", "pods": "500m"}}}),
        &[
            "spec.hard[pods]: Invalid value: \"500m\": must be an integer",
            "spec.hard[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
            "spec.hard[x]: Invalid value: \"x\": must be a standard resource for quota",
        ],
    );
    check(
        "",
        "limitranges",
        json!({"spec": {"limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
        &["spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"],
    );
    check(
        "autoscaling",
        "horizontalpodautoscalers",
        json!({"spec": {"minReplicas": 5, "maxReplicas": 3}}),
        &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
    );
    let group = |version: &str| {
        format!(
            "spec.scaleTargetRef.apiVersion: Invalid value: {version:?}: apiVersion must specify API group"
        )
    };
    let many =
        "spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"
            .to_owned();
    for (version, message) in [("", group("")), ("v1", group("v1")), ("a/b/c", many)] {
        let spec = json!({"spec": {"scaleTargetRef": {"apiVersion": version}}});
        check("autoscaling", "horizontalpodautoscalers", spec, &[&message]);
    }
    check(
        "autoscaling",
        "horizontalpodautoscalers",
        json!({"spec": {"minReplicas": 0}}),
        &[
            "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
        ],
    );
    check(
        "policy",
        "poddisruptionbudgets",
        json!({"spec": {"minAvailable": "x"}}),
        &[
            "spec.minAvailable: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' \
         (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ],
    );
    check(
        "rbac.authorization.k8s.io",
        "rolebindings",
        json!({"roleRef": {"kind": "X"}}),
        &["roleRef.kind: Unsupported value: \"X\": supported values: \"Role\", \"ClusterRole\""],
    );
    check(
        "rbac.authorization.k8s.io",
        "clusterroles",
        json!({"rules": [{"resources": ["pods"]}]}),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
        ],
    );
    check(
        "scheduling.k8s.io",
        "priorityclasses",
        json!({"value": 2_000_000_000}),
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    check("storage.k8s.io", "storageclasses", json!({"provisioner": null}), &["provisioner: Required value"]);
    check(
        "coordination.k8s.io",
        "leases",
        json!({"spec": {"leaseDurationSeconds": 0}}),
        &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
    );
    check(
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        json!({"webhooks": [{"name": "x"}]}),
        &[
            "webhooks[0].name: Invalid value: \"x\": should be a domain with at least three segments separated by dots",
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ],
    );
    check(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        json!({"metadata": {"name": "x.y"}}),
        &["metadata.name: Invalid value: \"x.y\": must be spec.names.plural+\".\"+spec.group"],
    );
    check(
        "",
        "nodes",
        json!({"spec": {"taints": [{"key": "a", "effect": "X"}]}}),
        &[
            "metadata.taints[0].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
}

#[test]
fn runtime_classes_check_where_their_pods_go() {
    let class = |tolerations: Value| json!({"handler": "h", "scheduling": {"tolerations": tolerations}, "metadata": {"namespace": null}});
    let same = json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"});
    check(
        "node.k8s.io",
        "runtimeclasses",
        class(json!([{}])),
        &[
            "scheduling.tolerations.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is \
           empty, which means \"match all values and all keys\"",
        ],
    );
    check(
        "node.k8s.io",
        "runtimeclasses",
        class(json!([same, same])),
        &[
            r#"scheduling.tolerations[1]: Duplicate value: {"effect":"NoSchedule","key":"k","operator":"Exists"}"#,
        ],
    );
}

#[test]
fn flow_schemas_know_verbs_namespaces_and_urls() {
    let schema = |rule: Value| {
        json!({"metadata": {"namespace": null}, "spec": {
            "matchingPrecedence": 9, "priorityLevelConfiguration": {"name": "p"}, "rules": [rule],
        }})
    };
    let subjects = json!([{"kind": "User", "user": {"name": "u"}}]);
    check(
        "flowcontrol.apiserver.k8s.io",
        "flowschemas",
        schema(
            json!({"subjects": subjects, "nonResourceRules": [{"verbs": ["fly"], "nonResourceURLs": ["x", "/a//b", "/a*"]}]}),
        ),
        &[
            "spec.rules[0].nonResourceRules[0].verbs: Unsupported value: [\"fly\"]: supported values: \"create\", \
           \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
            r#"spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "x": must start with slash"#,
            r#"spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "/a//b": must not contain double slash"#,
            r#"spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: "/a*": wildcard can only do suffix matching"#,
        ],
    );
}

#[test]
fn requests_for_certificates_are_pem() {
    let request = |text: &str| json!({"metadata": {"namespace": null}, "spec": {"request": text, "signerName": "a.b/c", "usages": ["client auth"]}});
    let pem = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUEwPQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
    let kind = "certificatesigningrequests";
    check("certificates.k8s.io", kind, request(pem), &[]);
    check(
        "certificates.k8s.io",
        kind,
        request("LS0t"),
        &[r#"spec.request: Invalid value: "LS0t": PEM block type must be CERTIFICATE REQUEST"#],
    );
}

#[test]
fn templates_webhooks_and_families_are_named_as_upstream_names_them() {
    check(
        "",
        "podtemplates",
        json!({"template": {"metadata": {"labels": {"a": "b c"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}),
        &[&format!(
            "template.labels: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric \
             characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
             'my_value',  or '12345', regex used for validation is '{}')",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
        )],
    );
    check(
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        json!({"webhooks": [{
            "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "s", "port": 443}},
        }]}),
        &["webhooks[0].clientConfig.service.name: Required value: service name is required"],
    );
    check(
        "",
        "services",
        json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv5"]}}),
        &[r#"spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6""#],
    );
    check(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        json!({"metadata": {"name": null}}),
        &["metadata.name: Required value: name or generateName is required"],
    );
}
