//! Which processors are taken: as few memory nodes, sockets and cores as it goes
//! (kubelet: pkg/kubelet/cm/cpumanager/cpu_assignment.go).

use std::collections::{BTreeMap, BTreeSet};

use super::topology::{Level, Topology};
use super::{CpuSet, Refused};

/// Takes `count` of `available`: whole nodes or sockets first, then whole cores, then the rest of cores that are
/// in use already. Of equals those are taken that leave the least behind.
pub(super) fn packed(topology: &Topology, available: &CpuSet, count: usize) -> Result<CpuSet, Refused> {
    if available.len() < count {
        return Err(Refused::TooFew { requested: count, available: available.len() });
    }
    let mut taking = Taking { topology, free: available.clone(), taken: CpuSet::default(), wanted: count };
    let (first, second): (Level, Level) = if topology.has_wide_nodes() {
        (|place| place.node, |place| place.socket)
    } else {
        (|place| place.socket, |place| place.node)
    };
    for level in [first, second] {
        taking.take_whole(level, |free| order(&topology.group(free, level)));
    }
    taking.take_whole(|place| place.core, |free| cores(topology, free, first, second));
    for core in cores(topology, &taking.free, first, second) {
        let cpus = topology.group(&taking.free, |place| place.core).remove(&core).unwrap_or_default();
        for cpu in cpus.iter().take(taking.missing()).collect::<Vec<_>>() {
            taking.take(&[cpu].into_iter().collect());
        }
    }
    Ok(taking.taken)
}

/// Takes as many from each of as few memory nodes as it goes, in groups of `group` processors; where that does
/// not come out even, as [`packed`] does.
pub(super) fn spread(
    topology: &Topology,
    available: &CpuSet,
    count: usize,
    group: usize,
) -> Result<CpuSet, Refused> {
    if available.len() < count {
        return Err(Refused::TooFew { requested: count, available: available.len() });
    }
    let nodes = topology.nodes();
    if !count.is_multiple_of(group) {
        return packed(topology, available, count);
    }
    for size in 1..=nodes.len() {
        let mut best: Option<(u64, Vec<(u32, usize)>)> = None;
        for combination in combinations(&nodes, size) {
            let Some(shares) = shares(topology, available, &combination, count, group) else { continue };
            let rest = |(node, taken): &(u32, usize)| free_in(topology, available, *node) - taken;
            let score = imbalance(&shares.iter().map(rest).collect::<Vec<_>>());
            if best.as_ref().is_none_or(|(known, _)| score < *known) {
                best = Some((score, shares));
            }
        }
        if let Some((_, shares)) = best {
            let mut taken = CpuSet::default();
            for (node, share) in shares {
                let here = topology.cpus_of(&[node].into()).intersection(available);
                taken = taken.union(&packed(topology, &here, share)?);
            }
            return Ok(taken);
        }
    }
    packed(topology, available, count)
}

fn free_in(topology: &Topology, available: &CpuSet, node: u32) -> usize {
    topology.cpus_of(&[node].into()).intersection(available).len()
}

/// How many of `count` each node gives; none when they do not have enough in whole groups.
fn shares(
    topology: &Topology,
    available: &CpuSet,
    nodes: &[u32],
    count: usize,
    group: usize,
) -> Option<Vec<(u32, usize)>> {
    let even = count / nodes.len() / group * group;
    let mut shares: Vec<(u32, usize)> = nodes.iter().map(|node| (*node, even)).collect();
    if even == 0 || shares.iter().any(|(node, share)| free_in(topology, available, *node) < *share) {
        return None;
    }
    let mut rest = count - even * nodes.len();
    while rest > 0 {
        // What is left over comes from the nodes with the most.
        let left = |(node, share): &(u32, usize)| free_in(topology, available, *node) - share;
        let most = shares.iter().enumerate().max_by_key(|(at, it)| (left(it), std::cmp::Reverse(*at)))?.0;
        let (node, share) = shares.get_mut(most)?;
        if free_in(topology, available, *node) - *share < group {
            return None;
        }
        *share += group;
        rest -= group;
    }
    Some(shares)
}

/// How uneven numbers are: the sum of squares of their distances from the mean, times how many there are.
fn imbalance(left: &[usize]) -> u64 {
    let sum: usize = left.iter().sum();
    left.iter().map(|one| (one * left.len()).abs_diff(sum).pow(2) as u64).sum()
}

/// Every choice of `size` numbers.
pub(crate) fn combinations(of: &[u32], size: usize) -> Vec<Vec<u32>> {
    match (of, size) {
        (_, 0) => vec![Vec::new()],
        ([], _) => Vec::new(),
        ([first, rest @ ..], size) => {
            let with = combinations(rest, size - 1).into_iter().map(|tail| [vec![*first], tail].concat());
            with.chain(combinations(rest, size)).collect()
        }
    }
}

struct Taking<'t> {
    topology: &'t Topology,
    free: CpuSet,
    taken: CpuSet,
    wanted: usize,
}

impl Taking<'_> {
    fn missing(&self) -> usize {
        self.wanted - self.taken.len()
    }

    fn take(&mut self, cpus: &CpuSet) {
        self.free = self.free.difference(cpus);
        self.taken = self.taken.union(cpus);
    }

    /// Takes what is wholly free, as long as that much is wanted.
    fn take_whole(&mut self, level: Level, order: impl Fn(&CpuSet) -> Vec<u32>) {
        let all = self.topology.group(&self.topology.cpus(), level);
        for id in order(&self.free) {
            let Some(cpus) = all.get(&id).filter(|cpus| cpus.is_subset(&self.free)) else { continue };
            if self.missing() >= cpus.len() {
                self.take(&cpus.clone());
            }
        }
    }
}

/// Those with the least free first.
fn order(groups: &BTreeMap<u32, CpuSet>) -> Vec<u32> {
    let mut ids: Vec<u32> = groups.keys().copied().collect();
    ids.sort_by_key(|id| (groups.get(id).map_or(0, CpuSet::len), *id));
    ids
}

/// Cores in the order of the levels above them.
fn cores(topology: &Topology, free: &CpuSet, first: Level, second: Level) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    let mut cores = Vec::new();
    let upper = topology.group(free, first);
    for id in order(&upper) {
        let Some(inside) = upper.get(&id) else { continue };
        let lower = topology.group(inside, second);
        for id in order(&lower) {
            let Some(inside) = lower.get(&id) else { continue };
            let found = order(&topology.group(inside, |place| place.core));
            cores.extend(found.into_iter().filter(|core| seen.insert(*core)));
        }
    }
    cores
}
