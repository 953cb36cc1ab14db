//! DefaultPreemption: whom to end so that a pod finds a node
//! (pkg/scheduler/framework/preemption, v1.37).
//!
//! On each node where the end of others can help, all pods of lower priority are
//! taken away; if the pod fits then, as many as possible are given back, the most
//! important first and those whose end breaks a budget before the others. Among the
//! nodes the one is taken whose victims matter least.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::budget::{Budget, violations};
use crate::node::Node;
use crate::plugins::pod_topology_spread::Constraints;
use crate::plugins::{fits, inter_pod_affinity, refusal};
use crate::pod::PodInfo;
use crate::profile::Profile;
use crate::scheduler::{Scheduler, checks};
use crate::snapshot::Snapshot;
use crate::topology::Slot;
use crate::volumes::Volumes;

/// Room that is made for a pod.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// The node.
    pub node: String,
    /// The pods that have to go.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them break a budget.
    pub broken_budgets: usize,
}

/// A pod that asks for room.
#[derive(Clone, Copy)]
struct Asked<'a> {
    pod: &'a PodInfo,
    profile: &'a Profile,
    constraints: &'a Constraints<'a>,
    linked: bool,
}

impl Scheduler {
    /// Whether victims of this pod are still ending on the node that was promised to it.
    pub fn awaits_victims(&self, pod: &PodInfo) -> bool {
        let promised = self.snapshot.nominated(&pod.uid);
        let ends = |other: &PodInfo| other.priority < pod.priority && other.terminating && other.pre_empted;
        promised.is_some_and(|slot| self.snapshot.on(slot).any(ends))
    }

    /// Chooses a node and the pods that have to go there. Nothing when that would not help anywhere.
    pub fn preempt(&mut self, pod: &PodInfo, budgets: &[Budget]) -> Option<Preemption> {
        Preemption::cheapest(self.room(pod, budgets))
    }

    /// The nodes where others can make room, with those that have to go there.
    pub fn room(&mut self, pod: &PodInfo, budgets: &[Budget]) -> Vec<Preemption> {
        let lesser = self.snapshot.take_lesser_nominations(pod);
        let found = self.candidates_for(pod, budgets);
        self.snapshot.give_back(lesser);
        found
    }

    fn candidates_for(&mut self, pod: &PodInfo, budgets: &[Budget]) -> Vec<Preemption> {
        if !self.snapshot.has_lesser(pod.priority) {
            return Vec::new();
        }
        let profile = self.profile(pod).clone();
        let constraints = Constraints::of(pod, &profile, &self.snapshot.selectors);
        let linked = pod.has_links() || inter_pod_affinity::is_claimed(pod, &self.snapshot);
        if linked {
            self.snapshot.prepare(pod, &constraints.list);
        }
        let asked = Asked { pod, profile: &profile, constraints: &constraints, linked };
        let slots = self.helpable(&asked, self.places(&asked));
        let share = self.snapshot.nodes() * profile.candidates.percentage / 100;
        let most = share.max(profile.candidates.absolute);
        let mut found: Vec<Preemption> = Vec::new();
        let mut least: Option<Cost> = None;
        for slot in slots {
            if found.len() >= most && !self.may_hurt_less(&asked, slot, least.as_ref()) {
                continue;
            }
            let Some(candidate) = self.snapshot.try_node(&asked, slot, budgets) else { continue };
            let cost = candidate.cost();
            least = Some(least.map_or(cost, |least| least.min(cost)));
            found.push(candidate);
        }
        if found.is_empty()
            && !linked
            && let Some(class) = self.classes.get_mut(&pod.needs)
        {
            class.vain = Some((pod.priority, self.snapshot.position));
        }
        found
    }

    /// After as many candidates as upstream looks at, only nodes count that spare more important pods.
    fn may_hurt_less(&self, asked: &Asked<'_>, slot: Slot, best: Option<&Cost>) -> bool {
        let lowest = self.snapshot.rows()[slot].lowest;
        !asked.linked && best.is_none_or(|(_, highest, ..)| lowest.is_some_and(|lowest| lowest < *highest))
    }

    /// The nodes to look at, beginning where the last search ended: all, or those that changed since a pod that
    /// is alike found nobody whose end helps.
    fn places(&self, asked: &Asked<'_>) -> Vec<Slot> {
        let Asked { pod, linked, .. } = *asked;
        let vain = self.classes.get(&pod.needs).and_then(|class| class.vain);
        let vain = vain.filter(|(priority, _)| !linked && *priority == pod.priority);
        let mut slots: Vec<Slot> = match vain.and_then(|(_, position)| self.snapshot.changed_since(position))
        {
            Some(changed) => changed.collect(),
            None => (0..self.snapshot.rows().len()).collect(),
        };
        slots.sort_unstable();
        slots.dedup();
        let start = slots.partition_point(|slot| *slot < self.start());
        slots.rotate_left(start);
        slots
    }

