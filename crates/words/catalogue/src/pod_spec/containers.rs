//! The containers of a pod.

use std::collections::BTreeSet;

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use super::security::check_no_backsteps;
use super::validate::Owner;
use super::{environment, probes, resources, security};
use crate::access::Access;
use crate::report::{Report, names_of};

pub(super) fn check(spec: &Value, owner: Owner, path: &Path, report: &mut Report) {
    check_main(spec, owner, &path.child("containers"), report);
    check_init(spec, owner, &path.child("initContainers"), report);
    check_ephemeral(spec, &path.child("ephemeralContainers"), report);
}

fn check_main(spec: &Value, owner: Owner, path: &Path, report: &mut Report) {
    let containers = spec.list("containers");
    if containers.is_empty() {
        report.required(path, "");
        return;
    }
    for (at, container) in containers.iter().enumerate() {
        let path = path.index(at);
        check_any(container, spec, &path, report);
        if owner == Owner::Pod {
            check_image_space(container, &path, report);
        }
        let name = container.text("name");
        if names_of(&containers[..at]).any(|other| other == name) {
            report.duplicate(&path.child("name"), name);
        }
        probes::check(container, &path, report);
        check_restart_policy(container, &path, report);
    }
    let mut ports = BTreeSet::new();
    for (at, container) in containers.iter().enumerate() {
        check_host_ports(container, &path.index(at), &mut ports, report);
    }
}

fn check_init(spec: &Value, owner: Owner, path: &Path, report: &mut Report) {
    let containers = spec.list("initContainers");
    for (at, container) in containers.iter().enumerate() {
        let path = path.index(at);
        check_any(container, spec, &path, report);
        if owner == Owner::Pod {
            check_image_space(container, &path, report);
        }
        let name = container.text("name");
        if names_of(spec.list("containers")).chain(names_of(&containers[..at])).any(|other| other == name) {
            report.duplicate(&path.child("name"), name);
        }
        check_host_ports(container, &path, &mut BTreeSet::new(), report);
        check_restart_policy(container, &path, report);
        if container.text("restartPolicy") == "Always" {
            probes::check(container, &path, report);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                let message = "may not be set for init containers without restartPolicy=Always";
                report.forbidden(&path.child(field), message);
            }
        }
    }
}

/// Containers for debugging: no part of the pod's service, so much is not for them.
fn check_ephemeral(spec: &Value, path: &Path, report: &mut Report) {
    const MESSAGE: &str = "cannot be set for an Ephemeral Container";
    let containers = spec.list("ephemeralContainers");
    let others: Vec<&str> =
        names_of(spec.list("containers")).chain(names_of(spec.list("initContainers"))).collect();
    for (at, container) in containers.iter().enumerate() {
        let path = path.index(at);
        check_any(container, spec, &path, report);
        check_image_space(container, &path, report);
        let name = container.text("name");
        if others.contains(&name) || names_of(&containers[..at]).any(|other| other == name) {
            report.duplicate(&path.child("name"), name);
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            report.not_found(&path.child("targetContainerName"), target);
        }
        for field in [
            "ports",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
            "resizePolicy",
            "restartPolicy",
        ] {
            if container.has(field) {
                report.forbidden(&path.child(field), MESSAGE);
            }
        }
        if !container.map("resources").is_empty() {
            report.forbidden(&path.child("resources"), MESSAGE);
        }
        for (at, mount) in container.list("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    report.forbidden(&path.child("volumeMounts").index(at).child(field), MESSAGE);
                }
            }
        }
    }
}

/// What holds for containers of every sort.
fn check_any(container: &Value, spec: &Value, path: &Path, report: &mut Report) {
    if report.need(container, "name", path) {
        let name = container.text("name");
        report.rule(&path.child("name"), name, name::is_dns1123_label(name));
    }
    report.need(container, "image", path);
    let policies = ["File", "FallbackToLogsOnError"];
    report.choice(
        &path.child("terminationMessagePolicy"),
        container.text("terminationMessagePolicy"),
        &policies,
    );
    check_ports(container.list("ports"), &path.child("ports"), report);
    environment::check(container, path, report);
    check_mounts(container, spec, &path.child("volumeMounts"), report);
    check_devices(container, spec, &path.child("volumeDevices"), report);
    let pull = ["Always", "IfNotPresent", "Never"];
    report.choice(&path.child("imagePullPolicy"), container.text("imagePullPolicy"), &pull);
    if let Some(found) = container.at("resources") {
        resources::check(found, spec.list("resourceClaims"), &path.child("resources"), report);
    }
    check_resize(container.list("resizePolicy"), &path.child("resizePolicy"), report);
    security::check_container(container, &path.child("securityContext"), report);
}

