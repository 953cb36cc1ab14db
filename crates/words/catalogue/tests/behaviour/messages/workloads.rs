//! Error text of what makes pods.

use serde_json::json;

use super::check;

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
    let zone = |zone: &str| json!({"spec": {"timeZone": zone}});
    check("batch", "cronjobs", zone("Europe/Paris"), &[]);
    for name in ["Nowhere/Such", "europe/paris", "../etc/passwd"] {
        let told = format!("spec.timeZone: Invalid value: \"{name}\": unknown time zone {name}");
        check("batch", "cronjobs", zone(name), &[&told]);
    }
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
