//! Error text of bad manifests.

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
            json!({"metadata": meta, "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}})
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

#[test]
fn pods_are_checked() {
    let container =
        |patch: Value| json!({"spec": {"containers": [merged(json!({"name": "c", "image": "x"}), &patch)]}});
    let check = |patch: Value, expected: &[&str]| check("", "pods", patch, expected);
    check(json!({"spec": {"containers": []}}), &["spec.containers: Required value"]);
    check(
        container(json!({"name": "A"})),
        &[&format!("spec.containers[0].name: Invalid value: \"A\": {LABEL}")],
    );
    check(container(json!({"image": null})), &["spec.containers[0].image: Required value"]);
    check(
        container(json!({"image": " x"})),
        &["spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace"],
    );
    check(
        json!({"spec": {"containers": [{"name": "c", "image": "x"}, {"name": "c", "image": "x"}]}}),
        &["spec.containers[1].name: Duplicate value: \"c\""],
    );
    check(
        container(json!({"imagePullPolicy": "Sometimes"})),
        &[
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ],
    );
    check(
        json!({"spec": {"restartPolicy": "Maybe"}}),
        &[
            "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
    check(
        container(json!({"ports": [{"containerPort": 70000}]})),
        &[
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ],
    );
    check(
        container(
            json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]}),
        ),
        &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//5\""],
    );
    check(
        container(json!({"volumeMounts": [{"name": "v", "mountPath": "/x"}]})),
        &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
    );
    check(
        container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
        &[
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ],
    );
    check(
        container(json!({"resources": {"limits": {"cpu": "-1"}}})),
        &[
            "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ],
    );
    check(
        container(json!({"resources": {"requests": {"gpu": "1"}}})),
        &[
            "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
        ],
    );
    check(
        container(json!({"resources": {"requests": {"example.com/gpu": "1"}}})),
        &[
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ],
    );
    check(
        container(json!({"livenessProbe": {"exec": {"command": []}}})),
        &["spec.containers[0].livenessProbe.exec.command: Required value"],
    );
    check(
        container(json!({"livenessProbe": {"successThreshold": 2, "tcpSocket": {"port": "x y"}}})),
        &[
            "spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: \"x y\": must contain only alpha-numeric characters \
         (a-z, 0-9), and hyphens (-)",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ],
    );
    check(
        container(json!({"livenessProbe": {}})),
        &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
    );
    check(
        container(
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        ),
        &[
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ],
    );
    check(
        container(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]})),
        &[
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field \
         label not supported: spec.x",
        ],
    );
    check(
        container(json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}})),
        &[
            "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot \
         set `allowPrivilegeEscalation` to false and `privileged` to true",
        ],
    );
    check(
        json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]}}),
        &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
    );
    check(
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]}}),
        &["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
    );
    check(
        json!({"spec": {"volumes": [{"name": "v", "configMap": {"name": "x", "items": [{"key": "k", "path": "/p"}]}}]}}),
        &["spec.volumes[0].configMap.items[0].path: Invalid value: \"/p\": must be a relative path"],
    );
    check(
        json!({"spec": {"tolerations": [{"operator": "Equal", "value": "x"}]}}),
        &[
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \
         \"match all values and all keys\"",
        ],
    );
    check(
        json!({"spec": {"dnsPolicy": "None"}}),
        &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    );
    check(
        json!({"spec": {"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 0, "podAffinityTerm": {"topologyKey": "zone"}},
        ]}}}}),
        &[
            "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
        ],
    );
    check(
        json!({"spec": {"initContainers": [{"name": "i", "image": "x", "readinessProbe": {"exec": {"command": ["x"]}}}]}}),
        &[
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
    check(
        json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "x"}]}}),
        &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
    );
    check(
        json!({"spec": {"activeDeadlineSeconds": 0}}),
        &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    );
}