fn check_image_space(container: &Value, path: &Path, report: &mut Report) {
    let image = container.text("image");
    if image.trim() != image {
        report.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn check_restart_policy(container: &Value, path: &Path, report: &mut Report) {
    let rules = container.list("restartPolicyRules");
    if container.has("restartPolicy") {
        let policies = ["Always", "OnFailure", "Never"];
        report.choice(&path.child("restartPolicy"), container.text("restartPolicy"), &policies);
    } else if !rules.is_empty() {
        report
            .required(&path.child("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        report.push(plimsoll_meta::field::FieldError::too_many(&path, rules.len(), 20));
    }
    for (at, rule) in rules.iter().enumerate() {
        let path = path.index(at);
        report.choice(&path.child("action"), rule.text("action"), &["Restart", "RestartAllContainers"]);
        match rule.at("exitCodes") {
            None => report.required(&path.child("exitCodes"), "must be specified"),
            Some(codes) => {
                report.choice(
                    &path.child("exitCodes").child("operator"),
                    codes.text("operator"),
                    &["In", "NotIn"],
                );
            }
        }
    }
}

fn check_ports(ports: &[Value], path: &Path, report: &mut Report) {
    for (at, port) in ports.iter().enumerate() {
        let path = path.index(at);
        let name = port.text("name");
        if !name.is_empty() {
            let checked = name::is_port_name(name);
            if checked.is_err() {
                report.rule(&path.child("name"), name, checked);
            } else if names_of(&ports[..at]).any(|other| other == name) {
                report.duplicate(&path.child("name"), name);
            }
        }
        match port.count("containerPort") {
            0 => report.required(&path.child("containerPort"), ""),
            number => report.port(&path.child("containerPort"), number),
        }
        match port.count("hostPort") {
            0 => {}
            number => report.port(&path.child("hostPort"), number),
        }
        report.choice(&path.child("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

/// The same address, port and protocol of the node can be taken once.
fn check_host_ports(container: &Value, path: &Path, taken: &mut BTreeSet<String>, report: &mut Report) {
    for (at, port) in container.list("ports").iter().enumerate() {
        let number = port.count("hostPort");
        if number == 0 {
            continue;
        }
        let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
        if taken.contains(&key) {
            report.duplicate(&path.child("ports").index(at).child("hostPort"), key.clone());
        }
        taken.insert(key);
    }
}

fn check_mounts(container: &Value, spec: &Value, list: &Path, report: &mut Report) {
    let mounts = container.list("volumeMounts");
    let devices = container.list("volumeDevices");
    for (at, mount) in mounts.iter().enumerate() {
        let path = list.index(at);
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            report.required(&path.child("name"), "");
        }
        if !names_of(spec.list("volumes")).any(|volume| volume == name) {
            report.not_found(&path.child("name"), name);
        }
        if target.is_empty() {
            report.required(&path.child("mountPath"), "");
        }
        if mounts[..at].iter().any(|other| other.text("mountPath") == target) {
            report.invalid(&path.child("mountPath"), target, "must be unique");
        }
        if names_of(devices).any(|device| device == name) {
            report.invalid(&path.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.text("devicePath") == target) {
            report.invalid(
                &path.child("mountPath"),
                target,
                "must not already exist as a path in volumeDevices",
            );
        }
        check_mount_details(mount, container, list, report);
        check_recursive_read_only(mount, &path, report);
    }
}

/// Upstream names no index here.
fn check_mount_details(mount: &Value, container: &Value, path: &Path, report: &mut Report) {
    let (sub_path, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
    if !sub_path.is_empty() {
        security::check_descending(sub_path, &path.child("subPath"), report);
    }
    if !expression.is_empty() {
        if !sub_path.is_empty() {
            let message = "subPathExpr and subPath are mutually exclusive";
            report.invalid(&path.child("subPathExpr"), expression, message);
        }
        security::check_descending(expression, &path.child("subPathExpr"), report);
    }
    let modes = ["Bidirectional", "HostToContainer", "None"];
    report.choice_if_set(mount, "mountPropagation", path, &modes);
    if mount.text("mountPropagation") == "Bidirectional" && !container.flag("securityContext.privileged") {
        let message = "Bidirectional mount propagation is available only to privileged containers";
        report.forbidden(&path.child("mountPropagation"), message);
    }
}

fn check_recursive_read_only(mount: &Value, path: &Path, report: &mut Report) {
    let at = path.child("recursiveReadOnly");
    report.choice_if_set(mount, "recursiveReadOnly", path, &["Disabled", "Enabled", "IfPossible"]);
    if !matches!(mount.text("recursiveReadOnly"), "Enabled" | "IfPossible") {
        return;
    }
    if !mount.flag("readOnly") {
        report.forbidden(&at, "may only be specified when readOnly is true");
    }
    if !matches!(mount.text("mountPropagation"), "" | "None") {
        report.forbidden(&at, "may only be specified when mountPropagation is None or not specified");
    }
}

fn check_devices(container: &Value, spec: &Value, path: &Path, report: &mut Report) {
    let devices = container.list("volumeDevices");
    let mounts = container.list("volumeMounts");
    for (at, device) in devices.iter().enumerate() {
        let path = path.index(at);
        let (name, target) = (device.text("name"), device.text("devicePath"));
        if name.is_empty() {
            report.required(&path.child("name"), "");
        }
        if names_of(&devices[..at]).any(|other| other == name) {
            report.invalid(&path.child("name"), name, "must be unique");
        }
        match spec.list("volumes").iter().find(|volume| volume.text("name") == name) {
            None => report.not_found(&path.child("name"), name),
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => report
                .invalid(
                    &path.child("name"),
                    name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                ),
            Some(_) => {}
        }
        if target.is_empty() {
            report.required(&path.child("devicePath"), "");
        }
        if devices[..at].iter().any(|other| other.text("devicePath") == target) {
            report.invalid(&path.child("devicePath"), target, "must be unique");
        }
        check_no_backsteps(target, &path.child("devicePath"), report);
        if names_of(mounts).any(|mount| mount == name) {
            report.invalid(&path.child("name"), name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == target) {
            report.invalid(
                &path.child("devicePath"),
                target,
                "must not already exist as a path in volumeMounts",
            );
        }
    }
}

fn check_resize(policies: &[Value], path: &Path, report: &mut Report) {
    for (at, policy) in policies.iter().enumerate() {
        let resource = policy.text("resourceName");
        if policies[..at].iter().any(|other| other.text("resourceName") == resource) {
            report.duplicate(&path.index(at), resource);
        }
        report.choice(path, resource, &["cpu", "memory"]);
        report.choice(path, policy.text("restartPolicy"), &["NotRequired", "RestartContainer"]);
    }
}
