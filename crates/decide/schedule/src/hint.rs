//! Which changes may let a parked pod find a node (upstream: queueing hints).
//!
//! A pod was refused by certain plugins. A change is news to it only if one of them may say otherwise now.

use std::sync::Arc;

use crate::plugin::Plugin;
use crate::plugins::fits;
use crate::pod::PodInfo;
use crate::profile::Plugins;
use crate::scheduler::Scheduler;
use crate::topology::Slot;

/// What a change may mean for pods that found no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that the scheduler looks at changed.
    Nothing,
    /// The node in this place may be able to take more.
    Node(usize),
    /// A node is gone, which others may be compared with.
    NodeGone,
    /// This pod has come to a node.
    Placed(Arc<str>),
    /// A namespace has other labels.
    Namespace,
    /// Claims, volumes, or what is known of them.
    Storage,
    /// Devices, or claims on them.
    Devices,
}

impl Change {
    /// Upstream's name of the event; what a node gets back from a pod counts as news of the node.
    pub fn event(&self) -> &'static str {
        match self {
            Change::Nothing => "",
            Change::Node(_) => "NodeUpdate",
            Change::NodeGone => "NodeDelete",
            Change::Placed(_) => "AssignedPodAdd",
            Change::Namespace => "NamespaceUpdate",
            Change::Storage => "PersistentVolumeClaimUpdate",
            Change::Devices => "ResourceClaimUpdate",
        }
    }
}

/// Plugins whose verdict on one node depends on pods elsewhere.
const ELSEWHERE: [Plugin; 2] = [Plugin::PodTopologySpread, Plugin::InterPodAffinity];
/// Plugins that look at volumes.
const VOLUMES: [Plugin; 4] =
    [Plugin::VolumeRestrictions, Plugin::NodeVolumeLimits, Plugin::VolumeBinding, Plugin::VolumeZone];

impl Scheduler {
    /// Whether a change may let a pod find a node that these plugins refused.
    pub fn may_help(&self, change: &Change, pod: &PodInfo, refused: Plugins) -> bool {
        let any = |plugins: &[Plugin]| plugins.iter().any(|plugin| refused.has(*plugin));
        match change {
            Change::Nothing => false,
            Change::Node(slot) => any(&ELSEWHERE) || self.may_take(*slot, pod),
            Change::NodeGone => refused.has(Plugin::PodTopologySpread),
            Change::Placed(uid) => any(&ELSEWHERE) && self.is_company(uid, pod),
            Change::Namespace => refused.has(Plugin::InterPodAffinity),
            Change::Storage => any(&VOLUMES),
            Change::Devices => refused.has(Plugin::DynamicResources),
        }
    }

    fn may_take(&self, slot: Slot, pod: &PodInfo) -> bool {
        let row = self.snapshot.rows().get(slot);
        let node = row.and_then(|row| Some((row, row.node.as_ref()?)));
        node.is_some_and(|(row, node)| fits(self.profile(pod), &pod.needs, row, node))
    }

    /// Whether the pod looks for such as the other one, or counts it when it spreads.
    fn is_company(&self, other: &str, pod: &PodInfo) -> bool {
        let Some(other) = self.snapshot.pod(other) else { return false };
        let links = &pod.links;
        let sought = links.affinity.iter().map(|term| &term.matcher);
        let counted = links.spread.iter().filter(|spread| spread.hard).map(|spread| &spread.term.matcher);
        pod.must_spread
            || sought.chain(counted).any(|matcher| matcher.matches(other, self.snapshot.namespaces()))
    }
}
