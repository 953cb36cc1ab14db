//! Error text of bad manifests.

mod networking;
mod others;
mod pods;
mod storage;
mod workloads;

use serde_json::{Value, json};

use crate::{errors, kind, merged};

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
    end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

/// A valid object of the kind; the patch makes it bad.
fn base(plural: &str) -> Value {
    let meta = json!({"name": "web", "namespace": "default", "uid": "u"});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let workload = json!({"metadata": meta, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}});
    match plural {
        "pods" => json!({"metadata": meta, "spec": {"containers": [{"name": "c", "image": "x"}]}}),
        "deployments" | "replicasets" | "daemonsets" | "statefulsets" => workload,
        "jobs" => merged(
            workload,
            &json!({"spec": {"selector": null, "template": {"spec": {"restartPolicy": "Never"}}}}),
        ),
        "cronjobs" => {
            json!({"metadata": meta, "spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]},
            }}}}})
        }
        "services" => json!({"metadata": meta, "spec": {"ports": [{"port": 80}]}}),
        "persistentvolumeclaims" => {
            json!({"metadata": meta, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        "persistentvolumes" => {
            json!({"metadata": {"name": "pv"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}})
        }
        "ingresses" => {
            json!({"metadata": meta, "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}})
        }
        "horizontalpodautoscalers" => {
            json!({"metadata": meta, "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
        }
        "rolebindings" => {
            json!({"metadata": meta, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]})
        }
        "storageclasses" => json!({"metadata": {"name": "s"}, "provisioner": "a.b/c"}),
        "priorityclasses" => json!({"metadata": {"name": "s"}, "value": 1}),
        "endpointslices" => {
            json!({"metadata": meta, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]})
        }
        "namespaces" | "nodes" | "clusterroles" => json!({"metadata": {"name": "web"}}),
        "validatingwebhookconfigurations" => json!({"metadata": {"name": "w"}, "webhooks": [{
            "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://x"},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        }]}),
        "customresourcedefinitions" => json!({"metadata": {"name": "ships.sea.io"}, "spec": {
            "group": "sea.io", "scope": "Namespaced", "names": {"plural": "ships", "kind": "Ship"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        }}),
        _ => json!({"metadata": meta}),
    }
}

fn check(group: &str, plural: &str, patch: Value, expected: &[&str]) {
    assert_eq!(errors(kind(group, plural), merged(base(plural), &patch)), expected, "{plural} {patch}");
}

#[test]
fn valid_objects_have_no_errors() {
    for (group, plural) in [
        ("", "pods"),
        ("", "services"),
        ("", "configmaps"),
        ("", "secrets"),
        ("", "namespaces"),
        ("", "nodes"),
        ("", "persistentvolumeclaims"),
        ("", "persistentvolumes"),
        ("", "serviceaccounts"),
        ("", "resourcequotas"),
        ("", "limitranges"),
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("apps", "daemonsets"),
        ("apps", "statefulsets"),
        ("batch", "jobs"),
        ("batch", "cronjobs"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "networkpolicies"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("policy", "poddisruptionbudgets"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("storage.k8s.io", "storageclasses"),
        ("scheduling.k8s.io", "priorityclasses"),
        ("coordination.k8s.io", "leases"),
        ("discovery.k8s.io", "endpointslices"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
    ] {
        check(group, plural, json!({}), &[]);
    }
}

#[test]
fn metadata_is_checked_alike_for_all_kinds() {
    let name = |text: &str| json!({"metadata": {"name": text}});
    check(
        "",
        "services",
        name("Bad_Name"),
        &[
            "metadata.name: Invalid value: \"Bad_Name\": a DNS-1035 label must consist of lower case alphanumeric characters or \
           '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
           regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    check("", "namespaces", name("A"), &[&format!("metadata.name: Invalid value: \"A\": {LABEL}")]);
    check(
        "rbac.authorization.k8s.io",
        "clusterroles",
        name("a/b"),
        &["metadata.name: Invalid value: \"a/b\": may not contain '/'"],
    );
    check("rbac.authorization.k8s.io", "clusterroles", name("system:Node"), &[]);
    check(
        "",
        "configmaps",
        json!({"metadata": {"name": null}}),
        &["metadata.name: Required value: name or generateName is required"],
    );
    check("", "configmaps", json!({"metadata": {"generateName": "a-"}}), &[]);
    check(
        "",
        "configmaps",
        json!({"metadata": {"namespace": null}}),
        &["metadata.namespace: Required value"],
    );
    check(
        "",
        "nodes",
        json!({"metadata": {"namespace": "x"}}),
        &["metadata.namespace: Forbidden: not allowed on this type"],
    );
    check(
        "",
        "configmaps",
        json!({"metadata": {"labels": {"a": "-"}}}),
        &[
            "metadata.labels: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, \
         '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
         '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ],
    );
    check(
        "",
        "configmaps",
        json!({"metadata": {"annotations": {"a": "x".repeat(300_000)}}}),
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
    check(
        "",
        "configmaps",
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}}),
        &["metadata.ownerReferences.uid: Invalid value: \"\": uid must not be empty"],
    );
    check(
        "",
        "configmaps",
        json!({"metadata": {"finalizers": ["orphan", "foregroundDeletion"]}}),
        &[
            "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion \
         cannot be both set",
        ],
    );
}
