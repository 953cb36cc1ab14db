//! Which processors are taken: as few memory nodes, sockets and cores as it goes
//! (kubelet: pkg/kubelet/cm/cpumanager/cpu_assignment.go).

use std::collections::{BTreeMap, BTreeSet};

use super::balance::Shares;
use super::topology::{Level, Topology};
use super::{CpuSet, Refused};

/// How what is less than a memory node or socket is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Filling {
    /// Whole cores first.
    #[default]
    Cores,
    /// What shares a cache first, then whole cores.
    Caches,
    /// By number, so that threads of one core come late.
    Threads,
}

/// Takes `count` of `available`: whole nodes or sockets first, then as `filling` says, then the rest of cores that
/// are in use already. Of equals those are taken that leave the least behind.
pub(super) fn packed(
    topology: &Topology,
    available: &CpuSet,
    count: usize,
    filling: Filling,
) -> Result<CpuSet, Refused> {
    if available.len() < count {
        return Err(Refused::TooFew { requested: count, available: available.len() });
    }
    let mut taking = Taking { topology, free: available.clone(), taken: CpuSet::default(), wanted: count };
    let (first, second) = topology.levels();
    for level in [first, second] {
        taking.take_whole(level, |free| order(&topology.group(free, level)));
    }
    if filling == Filling::Caches {
        taking.take_of_caches();
    }
    if filling != Filling::Threads {
        taking.take_whole(|place| place.core, |free| cores(topology, free));
    }
    for cpu in singles(topology, &taking.free, filling).into_iter().take(taking.missing()) {
        taking.take(&[cpu].into_iter().collect());
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
    filling: Filling,
) -> Result<CpuSet, Refused> {
    let on_nodes = || -> Vec<(u32, usize)> {
        let free = topology.group(available, |place| place.node);
        nodes(topology, available).into_iter().map(|id| (id, free.get(&id).map_or(0, CpuSet::len))).collect()
    };
    let shares = match count.is_multiple_of(group) && 0 < count && count <= available.len() {
        true => Shares { of: &on_nodes(), count, group }.found(fewest_nodes(topology, count, group)),
        false => None,
    };
    let Some(shares) = shares else { return packed(topology, available, count, filling) };
    let mut taken = CpuSet::default();
    for (node, share) in shares {
        let here = topology.cpus_of(&[node].into()).intersection(available).difference(&taken);
        taken = taken.union(&packed(topology, &here, share, filling)?);
    }
    Ok(taken)
}

/// How many memory nodes are needed at least if all are free.
fn fewest_nodes(topology: &Topology, count: usize, group: usize) -> usize {
    let groups_of_node = topology.cpus().len().div_ceil(group).div_ceil(topology.nodes().len().max(1));
    count.div_ceil(group).div_ceil(groups_of_node.max(1))
}

/// Every choice of `size` of them, in their order.
pub(crate) fn combinations<T: Copy>(of: &[T], size: usize) -> Vec<Vec<T>> {
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

    /// Takes caches that are wholly free, and the rest of one that has enough.
    fn take_of_caches(&mut self) {
        let topology = self.topology;
        for cache in caches(topology, &self.free) {
            if self.missing() >= topology.cpus_per_cache() {
                self.take_whole(|place| place.cache, |free| caches(topology, free));
            }
            if self.missing() == 0 {
                return;
            }
            let part = self.part_of(cache);
            if part.len() == self.missing() {
                self.take(&part);
            }
        }
    }

    /// What a cache can give of what is missing: its first cores, without the last thread if their number is odd.
    fn part_of(&self, cache: u32) -> CpuSet {
        let (missing, per_core) = (self.missing(), self.topology.cpus_per_core().max(1));
        let here = self.topology.group(&self.free, |place| place.cache).remove(&cache).unwrap_or_default();
        let cores = self.topology.group(&here, |place| place.core);
        let cpus: CpuSet = cores.values().take(missing.div_ceil(per_core)).flat_map(CpuSet::iter).collect();
        let is_odd = !missing.is_multiple_of(2) && per_core > 1 && cpus.len() > missing;
        cpus.iter().take(cpus.len() - usize::from(is_odd)).collect()
    }
}

/// Those with the least free first.
fn order(groups: &BTreeMap<u32, CpuSet>) -> Vec<u32> {
    let mut ids: Vec<u32> = groups.keys().copied().collect();
    ids.sort_by_key(|id| (groups.get(id).map_or(0, CpuSet::len), *id));
    ids
}

/// What lies in each part of the upper levels, in the order of these.
fn below(topology: &Topology, free: &CpuSet, levels: &[Level]) -> Vec<u32> {
    let [level, deeper @ ..] = levels else { return Vec::new() };
    let groups = topology.group(free, *level);
    let ids = order(&groups);
    if deeper.is_empty() {
        return ids;
    }
    let mut seen = BTreeSet::new();
    let inside = ids.iter().filter_map(|id| groups.get(id)).flat_map(|here| below(topology, here, deeper));
    inside.filter(|id| seen.insert(*id)).collect()
}

fn cores(topology: &Topology, free: &CpuSet) -> Vec<u32> {
    let (first, second) = topology.levels();
    below(topology, free, &[first, second, |place| place.core])
}

/// Memory nodes; those of one socket together where sockets are larger.
fn nodes(topology: &Topology, free: &CpuSet) -> Vec<u32> {
    if topology.has_wide_nodes() {
        return below(topology, free, &[|place| place.node]);
    }
    below(topology, free, &[|place| place.socket, |place| place.node])
}

/// Caches by their nodes; a cache that several nodes share counts where it comes first, with all that it has.
fn caches(topology: &Topology, free: &CpuSet) -> Vec<u32> {
    let of_nodes = topology.group(free, |place| place.node);
    let all = topology.group(free, |place| place.cache);
    let mut seen = BTreeSet::new();
    let of_node = |node: u32| {
        let here = topology.group(of_nodes.get(&node)?, |place| place.cache);
        Some(order(&here.keys().filter_map(|id| Some((*id, all.get(id)?.clone()))).collect()))
    };
    nodes(topology, free).into_iter().filter_map(of_node).flatten().filter(|id| seen.insert(*id)).collect()
}

/// Single processors in the order in which they are taken.
fn singles(topology: &Topology, free: &CpuSet, filling: Filling) -> Vec<u32> {
    let (level, ids): (Level, Vec<u32>) = if filling == Filling::Threads {
        let levels: &[Level] = match topology.has_wide_nodes() {
            true => &[|place| place.node, |place| place.socket],
            false => &[|place| place.socket],
        };
        (|place| place.socket, below(topology, free, levels))
    } else {
        (|place| place.core, cores(topology, free))
    };
    let groups = topology.group(free, level);
    ids.iter().filter_map(|id| groups.get(id)).flat_map(CpuSet::iter).collect()
}
