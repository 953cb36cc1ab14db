//! One decision: filter, score, choose.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::class::Class;
use crate::diagnosis::{Attempt, Diagnosis, Reason};
use crate::needs::Needs;
use crate::plugins::{
    WEIGHT_INTER_POD_AFFINITY, WEIGHT_POD_TOPOLOGY_SPREAD, fits, inter_pod_affinity, pod_topology_spread,
    refusal, volume_binding,
};
use crate::pod::PodInfo;
use crate::reservation::Reservation;
use crate::snapshot::{Change, Snapshot};
use crate::topology::{Column, Slot};
use crate::volumes::Volumes;

/// Classes whose verdicts are kept.
const KEPT_CLASSES: usize = 128;

/// Numbers for each domain of a [`Column`].
pub(crate) type Sums = Vec<i64>;

/// A rule that refuses some values of a node label.
pub(crate) struct Check<'s> {
    pub(crate) column: &'s Column,
    /// By domain.
    pub(crate) refused: Vec<bool>,
    pub(crate) reason: Reason<'static>,
    /// The reason for nodes without the label; none if they pass.
    pub(crate) absent: Option<Reason<'static>>,
}

impl Check<'_> {
    pub(crate) fn refuses(&self, slot: Slot) -> Option<Reason<'static>> {
        match self.column.domains.get(slot).copied().unwrap_or(0) {
            0 => self.absent,
            domain => self.refused.get(domain).copied().unwrap_or(false).then_some(self.reason),
        }
    }
}

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Node(String),
    /// Nowhere now.
    Nowhere(Diagnosis),
}

/// Decides over a [`Snapshot`].
#[derive(Default)]
pub struct Scheduler {
    /// The cluster; tell it what changes.
    pub snapshot: Snapshot,
    classes: HashMap<Arc<Needs>, Class>,
    known: HashSet<Arc<Needs>>,
    decisions: u64,
    /// Where the search among equally good nodes begins, so that they take turns.
    start: usize,
}

impl Scheduler {
    /// Reads a pod; pods of equal needs share them.
    pub fn read(&mut self, pod: &Pod) -> PodInfo {
        let needs = Needs::of(pod);
        let needs = match self.known.get(&needs) {
            Some(known) => known.clone(),
            None => {
                self.forget_unused();
                let needs = Arc::new(needs);
                self.known.insert(needs.clone());
                needs
            }
        };
        PodInfo::of(pod, needs)
    }

    /// Chooses the node of a pending pod. The caller tells the snapshot if it follows.
    ///
    /// A node that was promised to the pod is taken if it fits. What is promised to other pods counts as
    /// taken unless they are less important.
    pub fn decide(&mut self, pod: &PodInfo) -> Decision {
        let promised = self.snapshot.nominated(&pod.uid);
        let lesser = self.snapshot.take_lesser_nominations(pod);
        let decision = self.decide_among(pod, promised);
        self.snapshot.give_back(lesser);
        decision
    }

    /// Where the search among equally good nodes begins.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    fn decide_among(&mut self, pod: &PodInfo, promised: Option<Slot>) -> Decision {
        self.decisions += 1;
        let Scheduler { snapshot, classes, decisions, start, .. } = self;
        make_room(classes);
        let class = classes.entry(pod.needs.clone()).or_insert_with(|| Class::new(pod.needs.clone()));
        class.used = *decisions;
        class.refresh(snapshot);
        let linked = pod.has_links() || inter_pod_affinity::is_claimed(pod, snapshot);
        if linked {
            snapshot.prepare(&pod.links);
        }
        let snapshot = &*snapshot;
        let volumes = match Volumes::of(pod, snapshot) {
            Ok(volumes) => volumes,
            Err(why) => return Decision::Nowhere(nowhere(pod, snapshot, why)),
        };
        let chosen = match linked {
            true => among_linked(pod, &volumes, class, snapshot, *start, promised),
            false => promised.filter(|slot| class.takes(*slot)).or_else(|| class.best(*start)),
        };
        match chosen {
            Some(slot) => {
                *start = slot + 1;
                Decision::Node(snapshot.rows()[slot].name.clone())
            }
            None => Decision::Nowhere(diagnose(pod, &volumes, class, snapshot, linked)),
        }
    }

    /// What the pod's claims get on the node that was chosen. It is kept for them until it is released.
    pub fn reserve(&mut self, pod: &PodInfo, node: &str) -> Vec<Reservation> {
        let storage = &self.snapshot.storage;
        let plan = volume_binding::Plan::of(pod, storage).ok();
        let reserved = plan.zip(self.snapshot.node(node)).and_then(|(plan, node)| plan.reserve(node).ok());
        let reserved = reserved.unwrap_or_default();
        reserved.iter().for_each(|one| self.snapshot.storage.keep(one));
        reserved
    }

    /// Whether a change may let a pod of these needs find a node. `linked` pods depend on others.
    pub fn may_help(&self, change: Change, needs: &Needs, linked: bool) -> bool {
        match change {
            Change::Nothing => false,
            Change::Pods => linked,
            Change::Node(_) if linked => true,
            Change::Node(slot) => self
                .snapshot
                .rows()
                .get(slot)
                .and_then(|row| Some(fits(needs, row, row.node.as_ref()?)))
                .unwrap_or(false),
        }
    }

    /// Drops needs that only this set and its class still know.
    fn forget_unused(&mut self) {
        if self.known.len() < 2 * KEPT_CLASSES || !self.known.len().is_power_of_two() {
            return;
        }
        let classes = &self.classes;
        self.known.retain(|needs| Arc::strong_count(needs) > 1 || classes.contains_key(needs));
    }
}

