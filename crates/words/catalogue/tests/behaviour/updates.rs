//! What updates keep, count and refuse.

use serde_json::{Value, json};

use crate::{kind, merged};

/// The object as it would be stored, and the errors.
fn update(
    group: &str,
    plural: &str,
    old: &Value,
    patch: &Value,
    subresource: Option<&str>,
) -> (Value, Vec<String>) {
    let kind = kind(group, plural);
    let mut old = merged(json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"}}), old);
    kind.default(&mut old);
    old["metadata"]["generation"] = 1.into();
    let mut new = merged(old.clone(), patch);
    kind.default(&mut new);
    kind.prepare_update(&mut new, &old, subresource);
    let errors = kind.validate_update(&new, &old, subresource).iter().map(ToString::to_string).collect();
    (new, errors)
}

fn pod() -> Value {
    json!({
        "spec": {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": "Running"},
    })
}

fn deployment() -> Value {
    json!({"spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    }, "status": {"replicas": 1}})
}

#[test]
fn specification_and_status_are_written_apart() {
    let (new, errors) = update(
        "apps",
        "deployments",
        &deployment(),
        &json!({"spec": {"replicas": 3}, "status": {"replicas": 9}}),
        None,
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!((&new["spec"]["replicas"], &new["status"]["replicas"]), (&json!(3), &json!(1)));
    assert_eq!(new["metadata"]["generation"], 2);
    let patch =
        json!({"spec": {"replicas": 3}, "status": {"replicas": 9}, "metadata": {"labels": {"x": "y"}}});
    let (new, errors) = update("apps", "deployments", &deployment(), &patch, Some("status"));
    assert_eq!(errors, [""; 0]);
    assert_eq!((&new["spec"]["replicas"], &new["status"]["replicas"]), (&json!(1), &json!(9)));
    assert_eq!((&new["metadata"]["generation"], new["metadata"].get("labels")), (&json!(1), None));
}

#[test]
fn generations_count_what_matters() {
    for (group, plural, old, patch, generation) in [
        ("apps", "deployments", deployment(), json!({"metadata": {"labels": {"a": "b"}}}), 1),
        ("apps", "deployments", deployment(), json!({"metadata": {"annotations": {"a": "b"}}}), 2),
        ("apps", "replicasets", deployment(), json!({"metadata": {"annotations": {"a": "b"}}}), 1),
        ("", "pods", pod(), json!({"spec": {"tolerations": [{"operator": "Exists"}]}}), 2),
        ("", "pods", pod(), json!({"metadata": {"generation": 7}}), 1),
        ("apps", "deployments", deployment(), json!({"spec": {"template": {"spec": {"volumes": []}}}}), 1),
    ] {
        let (new, _) = update(group, plural, &old, &patch, None);
        assert_eq!(new["metadata"]["generation"], generation, "{plural} {patch}");
    }
}

#[test]
fn pods_change_in_few_ways() {
    let change = |patch: Value| update("", "pods", &pod(), &patch, None).1;
    let containers = |patch: Value| json!({"spec": {"containers": [merged(pod()["spec"]["containers"][0].clone(), &patch)]}});
    assert_eq!(
        change(containers(
            json!({"image": "y:1", "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log"})
        )),
        [""; 0]
    );
    assert_eq!(change(json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}})), [""; 0]);
    assert_eq!(change(json!({"spec": {"activeDeadlineSeconds": 5}})), [""; 0]);
    let errors = change(containers(json!({"command": ["x"]})));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
        ),
        "{errors:?}"
    );
    assert!(errors[0].contains("+ containers[0].command: [\"x\"]"), "{errors:?}");
    assert_eq!(
        change(json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]}})),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let (new, errors) = update(
        "",
        "pods",
        &pod(),
        &containers(json!({"image": "y", "resources": {"requests": {"cpu": "2"}}})),
        Some("resize"),
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        (
            &new["spec"]["containers"][0]["image"],
            &new["spec"]["containers"][0]["resources"]["requests"]["cpu"]
        ),
        (&json!("x"), &json!("2"))
    );
    let patch = json!({"spec": {"nodeName": "n", "ephemeralContainers": [{"name": "e", "image": "x"}]}});
    let (new, errors) = update("", "pods", &pod(), &patch, Some("ephemeralcontainers"));
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        (&new["spec"]["ephemeralContainers"][0]["name"], new["spec"].get("nodeName")),
        (&json!("e"), None)
    );
}

