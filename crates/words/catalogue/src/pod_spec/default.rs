//! What a pod specification leaves open (upstream: `pkg/apis/core/v1/defaults.go`).

use serde_json::{Map, Value, json};

use crate::access::{Access, Fill};
use crate::image;
use crate::quantities;

/// Where the containers of a pod specification are.
pub(crate) const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Defaults that pods and templates share.
pub(crate) fn spec(spec: &mut Value) {
    spec.fill_zero("dnsPolicy", "ClusterFirst");
    spec.fill_zero("restartPolicy", "Always");
    spec.fill("securityContext", Value::Object(Map::new()));
    spec.fill("terminationGracePeriodSeconds", 30);
    spec.fill_zero("schedulerName", "default-scheduler");
    mirror_service_account(spec);
    for list in CONTAINER_LISTS {
        spec.elements(list).iter_mut().for_each(container);
    }
    spec.elements("volumes").iter_mut().for_each(volume);
    quantities::canonicalize(spec.inside("overhead"));
    resource_amounts(spec);
}

/// `resources` of a container, a pod or a claim.
pub(crate) fn resource_amounts(holder: &mut Value) {
    for list in ["resources.requests", "resources.limits"] {
        quantities::canonicalize(holder.inside(list));
    }
}

/// Defaults of pods alone: templates keep what their author wrote, so that an older template
/// still equals itself.
pub(crate) fn pod_only(spec: &mut Value) {
    spec.fill("enableServiceLinks", true);
    let host_network = spec.flag("hostNetwork");
    for list in ["containers", "initContainers"] {
        for container in spec.elements(list) {
            if let Some(resources) = container.inside("resources") {
                requests_from_limits(resources);
            }
            if host_network {
                container.elements("ports").iter_mut().for_each(host_port);
            }
        }
    }
    if let Some(resources) = spec.inside("resources") {
        requests_from_limits(resources);
    }
}

/// The template of a workload: metadata and spec are always there.
pub(crate) fn template(holder: &mut Value) {
    let Some(template) = holder.object("template") else { return };
    template.object("metadata");
    if let Some(inner) = template.object("spec") {
        spec(inner);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always equal.
fn mirror_service_account(spec: &mut Value) {
    let name = match spec.text("serviceAccountName") {
        "" => spec.text("serviceAccount"),
        name => name,
    }
    .to_owned();
    if !name.is_empty() {
        spec.put("serviceAccountName", name.clone());
        spec.put("serviceAccount", name);
    }
}

fn container(container: &mut Value) {
    let policy = image::pull_policy(container.text("image"));
    container.fill_zero("imagePullPolicy", policy);
    container.fill_zero("terminationMessagePath", "/dev/termination-log");
    container.fill_zero("terminationMessagePolicy", "File");
    container.fill("resources", Value::Object(Map::new()));
    resource_amounts(container);
    for port in container.elements("ports") {
        port.fill_zero("protocol", "TCP");
    }
    for variable in container.elements("env") {
        if let Some(source) = variable.inside("valueFrom") {
            pod_reference(source);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.inside(name) {
            probe(found);
        }
    }
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        http_get(container.inside(hook).and_then(|hook| hook.inside("httpGet")));
    }
}

fn probe(probe: &mut Value) {
    probe.fill_zero("timeoutSeconds", 1);
    probe.fill_zero("periodSeconds", 10);
    probe.fill_zero("successThreshold", 1);
    probe.fill_zero("failureThreshold", 3);
    http_get(probe.inside("httpGet"));
    if let Some(grpc) = probe.inside("grpc") {
        grpc.fill("service", "");
    }
}

fn http_get(action: Option<&mut Value>) {
    if let Some(action) = action {
        action.fill_zero("path", "/");
        action.fill_zero("scheme", "HTTP");
    }
}

/// A field of the pod, or a request or limit of a container, as a variable or a file.
fn pod_reference(source: &mut Value) {
    if let Some(reference) = source.inside("fieldRef") {
        reference.fill_zero("apiVersion", "v1");
    }
    if let Some(reference) = source.inside("resourceFieldRef") {
        reference.fill("divisor", "0");
    }
}

fn host_port(port: &mut Value) {
    if let Some(number) = port.int("containerPort") {
        port.fill_zero("hostPort", number);
    }
}

/// Each limit without a request is requested, too.
fn requests_from_limits(resources: &mut Value) {
    let limits = resources.map("limits").clone();
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = resources.object("requests") {
        for (name, amount) in limits {
            requests.fill(&name, amount);
        }
    }
}

fn volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|map| map.iter().all(|(key, value)| key == "name" || value.is_null())) {
        volume.put("emptyDir", Value::Object(Map::new()));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.inside(source) {
            source.fill("defaultMode", 0o644);
        }
    }
    volume.elements("downwardAPI.items").iter_mut().for_each(pod_reference);
    volume.elements("projected.sources").iter_mut().for_each(projection);
    for (source, defaults) in source_defaults() {
        if let Some(found) = volume.inside(source) {
            for (key, value) in defaults.as_object().into_iter().flatten() {
                found.fill(key, value.clone());
            }
        }
    }
    if let Some(image) = volume.inside("image") {
        let policy = image::pull_policy(image.text("reference"));
        image.fill_zero("pullPolicy", policy);
    }
    if let Some(claim) = volume.inside("ephemeral.volumeClaimTemplate.spec") {
        claim.fill("volumeMode", "Filesystem");
        claim.object("resources");
    }
}

fn projection(source: &mut Value) {
    if let Some(token) = source.inside("serviceAccountToken") {
        token.fill("expirationSeconds", 3600);
    }
    source.elements("downwardAPI.items").iter_mut().for_each(pod_reference);
}

/// Fixed defaults of volume sources; persistent volumes share them.
pub(crate) fn source_defaults() -> [(&'static str, Value); 5] {
    [
        ("hostPath", json!({"type": ""})),
        ("iscsi", json!({"iscsiInterface": "default"})),
        ("rbd", json!({"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"})),
        ("scaleIO", json!({"storageMode": "ThinProvisioned", "fsType": "xfs"})),
        (
            "azureDisk",
            json!({"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": false}),
        ),
    ]
}
