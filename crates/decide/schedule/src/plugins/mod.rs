//! The checks and scores, one file each, under upstream's names.
//!
//! Filters run in upstream's order; the first that refuses ends a node's turn. Weights are
//! upstream's defaults.

pub(crate) mod image_locality;
pub(crate) mod inter_pod_affinity;
pub(crate) mod node_affinity;
pub(crate) mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
pub(crate) mod node_volume_limits;
pub(crate) mod pod_topology_spread;
pub(crate) mod taint_toleration;
pub(crate) mod volume_binding;
pub(crate) mod volume_restrictions;
pub(crate) mod volume_zone;

use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::node::Node;
use crate::snapshot::{Row, Snapshot};

/// The best score a plugin gives.
pub(crate) const MAX_SCORE: i64 = 100;

pub(crate) const WEIGHT_TAINT_TOLERATION: i64 = 3;
pub(crate) const WEIGHT_NODE_AFFINITY: i64 = 2;
pub(crate) const WEIGHT_POD_TOPOLOGY_SPREAD: i64 = 2;
pub(crate) const WEIGHT_INTER_POD_AFFINITY: i64 = 2;

/// Everything that does not depend on other pods' labels.
pub(crate) fn fits(needs: &Needs, row: &Row, node: &Node) -> bool {
    node_unschedulable::filter(needs, node).is_ok()
        && taint_toleration::filter(needs, node).is_ok()
        && node_affinity::filter(needs, node).is_ok()
        && node_ports::filter(needs, row).is_ok()
        && node_resources_fit::fits(&needs.requests, row, node)
}

/// The reasons of the first filter that refuses; none if all agree.
pub(crate) fn refusal<'a>(needs: &'a Needs, row: &'a Row, node: &'a Node) -> Vec<Reason<'a>> {
    if let Some(named) = needs.named_nodes()
        && !named.contains(&node.name.as_str())
    {
        return vec![Reason::NotNamed];
    }
    let first = node_unschedulable::filter(needs, node)
        .and_then(|()| taint_toleration::filter(needs, node))
        .and_then(|()| node_affinity::filter(needs, node))
        .and_then(|()| node_ports::filter(needs, row));
    match first {
        Err(reason) => vec![reason],
        Ok(()) => node_resources_fit::shortfalls(&needs.requests, row, node),
    }
}

/// Sum of the scores that need no comparison with other nodes.
pub(crate) fn base_score(needs: &Needs, row: &Row, node: &Node, snapshot: &Snapshot) -> i64 {
    node_resources_fit::score(&needs.requests, row, node)
        + node_resources_balanced_allocation::score(&needs.requests, row, node)
        + image_locality::score(needs, node, snapshot)
}
