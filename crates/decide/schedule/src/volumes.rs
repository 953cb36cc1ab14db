//! All checks of a pod's volumes and devices, in upstream's order; the first that refuses ends a node's turn.

use std::collections::BTreeSet;

use crate::diagnosis::Reason;
use crate::node::Node;
use crate::plugin::Plugin;
use crate::plugins::dynamic_resources::Claims;
use crate::plugins::volume_binding::Plan;
use crate::plugins::{node_volume_limits, volume_restrictions, volume_zone};
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::snapshot::Snapshot;
use crate::storage::Attachable;

/// What a pod's volumes need, apart from the node.
pub(crate) struct Volumes<'s> {
    pod: &'s PodInfo,
    profile: &'s Profile,
    snapshot: &'s Snapshot,
    plan: Plan<'s>,
    /// A claim is for one pod alone, and another has it.
    taken: bool,
    wanted: BTreeSet<Attachable>,
    claims: Claims<'s>,
}

impl<'s> Volumes<'s> {
    /// Looks at all volumes of a pod.
    ///
    /// # Errors
    /// Why the pod can go nowhere now, in upstream's words, and who says so.
    pub(crate) fn of(
        pod: &'s PodInfo,
        profile: &'s Profile,
        snapshot: &'s Snapshot,
    ) -> Result<Self, (String, Plugin)> {
        let storage = &snapshot.storage;
        Ok(Volumes {
            pod,
            profile,
            snapshot,
            plan: Plan::of(pod, storage).map_err(|why| (why, Plugin::VolumeBinding))?,
            taken: volume_restrictions::claim_is_taken(pod, snapshot),
            wanted: node_volume_limits::wanted(pod, storage),
            claims: match profile.filters.has(Plugin::DynamicResources) {
                true => Claims::of(pod, &snapshot.devices).map_err(|why| (why, Plugin::DynamicResources))?,
                false => Claims::none(&snapshot.devices),
            },
        })
    }

    /// Why a node cannot be taken for what the pod's claims on devices ask for.
    pub(crate) fn devices(&self, node: &Node) -> Result<(), Reason<'static>> {
        self.claims.filter(node)
    }

    /// Why claims on devices can be met nowhere, if something is wrong with them.
    pub(crate) fn broken(&self) -> Option<String> {
        self.claims.broken()
    }

    /// Why a node cannot be taken.
    pub(crate) fn filter(&self, node: &Node) -> Vec<Reason<'static>> {
        let has = |plugin| self.profile.filters.has(plugin);
        let restricted = || volume_restrictions::filter(self.pod, self.taken, self.snapshot, &node.name);
        if let Some(reason) = has(Plugin::VolumeRestrictions).then(restricted).and_then(Result::err) {
            return vec![reason];
        }
        let limited = || node_volume_limits::filter(&self.wanted, self.snapshot, &node.name);
        if let Some(reason) = has(Plugin::NodeVolumeLimits).then(limited).and_then(Result::err) {
            return vec![reason];
        }
        let reasons = if has(Plugin::VolumeBinding) { self.plan.filter(node) } else { Vec::new() };
        if !reasons.is_empty() || !has(Plugin::VolumeZone) {
            return reasons;
        }
        let places = self.plan.bound().flat_map(|volume| &volume.places);
        volume_zone::filter(places, node).err().into_iter().collect()
    }
}
