//! How pods of one `schedulerName` are decided about: which plugins have a say, and how much each counts.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::plugin::{Plugin, Point};
use crate::terms::NodeTerm;

/// The name of the scheduler of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// A profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Pods with this `spec.schedulerName` are decided about by these rules.
    pub scheduler_name: String,
    /// The plugins that may refuse nodes.
    pub(crate) filters: Plugins,
    pub(crate) weights: [i64; Plugin::ALL.len()],
    /// The plugins that are on at each point.
    pub(crate) points: [Plugins; Point::ALL.len()],
    pub(crate) fit: Fit,
    pub(crate) balanced: Vec<Weighed>,
    pub(crate) added: Added,
    pub(crate) spread: SpreadDefaults,
    pub(crate) affinity: AffinityRules,
    pub(crate) candidates: Candidates,
    /// How long volumes may take.
    pub bind_timeout: Duration,
    /// How long devices may take that are made ready only for a node.
    pub device_timeout: Duration,
    pub(crate) share: Share,
}

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plugins(u32);

impl Plugins {
    pub(crate) fn has(self, plugin: Plugin) -> bool {
        self.0 & plugin.bit() != 0
    }

    /// Whether a plugin is among them.
    pub fn contains(self, plugin: Plugin) -> bool {
        self.has(plugin)
    }

    /// Every plugin.
    pub(crate) fn all() -> Self {
        Plugin::ALL.into_iter().collect()
    }

    pub(crate) fn add(&mut self, plugin: Plugin) {
        self.0 |= plugin.bit();
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Plugin> {
        Plugin::ALL.into_iter().filter(move |plugin| self.has(*plugin))
    }
}

impl FromIterator<Plugin> for Plugins {
    fn from_iter<I: IntoIterator<Item = Plugin>>(plugins: I) -> Self {
        Plugins(plugins.into_iter().fold(0, |bits, plugin| bits | plugin.bit()))
    }
}

/// What NodeResourcesFit looks at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fit {
    pub(crate) strategy: Strategy,
    pub(crate) resources: Vec<Weighed>,
    /// Extended resources that are somebody else's business, by name and by what stands before the `/`.
    pub(crate) ignored: BTreeSet<String>,
    pub(crate) ignored_groups: BTreeSet<String>,
}

impl Fit {
    /// An extended resource that is not checked.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        !(self.ignored.is_empty() && self.ignored_groups.is_empty())
            && (self.ignored.contains(name)
                || name.split_once('/').is_some_and(|(group, _)| self.ignored_groups.contains(group)))
    }
}

/// Which nodes are liked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Strategy {
    LeastAllocated,
    MostAllocated,
    /// Points of utilization in percent and score; straight lines between them.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// A resource of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Cpu,
    Memory,
    Storage,
    /// Extended resources, huge pages and the like.
    Other(String),
}

impl Resource {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "cpu" => Resource::Cpu,
            "memory" => Resource::Memory,
            "ephemeral-storage" => Resource::Storage,
            other => Resource::Other(other.to_owned()),
        }
    }

    pub(crate) fn is_extended(&self) -> bool {
        matches!(self, Resource::Other(_))
    }
}

/// A resource and how much it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weighed {
    pub(crate) resource: Resource,
    pub(crate) weight: i64,
}

impl Weighed {
    /// CPU and memory alike.
    pub(crate) fn usual() -> Vec<Self> {
        [Resource::Cpu, Resource::Memory].map(|resource| Weighed { resource, weight: 1 }).into()
    }
}

/// Node affinity that all pods of a profile have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Added {
    pub(crate) required: Option<Vec<NodeTerm>>,
    pub(crate) preferred: Vec<(i32, NodeTerm)>,
}

/// How pods spread that do not say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SpreadDefaults {
    /// Over hosts and zones, as far as possible.
    System,
    List(Vec<DefaultConstraint>),
}

/// A constraint without a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DefaultConstraint {
    pub(crate) max_skew: i64,
    pub(crate) topology: String,
    pub(crate) hard: bool,
}

/// What InterPodAffinity looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AffinityRules {
    /// How much it counts that pods in place require company.
    pub(crate) hard_weight: i64,
    /// Whether preferences of pods in place count, for pods that have none.
    pub(crate) heeds_preferences: bool,
}

/// How many nodes are looked at to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidates {
    pub(crate) percentage: usize,
    pub(crate) absolute: usize,
}

/// How many feasible nodes are scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Share {
    #[default]
    All,
    /// Fewer of many: 50 percent less one for each 125 nodes, 5 at least.
    Adaptive,
    Percent(usize),
}

/// So many feasible nodes are scored at least.
const FEWEST_SCORED: usize = 100;

