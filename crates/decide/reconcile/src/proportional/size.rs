//! How many replicas a cluster's size asks for, as cluster-proportional-autoscaler counts them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use plimsoll_meta::quantity::Quantity;
use plimsoll_meta::selector::Labels;

use super::kind::{Ladder, Linear, Spec};
use crate::node;

/// The size of a cluster, or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) nodes: i32,
    /// Processors that pods may have, the last one begun.
    pub(super) cores: i64,
}

/// Replicas, and what bounded them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) replicas: i32,
    pub(super) limit: Limit,
}

/// What bounded a number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Nothing,
    Min,
    Max,
}

impl Size {
    /// Counts the nodes that the spec selects; such as take no pods only where it says so.
    pub(super) fn of(nodes: &[Arc<Node>], spec: &Spec) -> Self {
        let everything = match (&spec.linear, &spec.ladder) {
            (Some(linear), _) => linear.include_unschedulable_nodes,
            (None, ladder) => ladder.as_ref().is_some_and(|ladder| ladder.include_unschedulable_nodes),
        };
        let labels = spec.node_selector.as_ref().map(Labels::from);
        let selected = |node: &&Arc<Node>| {
            let found =
                labels.as_ref().is_none_or(|labels| labels.matches_map(node.metadata.labels.as_ref()));
            found && (everything || takes_pods(node))
        };
        let (mut count, mut milli) = (0_i32, 0_i64);
        for node in nodes.iter().filter(selected) {
            count += 1;
            milli = milli.saturating_add(processors(node));
        }
        Self { nodes: count, cores: milli.div_euclid(1000) + i64::from(milli % 1000 != 0) }
    }

    /// How many replicas that asks for.
    pub(super) fn asks_for(self, spec: &Spec) -> Wanted {
        match (&spec.linear, &spec.ladder) {
            (Some(linear), _) => linear.replicas(self),
            (None, Some(ladder)) => Wanted { replicas: ladder.replicas(self), limit: Limit::Nothing },
            (None, None) => Wanted { replicas: 0, limit: Limit::Nothing },
        }
    }
}

impl Linear {
    fn replicas(&self, size: Size) -> Wanted {
        let by_cores = self.share(size.cores as f64, self.cores_per_replica);
        let mut by_nodes = self.share(size.nodes.into(), self.nodes_per_replica);
        // Two stand even where `max` is 1.
        if self.prevent_single_point_failure && size.nodes > 1 && by_nodes.replicas < 2 {
            by_nodes = Wanted { replicas: 2, limit: Limit::Nothing };
        }
        if by_cores.replicas > by_nodes.replicas { by_cores } else { by_nodes }
    }

    fn share(&self, amount: f64, per_replica: f64) -> Wanted {
        if per_replica == 0.0 {
            return Wanted { replicas: 1, limit: Limit::Nothing };
        }
        let (least, most) = (self.min.max(1), if self.max == 0 { i32::MAX } else { self.max });
        let replicas = (amount / per_replica).ceil();
        match replicas {
            _ if replicas > most.into() => Wanted { replicas: most.max(least), limit: Limit::Max },
            _ if replicas < least.into() => Wanted { replicas: least, limit: Limit::Min },
            _ => Wanted { replicas: replicas as i32, limit: Limit::Nothing },
        }
    }
}

impl Ladder {
    fn replicas(&self, size: Size) -> i32 {
        let by_cores = step(&self.cores_to_replicas, size.cores);
        by_cores.max(step(&self.nodes_to_replicas, size.nodes.into()))
    }
}

/// The replicas of the highest step that is reached, or of the lowest.
fn step(steps: &[[i32; 2]], amount: i64) -> i32 {
    let reached = steps.iter().filter(|[from, _]| i64::from(*from) <= amount);
    let found = reached.max_by_key(|[from, _]| *from).or_else(|| steps.iter().min_by_key(|[from, _]| *from));
    found.map_or(0, |[_, replicas]| *replicas)
}

fn takes_pods(one: &Node) -> bool {
    let cordoned = one.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
    !cordoned && node::ready(one)
}

/// Thousandths of the processors that a node's pods may have.
fn processors(node: &Node) -> i64 {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let text = allocatable.and_then(|resources| resources.get("cpu"));
    text.and_then(|text| text.0.parse::<Quantity>().ok()).map_or(0, |quantity| quantity.milli())
}