    /// Those of the nodes that refuse the pod for what other pods hold.
    fn helpable(&self, asked: &Asked<'_>, mut slots: Vec<Slot>) -> Vec<Slot> {
        let Asked { pod, profile, constraints, linked } = *asked;
        let snapshot = &self.snapshot;
        let volumes = Volumes::of(pod, profile, snapshot).ok();
        let checks = if linked { checks(pod, profile, constraints, snapshot) } else { Vec::new() };
        let helps = |slot: &Slot| {
            let row = &snapshot.rows()[*slot];
            let Some(node) = &row.node else { return false };
            let reasons = refusal(profile, &pod.needs, row, node);
            if !reasons.is_empty() {
                return reasons.iter().all(|reason| reason.is_resolvable());
            }
            let Some(volumes) = &volumes else { return false };
            volumes.filter(node).iter().all(|reason| reason.is_resolvable())
                && checks
                    .iter()
                    .find_map(|check| check.refuses(*slot))
                    .is_none_or(|reason| reason.is_resolvable())
                && volumes.devices(node).err().is_none_or(|reason| reason.is_resolvable())
        };
        let lesser = |slot: &Slot| snapshot.rows()[*slot].lowest.is_some_and(|lowest| lowest < pod.priority);
        slots.retain(|slot| lesser(slot) && helps(slot));
        slots
    }
}

impl Snapshot {
    /// The least that has to go from a node; nothing if even the end of all lesser pods does not help.
    fn try_node(&mut self, asked: &Asked<'_>, slot: Slot, budgets: &[Budget]) -> Option<Preemption> {
        let Asked { pod, linked, .. } = *asked;
        let mut lesser: Vec<Arc<PodInfo>> =
            self.shared_on(slot).filter(|other| other.priority < pod.priority).cloned().collect();
        // The most important first: of higher priority, then those that run for longer.
        lesser.sort_by_key(|other| {
            (Reverse(other.priority), other.started.unwrap_or(i64::MAX), other.uid.clone())
        });
        for other in &lesser {
            self.lift(slot, other, linked);
        }
        if !self.takes(asked, slot) {
            lesser.iter().for_each(|other| self.lower(slot, other, linked));
            return None;
        }
        let broken = violations(lesser.iter().map(Arc::as_ref), budgets);
        let (mut victims, mut broken_budgets) = (Vec::new(), 0);
        let order = |wanted: bool| lesser.iter().zip(&broken).filter(move |(_, broken)| **broken == wanted);
        for (other, breaks) in order(true).chain(order(false)) {
            self.lower(slot, other, linked);
            if !self.takes(asked, slot) {
                self.lift(slot, other, linked);
                broken_budgets += usize::from(*breaks);
                victims.push(other.clone());
            }
        }
        victims.iter().for_each(|other| self.lower(slot, other, linked));
        Some(Preemption { node: self.rows()[slot].name.clone(), victims, broken_budgets })
    }

    fn takes(&self, asked: &Asked<'_>, slot: Slot) -> bool {
        let Asked { pod, profile, constraints, linked } = *asked;
        let row = &self.rows()[slot];
        let fit = |node: &&Node| fits(profile, &pod.needs, row, node);
        let Some(node) = row.node.as_ref().filter(fit) else { return false };
        if !linked {
            return true;
        }
        let volumes = Volumes::of(pod, profile, self);
        volumes.is_ok_and(|volumes| volumes.filter(node).is_empty() && volumes.devices(node).is_ok())
            && checks(pod, profile, constraints, self).iter().all(|check| check.refuses(slot).is_none())
    }
}

/// How much a choice hurts; compared from the first part on.
type Cost = (usize, i32, i64, usize, Reverse<i64>);

impl Preemption {
    /// The one whose victims matter least; of several the first.
    pub fn cheapest(found: Vec<Preemption>) -> Option<Preemption> {
        found.into_iter().min_by_key(Preemption::cost)
    }

    fn cost(&self) -> Cost {
        let highest = self.victims.iter().map(|victim| victim.priority).max().unwrap_or(i32::MIN);
        // Shifted so that many victims of negative priority do not look cheap.
        let sum =
            self.victims.iter().map(|victim| i64::from(victim.priority) + i64::from(i32::MAX) + 1).sum();
        let important = self.victims.iter().filter(|victim| victim.priority == highest);
        let earliest = important.map(|victim| victim.started.unwrap_or(i64::MAX)).min().unwrap_or(i64::MAX);
        (self.broken_budgets, highest, sum, self.victims.len(), Reverse(earliest))
    }
}

#[cfg(test)]
mod tests;