/// Drops the classes that were not used for longest.
fn make_room(classes: &mut HashMap<Arc<Needs>, Class>) {
    if classes.len() <= KEPT_CLASSES {
        return;
    }
    let mut used: Vec<u64> = classes.values().map(|class| class.used).collect();
    used.sort_unstable();
    let middle = used[used.len() / 2];
    classes.retain(|_, class| class.used >= middle);
}

pub(crate) fn checks<'s>(pod: &PodInfo, snapshot: &'s Snapshot) -> Vec<Check<'s>> {
    let mut checks = pod_topology_spread::checks(pod, snapshot);
    checks.extend(inter_pod_affinity::checks(pod, snapshot));
    checks
}

fn among_linked(
    pod: &PodInfo,
    volumes: &Volumes<'_>,
    class: &Class,
    snapshot: &Snapshot,
    start: usize,
    promised: Option<Slot>,
) -> Option<Slot> {
    let checks = checks(pod, snapshot);
    let mut feasible = class.feasible();
    if pod.has_volumes() {
        let node = |slot: &Slot| snapshot.rows()[*slot].node.as_ref();
        feasible.retain(|slot| node(slot).is_some_and(|node| volumes.filter(node).is_empty()));
    }
    feasible.retain(|slot| checks.iter().all(|check| check.refuses(*slot).is_none()));
    if let Some(promised) = promised.filter(|slot| feasible.binary_search(slot).is_ok()) {
        return Some(promised);
    }
    let mut scores = class.scores(&feasible);
    let weighted = [
        (pod_topology_spread::scores(pod, snapshot, &feasible), WEIGHT_POD_TOPOLOGY_SPREAD),
        (inter_pod_affinity::scores(pod, snapshot, &feasible), WEIGHT_INTER_POD_AFFINITY),
    ];
    for (more, weight) in weighted {
        for (score, more) in scores.iter_mut().zip(more.into_iter().flatten()) {
            *score += weight * more;
        }
    }
    let best = scores.iter().copied().max()?;
    let at = feasible.partition_point(|slot| *slot < start);
    (at..feasible.len()).chain(0..at).find(|at| scores[*at] == best).map(|at| feasible[at])
}

/// No node can help.
fn nowhere(pod: &PodInfo, snapshot: &Snapshot, why: String) -> Diagnosis {
    Diagnosis {
        nodes: snapshot.nodes(),
        everywhere: Some(why),
        attempt: attempt(pod),
        ..Diagnosis::default()
    }
}

fn attempt(pod: &PodInfo) -> Attempt {
    if pod.never_preempts { Attempt::Forbidden } else { Attempt::InVain }
}

fn diagnose(
    pod: &PodInfo,
    volumes: &Volumes<'_>,
    class: &mut Class,
    snapshot: &Snapshot,
    linked: bool,
) -> Diagnosis {
    let mut diagnosis =
        if linked { diagnose_linked(pod, volumes, snapshot) } else { class.diagnosis(snapshot) };
    diagnosis.attempt = attempt(pod);
    diagnosis
}

fn diagnose_linked(pod: &PodInfo, volumes: &Volumes<'_>, snapshot: &Snapshot) -> Diagnosis {
    let checks = checks(pod, snapshot);
    let mut diagnosis = Diagnosis { nodes: snapshot.nodes(), ..Diagnosis::default() };
    for (slot, row) in snapshot.rows().iter().enumerate() {
        let Some(node) = &row.node else { continue };
        let mut reasons = refusal(&pod.needs, row, node);
        if reasons.is_empty() {
            reasons.extend(volumes.filter(node));
        }
        if reasons.is_empty() {
            reasons.extend(checks.iter().find_map(|check| check.refuses(slot)));
        }
        diagnosis.refuse(&reasons);
    }
    diagnosis
}

#[cfg(test)]
mod tests;
