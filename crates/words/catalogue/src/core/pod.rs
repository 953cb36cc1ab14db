//! Pods, pod templates and the binding of pods to nodes.

use serde_json::{Value, json};

use plimsoll_meta::field::FieldError;

use super::{pod_columns, stored};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::pod_spec::{default, qos};
use crate::strategy::{Grace, Strategy};
use crate::verbs::{Verb, Verbs};

const CREATE_EVICTION: Subresource =
    Subresource { name: "eviction", verbs: Verbs::CREATE, group: "policy", version: "v1", kind: "Eviction" };

pub(super) const POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        Subresource::connect("attach", "PodAttachOptions"),
        Subresource { name: "binding", verbs: Verbs::CREATE, group: "", version: "", kind: "Binding" },
        Subresource::view("ephemeralcontainers", "Pod"),
        CREATE_EVICTION,
        Subresource::connect("exec", "PodExecOptions"),
        Subresource { name: "log", verbs: Verbs::of(&[Verb::Get]), group: "", version: "", kind: "Pod" },
        Subresource::connect("portforward", "PodPortForwardOptions"),
        Subresource::proxy("PodProxyOptions"),
        Subresource::view("resize", "Pod"),
        Subresource::status("Pod"),
    ],
    definition: "io.k8s.api.core.v1.Pod",
    storage: stored("/registry/pods"),
    columns: pod_columns::COLUMNS,
    generation: Generation::Spec,
    strategy: &Pod,
    ..Kind::BASE
};

pub(super) const BINDING: Kind = Kind {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    verbs: Verbs::CREATE,
    definition: "io.k8s.api.core.v1.Binding",
    storage: Storage::Virtual,
    ..Kind::BASE
};

pub(super) const POD_TEMPLATE: Kind = Kind {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    definition: "io.k8s.api.core.v1.PodTemplate",
    storage: stored("/registry/podtemplates"),
    columns: &[
        column::NAME,
        Column::text("Containers", "names of the containers in the template", |object, _| {
            column::joined(object.list("template.spec.containers"), "name").into()
        }),
        Column::text("Images", "images of the containers in the template", |object, _| {
            column::joined(object.list("template.spec.containers"), "image").into()
        }),
        Column::text("Pod Labels", "labels of the template", |object, _| {
            column::labels(object.at("template.metadata.labels")).into()
        }),
    ],
    generation: Generation::Content,
    strategy: &PodTemplate,
    ..Kind::BASE
};

struct Pod;

impl Strategy for Pod {
    fn default(&self, pod: &mut Value) {
        if let Some(spec) = pod.object("spec") {
            default::spec(spec);
            default::pod_only(spec);
        }
        mirror_addresses(pod);
    }

    fn prepare_create(&self, pod: &mut Value) {
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(pod)});
        if !pod.list("spec.schedulingGates").is_empty() {
            status.put(
                "conditions",
                json!([{
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                }]),
            );
        }
        pod.put("status", status);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        match subresource {
            Some("status") => keep_owners(new, old),
            Some("ephemeralcontainers") => keep_all_but(new, old, &["ephemeralContainers"]),
            Some("resize") => keep_all_but_resources(new, old),
            _ => {}
        }
    }

    fn fields(&self, pod: &Value) -> Vec<(&'static str, String)> {
        let text = |path: &str| pod.text(path).to_owned();
        let address = pod
            .list("status.podIPs")
            .first()
            .map_or_else(|| text("status.podIP"), |ip| ip.text("ip").to_owned());
        vec![
            ("spec.nodeName", text("spec.nodeName")),
            ("spec.restartPolicy", text("spec.restartPolicy")),
            ("spec.schedulerName", text("spec.schedulerName")),
            ("spec.serviceAccountName", text("spec.serviceAccountName")),
            ("spec.hostNetwork", pod.flag("spec.hostNetwork").to_string()),
            ("status.phase", text("status.phase")),
            ("status.podIP", address),
            ("status.nominatedNodeName", text("status.nominatedNodeName")),
        ]
    }

    fn graceful(&self, pod: &Value, requested: Option<i64>) -> Grace {
        let is_over = matches!(pod.text("status.phase"), "Failed" | "Succeeded");
        if pod.text("spec.nodeName").is_empty() || is_over {
            return Grace::Seconds(0);
        }
        match requested.unwrap_or_else(|| pod.count("spec.terminationGracePeriodSeconds")) {
            ..0 => Grace::Seconds(1),
            seconds => Grace::Seconds(seconds),
        }
    }

    fn validate(&self, _pod: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn row_conditions(&self, pod: &Value) -> Vec<Value> {
        let message = match pod.text("status.phase") {
            "Succeeded" => "The pod has completed successfully.",
            "Failed" => "The pod failed.",
            _ => return Vec::new(),
        };
        vec![
            json!({"type": "Completed", "status": "True", "reason": pod.text("status.phase"), "message": message}),
        ]
    }
}

