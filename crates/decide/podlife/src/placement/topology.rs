//! How a machine's processors hang together.

use std::collections::{BTreeMap, BTreeSet};

use super::CpuSet;

/// Where one processor sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its core, numbered over the whole machine.
    pub core: u32,
    /// Its socket.
    pub socket: u32,
    /// Its memory node.
    pub node: u32,
    /// The last cache before memory that it shares with others.
    pub cache: u32,
}

/// The processors of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    places: BTreeMap<u32, Place>,
}

impl Topology {
    /// A machine with these processors.
    #[must_use]
    pub fn new(places: BTreeMap<u32, Place>) -> Self {
        Self { places }
    }

    /// All processors.
    #[must_use]
    pub fn cpus(&self) -> CpuSet {
        self.places.keys().copied().collect()
    }

    /// How many processors a core has.
    #[must_use]
    pub fn cpus_per_core(&self) -> usize {
        self.places.len() / self.count(|place| place.core).max(1)
    }

    /// How many processors share a cache.
    pub(super) fn cpus_per_cache(&self) -> usize {
        self.places.len() / self.count(|place| place.cache).max(1)
    }

    /// The memory nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<u32> {
        let nodes: BTreeSet<u32> = self.places.values().map(|place| place.node).collect();
        nodes.into_iter().collect()
    }

    /// The sockets of some memory nodes.
    #[must_use]
    pub fn sockets_of(&self, nodes: &BTreeSet<u32>) -> BTreeSet<u32> {
        self.places.values().filter(|place| nodes.contains(&place.node)).map(|place| place.socket).collect()
    }

    /// The processors of some memory nodes.
    #[must_use]
    pub fn cpus_of(&self, nodes: &BTreeSet<u32>) -> CpuSet {
        self.places.iter().filter(|(_, place)| nodes.contains(&place.node)).map(|(cpu, _)| *cpu).collect()
    }

    /// Whether sockets are no larger than memory nodes, so that nodes are the upper level.
    pub(super) fn has_wide_nodes(&self) -> bool {
        self.count(|place| place.socket) >= self.count(|place| place.node)
    }

    /// Whether there are more sockets than memory nodes.
    pub(super) fn has_sockets_within_nodes(&self) -> bool {
        self.count(|place| place.socket) > self.count(|place| place.node)
    }

    /// Memory nodes and sockets, the larger ones first.
    pub(super) fn levels(&self) -> (Level, Level) {
        if self.has_wide_nodes() {
            (|place| place.node, |place| place.socket)
        } else {
            (|place| place.socket, |place| place.node)
        }
    }

    /// The processors of the sockets of some memory nodes.
    pub(super) fn cpus_of_sockets(&self, nodes: &BTreeSet<u32>) -> CpuSet {
        let sockets = self.sockets_of(nodes);
        self.places.iter().filter(|(_, place)| sockets.contains(&place.socket)).map(|(cpu, _)| *cpu).collect()
    }

    /// The processors among `cpus`, by a level.
    pub(super) fn group(&self, cpus: &CpuSet, level: Level) -> BTreeMap<u32, CpuSet> {
        let mut groups: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for cpu in cpus.iter() {
            if let Some(place) = self.places.get(&cpu) {
                groups.entry(level(place)).or_default().insert(cpu);
            }
        }
        groups.into_iter().map(|(id, cpus)| (id, cpus.into_iter().collect())).collect()
    }

    fn count(&self, level: impl Fn(&Place) -> u32) -> usize {
        self.places.values().map(level).collect::<BTreeSet<u32>>().len()
    }
}

pub(super) type Level = fn(&Place) -> u32;
