//! Nodes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::stored;
use crate::access::{Access, Fill};
use crate::addresses;
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::pod_spec::{placement, resources};
use crate::quantities;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    subresources: &[Subresource::proxy("NodeProxyOptions"), Subresource::status("Node")],
    definition: "io.k8s.api.core.v1.Node",
    storage: stored("/registry/minions"),
    columns: &[
        column::NAME,
        Column::text("Status", "whether the node is ready and takes pods", |node, _| status(node).into()),
        Column::text("Roles", "roles that labels give the node", |node, _| column::or(roles(node), "<none>")),
        column::AGE,
        Column::text("Version", "version of the node agent", |node, _| {
            node.text("status.nodeInfo.kubeletVersion").into()
        }),
        Column::text("Internal-IP", "first address inside of the cluster", |node, _| {
            address(node, "InternalIP")
        })
        .wide(),
        Column::text("External-IP", "first address outside of the cluster", |node, _| {
            address(node, "ExternalIP")
        })
        .wide(),
        Column::text("OS-Image", "operating system", |node, _| known(node, "status.nodeInfo.osImage")).wide(),
        Column::text("Kernel-Version", "version of the kernel", |node, _| {
            known(node, "status.nodeInfo.kernelVersion")
        })
        .wide(),
        Column::text("Container-Runtime", "engine that runs the containers", |node, _| {
            known(node, "status.nodeInfo.containerRuntimeVersion")
        })
        .wide(),
    ],
    strategy: &Node,
    ..Kind::BASE
};

struct Node;

impl Strategy for Node {
    fn default(&self, node: &mut Value) {
        if let Some(spec) = node.object("spec") {
            mirror_pod_cidr(spec);
        }
        for list in ["status.capacity", "status.allocatable"] {
            quantities::canonicalize(node.inside(list));
        }
        if let Some(status) = node.inside("status")
            && let (Some(capacity), false) = (status.at("capacity").cloned(), status.has("allocatable"))
        {
            status.put("allocatable", capacity);
        }
    }

    /// Unlike other kinds, a node may bring its status: the agent registers itself with it.
    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn validate(&self, node: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        check_taints(node.list("spec.taints"), &mut report);
        check_amounts(node, &mut report);
        addresses::check_ranges(
            &node.texts("spec.podCIDRs"),
            &Path::root("spec").child("podCIDRs"),
            &mut report,
        );
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        check_amounts(new, &mut report);
        let (path, status) = (Path::root("spec"), Path::root("status"));
        let found = new.list("status.addresses");
        for at in (0..found.len()).filter(|at| found[..*at].contains(&found[*at])) {
            report.duplicate(&status.child("addresses").index(at), found[at].clone());
        }
        addresses::check_ranges(&new.texts("spec.podCIDRs"), &path.child("podCIDRs"), &mut report);
        let ranges = old.texts("spec.podCIDRs");
        if !ranges.is_empty() && ranges != new.texts("spec.podCIDRs") {
            let message = "node updates may not change podCIDR except from \"\" to valid";
            report.forbidden(&path.child("podCIDRs"), message);
        }
        let provider = old.text("spec.providerID");
        if !provider.is_empty() && provider != new.text("spec.providerID") {
            let message = "node updates may not change providerID except from \"\" to valid";
            report.forbidden(&path.child("providerID"), message);
        }
        check_taints(new.list("spec.taints"), &mut report);
        report.into_errors()
    }

    fn fields(&self, node: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", node.flag("spec.unschedulable").to_string())]
    }
}

/// `podCIDR` is the first of `podCIDRs`.
fn mirror_pod_cidr(spec: &mut Value) {
    let one = spec.text("podCIDR").to_owned();
    let first = spec.texts("podCIDRs").first().map(|text| (*text).to_owned());
    match (one.is_empty(), first) {
        (false, None) => spec.put("podCIDRs", json!([one])),
        (false, Some(first)) if first != one => spec.put("podCIDRs", json!([one])),
        (true, Some(first)) => spec.put("podCIDR", first),
        _ => {}
    }
}

fn status(node: &Value) -> String {
    let ready = node.list("status.conditions").iter().rfind(|condition| condition.text("type") == "Ready");
    let mut text = match ready.map(|condition| condition.text("status")) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    }
    .to_owned();
    if node.flag("spec.unschedulable") {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(node: &Value) -> String {
    let mut found = BTreeSet::new();
    for (key, value) in node.map("metadata.labels") {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => drop(found.insert(role)),
            None if key == "kubernetes.io/role" => drop(found.insert(value.as_str().unwrap_or(""))),
            None => {}
        }
    }
    found.remove("");
    found.into_iter().collect::<Vec<_>>().join(",")
}

fn address(node: &Value, kind: &str) -> Value {
    let found = node.list("status.addresses").iter().find(|address| address.text("type") == kind);
    column::or(found.map_or("", |address| address.text("address")), "<none>")
}

fn known(node: &Value, path: &str) -> Value {
    column::or(node.text(path), "<unknown>")
}

fn check_taints(taints: &[Value], report: &mut Report) {
    let path = Path::root("metadata").child("taints");
    for (at, taint) in taints.iter().enumerate() {
        let path = path.index(at);
        let (key, value, effect) = (taint.text("key"), taint.text("value"), taint.text("effect"));
        report.rule(&path.child("key"), key, name::is_qualified_name(key));
        if let Err(messages) = name::is_label_value(value) {
            report.invalid(&path.child("value"), value, messages.join(";"));
        }
        placement::check_effect(effect, &path.child("effect"), report);
        if taints[..at].iter().any(|other| (other.text("key"), other.text("effect")) == (key, effect)) {
            let detail = "taints must be unique by key and effect pair".to_owned();
            report.push(FieldError { detail, ..FieldError::duplicate(&path, taint) });
        }
    }
}

fn check_amounts(node: &Value, report: &mut Report) {
    for list in ["capacity", "allocatable"] {
        for (resource, amount) in node.map(&format!("status.{list}")) {
            resources::check_amount(
                resource,
                amount,
                &Path::root("status").child(list).child(resource),
                report,
            );
        }
    }
}
