use super::*;
use serde_json::json;

fn told(group: &str, plural: &str, object: Value, old: Option<Value>) -> Vec<String> {
    let version = if group == "autoscaling" { "v2" } else { "v1" };
    of(crate::find(group, version, plural).expect("a kind"), &object, old.as_ref())
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "annotations": {}}, "spec": spec})
}

#[test]
fn pods_are_told_what_does_not_work() {
    let label = "beta.kubernetes.io/os";
    for (spec, expected) in [
        (
            json!({"nodeSelector": {label: "linux"}}),
            vec![
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            ],
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": label}]}]}}}}),
            vec![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead",
            ],
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}]}),
            vec![
                "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
        (
            json!({"volumes": [{"gitRepo": {}}, {"storageos": {}}, {"ephemeral": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "100m"}}}}}}]}),
            vec![
                "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                "spec.volumes[1].storageOS: deprecated in v1.22, non-functional in v1.25+",
                "spec.volumes[2].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value \"100m\" is invalid, must be an integer",
            ],
        ),
        (
            json!({"hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}], "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {"name": ""}]}),
            vec![
                "spec.hostAliases[1].ip: duplicate ip \"1.1.1.1\"",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.imagePullSecrets[2].name: invalid empty name \"\"",
            ],
        ),
        (
            json!({"overhead": {"memory": "500m"}, "containers": [{"name": "c", "resources": {"limits": {"memory": "1.5"}}, "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]}]}),
            vec![
                "spec.overhead[memory]: fractional byte value \"500m\" is invalid, must be an integer",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
                "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
            ],
        ),
        (
            json!({"initContainers": [{"ports": [{"containerPort": 80, "protocol": "TCP"}]}], "containers": [
                {"ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}]},
                {"ports": [{"name": "w", "containerPort": 81, "protocol": "TCP", "hostIP": "10.0.0.1"}, {"containerPort": 81, "protocol": "TCP", "hostPort": 8}]},
                {"ports": [{"containerPort": 82, "protocol": "TCP", "hostPort": 8}, {"containerPort": 82, "protocol": "TCP", "hostPort": 8, "hostIP": "10.0.0.1"}]}]}),
            vec![
                "spec.containers[0].ports[0]: duplicate port definition with spec.initContainers[0].ports[0]",
                "spec.containers[1].ports[0]: hostIP set without hostPort: {Name:w HostPort:0 ContainerPort:81 Protocol:TCP HostIP:10.0.0.1}",
                "spec.containers[1].ports[1]: overlapping port definition with spec.containers[1].ports[0]",
                "spec.containers[2].ports[1]: dangerously ambiguous port definition with spec.containers[2].ports[0]",
            ],
        ),
        (
            json!({"terminationGracePeriodSeconds": -1, "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}}}),
            vec![
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
    ] {
        assert_eq!(told("", "pods", pod(spec.clone()), None), expected);
        assert!(
            told("", "pods", pod(spec.clone()), Some(pod(json!({})))).is_empty(),
            "machines are told nothing"
        );
        let expected: Vec<String> = expected
            .iter()
            .map(|text| text.replace("spec.initC", "spec.template.spec.initC"))
            .map(|text| text.replace("with spec.containers", "with spec.template.spec.containers"))
            .map(
                |text| if text.starts_with("spec.template") { text } else { format!("spec.template.{text}") },
            )
            .collect();
        let object = json!({"metadata": {"name": "d"}, "spec": {"template": pod(spec)}});
        assert_eq!(told("apps", "deployments", object.clone(), None), expected);
        assert!(told("apps", "deployments", object.clone(), Some(object)).is_empty(), "nothing is new");
    }
}

#[test]
fn annotations_that_fields_replaced_are_named() {
    let annotated = |key: &str| {
        let mut pod = pod(json!({"containers": [{"name": "c"}]}));
        pod["metadata"]["annotations"][key] = json!("x");
        pod
    };
    for (key, message) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "seccomp.security.alpha.kubernetes.io/pod",
            "non-functional in v1.27+; use the \"seccompProfile\" field instead",
        ),
        (
            "container.seccomp.security.alpha.kubernetes.io/c",
            "non-functional in v1.27+; use the \"seccompProfile\" field instead",
        ),
        (
            "container.apparmor.security.beta.kubernetes.io/c",
            "deprecated since v1.30; use the \"appArmorProfile\" field instead",
        ),
    ] {
        let object = json!({"metadata": {"name": "d"}, "template": annotated(key)});
        assert_eq!(
            told("", "podtemplates", object, None),
            [format!("template.metadata.annotations[{key}]: {message}")]
        );
    }
}

#[test]
fn other_kinds_have_warnings_of_their_own() {
    let class = json!({"name": "v", "annotations": {"volume.beta.kubernetes.io/storage-class": "s"}});
    let class_warning = "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead";
    for (group, plural, object, expected) in [
        (
            "apps",
            "deployments",
            json!({"metadata": {"name": "a.b"}}),
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
        ),
        (
            "apps",
            "statefulsets",
            json!({"spec": {"revisionHistoryLimit": -1}}),
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended",
        ),
        (
            "batch",
            "jobs",
            json!({"metadata": {"name": "j"}, "spec": {"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001}}),
            "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
        ),
        (
            "batch",
            "cronjobs",
            json!({"metadata": {"name": "j"}, "spec": {"schedule": "TZ=UTC * * * * *"}}),
            ON_SCHEDULE,
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "n"}}}),
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
        ),
        (
            "",
            "nodes",
            json!({"spec": {"externalID": "e"}}),
            "spec.externalID: this field is deprecated, and is unused by Kubernetes",
        ),
        ("", "persistentvolumes", json!({"metadata": class.clone()}), class_warning),
        (
            "",
            "persistentvolumes",
            json!({"spec": {"rbd": {}}}),
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
        ),
        ("", "persistentvolumeclaims", json!({"metadata": class}), class_warning),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"resources": {"requests": {"storage": "1m"}}}}),
            "spec.resources.requests[storage]: fractional byte value \"1m\" is invalid, must be an integer",
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "beta.kubernetes.io/arch"}]}]}),
            "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        ),
        (
            "storage.k8s.io",
            "csistoragecapacities",
            json!({"nodeTopology": {"matchLabels": {"beta.kubernetes.io/arch": "x"}}}),
            "nodeTopology.matchLabels.beta.kubernetes.io/arch: deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        ),
        (
            "node.k8s.io",
            "runtimeclasses",
            json!({"scheduling": {"nodeSelector": {"beta.kubernetes.io/arch": "x"}}}),
            "scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        ),
    ] {
        assert_eq!(told(group, plural, object, None), [expected], "{plural}");
    }
}

