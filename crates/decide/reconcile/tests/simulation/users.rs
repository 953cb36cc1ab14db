//! What users of the simulated cluster make, change and delete.

use k8s_openapi::jiff::Timestamp;
use plimsoll_reconcile::action::{Delete, Propagation, Target};
use serde_json::{Value, json};

use crate::api::{Api, Name};
use crate::dice::Dice;

const NAMESPACE: &str = "ns";

/// Makes nodes and a few workloads.
pub(crate) fn set_up(api: &mut Api, dice: &mut Dice, now: Timestamp) {
    for number in 0..3 {
        add_node(api, &format!("n{number}"), now);
    }
    for number in 0..1 + dice.below(3) {
        let name = format!("w{number}");
        let (kind, object) = workload(&name, dice);
        make(api, kind, object, now);
        if dice.permille(300) {
            let spec = json!({"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 80}],
                "clusterIP": "10.1.0.1", "ipFamilies": ["IPv4"]});
            make(api, "Service", json!({"metadata": {"name": name}, "spec": spec}), now);
        }
        if dice.permille(300) {
            let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}});
            make(api, "PodDisruptionBudget", json!({"metadata": {"name": name}, "spec": spec}), now);
        }
    }
}

/// A node that is ready.
pub(crate) fn add_node(api: &mut Api, name: &str, now: Timestamp) {
    let node = json!({"metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let kind = api.kind_named("Node");
    api.create(kind, "", node, now).expect("a new name");
}

fn make(api: &mut Api, kind: &str, mut object: Value, now: Timestamp) {
    object["metadata"]["namespace"] = json!(NAMESPACE);
    let kind = api.kind_named(kind);
    // The name may be taken: then there is one already.
    let _ = api.create(kind, NAMESPACE, object, now);
}

fn template(name: &str, once: bool) -> Value {
    let policy = if once { "Never" } else { "Always" };
    json!({"metadata": {"labels": {"app": name}},
        "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "one"}]}})
}

fn workload(name: &str, dice: &mut Dice) -> (&'static str, Value) {
    let selector = json!({"matchLabels": {"app": name}});
    let replicas = dice.below(5);
    let numbers = |dice: &mut Dice| (dice.below(3), 1 + dice.below(2));
    let (kind, spec) = match dice.below(10) {
        0..3 => {
            let (surge, unavailable) = numbers(dice);
            let strategy = match dice.permille(200) {
                true => json!({"type": "Recreate"}),
                false => json!({"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}),
            };
            let spec = json!({"replicas": replicas, "selector": selector, "strategy": strategy,
                "progressDeadlineSeconds": 600, "revisionHistoryLimit": dice.below(3), "template": template(name, false)});
            ("Deployment", spec)
        }
        3 => {
            let spec =
                json!({"replicas": replicas, "selector": {"app": name}, "template": template(name, false)});
            ("ReplicationController", spec)
        }
        4 => {
            let update = match dice.permille(300) {
                true => json!({"maxSurge": 1, "maxUnavailable": 0}),
                false => json!({"maxSurge": 0, "maxUnavailable": 1}),
            };
            let spec = json!({"selector": selector, "template": template(name, false), "revisionHistoryLimit": 2,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": update}});
            ("DaemonSet", spec)
        }
        5..7 => {
            let policy = if dice.permille(500) { "OrderedReady" } else { "Parallel" };
            let retained = if dice.permille(500) { "Retain" } else { "Delete" };
            let spec = json!({"replicas": replicas, "selector": selector, "template": template(name, false),
                "serviceName": name, "podManagementPolicy": policy, "revisionHistoryLimit": 2,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": retained, "whenScaled": retained},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]});
            ("StatefulSet", spec)
        }
        7..9 => ("Job", job(name, dice)),
        _ => {
            let policy = *dice.pick(&["Allow", "Forbid", "Replace"]).expect("there are three");
            let spec = json!({"schedule": "* * * * *", "concurrencyPolicy": policy, "suspend": false,
                "jobTemplate": {"spec": job(name, dice)}});
            ("CronJob", spec)
        }
    };
    (kind, json!({"metadata": {"name": name}, "spec": spec}))
}

fn job(name: &str, dice: &mut Dice) -> Value {
    let completions = 1 + dice.below(4);
    let mut spec = json!({"parallelism": 1 + dice.below(3), "completions": completions,
        "backoffLimit": dice.below(8), "template": template(name, true)});
    if dice.permille(400) {
        spec["completionMode"] = json!("Indexed");
        if dice.permille(500) {
            spec["backoffLimitPerIndex"] = json!(dice.below(3));
        }
        if dice.permille(300) {
            spec["successPolicy"] = json!({"rules": [{"succeededCount": 1 + dice.below(completions)}]});
        }
    }
    if dice.permille(200) {
        spec["podReplacementPolicy"] = json!("Failed");
    }
    if dice.permille(200) {
        spec["podReplacementPolicy"] = json!("Failed");
        let action = *dice.pick(&["Ignore", "Count", "FailJob"]).expect("there are three");
        let codes = json!({"operator": "In", "values": [1]});
        spec["podFailurePolicy"] = json!({"rules": [{"action": action, "onExitCodes": codes}]});
    }
    if dice.permille(200) {
        spec["activeDeadlineSeconds"] = json!(20 + dice.below(60));
    }
    if dice.permille(300) {
        spec["ttlSecondsAfterFinished"] = json!(dice.below(60));
    }
    spec
}

/// Something changes; gives a line that says what.
pub(crate) fn edit(api: &mut Api, dice: &mut Dice, now: Timestamp) -> Option<String> {
    let kinds = [
        "Deployment",
        "ReplicationController",
        "DaemonSet",
        "StatefulSet",
        "Job",
        "CronJob",
        "Pod",
        "ReplicaSet",
    ];
    let of_kind = |name: &&str| {
        let id = api.kind_named(name);
        api.objects[id].keys().map(move |key| (id, key.clone())).collect::<Vec<_>>()
    };
    let all: Vec<(usize, Name)> = kinds.iter().flat_map(of_kind).collect();
    let (kind, name) = dice.pick(&all)?.clone();
    let what = api.kinds[kind].resource.kind.to_string();
    if dice.permille(150) || what == "Pod" && dice.permille(500) {
        return remove(api, kind, &name, dice, now);
    }
    if what == "ReplicaSet" {
        return None;
    }
    if what == "Pod" {
        return edit_pod(api, kind, &name, dice, now);
    }
    let count = dice.below(6);
    let choice = dice.below(4);
    let image = *dice.pick(&["one", "two", "three"])?;
    api.edit(kind, &name, |object| {
        let spec = &mut object["spec"];
        match (what.as_str(), choice) {
            ("Job", 0 | 1) => spec["suspend"] = json!(!spec["suspend"].as_bool().unwrap_or_default()),
            ("Job", 2) => spec["parallelism"] = json!(count),
            ("Job", _) if spec["completionMode"] == "Indexed" && spec["successPolicy"].is_null() => {
                spec["completions"] = json!(count.max(1));
                spec["parallelism"] = json!(count.max(1));
            }
            ("Job", _) => {}
            ("CronJob", _) => spec["suspend"] = json!(!spec["suspend"].as_bool().unwrap_or_default()),
            ("Deployment", 3) => spec["paused"] = json!(!spec["paused"].as_bool().unwrap_or_default()),
            ("DaemonSet", _) | (_, 2 | 3) => {
                spec["template"]["spec"]["containers"][0]["image"] = json!(image);
            }
            _ => spec["replicas"] = json!(count),
        }
    });
    Some(format!("edit {what} {} {choice} {count} {image}", name.1))
}

fn edit_pod(api: &mut Api, kind: usize, name: &Name, dice: &mut Dice, now: Timestamp) -> Option<String> {
    let pod = api.get(kind, name)?.value.clone();
    let app = pod["metadata"]["labels"]["app"].as_str().map(str::to_owned)?;
    let controlled = pod["metadata"]["ownerReferences"][0]["kind"].as_str().unwrap_or_default().to_owned();
    if controlled == "Job" || controlled == "StatefulSet" || controlled == "DaemonSet" {
        return None;
    }
    if dice.permille(500) {
        api.edit(kind, name, |pod| pod["metadata"]["labels"]["app"] = json!("nobody"));
        return Some(format!("release Pod {}", name.1));
    }
    let spec = json!({"restartPolicy": "Always", "containers": [{"name": "c", "image": "one"}]});
    let mut labels = pod["metadata"]["labels"].clone();
    labels["app"] = json!(app);
    make(api, "Pod", json!({"metadata": {"generateName": "stray-", "labels": labels}, "spec": spec}), now);
    Some(format!("stray pod like {}", name.1))
}

fn remove(api: &mut Api, kind: usize, name: &Name, dice: &mut Dice, now: Timestamp) -> Option<String> {
    let resource = api.kinds[kind].resource.clone();
    let what = resource.kind.to_string();
    let propagation = *dice.pick(&[Propagation::Background, Propagation::Foreground, Propagation::Orphan])?;
    let propagation = Some(propagation).filter(|_| what != "Pod");
    let delete = Delete {
        target: Target { resource, namespace: name.0.clone(), name: name.1.clone() },
        uid: None,
        resource_version: None,
        propagation,
        grace: None,
        done: None,
        refused: None,
    };
    api.delete(&delete, now).ok()?;
    Some(format!("delete {what} {} {propagation:?}", name.1))
}

/// Users let things come to rest: nothing is paused, nothing is started by the clock.
pub(crate) fn calm_down(api: &mut Api) {
    for (kind, field, value) in [("Deployment", "paused", false), ("CronJob", "suspend", true)] {
        let kind = api.kind_named(kind);
        let names: Vec<_> = api.objects[kind].keys().cloned().collect();
        names.iter().for_each(|name| api.edit(kind, name, |object| object["spec"][field] = json!(value)));
    }
}