#[test]
fn a_resize_changes_processors_and_memory_and_nothing_else() {
    let old = || {
        let mut pod = pod();
        pod["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}});
        pod["spec"]["initContainers"] = json!([{
            "name": "i", "image": "x", "resources": {"requests": {"cpu": "1"}},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
        }]);
        pod
    };
    let resize = |patch: Value| update("", "pods", &old(), &patch, Some("resize")).1;
    let resources = |resources: Value| {
        let mut pod = old();
        pod["spec"]["containers"][0]["resources"] = resources;
        json!({"spec": {"containers": pod["spec"]["containers"]}})
    };
    assert_eq!(
        resize(resources(
            json!({"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"cpu": "3", "memory": "3Gi"}})
        )),
        [""; 0]
    );
    for (patch, expected) in [
        (
            resources(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}})),
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ),
        (
            resources(json!({"requests": {"cpu": "1", "memory": "1Gi"}})),
            "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
        ),
        (
            resources(
                json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}, "limits": {"cpu": "2"}}),
            ),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            json!({"spec": {"containers": [{"name": "b", "image": "x"}]}}),
            "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
        ),
        (
            json!({"spec": {"containers": []}}),
            "spec.containers: Forbidden: containers may not be added or removed on resize",
        ),
        (
            json!({"spec": {"initContainers": [{
                "name": "i", "image": "x", "resources": {"requests": {"cpu": "2"}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
            }]}}),
            "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
        ),
    ] {
        assert!(resize(patch.clone()).iter().any(|error| error == expected), "{:?}", resize(patch));
    }
    let firm = |amount: &str| json!({"cpu": amount, "memory": "1Gi"});
    let mut old = pod();
    old["spec"]["containers"][0]["resources"] = json!({"requests": firm("1"), "limits": firm("1")});
    old["status"]["qosClass"] = json!("Guaranteed");
    let mut new = old.clone();
    new["spec"]["containers"][0]["resources"]["limits"] = firm("2");
    assert_eq!(
        update("", "pods", &old, &new, Some("resize")).1,
        ["spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing"]
    );
}

#[test]
fn fixed_fields_stay() {
    let job = json!({"spec": {"completions": 1, "parallelism": 1, "selector": {"matchLabels": {"a": "b"}}, "manualSelector": true, "template": {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]},
    }}});
    for (group, plural, old, patch, expected) in [
        (
            "apps",
            "deployments",
            deployment(),
            json!({"spec": {"selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}}}}}),
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"x\":\"y\"}}: field is immutable",
        ),
        (
            "apps",
            "statefulsets",
            deployment(),
            json!({"spec": {"serviceName": "x"}}),
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
             'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ),
        (
            "batch",
            "jobs",
            job.clone(),
            json!({"spec": {"completions": 2}}),
            "spec.completions: Invalid value: 2: field is immutable",
        ),
        (
            "",
            "secrets",
            json!({"immutable": true, "data": {"a": "eA=="}}),
            json!({"data": {"a": "eQ=="}}),
            "data: Forbidden: field is immutable when `immutable` is set",
        ),
        ("", "secrets", json!({}), json!({"type": "x"}), "type: Invalid value: \"x\": field is immutable"),
        (
            "",
            "services",
            json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]}}),
            json!({"spec": {"clusterIP": "10.0.0.2"}}),
            "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set",
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            json!({"roleRef": {"kind": "Role", "name": "r"}}),
            json!({"roleRef": {"name": "s"}}),
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"s\"}: cannot change roleRef",
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            json!({"metadata": {"namespace": null}, "provisioner": "a"}),
            json!({"provisioner": "b"}),
            "provisioner: Forbidden: updates to provisioner are forbidden.",
        ),
        (
            "",
            "configmaps",
            json!({}),
            json!({"metadata": {"uid": "other"}}),
            "metadata.uid: Invalid value: \"other\": field is immutable",
        ),
        (
            "",
            "configmaps",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.b/c"]}}),
            json!({"metadata": {"finalizers": ["a.b/c", "a.b/d"]}}),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{\"a.b/d\"}",
        ),
    ] {
        assert_eq!(update(group, plural, &old, &patch, None).1, [expected], "{plural} {patch}");
    }
    assert_eq!(update("batch", "jobs", &job, &json!({"spec": {"parallelism": 5}}), None).1, [""; 0]);
}

#[test]
fn held_jobs_may_ask_for_more() {
    let spec = |suspend: bool, cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}});
        json!({"suspend": suspend, "completions": 1, "parallelism": 1, "selector": {"matchLabels": {"a": "b"}},
            "manualSelector": true, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x", "resources": resources}]}}})
    };
    for (suspend, active, allowed) in [(true, 0, true), (true, 1, false), (false, 0, false)] {
        let old = json!({"spec": spec(suspend, "1"), "status": {"active": active}});
        let errors = update("batch", "jobs", &old, &json!({"spec": spec(suspend, "2")}), None).1;
        assert_eq!(errors.is_empty(), allowed, "{suspend} {active}: {errors:?}");
    }
}