/// Where upstream names a path or a rule in a way one would not guess.
#[test]
fn upstreams_peculiarities_are_kept() {
    let container = |fields: Value| json!({"spec": {"containers": [merged(json!({"name": "c", "image": "x"}), &fields)]}});
    for (patch, expected) in [
        (
            container(
                json!({"resources": {"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}}}),
            ),
            "spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2",
        ),
        (
            container(json!({"envFrom": [{}]})),
            "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            container(
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name['a']"}}}]}),
            ),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name['a']\": error converting \
             fieldPath: field label does not support subscript: metadata.name['a']",
        ),
        (
            json!({"spec": {"hostAliases": [{"ip": "1.2.3"}]}}),
            "spec.hostAliases.ip: Invalid value: \"1.2.3\": must be valid IP address",
        ),
        (
            json!({"spec": {"volumes": [{"name": "v", "fc": {}}]}}),
            "spec.volumes[0].fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both",
        ),
        (
            json!({"metadata": {"finalizers": ["mine"]}}),
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
        ),
    ] {
        check("", "pods", patch, &[expected]);
    }
    check(
        "apps",
        "deployments",
        json!({"spec": {"selector": {"matchLabels": null, "matchExpressions": [{"key": "a", "operator": "In"}]}}}),
        &[
            "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\"}]}: invalid label selector",
        ],
    );
}

#[test]
fn workloads_are_checked() {
    let mismatch = "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`";
    for plural in ["deployments", "replicasets", "daemonsets", "statefulsets"] {
        check(
            "apps",
            plural,
            json!({"spec": {"template": {"metadata": {"labels": {"app": "a"}}}}}),
            &[mismatch],
        );
        let unselected = "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`";
        let missing: &[&str] = match plural {
            "daemonsets" => &[unselected],
            _ => &["spec.selector: Required value", unselected],
        };
        check("apps", plural, json!({"spec": {"selector": null}}), missing);
        check(
            "apps",
            plural,
            json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}),
            &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
        );
    }
    check(
        "apps",
        "deployments",
        json!({"spec": {"replicas": -1}}),
        &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
    );
    check(
        "apps",
        "deployments",
        json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}}),
        &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
    );
    check(
        "apps",
        "deployments",
        json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": {}}}}),
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    );
    check(
        "apps",
        "deployments",
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}),
        &["spec.template.spec.containers[0].image: Required value"],
    );
    check(
        "apps",
        "daemonsets",
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}}),
        &[
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ],
    );
    check(
        "apps",
        "statefulsets",
        json!({"spec": {"podManagementPolicy": "X"}}),
        &["spec.podManagementPolicy: Invalid value: \"X\": must be 'OrderedReady' or 'Parallel'"],
    );
    check(
        "batch",
        "jobs",
        json!({"spec": {"template": {"spec": {"restartPolicy": null}}}}),
        &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
    );
    check(
        "batch",
        "jobs",
        json!({"spec": {"completionMode": "Indexed", "parallelism": 1}}),
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    check(
        "batch",
        "cronjobs",
        json!({"spec": {"schedule": "x"}}),
        &["spec.schedule: Invalid value: \"x\": expected exactly 5 fields, found 1: [x]"],
    );
    check(
        "batch",
        "cronjobs",
        json!({"metadata": {"name": "a".repeat(53)}}),
        &[&format!(
            "metadata.name: Invalid value: \"{}\": must be no more than 52 characters",
            "a".repeat(53)
        )],
    );
}

#[test]
fn services_and_networking_are_checked() {
    let service = |patch: Value, expected: &[&str]| check("", "services", json!({"spec": patch}), expected);
    service(json!({"ports": []}), &["spec.ports: Required value"]);
    service(json!({"ports": [], "clusterIP": "None"}), &[]);
    service(
        json!({"ports": [{"port": 80}, {"port": 81}]}),
        &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    );
    service(
        json!({"ports": [{"port": 0}]}),
        &[
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    );
    service(
        json!({"ports": [{"port": 80, "nodePort": 30000}]}),
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    service(
        json!({"type": "X"}),
        &[
            "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
    service(json!({"type": "ExternalName"}), &["spec.externalName: Required value"]);
    service(
        json!({"clusterIP": "x"}),
        &[
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    service(
        json!({"externalIPs": ["127.0.0.1"]}),
        &[
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    service(
        json!({"externalTrafficPolicy": "Local"}),
        &[
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set when `type` is 'NodePort' or 'LoadBalancer'",
        ],
    );
    check(
        "networking.k8s.io",
        "ingresses",
        json!({"spec": null}),
        &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    );
    check(
        "networking.k8s.io",
        "ingresses",
        json!({"spec": {"rules": [{"host": "1.2.3.4"}]}}),
        &["spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"],
    );
    check(
        "networking.k8s.io",
        "ingresses",
        json!({"spec": {"rules": [{"http": {"paths": [{"path": "x", "pathType": "Exact"}]}}]}}),
        &[
            "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
            "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
        ],
    );
    check(
        "networking.k8s.io",
        "networkpolicies",
        json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}]}}),
        &[
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/8\": must be a strict subset of `cidr`",
        ],
    );
    check(
        "discovery.k8s.io",
        "endpointslices",
        json!({"endpoints": [{"addresses": ["x"]}, {}]}),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IPv4 address",
            "endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IP address",
            "endpoints[1].addresses: Required value: must contain at least 1 address",
        ],
    );
}

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
fn storage_kinds_name_what_is_wrong_inside() {
    let duplicate = json!({"matchLabelExpressions": [{"key": "k", "values": ["v"]}]});
    let topologies = |list: Value| json!({"allowedTopologies": list});
    let class =
        |list, expected: &[&str]| check("storage.k8s.io", "storageclasses", topologies(list), expected);
    class(
        json!([duplicate, duplicate]),
        &[r#"allowedTopologies[1].matchLabelExpressions: Duplicate value: """#],
    );
    class(json!([{}]), &[r#"allowedTopologies[0].matchLabelExpressions: Duplicate value: """#]);
    class(
        json!([{"matchLabelExpressions": [{"key": "k", "values": []}, {"key": "l", "values": ["v", "v"]}]}]),
        &[
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            r#"allowedTopologies[0].matchLabelExpressions[1].values[1]: Duplicate value: "v""#,
        ],
    );
    let volume = |patch: Value, expected: &[&str]| {
        let mut spec = patch;
        spec["hostPath"] = Value::Null;
        check("", "persistentvolumes", json!({"spec": spec}), expected);
    };
    volume(
        json!({"nfs": {"server": "s", "path": "p"}}),
        &[r#"spec.nfs.path: Invalid value: "p": must be an absolute path"#],
    );
    volume(
        json!({"csi": {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "a"}}}),
        &["spec.csi.nodePublishSecretRef.namespace: Required value"],
    );
    let node = |keys: Value| json!({"metadata": {"namespace": null}, "spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": keys}]}});
    check(
        "storage.k8s.io",
        "csinodes",
        node(json!(["k", "k"])),
        &[r#"spec.drivers[0]: Duplicate value: "k""#],
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
