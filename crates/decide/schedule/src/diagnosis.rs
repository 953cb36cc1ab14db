//! Why no node could take a pod, in upstream's words.

use std::collections::BTreeMap;
use std::fmt;

use crate::plugin::Plugin;
use crate::profile::Plugins;

/// Why a node was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason<'a> {
    Unschedulable,
    Taint {
        key: &'a str,
        value: &'a str,
    },
    NodeAffinity,
    EnforcedAffinity,
    NotNamed,
    Ports,
    TooManyPods,
    Insufficient(&'a str),
    /// More than the whole node has.
    Beyond(&'a str),
    SpreadLabel,
    Spread,
    Affinity,
    AntiAffinity,
    ExistingAntiAffinity,
    Disk,
    ClaimOfOnePod,
    TooManyVolumes,
    VolumeElsewhere,
    VolumeGone,
    NoVolume,
    NoRoom,
    VolumeZone,
    ClaimElsewhere,
    NoDevices,
    DevicesTakeTooLong,
}

impl Reason<'_> {
    /// Who says so.
    pub(crate) fn plugin(self) -> Plugin {
        match self {
            Reason::Unschedulable => Plugin::NodeUnschedulable,
            Reason::Taint { .. } => Plugin::TaintToleration,
            Reason::NodeAffinity | Reason::EnforcedAffinity | Reason::NotNamed => Plugin::NodeAffinity,
            Reason::Ports => Plugin::NodePorts,
            Reason::TooManyPods | Reason::Insufficient(_) | Reason::Beyond(_) => Plugin::NodeResourcesFit,
            Reason::SpreadLabel | Reason::Spread => Plugin::PodTopologySpread,
            Reason::Affinity | Reason::AntiAffinity | Reason::ExistingAntiAffinity => {
                Plugin::InterPodAffinity
            }
            Reason::Disk | Reason::ClaimOfOnePod => Plugin::VolumeRestrictions,
            Reason::TooManyVolumes => Plugin::NodeVolumeLimits,
            Reason::VolumeElsewhere | Reason::VolumeGone | Reason::NoVolume | Reason::NoRoom => {
                Plugin::VolumeBinding
            }
            Reason::VolumeZone => Plugin::VolumeZone,
            Reason::ClaimElsewhere | Reason::NoDevices | Reason::DevicesTakeTooLong => {
                Plugin::DynamicResources
            }
        }
    }

    /// Evicting other pods could make room.
    pub(crate) fn is_resolvable(self) -> bool {
        matches!(
            self,
            Reason::Ports
                | Reason::TooManyPods
                | Reason::Insufficient(_)
                | Reason::Disk
                | Reason::ClaimOfOnePod
                | Reason::TooManyVolumes
                | Reason::Spread
                | Reason::AntiAffinity
                | Reason::ExistingAntiAffinity
                | Reason::ClaimElsewhere
                | Reason::NoDevices
                | Reason::DevicesTakeTooLong
        )
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Unschedulable => f.write_str("node(s) were unschedulable"),
            Reason::Taint { key, value } => write!(f, "node(s) had untolerated taint {{{key}: {value}}}"),
            Reason::NodeAffinity => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Reason::EnforcedAffinity => f.write_str("node(s) didn't match scheduler-enforced node affinity"),
            Reason::NotNamed => f.write_str("node(s) didn't satisfy plugin(s) [NodeAffinity]"),
            Reason::Ports => f.write_str("node(s) didn't have free ports for the requested pod ports"),
            Reason::TooManyPods => f.write_str("Too many pods"),
            Reason::Insufficient(resource) | Reason::Beyond(resource) => write!(f, "Insufficient {resource}"),
            Reason::SpreadLabel => {
                f.write_str("node(s) didn't match pod topology spread constraints (missing required label)")
            }
            Reason::Spread => f.write_str("node(s) didn't match pod topology spread constraints"),
            Reason::Affinity => f.write_str("node(s) didn't match pod affinity rules"),
            Reason::AntiAffinity => f.write_str("node(s) didn't match pod anti-affinity rules"),
            Reason::Disk => f.write_str("node(s) had no available disk"),
            Reason::ClaimOfOnePod => f.write_str(
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            ),
            Reason::TooManyVolumes => f.write_str("node(s) exceed max volume count"),
            Reason::ClaimElsewhere => f.write_str("resourceclaim not available on the node"),
            Reason::NoDevices => f.write_str("cannot allocate all claims"),
            Reason::DevicesTakeTooLong => f.write_str("timed out trying to allocate devices"),
            Reason::VolumeZone => f.write_str("node(s) had no available volume zone"),
            Reason::VolumeElsewhere => f.write_str("node(s) didn't match PersistentVolume's node affinity"),
            Reason::VolumeGone => {
                f.write_str("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
            }
            Reason::NoVolume => f.write_str("node(s) didn't find available persistent volumes to bind"),
            Reason::NoRoom => f.write_str("node(s) did not have enough free storage"),
            Reason::ExistingAntiAffinity => {
                f.write_str("node(s) didn't satisfy existing pods anti-affinity rules")
            }
        }
    }
}

