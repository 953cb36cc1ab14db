//! Facts about nodes that several controllers need.

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};

/// The node does not answer.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The node says it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// An operator has said that the node will not come back.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// One of its conditions.
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// Whether it is ready.
pub fn ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Its taints.
pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Its name.
pub fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// Region and zone, or "" where neither is known.
pub fn zone(node: &Node) -> String {
    let label = |name: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let region = label("topology.kubernetes.io/region").unwrap_or_default();
    let zone = label("topology.kubernetes.io/zone").unwrap_or_default();
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:{zone}") }
}
