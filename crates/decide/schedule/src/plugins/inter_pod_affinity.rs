//! Pods that want to be near other pods, or far from them.

use std::collections::HashMap;

use super::MAX_SCORE;
use crate::diagnosis::Reason;
use crate::pod::{PodInfo, PodTerm};
use crate::profile::AffinityRules;
use crate::scheduler::{Check, Sums};
use crate::snapshot::Snapshot;
use crate::topology::{Claim, Claimed, Slot};

/// The checks in upstream's order: affinity, anti-affinity, anti-affinity of pods in place.
pub(crate) fn checks<'s>(pod: &PodInfo, snapshot: &'s Snapshot) -> Vec<Check<'s>> {
    let mut checks = affinity(pod, snapshot);
    checks.extend(pod.links.anti_affinity.iter().filter_map(|term| {
        let counts = snapshot.topology().counts(&[&term.matcher], false);
        keep_away(term, counts, snapshot, Reason::AntiAffinity)
    }));
    checks.extend(existing(pod, snapshot));
    checks
}

fn affinity<'s>(pod: &PodInfo, snapshot: &'s Snapshot) -> Vec<Check<'s>> {
    let terms = &pod.links.affinity;
    let matchers: Vec<_> = terms.iter().map(|term| &term.matcher).collect();
    let counts = snapshot.topology().counts(&matchers, false);
    let sums: Vec<Option<Sums>> = terms
        .iter()
        .map(|term| Some(snapshot.topology().column(&term.topology)?.sum(counts, |_| true)))
        .collect();
    // The first of pods that want to be together finds nobody: it may go anywhere that has the
    // labels, if it is what it looks for.
    let nobody = sums.iter().flatten().all(|sums| sums.iter().skip(1).all(|count| *count == 0));
    let first = nobody && matchers.iter().all(|matcher| matcher.matches(pod, snapshot.namespaces()));
    let check = |(term, sums): (&PodTerm, Option<Sums>)| {
        let refused = sums?.iter().map(|count| *count == 0 && !first).collect();
        let column = snapshot.topology().column(&term.topology)?;
        Some(Check { column, refused, reason: Reason::Affinity, absent: Some(Reason::Affinity) })
    };
    terms.iter().zip(sums).filter_map(check).collect()
}

fn keep_away<'s>(
    term: &PodTerm,
    counts: &[u32],
    snapshot: &'s Snapshot,
    reason: Reason<'static>,
) -> Option<Check<'s>> {
    let column = snapshot.topology().column(&term.topology)?;
    let refused = column.sum(counts, |_| true).iter().map(|count| *count > 0).collect();
    Some(Check { column, refused, reason, absent: None })
}

fn existing<'s>(pod: &PodInfo, snapshot: &'s Snapshot) -> Vec<Check<'s>> {
    let claims = snapshot.topology().claims_on(pod).filter(|claimed| claimed.claim == Claim::KeepAway);
    claims
        .filter(|claimed| claimed.term.matcher.matches(pod, snapshot.namespaces()))
        .filter_map(|claimed| {
            keep_away(&claimed.term, &claimed.per_node, snapshot, Reason::ExistingAntiAffinity)
        })
        .collect()
}

/// True if pods in place say something about this one.
pub(crate) fn is_claimed(pod: &PodInfo, snapshot: &Snapshot) -> bool {
    let matches = |claimed: &Claimed| claimed.term.matcher.matches(pod, snapshot.namespaces());
    snapshot.topology().claims_on(pod).any(matches)
}

/// Scores of the feasible nodes by preferences of the pod and of pods in place; none without any.
pub(crate) fn scores(
    pod: &PodInfo,
    rules: AffinityRules,
    snapshot: &Snapshot,
    feasible: &[Slot],
) -> Option<Vec<i64>> {
    if !rules.heeds_preferences && pod.links.preferred.is_empty() {
        return None;
    }
    let topology = snapshot.topology();
    let mut places: HashMap<&str, Sums> = HashMap::new();
    let mut add = |term_topology: &'_ str, counts: &[u32], weight: i64| {
        let Some((label, column)) = topology.labelled(term_topology) else { return };
        let sums = column.sum(counts, |_| true);
        let there = places.entry(label).or_insert_with(|| vec![0; column.size()]);
        for (there, sum) in there.iter_mut().zip(sums) {
            *there += weight * sum;
        }
    };
    for (weight, term) in &pod.links.preferred {
        add(&term.topology, topology.counts(&[&term.matcher], false), *weight);
    }
    for claimed in topology.claims_on(pod) {
        let weight = match claimed.claim {
            Claim::KeepAway => 0,
            Claim::Company => rules.hard_weight,
            Claim::Attract(weight) => weight,
        };
        if weight != 0 && claimed.term.matcher.matches(pod, snapshot.namespaces()) {
            add(&claimed.term.topology, &claimed.per_node, weight);
        }
    }
    if places.is_empty() {
        return None;
    }
    let columns: Vec<_> =
        places.iter().filter_map(|(label, sums)| Some((&topology.column(label)?.domains, sums))).collect();
    let score = |slot: &Slot| -> i64 {
        let domain = |domains: &Vec<usize>| domains.get(*slot).copied().unwrap_or(0);
        columns
            .iter()
            .map(|(domains, sums)| if domain(domains) == 0 { 0 } else { sums[domain(domains)] })
            .sum()
    };
    Some(normalise(feasible.iter().map(score).collect()))
}

/// Between 0 for the least and the best score for the most.
fn normalise(raw: Vec<i64>) -> Vec<i64> {
    let (least, most) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
    if least == most {
        return vec![0; raw.len()];
    }
    let share = |score: i64| (score - least) as f64 / (most - least) as f64;
    raw.into_iter().map(|score| (MAX_SCORE as f64 * share(score)) as i64).collect()
}
