//! Error text of pods, and where upstream names things in ways one would not guess.

use serde_json::{Value, json};

use super::{LABEL, check};
use crate::merged;

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
