//! What objects look like that say as little as they can.

use serde_json::{Value, json};

use crate::kind;

fn defaulted(group: &str, plural: &str, mut object: Value) -> Value {
    let kind = kind(group, plural);
    kind.default(&mut object);
    let once = object.clone();
    kind.default(&mut object);
    assert_eq!(object, once, "defaults of {plural} settle at once");
    object
}

#[test]
fn a_pod_is_filled_in() {
    let pod = defaulted(
        "",
        "pods",
        json!({"spec": {
            "hostNetwork": true,
            "serviceAccount": "old",
            "containers": [{
                "name": "c", "image": "nginx",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}, "requests": {"memory": "512Mi"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "readinessProbe": {"grpc": {"port": 9000}},
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }],
            "volumes": [
                {"name": "scratch"},
                {"name": "conf", "configMap": {"name": "x"}},
                {"name": "host", "hostPath": {"path": "/"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
                {"name": "image", "image": {"reference": "a:1"}},
            ],
        }}),
    );
    assert_eq!(
        pod["spec"],
        json!({
            "hostNetwork": true,
            "serviceAccount": "old",
            "serviceAccountName": "old",
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
            "enableServiceLinks": true,
            "containers": [{
                "name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "512Mi"}},
                "livenessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "readinessProbe": {
                    "grpc": {"port": 9000, "service": ""},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
            }],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "conf", "configMap": {"name": "x", "defaultMode": 420}},
                {"name": "host", "hostPath": {"path": "/", "type": ""}},
                {"name": "token", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}},
                {"name": "image", "image": {"reference": "a:1", "pullPolicy": "IfNotPresent"}},
            ],
        })
    );
}

#[test]
fn templates_keep_requests_open() {
    let object = defaulted(
        "apps",
        "deployments",
        json!({"spec": {"template": {"spec": {"containers": [{"image": "a:1", "resources": {"limits": {"cpu": "1"}}}]}}}}),
    );
    let spec = &object["spec"];
    assert_eq!(spec["template"]["spec"]["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}));
    assert_eq!(spec["template"]["metadata"], json!({}));
    assert!(spec["template"]["spec"].get("enableServiceLinks").is_none());
    assert_eq!(
        (&spec["replicas"], &spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]),
        (&json!(1), &json!(10), &json!(600))
    );
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
}

#[test]
fn other_kinds_are_filled_in() {
    for (group, plural, object, path, expected) in [
        (
            "",
            "services",
            json!({"spec": {"ports": [{"port": 80}]}}),
            "/spec",
            json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}),
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}}),
            "/spec",
            json!({
                "type": "LoadBalancer", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
                "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true,
            }),
        ),
        (
            "apps",
            "statefulsets",
            json!({"spec": {"template": {}}}),
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}}),
        ),
        (
            "apps",
            "daemonsets",
            json!({"spec": {}}),
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        ),
        ("batch", "jobs", json!({"spec": {}}), "/spec/completions", json!(1)),
        ("batch", "jobs", json!({"spec": {"parallelism": 3}}), "/spec/completions", Value::Null),
        ("batch", "jobs", json!({"spec": {}}), "/spec/backoffLimit", json!(6)),
        ("batch", "cronjobs", json!({"spec": {}}), "/spec/successfulJobsHistoryLimit", json!(3)),
        ("", "secrets", json!({"stringData": {"a": "b"}}), "/data", json!({"a": "Yg=="})),
        ("", "secrets", json!({}), "/type", json!("Opaque")),
        (
            "",
            "namespaces",
            json!({"metadata": {"name": "x"}}),
            "/metadata/labels",
            json!({"kubernetes.io/metadata.name": "x"}),
        ),
        (
            "",
            "limitranges",
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}}),
            "/spec/limits/0",
            json!({
                "type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"cpu": "2"},
                "defaultRequest": {"cpu": "2", "memory": "1Mi"},
            }),
        ),
        (
            "networking.k8s.io",
            "networkpolicies",
            json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}),
            "/spec",
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}]}),
        ),
        (
            "autoscaling",
            "horizontalpodautoscalers",
            json!({"spec": {}}),
            "/spec/metrics/0/resource",
            json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}),
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
            "/subjects",
            json!([{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount", "name": "s"}]),
        ),
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations",
            json!({"webhooks": [{"clientConfig": {"service": {"name": "s"}}, "rules": [{}]}]}),
            "/webhooks/0",
            json!({
                "clientConfig": {"service": {"name": "s", "port": 443}}, "rules": [{"scope": "*"}], "failurePolicy": "Fail",
                "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "timeoutSeconds": 10,
                "reinvocationPolicy": "Never",
            }),
        ),
        (
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            json!({"spec": {"names": {"plural": "ships", "kind": "Ship"}}}),
            "/spec",
            json!({"conversion": {"strategy": "None"}, "names": {"plural": "ships", "kind": "Ship", "singular": "ship", "listKind": "ShipList"}}),
        ),
    ] {
        let object = defaulted(group, plural, object);
        assert_eq!(object.pointer(path).unwrap_or(&Value::Null), &expected, "{plural}{path}");
    }
}

#[test]
fn new_objects_start_in_their_first_state() {
    for (group, plural, object, path, expected) in [
        (
            "",
            "pods",
            json!({"spec": {"containers": [{}]}, "status": {"phase": "Running"}}),
            "/status",
            json!({"phase": "Pending", "qosClass": "BestEffort"}),
        ),
        (
            "",
            "pods",
            json!({"spec": {"schedulingGates": [{"name": "a"}]}}),
            "/status/conditions/0/reason",
            json!("SchedulingGated"),
        ),
        ("", "namespaces", json!({"metadata": {"name": "x"}}), "/spec/finalizers", json!(["kubernetes"])),
        ("", "namespaces", json!({"metadata": {"name": "x"}}), "/status", json!({"phase": "Active"})),
        ("apps", "deployments", json!({"status": {"replicas": 3}}), "/status", json!({})),
        ("apps", "deployments", json!({}), "/metadata/generation", json!(1)),
        ("", "configmaps", json!({"metadata": {"generation": 4}}), "/metadata/generation", Value::Null),
        ("", "nodes", json!({"status": {"phase": "x"}}), "/status/phase", json!("x")),
        ("", "services", json!({"spec": {"clusterIP": "None"}}), "/spec/clusterIPs", json!(["None"])),
        (
            "batch",
            "jobs",
            json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}}}),
            "/spec/selector/matchLabels",
            json!({"batch.kubernetes.io/controller-uid": "u"}),
        ),
        (
            "batch",
            "jobs",
            json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}}}),
            "/spec/template/metadata/labels/job-name",
            json!("j"),
        ),
        (
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            json!({"spec": {"versions": [{"name": "v1", "storage": true}]}}),
            "/status/storedVersions",
            json!(["v1"]),
        ),
    ] {
        let mut object = object;
        kind(group, plural).prepare_create(&mut object);
        assert_eq!(object.pointer(path).unwrap_or(&Value::Null), &expected, "{plural}{path}");
    }
}