#[test]
fn bound_claims_grow() {
    let old = json!({
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "pv", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
    });
    let size = |text: &str| json!({"spec": {"resources": {"requests": {"storage": text}}}});
    assert_eq!(update("", "persistentvolumeclaims", &old, &size("2Gi"), None).1, [""; 0]);
    assert_eq!(
        update("", "persistentvolumeclaims", &old, &size("1Mi"), None).1,
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
    let errors =
        update("", "persistentvolumeclaims", &old, &json!({"spec": {"volumeName": "other"}}), None).1;
    assert!(
        errors[0].starts_with("spec: Forbidden: spec is immutable after creation except resources.requests"),
        "{errors:?}"
    );
}

#[test]
fn conditions_and_addresses_of_a_status_are_checked() {
    let conditions =
        json!({"status": {"conditions": [{"type": "a b", "status": "Maybe", "reason": "no way"}]}});
    let (_, errors) =
        update("policy", "poddisruptionbudgets", &json!({"spec": {}}), &conditions, Some("status"));
    let shown: Vec<&str> = errors.iter().filter_map(|error| error.split(": ").next()).collect();
    let at = |field: &str| format!("status.conditions[0].{field}");
    assert_eq!(shown, ["type", "status", "lastTransitionTime", "reason"].map(at));
    let (_, errors) =
        update("", "pods", &pod(), &json!({"status": {"conditions": [{"type": "a b"}]}}), Some("status"));
    assert!(errors[0].starts_with("metadata.conditions[0].Type: Invalid value: \"a b\""), "{errors:?}");
    let addresses = json!({"status": {"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]}});
    let (_, errors) = update("", "pods", &pod(), &addresses, Some("status"));
    assert_eq!(errors, ["status.hostIPs[0].ip: Invalid value: \"10.0.0.2\": must be equal to `hostIP`"]);
    let flow = json!({"status": {"conditions": [{"type": "A"}, {"type": "A"}, {}]}});
    let (_, errors) =
        update("flowcontrol.apiserver.k8s.io", "flowschemas", &json!({}), &flow, Some("status"));
    assert_eq!(
        errors,
        [
            "status.conditions[1].type: Duplicate value: \"A\"",
            "status.conditions[2].type: Required value: must not be empty",
        ]
    );
}

#[test]
fn the_nodes_of_a_volume_stay_but_for_new_names_of_labels() {
    let volume = |key: &str| {
        json!({"spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": key, "operator": "In", "values": ["v"]}]},
            ]}},
        }})
    };
    let old = volume("failure-domain.beta.kubernetes.io/zone");
    let errors = |patch: &Value| {
        let (_, errors) = update("", "persistentvolumes", &old, patch, None);
        errors.into_iter().filter(|error| error.starts_with("nodeAffinity")).count()
    };
    assert_eq!(errors(&volume("topology.kubernetes.io/zone")), 0);
    assert_eq!(errors(&volume("topology.kubernetes.io/region")), 1);
    assert_eq!(errors(&json!({"spec": {"nodeAffinity": null}})), 1);
}

#[test]
fn pods_keep_their_priority_and_namespaces_their_phase() {
    let old = merged(pod(), &json!({"spec": {"priority": 5, "preemptionPolicy": "Never"}}));
    let patch = json!({"spec": {"priority": null, "preemptionPolicy": null}});
    let (new, errors) = update("", "pods", &old, &patch, None);
    assert_eq!((&new["spec"]["priority"], errors.len()), (&json!(5), 0), "{errors:?}");
    let namespace = json!({"status": {"phase": "Active"}});
    let (new, errors) =
        update("", "namespaces", &namespace, &json!({"status": {"phase": null}}), Some("status"));
    assert_eq!((&new["status"]["phase"], errors.len()), (&json!("Active"), 0), "{errors:?}");
    let (_, errors) =
        update("", "namespaces", &namespace, &json!({"status": {"phase": "Odd"}}), Some("status"));
    assert_eq!(
        errors,
        ["status.Phase: Invalid value: \"Odd\": may only be 'Active' if `deletionTimestamp` is empty"]
    );
}

#[test]
fn text_that_is_gone_is_shown_as_empty() {
    let class = json!({"metadata": {"namespace": null}, "spec": {"controller": "a.b/c"}});
    let (_, errors) =
        update("networking.k8s.io", "ingressclasses", &class, &json!({"spec": {"controller": null}}), None);
    assert_eq!(errors[0], "spec.controller: Invalid value: \"\": field is immutable");
}

#[test]
fn secrets_without_pem_are_warned_of() {
    let secret = |certificate: &str| json!({"type": "kubernetes.io/tls", "data": {"tls.crt": certificate, "tls.key": ""}});
    let warnings = |certificate: &str| kind("", "secrets").strategy.warnings(&secret(certificate));
    assert_eq!(warnings("YQ=="), ["tls: failed to find any PEM data in certificate input"]);
    assert_eq!(warnings("LS0tLS1CRUdJTiBYLS0tLS0="), ["tls: failed to find any PEM data in key input"]);
}
