//! What users of the simulated cluster make, change and delete.

use k8s_openapi::jiff::Timestamp;
use plimsoll_reconcile::action::{Delete, Propagation, Target};
use plimsoll_reconcile::node::{NOT_READY, UNREACHABLE};
use plimsoll_volume::annotation::DEFAULT_CLASS;
use plimsoll_volume::local::{FOLDER, PROVISIONER};
use serde_json::{Value, json};

use crate::api::{Api, Name};
use crate::autoscaling;
use crate::dice::Dice;

pub(crate) const NAMESPACE: &str = "ns";

/// Makes nodes and a few workloads, and lets Deployments be `scaled` by their load.
pub(crate) fn set_up(api: &mut Api, dice: &mut Dice, scaled: bool, now: Timestamp) {
    let class = json!({"metadata": {"name": "local", "annotations": {DEFAULT_CLASS: "true"}}, "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer"});
    let kind = api.kind_named("StorageClass");
    api.create(kind, "", class, now).expect("a new name");
    let namespace = json!({"metadata": {"name": NAMESPACE}, "spec": {"finalizers": ["kubernetes"]}});
    let kind = api.kind_named("Namespace");
    api.create(kind, "", namespace, now).expect("a new name");
    for number in 0..3 {
        add_node(api, &format!("n{number}"), now);
    }
    for number in 0..1 + dice.below(3) {
        let name = format!("w{number}");
        let (kind, object) = workload(&name, dice);
        make(api, kind, object, now);
        if kind == "Deployment" && scaled {
            make(api, "HorizontalPodAutoscaler", autoscaling::object(&name, 1 + dice.below(6)), now);
        }
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
    let node = json!({"metadata": {"name": name, "annotations": {FOLDER: "/volumes"},
            "labels": {"topology.kubernetes.io/zone": if name.ends_with(['0', '3', '6']) { "a" } else { "b" }}},
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
    let brief =
        |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
    json!({"metadata": {"labels": {"app": name}},
        "spec": {"restartPolicy": policy, "tolerations": [brief(UNREACHABLE), brief(NOT_READY)], "containers": [{"name": "c", "image": "one"}]}})
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
                "progressDeadlineSeconds": 600, "minReadySeconds": 5 * dice.below(2), "revisionHistoryLimit": dice.below(3), "template": template(name, false)});
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
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}}}}]});
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

/// The namespace is deleted.
pub(crate) fn end(api: &mut Api, now: Timestamp) {
    let kind = api.kind_named("Namespace");
    let target = Target {
        resource: api.kinds[kind].resource.clone(),
        namespace: String::new(),
        name: NAMESPACE.to_owned(),
    };
    // It is there as long as nobody else deletes it.
    let _ = api.delete(&Delete::of(target), now);
}

/// A template changes, or a Deployment is held.
pub(crate) fn roll(api: &mut Api, dice: &mut Dice, _: Timestamp) -> Option<String> {
    let kind = api.kind_named(dice.pick(&["Deployment", "DaemonSet", "StatefulSet"])?);
    let names: Vec<_> = api.objects[kind].keys().cloned().collect();
    let name = dice.pick(&names)?;
    let what = api.kinds[kind].resource.kind.to_string();
    let image = *dice.pick(&["one", "two", "three"])?;
    let pause = what == "Deployment" && dice.permille(200);
    api.edit(kind, name, |object| {
        let spec = &mut object["spec"];
        match pause {
            true => spec["paused"] = json!(!spec["paused"].as_bool().unwrap_or_default()),
            false => spec["template"]["spec"]["containers"][0]["image"] = json!(image),
        }
    });
    Some(format!("roll {what} {} {image} {pause}", name.1))
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
        "PersistentVolumeClaim",
        "PersistentVolume",
        "HorizontalPodAutoscaler",
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
    if ["ReplicaSet", "PersistentVolumeClaim", "PersistentVolume"].contains(&what.as_str()) {
        return None;
    }
    if what == "Pod" {
        return edit_pod(api, kind, &name, dice, now);
    }
    let count = dice.below(6);
    let choice = dice.below(4);
    let image = *dice.pick(&["one", "two", "three"])?;
    if what == "HorizontalPodAutoscaler" {
        api.edit(kind, &name, |object| autoscaling::set_load(object, 1 + count));
        return Some(format!("the load of {} is {}", name.1, 1 + count));
    }
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
    if controlled == "Job" && dice.permille(500) {
        api.edit(kind, name, |pod| {
            pod["metadata"].as_object_mut().map(|meta| meta.remove("ownerReferences"));
        });
        return Some(format!("disown Pod {}", name.1));
    }
    if controlled == "Job" || controlled == "StatefulSet" || controlled == "DaemonSet" {
        return None;
    }
    if dice.permille(500) {
        api.edit(kind, name, |pod| pod["metadata"]["labels"]["app"] = json!("nobody"));
        return Some(format!("release Pod {}", name.1));
    }
    if pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"].is_string() {
        return None;
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
    let target = Target { resource, namespace: name.0.clone(), name: name.1.clone() };
    api.delete(&Delete { propagation, ..Delete::of(target) }, now).ok()?;
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
