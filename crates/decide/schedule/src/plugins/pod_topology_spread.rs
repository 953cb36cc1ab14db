//! Pods of one kind spread evenly over zones, hosts or other places.

use std::borrow::Cow;

use plimsoll_meta::selector::Labels;

use super::{MAX_SCORE, taint_toleration};
use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::plugin::Plugin;
use crate::pod::{PodInfo, Spread};
use crate::profile::{DefaultConstraint, Profile, SpreadDefaults};
use crate::scheduler::{Check, Sums};
use crate::selectors::Selectors;
use crate::snapshot::Snapshot;
use crate::topology::{Column, Matcher, Slot};

/// The label of hosts: each node is a place of its own.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The label of zones.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The constraints of a pod: its own, or those of its profile.
pub(crate) struct Constraints<'p> {
    pub(crate) list: Cow<'p, [Spread]>,
    /// Only nodes with the labels of all of them are scored.
    strict: bool,
}

impl<'p> Constraints<'p> {
    pub(crate) fn of(pod: &'p PodInfo, profile: &Profile, selectors: &Selectors) -> Self {
        if !pod.links.spread.is_empty() {
            return Constraints { list: Cow::Borrowed(&pod.links.spread), strict: true };
        }
        let strict = profile.spread != SpreadDefaults::System;
        let takes_part =
            profile.weight(Plugin::PodTopologySpread) > 0 || profile.filters.has(Plugin::PodTopologySpread);
        let constraint = |max_skew, topology: &str, hard| DefaultConstraint {
            max_skew,
            topology: topology.to_owned(),
            hard,
        };
        let system;
        let defaults = match &profile.spread {
            SpreadDefaults::System => {
                system = [constraint(3, HOSTNAME, false), constraint(5, ZONE, false)];
                &system[..]
            }
            SpreadDefaults::List(list) => list,
        };
        let selector = if takes_part && !defaults.is_empty() { selectors.of(pod) } else { Labels::default() };
        if selector.0.is_empty() {
            return Constraints { list: Cow::Borrowed(&[]), strict };
        }
        let matcher = Matcher::new(vec![pod.namespace.clone()], None, Some(selector));
        let list = defaults.iter().map(|one| Spread::by_default(one, matcher.clone())).collect();
        Constraints { list: Cow::Owned(list), strict }
    }
}

/// One check for each constraint that must hold.
pub(crate) fn checks<'s>(
    pod: &PodInfo,
    constraints: &Constraints<'_>,
    snapshot: &'s Snapshot,
) -> Vec<Check<'s>> {
    let hard: Vec<&Spread> = constraints.list.iter().filter(|spread| spread.hard).collect();
    hard.iter().filter_map(|spread| check(pod, spread, &hard, snapshot)).collect()
}

fn check<'s>(pod: &PodInfo, spread: &Spread, all: &[&Spread], snapshot: &'s Snapshot) -> Option<Check<'s>> {
    let column = snapshot.topology().column(&spread.term.topology)?;
    let counted = Counted::of(pod, spread, all, snapshot);
    let counts = counts(spread, snapshot);
    let (mut sums, mut seen): (Sums, _) = (vec![0; column.size()], vec![false; column.size()]);
    for slot in (0..snapshot.rows().len()).filter(|slot| counted.has(*slot)) {
        let domain = domain(column, slot);
        seen[domain] = true;
        sums[domain] += i64::from(counts.get(slot).copied().unwrap_or(0));
    }
    seen[0] = false;
    let domains = seen.iter().filter(|seen| **seen).count();
    let fewest = if domains < spread.min_domains {
        0
    } else {
        (0..seen.len()).filter(|domain| seen[*domain]).map(|domain| sums[domain]).min().unwrap_or(0)
    };
    let itself = i64::from(spread.term.matcher.matches_labels(pod));
    let refused = sums.iter().map(|count| count + itself - fewest > spread.max_skew).collect();
    Some(Check { column, refused, reason: Reason::Spread, absent: Some(Reason::SpreadLabel) })
}

/// The pods that each node has of those that spread.
fn counts<'s>(spread: &Spread, snapshot: &'s Snapshot) -> &'s [u32] {
    // A selector of everything counts nobody, as upstream has it.
    if spread.term.matcher.is_everything() {
        return &[];
    }
    snapshot.topology().counts(&[&spread.term.matcher], true)
}

/// The nodes that take part in counting. A node that is known to a column is known.
struct Counted<'s> {
    /// Of the labels that a node must have.
    columns: Vec<&'s Column>,
    affinity: Option<&'s Needs>,
    taints: Option<&'s Needs>,
    snapshot: &'s Snapshot,
}