/// How many nodes failed which check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// All nodes of the cluster.
    pub nodes: usize,
    /// Why the pod can go nowhere, whatever the nodes are like.
    pub everywhere: Option<String>,
    /// Nodes for each reason; a node can have several.
    pub reasons: BTreeMap<String, usize>,
    /// Nodes on which the eviction of pods could make room.
    pub resolvable: usize,
    /// The plugins that refused a node.
    pub plugins: Plugins,
    /// What became of the attempt to make room.
    pub attempt: Attempt,
    /// What was done with the pod's claims on devices, so that another attempt may find others.
    pub freed: Option<Freed>,
}

/// What was done with claims on devices that were in the way of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// Their devices were taken away.
    Deallocated,
    /// One that was made for the pod was removed.
    Removed,
}

/// What became of the attempt to make room by ending others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attempt {
    /// Nobody's end helps.
    #[default]
    InVain,
    /// The pod forbids it.
    Forbidden,
    /// Those that were chosen before still end.
    UnderWay,
    /// Others end now.
    Made,
    /// Nobody asks for it.
    Off,
}

impl Diagnosis {
    /// Counts a node with all its reasons.
    pub(crate) fn refuse(&mut self, reasons: &[Reason<'_>]) {
        if reasons.is_empty() {
            return;
        }
        for reason in reasons {
            *self.reasons.entry(reason.to_string()).or_insert(0) += 1;
            self.plugins.add(reason.plugin());
        }
        self.resolvable += usize::from(reasons.iter().all(|reason| reason.is_resolvable()));
    }

    /// Counts a node that somebody outside refused.
    pub fn refuse_outside(&mut self, reason: &str, is_resolvable: bool) {
        *self.reasons.entry(reason.to_owned()).or_insert(0) += 1;
        self.resolvable += usize::from(is_resolvable);
        self.plugins = Plugins::all();
    }

    /// What was tried after all nodes had refused: what was done about claims, then the sentence about preemption. When
    /// others end now there is nothing to say.
    fn tried(&self) -> String {
        let freed = match self.freed.filter(|_| self.attempt != Attempt::Made) {
            Some(Freed::Deallocated) => Some("deallocation of ResourceClaim completed".to_owned()),
            Some(Freed::Removed) => Some("deletion of ResourceClaim completed".to_owned()),
            None => None,
        };
        let parts: Vec<String> = freed.into_iter().chain(self.preemption()).collect();
        if parts.is_empty() { String::new() } else { format!(" {}", parts.join(", ")) }
    }

    /// Where preemption could not help and where no victims were found.
    fn preemption(&self) -> Option<String> {
        let why = match self.attempt {
            Attempt::Made | Attempt::Off => return None,
            Attempt::Forbidden => "not eligible due to preemptionPolicy=Never.".to_owned(),
            Attempt::UnderWay => "not eligible due to a terminating pod on the nominated node.".to_owned(),
            Attempt::InVain => {
                let counts = [
                    (self.nodes - self.resolvable, "Preemption is not helpful for scheduling"),
                    (self.resolvable, "No preemption victims found for incoming pod"),
                ];
                let counts = histogram(counts.into_iter().filter(|(count, _)| *count > 0));
                format!("0/{} nodes are available: {counts}.", self.nodes)
            }
        };
        Some(format!("preemption: {why}"))
    }
}

/// The message of the pod's condition and event (upstream: FitError).
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let reasons = match &self.everywhere {
            Some(why) => why.clone(),
            None => histogram(self.reasons.iter().map(|(reason, count)| (*count, reason.as_str()))),
        };
        write!(f, "0/{} nodes are available: {reasons}.{}", self.nodes, self.tried())
    }
}

/// `2 this, 3 that`, sorted as text as upstream does.
fn histogram<'a>(counts: impl Iterator<Item = (usize, &'a str)>) -> String {
    let mut texts: Vec<String> = counts.map(|(count, reason)| format!("{count} {reason}")).collect();
    texts.sort_unstable();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let mut diagnosis = Diagnosis { nodes: 14, ..Diagnosis::default() };
        for _ in 0..10 {
            diagnosis.refuse(&[Reason::Insufficient("cpu"), Reason::Insufficient("memory")]);
        }
        for _ in 0..3 {
            diagnosis.refuse(&[Reason::Taint { key: "key", value: "value" }]);
        }
        diagnosis.refuse(&[Reason::Unschedulable]);
        assert_eq!(
            diagnosis.to_string(),
            "0/14 nodes are available: 1 node(s) were unschedulable, 10 Insufficient cpu, 10 Insufficient memory, \
             3 node(s) had untolerated taint {key: value}. preemption: 0/14 nodes are available: \
             10 No preemption victims found for incoming pod, 4 Preemption is not helpful for scheduling."
        );
        assert_eq!(Diagnosis::default().to_string(), "no nodes available to schedule pods");
        let tried = [
            (
                Some(Freed::Deallocated),
                Attempt::InVain,
                " deallocation of ResourceClaim completed, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
            ),
            (Some(Freed::Removed), Attempt::Off, " deletion of ResourceClaim completed"),
            (Some(Freed::Removed), Attempt::Made, ""),
            (None, Attempt::Forbidden, " preemption: not eligible due to preemptionPolicy=Never."),
            (None, Attempt::Off, ""),
        ];
        for (freed, attempt, expected) in tried {
            let mut diagnosis = Diagnosis { nodes: 1, freed, attempt, ..Diagnosis::default() };
            diagnosis.refuse(&[Reason::NoDevices]);
            let expected = format!("0/1 nodes are available: 1 cannot allocate all claims.{expected}");
            assert_eq!(diagnosis.to_string(), expected);
        }
    }
}