#[test]
fn addresses_have_one_usual_form() {
    let at = Path::root("at");
    for (text, expected) in [
        ("10.0.0.1", None),
        ("2001:db8::1", None),
        (
            "010.0.0.1",
            Some(
                "at: non-standard IP address \"010.0.0.1\" will be considered invalid in a future Kubernetes release: use \"10.0.0.1\"",
            ),
        ),
        (
            "::ffff:1.2.3.4",
            Some(
                "at: non-standard IP address \"::ffff:1.2.3.4\" will be considered invalid in a future Kubernetes release: use \"1.2.3.4\"",
            ),
        ),
        (
            "2001:DB8::1",
            Some("at: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"),
        ),
    ] {
        assert_eq!(ip(text, &at).as_deref(), expected);
    }
    for (text, expected) in [
        ("10.0.0.0/8", None),
        (
            "10.1.0.0/8",
            Some(
                "at: CIDR value \"10.1.0.0/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.1.0.0/32\"?)",
            ),
        ),
        (
            "010.0.0.0/8",
            Some(
                "at: non-standard CIDR value \"010.0.0.0/8\" will be considered invalid in a future Kubernetes release: use \"10.0.0.0/8\"",
            ),
        ),
        (
            "2001:DB8::/32",
            Some(
                "at: IPv6 CIDR value \"2001:DB8::/32\" should be in RFC 5952 canonical format (\"2001:db8::/32\")",
            ),
        ),
    ] {
        assert_eq!(network(text, &at), Vec::from_iter(expected.map(str::to_owned)));
    }
}