struct PodTemplate;

impl Strategy for PodTemplate {
    fn default(&self, object: &mut Value) {
        default::template(object);
    }
}

/// The first of `podIPs` and `hostIPs` is also `podIP` and `hostIP`.
fn mirror_addresses(pod: &mut Value) {
    let Some(status) = pod.inside("status") else { return };
    for (one, many) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        let single = status.text(one).to_owned();
        let first = status.list(many).first().map(|ip| ip.text("ip").to_owned());
        match (single.is_empty(), first) {
            (false, first) if first.as_deref() != Some(&single) => status.put(many, json!([{"ip": single}])),
            (true, Some(first)) => status.put(one, first),
            _ => {}
        }
    }
}

/// Kubelets of old wrote owners back wrongly, which broke garbage collection.
fn keep_owners(new: &mut Value, old: &Value) {
    let Some(metadata) = new.inside("metadata") else { return };
    match old.at("metadata.ownerReferences") {
        Some(owners) => metadata.put("ownerReferences", owners.clone()),
        None => metadata.drop_key("ownerReferences"),
    }
}

/// Of the specification only these fields may change through the subresource.
fn keep_all_but(new: &mut Value, old: &Value, fields: &[&str]) {
    let taken: Vec<(&str, Option<Value>)> = fields
        .iter()
        .map(|field| (*field, new.at("spec").and_then(|spec| spec.at(field)).cloned()))
        .collect();
    restore(new, old);
    if let Some(spec) = new.inside("spec") {
        for (field, value) in taken {
            match value {
                Some(value) => spec.put(field, value),
                None => spec.drop_key(field),
            }
        }
    }
}

/// Only resources and resize policies may change; containers are matched by name.
fn keep_all_but_resources(new: &mut Value, old: &Value) {
    let wanted = new.at("spec").cloned().unwrap_or(Value::Null);
    restore(new, old);
    let Some(spec) = new.inside("spec") else { return };
    for list in ["containers", "initContainers"] {
        for container in spec.elements(list) {
            let name = container.text("name").to_owned();
            let Some(source) = wanted.list(list).iter().find(|other| other.text("name") == name) else {
                continue;
            };
            for field in ["resources", "resizePolicy"] {
                take(container, source, field);
            }
        }
    }
    take(spec, &wanted, "resources");
}

fn take(target: &mut Value, source: &Value, field: &str) {
    match source.at(field) {
        Some(value) => target.put(field, value.clone()),
        None => target.drop_key(field),
    }
}

/// The old object with the version and the bookkeeping of the new one.
fn restore(new: &mut Value, old: &Value) {
    let before = new.take();
    *new = old.clone();
    for field in ["apiVersion", "kind"] {
        take(new, &before, field);
    }
    if let (Some(metadata), Some(source)) = (new.inside("metadata"), before.at("metadata")) {
        for field in ["resourceVersion", "managedFields", "uid", "name", "namespace"] {
            take(metadata, source, field);
        }
    }
}
