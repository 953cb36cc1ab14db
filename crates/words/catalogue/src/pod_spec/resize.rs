//! What may change in a pod through `resize` (upstream: pkg/apis/core/validation, `ValidatePodResize`).

use plimsoll_meta::field::Path;
use serde_json::Value;

use super::qos;
use crate::access::{self, Access, Fill};
use crate::report::Report;

const MUTABLE: &str = "only cpu and memory resources are mutable";

/// Checks a change of resources: processors and memory only, nothing taken away, the class stays.
pub(crate) fn check(new: &Value, old: &Value, report: &mut Report) {
    let path = Path::root("spec");
    if old.map("metadata.annotations").contains_key("kubernetes.io/config.mirror") {
        return report.forbidden(&Path::root(""), "static pods cannot be resized");
    }
    if old.text("spec.os.name") == "windows" {
        return report.forbidden(&Path::root(""), "windows pods cannot be resized");
    }
    if qos::class(new) != qos::class(old) {
        let class = match old.text("status.qosClass") {
            "" => qos::class(old),
            class => class,
        };
        report.invalid(&path, class, "Pod QOS Class may not change as a result of resizing");
    }
    if !is_supported(old) {
        report.forbidden(&path, "Pod running on node without support for resize");
    }
    check_pod_level(new, old, &path, report);
    if !check_names(new, old, &path, report) {
        return;
    }
    for list in ["initContainers", "containers"] {
        let (after, before) = (new.list(&format!("spec.{list}")), old.list(&format!("spec.{list}")));
        for (at, (after, before)) in after.iter().zip(before).enumerate() {
            let path = path.child(list).index(at);
            check_kept(after, before, &path.child("resources"), "resource", report);
            check_container(after, before, list, &path, report);
        }
    }
}

/// Whether a node runs the pod that tells what its containers have.
fn is_supported(pod: &Value) -> bool {
    let running = |status: &&Value| status.at("state.running").is_some();
    let running = pod.list("status.containerStatuses").iter().find(running);
    running.is_none_or(|status| status.at("resources").is_some())
}

fn check_pod_level(new: &Value, old: &Value, path: &Path, report: &mut Report) {
    let (after, before) = (new.at("spec.resources"), old.at("spec.resources"));
    let own = path.child("resources");
    if before.is_some() && after.is_none() {
        return report.forbidden(&own, "pod-level resources cannot be removed");
    }
    let null = Value::Null;
    let (spec_after, spec_before) = (new.at("spec").unwrap_or(&null), old.at("spec").unwrap_or(&null));
    check_kept(spec_after, spec_before, &own, "pod-level resource", report);
    let mut rest = after.cloned().unwrap_or(Value::Null);
    take_back(&mut rest, before.unwrap_or(&null));
    if !access::same(Some(&rest), before) {
        report.forbidden(path, "only cpu and memory resources are mutable at pod-level");
    }
}

fn check_names(new: &Value, old: &Value, path: &Path, report: &mut Report) -> bool {
    let mut same = true;
    for list in ["containers", "initContainers"] {
        let (after, before) = (new.list(&format!("spec.{list}")), old.list(&format!("spec.{list}")));
        let path = path.child(list);
        if after.len() != before.len() {
            report.forbidden(&path, format!("{list} may not be added or removed on resize"));
            same = false;
            continue;
        }
        for (at, (after, before)) in after.iter().zip(before).enumerate() {
            if after.text("name") != before.text("name") {
                let problem = format!("{list} may not be renamed or reordered on resize");
                report.forbidden(&path.index(at).child("name"), problem);
                same = false;
            }
        }
    }
    same
}

/// No amount that was there goes away.
fn check_kept(after: &Value, before: &Value, path: &Path, what: &str, report: &mut Report) {
    for part in ["requests", "limits"] {
        let (after, before) =
            (after.map(&format!("resources.{part}")), before.map(&format!("resources.{part}")));
        if before.keys().any(|name| !after.contains_key(name)) {
            report.forbidden(&path.child(part), format!("{what} {part} cannot be removed"));
        }
    }
}

fn check_container(after: &Value, before: &Value, list: &str, path: &Path, report: &mut Report) {
    let mut rest = after.clone();
    let null = Value::Null;
    if let Some(resources) = rest.inside("resources") {
        take_back(resources, before.at("resources").unwrap_or(&null));
    }
    let is_same = access::same(Some(&rest), Some(before));
    match list {
        "containers" if !is_same => report.forbidden(&Path::root("spec"), MUTABLE),
        "initContainers" => {
            if !is_same {
                let problem = "only cpu and memory resources for init or sidecar containers are mutable";
                report.forbidden(path, problem);
            }
            let restarts = |policy: &Value| policy.text("restartPolicy") == "RestartContainer";
            if !access::same(Some(after), Some(before))
                && after.text("restartPolicy") != "Always"
                && after.list("resizePolicy").iter().any(restarts)
            {
                let problem =
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                report.forbidden(path, problem);
            }
        }
        _ => {}
    }
}

/// Gives processors and memory of `resources` the amounts that they had.
fn take_back(resources: &mut Value, before: &Value) {
    for part in ["requests", "limits"] {
        let old = before.map(part);
        let Some(list) = resources.inside(part) else { continue };
        for name in ["cpu", "memory"] {
            match old.get(name) {
                Some(amount) => list.put(name, amount.clone()),
                None => list.drop_key(name),
            }
        }
        if list.as_object().is_some_and(serde_json::Map::is_empty) && before.at(part).is_none() {
            resources.drop_key(part);
        }
    }
}
