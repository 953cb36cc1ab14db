//! Nodes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::stored;
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
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
