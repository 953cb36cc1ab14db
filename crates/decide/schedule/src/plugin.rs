//! The names of the plugins, and the points at which each has a say.

use std::fmt;

/// A plugin of upstream's scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "upstream's names")]
pub enum Plugin {
    SchedulingGates,
    PrioritySort,
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    NodeVolumeLimits,
    VolumeBinding,
    VolumeZone,
    PodTopologySpread,
    InterPodAffinity,
    DynamicResources,
    DefaultPreemption,
    NodeResourcesBalancedAllocation,
    ImageLocality,
    DefaultBinder,
}

/// A point in the life of a scheduling decision (upstream: extension point).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "upstream's names")]
pub enum Point {
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

use Plugin as P;

impl Plugin {
    /// All of them, in the order of their turns.
    pub const ALL: [Plugin; 19] = [
        P::SchedulingGates,
        P::PrioritySort,
        P::NodeUnschedulable,
        P::NodeName,
        P::TaintToleration,
        P::NodeAffinity,
        P::NodePorts,
        P::NodeResourcesFit,
        P::VolumeRestrictions,
        P::NodeVolumeLimits,
        P::VolumeBinding,
        P::VolumeZone,
        P::PodTopologySpread,
        P::InterPodAffinity,
        P::DynamicResources,
        P::DefaultPreemption,
        P::NodeResourcesBalancedAllocation,
        P::ImageLocality,
        P::DefaultBinder,
    ];

    /// The plugin of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.to_string() == name)
    }

    /// The points at which it has a say.
    pub fn points(self) -> &'static [Point] {
        use Point as At;
        match self {
            P::SchedulingGates => &[At::PreEnqueue],
            P::PrioritySort => &[At::QueueSort],
            P::NodeUnschedulable | P::NodeName => &[At::Filter],
            P::NodePorts | P::VolumeRestrictions | P::NodeVolumeLimits | P::VolumeZone => {
                &[At::PreFilter, At::Filter]
            }
            P::TaintToleration => &[At::Filter, At::PreScore, At::Score],
            P::NodeAffinity | P::NodeResourcesFit | P::PodTopologySpread | P::InterPodAffinity => {
                &[At::PreFilter, At::Filter, At::PreScore, At::Score]
            }
            P::VolumeBinding => {
                &[At::PreFilter, At::Filter, At::PreScore, At::Score, At::Reserve, At::PreBind]
            }
            P::DynamicResources => {
                &[At::PreEnqueue, At::PreFilter, At::Filter, At::PostFilter, At::Reserve, At::PreBind]
            }
            P::DefaultPreemption => &[At::PostFilter],
            P::NodeResourcesBalancedAllocation => &[At::PreScore, At::Score],
            P::ImageLocality => &[At::Score],
            P::DefaultBinder => &[At::Bind],
        }
    }

    /// How much its scores count where nobody says otherwise.
    pub fn weight(self) -> i64 {
        match self {
            P::TaintToleration => 3,
            P::NodeAffinity | P::PodTopologySpread | P::InterPodAffinity => 2,
            _ => 1,
        }
    }

    pub(crate) fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Point {
    /// All of them, in their order.
    pub const ALL: [Point; 12] = [
        Point::PreEnqueue,
        Point::QueueSort,
        Point::PreFilter,
        Point::Filter,
        Point::PostFilter,
        Point::PreScore,
        Point::Score,
        Point::Reserve,
        Point::Permit,
        Point::PreBind,
        Point::Bind,
        Point::PostBind,
    ];
}

/// As upstream calls the kind of plugin that has its say here.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}Plugin")
    }
}
