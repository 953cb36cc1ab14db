//! Cells as `kubectl get -o wide` shows them.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind;

fn cells(group: &str, plural: &str, object: &Value) -> Vec<String> {
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
    let show = |cell: Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    kind(group, plural).cells(object, now).into_iter().map(show).collect()
}

fn meta() -> Value {
    json!({"name": "web", "namespace": "default", "creationTimestamp": "2026-01-01T00:55:00Z", "labels": {"a": "b"}})
}

#[test]
fn pods_tell_what_their_containers_do() {
    let ended = |code: i64, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason}});
    let running = json!({"running": {"startedAt": "2026-01-01T00:56:00Z"}});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let status = |state: Value, ready: bool, restarts: i64| json!({"name": "c", "state": state, "ready": ready, "restartCount": restarts});
    let ready = json!([{"type": "Ready", "status": "True"}]);
    for (what, spec, pod_status, expected) in [
        ("pending", json!({}), json!({"phase": "Pending"}), ["0/1", "Pending", "0"]),
        (
            "running",
            json!({}),
            json!({"phase": "Running", "containerStatuses": [status(running.clone(), true, 0)]}),
            ["1/1", "Running", "0"],
        ),
        (
            "crash loop",
            json!({}),
            json!({"phase": "Running", "containerStatuses": [{
                "name": "c", "state": waiting("CrashLoopBackOff"), "restartCount": 3,
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:30Z"}},
            }]}),
            ["0/1", "CrashLoopBackOff", "3 (30s ago)"],
        ),
        (
            "done",
            json!({}),
            json!({"phase": "Succeeded", "containerStatuses": [status(ended(0, "Completed"), false, 0)]}),
            ["0/1", "Completed", "0"],
        ),
        (
            "failed",
            json!({}),
            json!({"phase": "Failed", "containerStatuses": [status(ended(3, "Error"), false, 0)]}),
            ["0/1", "Error", "0"],
        ),
        (
            "no reason",
            json!({}),
            json!({"phase": "Failed", "containerStatuses": [status(ended(3, ""), false, 0)]}),
            ["0/1", "ExitCode:3", "0"],
        ),
        ("evicted", json!({}), json!({"phase": "Failed", "reason": "Evicted"}), ["0/1", "Evicted", "0"]),
        (
            "first init container",
            json!({"initContainers": [{"name": "i"}, {"name": "j"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": running}, {"name": "j", "state": waiting("PodInitializing")}]}),
            ["0/1", "Init:0/2", "0"],
        ),
        (
            "failing init container",
            json!({"initContainers": [{"name": "i"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": waiting("CrashLoopBackOff"), "restartCount": 2}]}),
            ["0/1", "Init:CrashLoopBackOff", "2"],
        ),
        (
            "sidecar",
            json!({"initContainers": [{"name": "i", "restartPolicy": "Always"}]}),
            json!({
                "phase": "Running", "conditions": ready,
                "initContainerStatuses": [{"name": "i", "state": running, "started": true, "ready": true, "restartCount": 1}],
                "containerStatuses": [status(running.clone(), true, 2)],
            }),
            ["2/2", "Running", "3"],
        ),
        (
            "gated",
            json!({}),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            ["0/1", "SchedulingGated", "0"],
        ),
    ] {
        let mut spec = crate::merged(json!({"containers": [{"name": "c"}]}), &spec);
        spec["nodeName"] = "n1".into();
        let pod = json!({"metadata": meta(), "spec": spec, "status": pod_status});
        let row = cells("", "pods", &pod);
        assert_eq!(row[1..4], expected, "{what}");
        assert_eq!(row[4..], ["5m", "<none>", "n1", "<none>", "<none>"], "{what}");
    }
}

#[test]
fn a_deleted_pod_is_terminating() {
    let mut metadata = meta();
    metadata["deletionTimestamp"] = "2026-01-01T01:00:00Z".into();
    let pod = json!({"metadata": metadata, "spec": {"containers": [{}]}, "status": {"phase": "Running"}});
    assert_eq!(cells("", "pods", &pod)[2], "Terminating");
}

#[test]
fn rows_read_as_users_know_them() {
    let template =
        json!({"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}});
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}]});
    for (group, plural, object, expected) in [
        (
            "apps",
            "deployments",
            json!({"spec": {"replicas": 3, "template": template, "selector": selector}, "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
            vec!["web", "2/3", "3", "1", "5m", "a,b", "x:1,y", "app=web,tier in (a,b)"],
        ),
        (
            "",
            "services",
            json!({"spec": {
                "type": "LoadBalancer", "clusterIPs": ["10.0.0.1"], "externalIPs": ["9.9.9.9"], "selector": {"b": "2", "a": "1"},
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            }, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
            vec![
                "web",
                "LoadBalancer",
                "10.0.0.1",
                "1.2.3.4,9.9.9.9",
                "80:30080/TCP,53/UDP",
                "5m",
                "a=1,b=2",
            ],
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "ClusterIP", "clusterIP": "None"}}),
            vec!["web", "ClusterIP", "None", "<none>", "<none>", "5m", "<none>"],
        ),
        (
            "",
            "nodes",
            json!({
                "metadata": {"name": "n", "creationTimestamp": "2025-12-30T01:00:00Z", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
                "spec": {"unschedulable": true},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}],
                    "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian", "kernelVersion": "6.1", "containerRuntimeVersion": "plimsoll://1"},
                },
            }),
            vec![
                "n",
                "Ready,SchedulingDisabled",
                "control-plane,edge",
                "2d",
                "v1.37.0",
                "10.1.1.1",
                "<none>",
                "Debian",
                "6.1",
                "plimsoll://1",
            ],
        ),
        (
            "batch",
            "jobs",
            json!({
                "spec": {"completions": 2, "template": template, "selector": {"matchLabels": {"a": "b"}}},
                "status": {
                    "succeeded": 2, "startTime": "2026-01-01T00:55:00Z", "completionTime": "2026-01-01T00:57:05Z",
                    "conditions": [{"type": "Complete", "status": "True"}],
                },
            }),
            vec!["web", "Complete", "2/2", "2m5s", "5m", "a,b", "x:1,y", "a=b"],
        ),
        (
            "batch",
            "cronjobs",
            json!({"spec": {"schedule": "*/5 * * * *", "suspend": false, "jobTemplate": {"spec": {"template": template}}}, "status": {"active": [{}]}}),
            vec!["web", "*/5 * * * *", "<none>", "False", "1", "<none>", "5m", "a,b", "x:1,y", "<none>"],
        ),
        (
            "autoscaling",
            "horizontalpodautoscalers",
            json!({
                "spec": {
                    "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 9,
                    "metrics": [
                        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                        {"type": "Pods", "pods": {"metric": {"name": "r"}, "target": {"type": "AverageValue", "averageValue": "1k"}}},
                    ],
                },
                "status": {"currentReplicas": 2, "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}]},
            }),
            vec!["web", "Deployment/web", "cpu: 12%/80%, <unknown>/1k", "1", "9", "2", "5m"],
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({
                "spec": {"volumeName": "pv", "storageClassName": "fast", "volumeMode": "Filesystem"},
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]},
            }),
            vec!["web", "Bound", "pv", "1Gi", "RWO,RWX", "fast", "<unset>", "5m", "Filesystem"],
        ),
        (
            "",
            "resourcequotas",
            json!({"status": {"hard": {"pods": "4", "limits.cpu": "2", "requests.memory": "1Gi"}, "used": {"pods": "1"}}}),
            vec!["web", "pods: 1/4, requests.memory: 0/1Gi", "limits.cpu: 0/2", "5m"],
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"spec": {"ingressClassName": "x", "rules": [{"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}], "tls": [{}]}}),
            vec!["web", "x", "a,b,c + 1 more...", "", "80, 443", "5m"],
        ),
        (
            "discovery.k8s.io",
            "endpointslices",
            json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}], "endpoints": [{"addresses": ["1.1.1.1"]}, {"addresses": ["1.1.1.2", "1.1.1.3", "1.1.1.4"]}]}),
            vec!["web", "IPv4", "80,x", "1.1.1.1,1.1.1.2,1.1.1.3 + 1 more...", "5m"],
        ),
        (
            "",
            "events",
            json!({
                "type": "Normal", "reason": "Started", "message": " it runs\n", "count": 4, "source": {"component": "kubelet", "host": "n"},
                "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec"},
                "firstTimestamp": "2026-01-01T00:50:00Z", "lastTimestamp": "2026-01-01T00:59:00Z",
            }),
            vec!["60s", "Normal", "Started", "pod/web", "spec", "kubelet, n", "it runs", "10m", "4", "web"],
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
            ]}),
            vec!["web", "Role/r", "5m", "u", "g", "n/s"],
        ),
        ("rbac.authorization.k8s.io", "roles", json!({}), vec!["web", "2026-01-01T00:55:00Z"]),
        (
            "policy",
            "poddisruptionbudgets",
            json!({"spec": {"minAvailable": "50%"}}),
            vec!["web", "50%", "N/A", "0", "5m"],
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            json!({"metadata": {"name": "s", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"}),
            vec!["s (default)", "p", "Delete", "Immediate", "false", "5m"],
        ),
        ("apiregistration.k8s.io", "apiservices", json!({"spec": {}}), vec!["web", "Local", "Unknown", "5m"]),
    ] {
        let object = crate::merged(json!({"metadata": meta()}), &object);
        assert_eq!(cells(group, plural, &object), expected, "{plural}");
    }
}
