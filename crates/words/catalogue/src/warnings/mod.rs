//! What clients are told about fields of an object that is accepted all the same, in upstream's words
//! (pkg/api/*/warnings.go and the strategies of pkg/registry, v1.37).

mod addresses;
mod labels;
mod pod;
mod storage;

use plimsoll_meta::field::Path;
use serde_json::Value;

use crate::access::Access;
use crate::kind::Kind;
use crate::names;

pub(crate) use addresses::{ip, network};

const ON_SCHEDULE: &str = "cannot use TZ or CRON_TZ in spec.schedule, use timeZone field instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
const SURPRISING: &str = "which can result in surprising behavior; a DNS label is recommended";
/// An indexed Job with more completions and more parallelism than these may lose track of them.
const COMPLETIONS: i64 = 100_000;
const PARALLELISM: i64 = 10_000;

/// Where a kind keeps the template of its pods.
fn template(kind: &Kind) -> Option<&'static [&'static str]> {
    match (kind.group, kind.kind) {
        ("apps", "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => Some(&["spec", "template"]),
        ("batch", "CronJob") => Some(&["spec", "jobTemplate", "spec", "template"]),
        ("", "PodTemplate") => Some(&["template"]),
        _ => None,
    }
}

/// Of a new object, or of the change from `old`.
pub(crate) fn of(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut told = Vec::new();
    if old.is_none() {
        told.extend(name(kind, object.text("metadata.name")));
    }
    // Machines change pods all the time, and nobody reads what they are told.
    if (kind.group, kind.kind, old.is_none()) == ("", "Pod", true) {
        pod::warn(object, None, &mut told);
    }
    if let Some(place) = template(kind).filter(|_| old.is_none_or(|old| old["spec"] != object["spec"])) {
        let found = place.iter().fold(object, |value, part| &value[*part]);
        let at = place[1..].iter().fold(Path::root(place[0]), |path, part| path.child(part));
        if kind.group == "batch" {
            told.extend(completions(&place[..place.len() - 1], object));
        }
        pod::warn(found, Some(&at), &mut told);
    }
    match (kind.group, kind.kind) {
        ("apps", "StatefulSet") => {
            if object.at("spec.revisionHistoryLimit").and_then(Value::as_i64).is_some_and(|limit| limit < 0) {
                told.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
            }
            let root = Path::root("spec").child("volumeClaimTemplates");
            for (place, claim) in object.list("spec.volumeClaimTemplates").iter().enumerate() {
                storage::claim(&claim["spec"], &root.index(place), &mut told);
            }
        }
        ("batch", "CronJob") if object.text("spec.schedule").contains("TZ") => {
            told.push(ON_SCHEDULE.to_owned())
        }
        ("networking.k8s.io", "Ingress")
            if annotated(object, "kubernetes.io/ingress.class") && old.is_none() =>
        {
            told.push("annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead".to_owned());
        }
        ("", "Node") => node(object, &mut told),
        ("", "PersistentVolume") => storage::volume(object, &mut told),
        ("", "PersistentVolumeClaim") => {
            storage::class_annotation(object, &mut told);
            storage::claim(&object["spec"], &Path::root("spec"), &mut told);
        }
        ("storage.k8s.io", "StorageClass") => labels::topologies(object, &mut told),
        ("storage.k8s.io", "CSIStorageCapacity") => {
            labels::selector(&object["nodeTopology"], &Path::root("nodeTopology"), &mut told);
        }
        ("node.k8s.io", "RuntimeClass") => labels::runtime_class(object, &mut told),
        _ => {}
    }
    told
}

fn annotated(object: &Value, key: &str) -> bool {
    object["metadata"]["annotations"].get(key).is_some()
}

/// Names that become hostnames of pods.
fn name(kind: &Kind, name: &str) -> Option<String> {
    let used = match (kind.group, kind.kind) {
        ("", "Pod") => "this is used in the Pod's hostname",
        ("apps", "Deployment" | "ReplicaSet")
        | ("batch", "Job" | "CronJob")
        | ("", "ReplicationController") => "this is used in Pod names and hostnames",
        _ => return None,
    };
    let wrong = names::dns_label(name, false).err()?;
    Some(format!("metadata.name: {used}, {SURPRISING}: [{}]", wrong.join(" ")))
}

fn completions(place: &[&str], object: &Value) -> Option<String> {
    let spec = place.iter().fold(object, |value, part| &value[*part]);
    let number = |field: &str| spec[field].as_i64().unwrap_or_default();
    let many = number("completions") > COMPLETIONS && number("parallelism") > PARALLELISM;
    (spec["completionMode"] == "Indexed" && many).then(|| {
        format!("{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail", place.join("."))
    })
}

fn node(object: &Value, told: &mut Vec<String>) {
    if object.has("spec.configSource") {
        told.push("spec.configSource: the feature is removed".to_owned());
    }
    if !object.text("spec.externalID").is_empty() {
        told.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
}

#[cfg(test)]
mod tests;
