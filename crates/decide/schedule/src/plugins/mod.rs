//! The checks and scores, one file each, under upstream's names.
//!
//! Filters run in upstream's order; the first that refuses ends a node's turn. Which of them have a say, and how much
//! the scores count, is the business of the [`Profile`]. The names without a file decide nothing here: of
//! NodeName, as pods that wait have no node; SchedulingGates and PrioritySort, which the [queue](crate::Queue) heeds;
//! DefaultBinder, which writes.

pub(crate) mod dynamic_resources;
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
use crate::plugin::Plugin;
use crate::profile::Profile;
use crate::snapshot::{Row, Snapshot};

/// The best score a plugin gives.
pub(crate) const MAX_SCORE: i64 = 100;

/// Everything that does not depend on other pods' labels.
pub(crate) fn fits(profile: &Profile, needs: &Needs, row: &Row, node: &Node) -> bool {
    first_refusal(profile, needs, row, node).is_ok()
        && (!profile.filters.has(Plugin::NodeResourcesFit)
            || node_resources_fit::fits(&profile.fit, needs, row, node))
}

/// The reasons of the first filter that refuses; none if all agree.
pub(crate) fn refusal<'a>(
    profile: &Profile,
    needs: &'a Needs,
    row: &'a Row,
    node: &'a Node,
) -> Vec<Reason<'a>> {
    if profile.filters.has(Plugin::NodeAffinity)
        && let Some(named) = needs.named_nodes()
        && !named.contains(&node.name.as_str())
    {
        return vec![Reason::NotNamed];
    }
    match first_refusal(profile, needs, row, node) {
        Err(reason) => vec![reason],
        Ok(()) if profile.filters.has(Plugin::NodeResourcesFit) => {
            node_resources_fit::shortfalls(&profile.fit, needs, row, node)
        }
        Ok(()) => Vec::new(),
    }
}

fn first_refusal<'n>(profile: &Profile, needs: &Needs, row: &Row, node: &'n Node) -> Result<(), Reason<'n>> {
    let has = |plugin| profile.filters.has(plugin);
    if has(Plugin::NodeUnschedulable) {
        node_unschedulable::filter(needs, node)?;
    }
    if has(Plugin::TaintToleration) {
        taint_toleration::filter(needs, node)?;
    }
    if has(Plugin::NodeAffinity) {
        node_affinity::enforced(&profile.added, node)?;
        node_affinity::filter(needs, node)?;
    }
    if has(Plugin::NodePorts) { node_ports::filter(needs, row) } else { Ok(()) }
}

/// The reasons of all these filters, whether or not one before them refuses.
pub(crate) fn every_refusal<'a>(
    profile: &Profile,
    needs: &'a Needs,
    row: &'a Row,
    node: &'a Node,
) -> Vec<Reason<'a>> {
    let has = |plugin| profile.filters.has(plugin);
    let mut all = Vec::new();
    if has(Plugin::NodeUnschedulable) {
        all.extend(node_unschedulable::filter(needs, node).err());
    }
    if has(Plugin::TaintToleration) {
        all.extend(taint_toleration::filter(needs, node).err());
    }
    if has(Plugin::NodeAffinity) {
        all.extend(node_affinity::enforced(&profile.added, node).err());
        all.extend(node_affinity::filter(needs, node).err());
    }
    if has(Plugin::NodePorts) {
        all.extend(node_ports::filter(needs, row).err());
    }
    if has(Plugin::NodeResourcesFit) {
        all.extend(node_resources_fit::shortfalls(&profile.fit, needs, row, node));
    }
    all
}

/// Sum of the scores that need no comparison with other nodes.
pub(crate) fn base_score(
    profile: &Profile,
    needs: &Needs,
    row: &Row,
    node: &Node,
    snapshot: &Snapshot,
) -> i64 {
    let (requests, weight) = (&needs.requests, |plugin| profile.weight(plugin));
    weighed(weight(Plugin::NodeResourcesFit), || node_resources_fit::score(&profile.fit, requests, row, node))
        + weighed(weight(Plugin::NodeResourcesBalancedAllocation), || {
            node_resources_balanced_allocation::score(&profile.balanced, requests, row, node)
        })
        + weighed(weight(Plugin::ImageLocality), || image_locality::score(needs, node, snapshot))
}

/// Scores that count nothing are not asked for.
fn weighed(weight: i64, score: impl FnOnce() -> i64) -> i64 {
    if weight == 0 { 0 } else { weight * score() }
}