impl Share {
    /// How many feasible nodes of a cluster are enough; none if all are scored.
    pub(crate) fn enough(self, nodes: usize) -> Option<usize> {
        let percent = match self {
            Share::All => return None,
            Share::Adaptive => 50usize.saturating_sub(nodes / 125).max(5),
            Share::Percent(percent) => percent,
        };
        (percent < 100 && nodes > FEWEST_SCORED).then(|| (nodes * percent / 100).max(FEWEST_SCORED))
    }
}

impl Default for Profile {
    fn default() -> Self {
        let at = |point| Plugin::ALL.into_iter().filter(move |plugin| plugin.points().contains(&point));
        let mut weights = [0; Plugin::ALL.len()];
        for plugin in at(Point::Score) {
            weights[plugin as usize] = plugin.weight();
        }
        Profile {
            scheduler_name: DEFAULT_SCHEDULER.to_owned(),
            filters: at(Point::Filter).collect(),
            weights,
            points: Point::ALL.map(|point| at(point).collect()),
            fit: Fit {
                strategy: Strategy::LeastAllocated,
                resources: Weighed::usual(),
                ignored: BTreeSet::new(),
                ignored_groups: BTreeSet::new(),
            },
            balanced: Weighed::usual(),
            added: Added::default(),
            spread: SpreadDefaults::System,
            affinity: AffinityRules { hard_weight: 1, heeds_preferences: true },
            candidates: Candidates { percentage: 10, absolute: 100 },
            bind_timeout: Duration::from_secs(600),
            device_timeout: Duration::from_secs(600),
            share: Share::All,
        }
    }
}

impl Profile {
    /// How much a plugin's scores count; 0 if it gives none.
    pub(crate) fn weight(&self, plugin: Plugin) -> i64 {
        self.weights[plugin as usize]
    }

    /// Whether a plugin has its say at a point.
    pub fn acts(&self, plugin: Plugin, point: Point) -> bool {
        self.points[point as usize].has(plugin)
    }

    /// Whether pods make room for themselves.
    pub fn preempts(&self) -> bool {
        self.acts(Plugin::DefaultPreemption, Point::PostFilter)
    }

    /// Why no pod can be decided about: a plugin misses what it would have prepared at a point where it is off. In
    /// upstream's words.
    pub fn flaw(&self) -> Option<String> {
        let lacks = |(plugin, before, at, _): &&(Plugin, Point, Point, &str)| {
            self.acts(*plugin, *at) && !self.acts(*plugin, *before)
        };
        let (plugin, _, at, why) = PREPARED.iter().find(lacks)?;
        Some(match at {
            Point::Score => format!("running Score plugins: plugin \"{plugin}\" failed with: {why}"),
            _ => format!("running \"{plugin}\" filter plugin: {why}"),
        })
    }
}

/// Plugins that prepare something at a point for another, and what they say where it is missing.
const PREPARED: [(Plugin, Point, Point, &str); 9] = [
    (
        Plugin::NodePorts,
        Point::PreFilter,
        Point::Filter,
        "reading \"PreFilterNodePorts\" from cycleState: not found",
    ),
    (
        Plugin::NodeResourcesFit,
        Point::PreFilter,
        Point::Filter,
        "error reading \"PreFilterNodeResourcesFit\" from cycleState: not found",
    ),
    (
        Plugin::VolumeRestrictions,
        Point::PreFilter,
        Point::Filter,
        "cannot read \"PreFilterVolumeRestrictions\" from cycleState",
    ),
    (Plugin::VolumeBinding, Point::PreFilter, Point::Filter, "not found"),
    (
        Plugin::PodTopologySpread,
        Point::PreFilter,
        Point::Filter,
        "reading \"PreFilterPodTopologySpread\" from cycleState: not found",
    ),
    (
        Plugin::InterPodAffinity,
        Point::PreFilter,
        Point::Filter,
        "error reading \"PreFilterInterPodAffinity\" from cycleState: not found",
    ),
    (
        Plugin::TaintToleration,
        Point::PreScore,
        Point::Score,
        "error reading \"PreScoreTaintToleration\" from cycleState: not found",
    ),
    (
        Plugin::PodTopologySpread,
        Point::PreScore,
        Point::Score,
        "error reading \"PreScorePodTopologySpread\" from cycleState: not found",
    ),
    (
        Plugin::InterPodAffinity,
        Point::PreScore,
        Point::Score,
        "failed to read \"PreScoreInterPodAffinity\" from cycleState: not found",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_nodes() {
        for (share, nodes, expected) in [
            (Share::All, 5000, None),
            (Share::Adaptive, 100, None),
            (Share::Adaptive, 1000, Some(420)),
            (Share::Adaptive, 6000, Some(300)),
            (Share::Adaptive, 101, Some(100)),
            (Share::Percent(40), 1000, Some(400)),
            (Share::Percent(40), 101, Some(100)),
            (Share::Percent(100), 1000, None),
        ] {
            assert_eq!(share.enough(nodes), expected, "{share:?} of {nodes}");
        }
    }
}