impl<'s> Counted<'s> {
    fn of(pod: &'s PodInfo, spread: &Spread, all: &[&Spread], snapshot: &'s Snapshot) -> Self {
        let needs = &*pod.needs;
        Counted {
            columns: columns(all, snapshot),
            affinity: (spread.honor_affinity && needs.choose_nodes()).then_some(needs),
            taints: spread.honor_taints.then_some(needs),
            snapshot,
        }
    }

    fn has(&self, slot: Slot) -> bool {
        has_all_labels(&self.columns, slot)
            && (self.affinity.is_none() && self.taints.is_none() || self.suits(slot))
    }

    fn suits(&self, slot: Slot) -> bool {
        self.snapshot.rows()[slot].node.as_ref().is_some_and(|node| {
            self.affinity.is_none_or(|needs| needs.match_node(node))
                && self.taints.is_none_or(|needs| taint_toleration::filter(needs, node).is_ok())
        })
    }
}

fn columns<'s>(all: &[&Spread], snapshot: &'s Snapshot) -> Vec<&'s Column> {
    all.iter().filter_map(|spread| snapshot.topology().column(&spread.term.topology)).collect()
}

fn has_all_labels(columns: &[&Column], slot: Slot) -> bool {
    columns.iter().all(|column| domain(column, slot) != 0)
}

fn domain(column: &Column, slot: Slot) -> usize {
    column.domains.get(slot).copied().unwrap_or(0)
}

/// Scores of the feasible nodes for the constraints that are only wishes; none without wishes.
pub(crate) fn scores(
    pod: &PodInfo,
    constraints: &Constraints<'_>,
    snapshot: &Snapshot,
    feasible: &[Slot],
) -> Option<Vec<i64>> {
    let soft: Vec<&Spread> = constraints.list.iter().filter(|spread| !spread.hard).collect();
    if soft.is_empty() {
        return None;
    }
    let required: &[&Spread] = if constraints.strict { &soft } else { &[] };
    let columns = columns(required, snapshot);
    let counted: Vec<bool> = feasible.iter().map(|slot| has_all_labels(&columns, *slot)).collect();
    let mut raw = vec![0.0; feasible.len()];
    for spread in &soft {
        add_wish(&mut raw, pod, spread, required, snapshot, feasible, &counted);
    }
    Some(normalise(&raw, &counted))
}

fn add_wish(
    raw: &mut [f64],
    pod: &PodInfo,
    spread: &Spread,
    all: &[&Spread],
    snapshot: &Snapshot,
    feasible: &[Slot],
    counted: &[bool],
) {
    let Some(column) = snapshot.topology().column(&spread.term.topology) else { return };
    let counts = counts(spread, snapshot);
    let by_host = spread.term.topology == HOSTNAME;
    let sums: Sums = if by_host {
        Vec::new()
    } else {
        let counted = Counted::of(pod, spread, all, snapshot);
        column.sum(counts, |slot| counted.has(slot))
    };
    let places = if by_host {
        counted.iter().filter(|counted| **counted).count()
    } else {
        let mut seen = vec![false; column.size()];
        let known = feasible.iter().zip(counted).filter(|(_, counted)| **counted);
        known.for_each(|(slot, _)| seen[domain(column, *slot)] = true);
        seen.into_iter().filter(|seen| *seen).count()
    };
    let weight = ((places + 2) as f64).ln();
    let has_label = |slot: Slot| domain(column, slot) != 0;
    for (at, slot) in feasible.iter().enumerate().filter(|(at, slot)| counted[*at] && has_label(**slot)) {
        let count = if by_host {
            i64::from(counts.get(*slot).copied().unwrap_or(0))
        } else {
            sums[domain(column, *slot)]
        };
        raw[at] += count as f64 * weight + (spread.max_skew - 1) as f64;
    }
}

/// The fewest pods get the best score; nodes without the labels get none.
fn normalise(raw: &[f64], counted: &[bool]) -> Vec<i64> {
    let rounded: Vec<i64> = raw.iter().map(|score| score.round() as i64).collect();
    let known = || rounded.iter().zip(counted).filter(|(_, counted)| **counted).map(|(score, _)| *score);
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let score = |(score, counted): (&i64, &bool)| match (counted, most) {
        (false, _) => 0,
        (true, 0) => MAX_SCORE,
        (true, most) => MAX_SCORE * (most + least - score) / most,
    };
    rounded.iter().zip(counted).map(score).collect()
}
