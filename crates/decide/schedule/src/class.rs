//! Pods of equal needs share their verdict on every node.

use std::sync::Arc;

use crate::diagnosis::Diagnosis;
use crate::needs::Needs;
use crate::plugin::Plugin;
use crate::plugins::{MAX_SCORE, base_score, fits, node_affinity, refusal, taint_toleration};
use crate::profile::Profile;
use crate::snapshot::Snapshot;
use crate::topology::Slot;

/// Base score of a node that does not fit.
const UNFIT: i32 = -1;

/// The verdict of one class of pods on each node, brought up to date by what changed.
pub(crate) struct Class {
    pub(crate) needs: Arc<Needs>,
    position: u64,
    image_epoch: u64,
    fresh: bool,
    /// Sum of the scores that need no comparison, or [`UNFIT`].
    base: Vec<i32>,
    /// Untolerated soft taints and preferences of each node; empty while there are none.
    taints: Vec<i64>,
    preferred: Vec<i64>,
    /// The answer while nothing changes.
    diagnosis: Option<Diagnosis>,
    /// A pod of this priority looked in vain for others whose end makes room, when the snapshot was there.
    pub(crate) vain: Option<(i32, u64)>,
    /// When the class was last used, as a count of decisions.
    pub(crate) used: u64,
}

impl Class {
    pub(crate) fn new(needs: Arc<Needs>) -> Self {
        Class {
            needs,
            position: 0,
            image_epoch: 0,
            fresh: true,
            base: Vec::new(),
            taints: Vec::new(),
            preferred: Vec::new(),
            diagnosis: None,
            vain: None,
            used: 0,
        }
    }

    /// Looks again at the nodes that changed.
    pub(crate) fn refresh(&mut self, profile: &Profile, snapshot: &Snapshot) {
        if !self.fresh && self.position == snapshot.position && self.image_epoch == snapshot.image_epoch {
            return;
        }
        let since = if self.fresh || self.image_epoch != snapshot.image_epoch {
            None
        } else {
            snapshot.changed_since(self.position)
        };
        self.base.resize(snapshot.rows().len(), UNFIT);
        match since {
            Some(slots) => slots.for_each(|slot| self.judge(profile, slot, snapshot)),
            None => (0..snapshot.rows().len()).for_each(|slot| self.judge(profile, slot, snapshot)),
        }
        self.position = snapshot.position;
        self.image_epoch = snapshot.image_epoch;
        self.fresh = false;
        self.diagnosis = None;
    }

    fn judge(&mut self, profile: &Profile, slot: Slot, snapshot: &Snapshot) {
        let row = &snapshot.rows()[slot];
        let needs = &*self.needs;
        let Some(node) = row.node.as_ref().filter(|node| fits(profile, needs, row, node)) else {
            self.base[slot] = UNFIT;
            return;
        };
        self.base[slot] = i32::try_from(base_score(profile, needs, row, node, snapshot)).unwrap_or(i32::MAX);
        if profile.weight(Plugin::TaintToleration) > 0 {
            set(&mut self.taints, slot, taint_toleration::count(needs, node));
        }
        if profile.weight(Plugin::NodeAffinity) > 0 {
            set(&mut self.preferred, slot, node_affinity::sum(&profile.added, needs, node));
        }
    }

    /// Whether a node fits.
    pub(crate) fn takes(&self, slot: Slot) -> bool {
        self.base.get(slot).is_some_and(|base| *base != UNFIT)
    }

    /// The nodes that fit.
    pub(crate) fn feasible(&self) -> Vec<Slot> {
        (0..self.base.len()).filter(|slot| self.base[*slot] != UNFIT).collect()
    }

    /// The best node from `start` on. Where `enough` says so, only so many of the next ones are looked at.
    pub(crate) fn best(&self, profile: &Profile, start: usize, enough: Option<usize>) -> Option<Slot> {
        if enough.is_none() && self.taints.is_empty() && self.preferred.is_empty() {
            let best = self.base.iter().copied().max().filter(|best| *best != UNFIT)?;
            return first_from(&self.base, start, best);
        }
        let feasible = next_ones(self.feasible(), start, enough);
        let scores = self.scores(profile, &feasible);
        best_of(&feasible, &scores, start)
    }

    /// Scores of the feasible nodes: everything but spread and pod affinity.
    pub(crate) fn scores(&self, profile: &Profile, feasible: &[Slot]) -> Vec<i64> {
        let value = |list: &[i64], slot: Slot| list.get(slot).copied().unwrap_or(0);
        let most = |list: &[i64]| feasible.iter().map(|slot| value(list, *slot)).max().unwrap_or(0);
        let (taints, preferred) = (most(&self.taints), most(&self.preferred));
        let score = |slot: &Slot| {
            let tolerated = if taints == 0 {
                MAX_SCORE
            } else {
                MAX_SCORE - MAX_SCORE * value(&self.taints, *slot) / taints
            };
            let liked =
                if preferred == 0 { 0 } else { MAX_SCORE * value(&self.preferred, *slot) / preferred };
            i64::from(self.base[*slot])
                + profile.weight(Plugin::TaintToleration) * tolerated
                + profile.weight(Plugin::NodeAffinity) * liked
        };
        feasible.iter().map(score).collect()
    }

    /// Why no node fits, kept until something changes.
    pub(crate) fn diagnosis(&mut self, profile: &Profile, snapshot: &Snapshot) -> Diagnosis {
        let needs = &self.needs;
        self.diagnosis
            .get_or_insert_with(|| {
                let mut diagnosis = Diagnosis { nodes: snapshot.nodes(), ..Diagnosis::default() };
                for row in snapshot.rows() {
                    if let Some(node) = &row.node {
                        diagnosis.refuse(&refusal(profile, needs, row, node));
                    }
                }
                diagnosis
            })
            .clone()
    }
}

/// The nodes that are looked at: from `start` on, going round, until there are enough; in their order.
pub(crate) fn next_ones(mut feasible: Vec<Slot>, start: usize, enough: Option<usize>) -> Vec<Slot> {
    let Some(enough) = enough.filter(|enough| *enough < feasible.len()) else { return feasible };
    let at = feasible.partition_point(|slot| *slot < start);
    feasible.rotate_left(at);
    feasible.truncate(enough);
    feasible.sort_unstable();
    feasible
}

/// The node of the highest score; of several the first at or after `start`, going round.
pub(crate) fn best_of(feasible: &[Slot], scores: &[i64], start: usize) -> Option<Slot> {
    let best = scores.iter().copied().max()?;
    let at = feasible.partition_point(|slot| *slot < start);
    (at..feasible.len()).chain(0..at).find(|at| scores[*at] == best).map(|at| feasible[at])
}

/// Keeps the list empty as long as every value is 0.
fn set(list: &mut Vec<i64>, slot: Slot, value: i64) {
    if value == 0 && list.len() <= slot {
        return;
    }
    if list.len() <= slot {
        list.resize(slot + 1, 0);
    }
    list[slot] = value;
}

/// The first place of `wanted` at or after `start`, going round.
fn first_from(list: &[i32], start: usize, wanted: i32) -> Option<usize> {
    let start = start.min(list.len());
    let after = list[start..].iter().position(|value| *value == wanted).map(|at| start + at);
    after.or_else(|| list[..start].iter().position(|value| *value == wanted))
}
