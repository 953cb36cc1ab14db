//! Pods, pod templates and the binding of pods to nodes.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};

use super::{pod_columns, stored};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::pod_spec::validate::{self, Owner};
use crate::pod_spec::{default, qos, resize, update};
use crate::report::Report;
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
    strategy: &Binding,
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
        if let Some(spec) = pod.inside("spec")
            && spec.count("terminationGracePeriodSeconds") < 0
        {
            spec.put("terminationGracePeriodSeconds", 1);
        }
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
            None => keep_priority(new, old),
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

    fn validate(&self, pod: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let path = Path::root("spec");
        check(pod, &mut report);
        if !pod.list("spec.ephemeralContainers").is_empty() {
            report.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
        }
        if !pod.text("spec.nodeName").is_empty() && !pod.list("spec.schedulingGates").is_empty() {
            report.forbidden(
                &path.child("nodeName"),
                "cannot be set until all schedulingGates have been cleared",
            );
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        check_mirror(new, old, &mut report);
        match subresource {
            None => {
                check(new, &mut report);
                update::check(new, old, &mut report);
            }
            Some("status") => update::check_status(new, old, &mut report),
            Some("ephemeralcontainers") => {
                check(new, &mut report);
                update::check_ephemeral(new, old, &mut report);
            }
            Some("resize") => {
                check(new, &mut report);
                resize::check(new, old, &mut report);
            }
            Some(_) => {}
        }
        report.into_errors()
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

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        validate::template(object.at("template").unwrap_or(&null), &Path::root("template"), &mut report);
        report.into_errors()
    }
}

struct Binding;

impl Strategy for Binding {
    fn validate(&self, binding: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let path = Path::root("target");
        if !matches!(binding.text("target.kind"), "" | "Node") {
            report.not_supported(&path.child("kind"), binding.text("target.kind"), &["Node", "<empty>"]);
        }
        if binding.text("target.name").is_empty() {
            report.required(&path.child("name"), "");
        }
        report.into_errors()
    }
}

/// What holds for new and changed pods.
fn check(pod: &Value, report: &mut Report) {
    let path = Path::root("spec");
    let null = Value::Null;
    check_annotations(pod, report);
    validate::spec(pod.at("spec").unwrap_or(&null), Owner::Pod, &path, report);
    if pod.text("spec.serviceAccountName").is_empty() {
        check_no_tokens(pod, &path.child("volumes"), report);
    }
}

const MIRROR: &str = "kubernetes.io/config.mirror";

fn check_annotations(pod: &Value, report: &mut Report) {
    let path = Path::root("metadata").child("annotations");
    let annotations = pod.map("metadata.annotations");
    if let Some(mirror) = annotations.get(MIRROR)
        && pod.text("spec.nodeName").is_empty()
    {
        report.invalid(
            &path.key(MIRROR),
            mirror.clone(),
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(cost) = annotations.get(COST)
        && cost.as_str().is_none_or(|text| text.parse::<i32>().is_err() || text.starts_with('+'))
    {
        report.invalid(&path.key(COST), cost.clone(), "must be a 32bit integer");
    }
}

/// Whether a pod mirrors a static one never changes.
fn check_mirror(new: &Value, old: &Value, report: &mut Report) {
    let path = Path::root("metadata").child("annotations").key(MIRROR);
    match (old.map("metadata.annotations").get(MIRROR), new.map("metadata.annotations").get(MIRROR)) {
        (Some(before), after) if after != Some(before) => {
            report.forbidden(&path, "may not remove or update mirror pod annotation");
        }
        (None, Some(_)) => report.forbidden(&path, "may not add mirror pod annotation"),
        _ => {}
    }
}

/// Tokens are those of the service account.
fn check_no_tokens(pod: &Value, path: &Path, report: &mut Report) {
    for (at, volume) in pod.list("spec.volumes").iter().enumerate() {
        for (index, source) in volume.list("projected.sources").iter().enumerate() {
            if source.has("serviceAccountToken") {
                let at = path
                    .index(at)
                    .child("projected")
                    .child("sources")
                    .index(index)
                    .child("serviceAccountToken");
                report.forbidden(&at, "must not be specified when serviceAccountName is not set");
            }
        }
    }
}

/// What the priority class gave: an update that does not name it means the same.
fn keep_priority(new: &mut Value, old: &Value) {
    let Some(spec) = new.inside("spec") else { return };
    for field in ["priority", "preemptionPolicy"] {
        if let Some(value) = old.at("spec").and_then(|spec| spec.at(field)) {
            spec.fill(field, value.clone());
        }
    }
}

/// The first of `podIPs` is also `podIP`.
fn mirror_addresses(pod: &mut Value) {
    let Some(status) = pod.inside("status") else { return };
    let single = status.text("podIP").to_owned();
    let first = status.list("podIPs").first().map(|ip| ip.text("ip").to_owned());
    match (single.is_empty(), first) {
        (false, first) if first.as_deref() != Some(&single) => {
            status.put("podIPs", json!([{"ip": single}]));
        }
        (true, Some(first)) => status.put("podIP", first),
        _ => {}
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

/// Only resources and resize policies may change; containers stay in their order.
fn keep_all_but_resources(new: &mut Value, old: &Value) {
    let wanted = new.at("spec").cloned().unwrap_or(Value::Null);
    restore(new, old);
    let Some(spec) = new.inside("spec") else { return };
    for list in ["containers", "initContainers"] {
        let names = |list: &[Value]| -> Vec<String> {
            list.iter().map(|container| container.text("name").to_owned()).collect()
        };
        if names(wanted.list(list)) != names(spec.list(list)) {
            // Validation says what is wrong with it.
            take(spec, &wanted, list);
            continue;
        }
        for (container, source) in spec.elements(list).iter_mut().zip(wanted.list(list)) {
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
