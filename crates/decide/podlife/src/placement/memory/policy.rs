//! The static policy: guaranteed pods get their memory on as few memory nodes as it goes
//! (kubelet: pkg/kubelet/cm/memorymanager/policy_static.go).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Banks, Block, Entries, MEMORY, Node, Record, Reserved, Table};
use crate::placement::choice::combinations;
use crate::placement::hints::{Hint, Hints, below};
use crate::placement::pinned;
use crate::qos::amount;
use crate::spec::is_sidecar;

/// What is asked for, in bytes by resource.
type Wish = BTreeMap<String, u64>;

/// What init containers of a pod leave to the containers after them, by nodes and resource.
type Reusable = BTreeMap<Vec<u32>, Wish>;

/// The memory of a node and who has it.
#[derive(Clone, Debug)]
pub struct Memory {
    empty: BTreeMap<u32, Node>,
    machine: BTreeMap<u32, Node>,
    entries: Entries,
    reusable: BTreeMap<String, Reusable>,
}

impl Memory {
    /// A machine of which nobody has anything.
    #[must_use]
    pub fn new(banks: &Banks, reserved: &Reserved) -> Self {
        let node = |(id, bank): (&u32, &super::Bank)| {
            let kept = |name: &str| reserved.get(id).and_then(|own| own.get(name)).copied().unwrap_or(0);
            let table = |name: &str, total: u64, elsewhere: u64| {
                let system_reserved = kept(name);
                let allocatable = total.saturating_sub(system_reserved).saturating_sub(elsewhere);
                Table { total, system_reserved, allocatable, reserved: 0, free: allocatable }
            };
            let pages: u64 = bank.huge_pages.values().sum();
            let mut memory_map: BTreeMap<String, Table> =
                bank.huge_pages.iter().map(|(name, size)| (name.clone(), table(name, *size, 0))).collect();
            memory_map.insert(MEMORY.to_owned(), table(MEMORY, bank.total, pages));
            (*id, Node { number_of_assignments: 0, memory_map, cells: vec![*id] })
        };
        let empty: BTreeMap<u32, Node> = banks.iter().map(node).collect();
        Self { machine: empty.clone(), empty, entries: Entries::new(), reusable: BTreeMap::new() }
    }

    /// Goes on with what an agent before this one wrote.
    ///
    /// # Errors
    /// The machine is another, or something else is reserved.
    pub fn restore(&mut self, record: Record) -> Result<(), String> {
        if record.machine_state.is_empty() {
            return match record.entries.is_empty() {
                true => Ok(()),
                false => {
                    Err("[memorymanager] machine state can not be empty when it has memory assignments"
                        .into())
                }
            };
        }
        let mut expected = self.empty.clone();
        for (uid, containers) in &record.entries {
            for (container, blocks) in containers {
                for block in blocks {
                    assign(&mut expected, block, block.size).map_err(|missing| {
                        format!("[memorymanager] (pod: {uid}, container: {container}) the memory assignment uses {missing}")
                    })?;
                }
            }
        }
        if !is_same(&record.machine_state, &expected) {
            return Err("[memorymanager] the expected machine state is different from the real one".into());
        }
        (self.machine, self.entries) = (record.machine_state, record.entries);
        Ok(())
    }

    /// The record of all of it.
    #[must_use]
    pub fn record(&self, policy: &str) -> String {
        Record::write(policy, &self.machine, &self.entries)
    }

    /// What a container has.
    #[must_use]
    pub fn own(&self, uid: &str, container: &str) -> Option<&[Block]> {
        self.entries.get(uid)?.get(container).map(Vec::as_slice)
    }

    /// The memory nodes of a container.
    #[must_use]
    pub fn nodes_of(&self, uid: &str, container: &str) -> BTreeSet<u32> {
        self.own(uid, container).into_iter().flatten().flat_map(|block| block.numa_affinity.clone()).collect()
    }

    /// What everybody has.
    #[must_use]
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// What pods may have of each node.
    #[must_use]
    pub fn allocatable(&self) -> Vec<Block> {
        let of = |(id, node): (&u32, &Node)| -> Vec<Block> {
            let tables = node.memory_map.iter().filter(|(_, table)| table.allocatable > 0);
            let block = |(resource, table): (&String, &Table)| Block {
                numa_affinity: vec![*id],
                resource: resource.clone(),
                size: table.allocatable,
            };
            tables.map(block).collect()
        };
        self.empty.iter().flat_map(of).collect()
    }

    /// Where a container's memory could be.
    #[must_use]
    pub fn hints_of(&self, uid: &str, spec: &PodSpec, container: &Container) -> Hints {
        if !pinned(spec) {
            return Hints::new();
        }
        match self.own(uid, &container.name) {
            Some(blocks) => again(blocks),
            None => self.hints(uid, &wish(container)),
        }
    }

    /// Where a pod's memory as a whole could be.
    #[must_use]
    pub fn hints_of_pod(&self, uid: &str, spec: &PodSpec) -> Hints {
        if !pinned(spec) { Hints::new() } else { self.hints(uid, &wish_of_pod(spec)) }
    }

    /// Gives a container the memory that it asks for, on the nodes of the hint if it has any.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn allocate(
        &mut self,
        uid: &str,
        spec: &PodSpec,
        container: &Container,
        hint: &Hint,
    ) -> Result<(), String> {
        if !pinned(spec) || self.own(uid, &container.name).is_some() {
            return Ok(());
        }
        let wish = wish(container);
        let nodes = self.choose(uid, &wish, hint)?;
        if self.is_mixed(&nodes) {
            return Err("[memorymanager] preferred hint violates NUMA node allocation".into());
        }
        let mut blocks = Vec::new();
        for (resource, size) in wish {
            let block = Block { numa_affinity: nodes.clone(), resource, size };
            let reused = self.reusable_of(uid, &nodes, &block.resource);
            // Nodes were chosen among those there are.
            let _ = assign(&mut self.machine, &block, size.saturating_sub(reused));
            blocks.push(block);
        }
        self.reuse(uid, spec, container, &blocks);
        for block in &blocks {
            self.shorten_init(uid, spec, container, block);
        }
        self.entries.entry(uid.to_owned()).or_default().insert(container.name.clone(), blocks);
        Ok(())
    }

    /// Takes back what a container had.
    pub fn release_container(&mut self, uid: &str, container: &str) {
        let Some(containers) = self.entries.get_mut(uid) else { return };
        let blocks = containers.remove(container).unwrap_or_default();
        if containers.is_empty() {
            self.entries.remove(uid);
        }
        for block in blocks {
            let mut left = block.size;
            for id in &block.numa_affinity {
                let Some(node) = self.machine.get_mut(id) else { continue };
                node.number_of_assignments -= 1;
                if node.number_of_assignments == 0 {
                    node.cells = vec![*id];
                }
                left = node.give_back(&block.resource, left);
            }
        }
    }

    /// Takes back what a pod had.
    pub fn release(&mut self, uid: &str) {
        self.reusable.remove(uid);
        let containers: Vec<String> =
            self.entries.get(uid).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for container in containers {
            self.release_container(uid, &container);
        }
    }

    /// The nodes of a hint, or the best ones; more of them when they have too little.
    fn choose(&self, uid: &str, wish: &Wish, hint: &Hint) -> Result<Vec<u32>, String> {
        let possible = self.possible(uid, wish);
        let mut nodes = match &hint.nodes {
            Some(nodes) => nodes.clone(),
            None => {
                let found = best(possible.iter()).ok_or(
                    "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available",
                )?;
                if hint.preferred && !found.1 {
                    return Err("[memorymanager] failed to find the default preferred hint".into());
                }
                found.0.clone()
            }
        };
        let free = |resource: &String| -> u64 {
            nodes.iter().filter_map(|id| self.machine.get(id)).map(|node| node.free(resource)).sum()
        };
        if wish.iter().any(|(resource, size)| free(resource) < *size) {
            let wider = possible.iter().filter(|(found, _)| nodes.is_subset(found));
            let found = best(wider)
                .ok_or("[memorymanager] failed to find NUMA nodes to extend the current topology hint")?;
            if hint.preferred && !found.1 {
                return Err("[memorymanager] failed to find the extended preferred hint".into());
            }
            nodes = found.0.clone();
        }
        Ok(nodes.into_iter().collect())
    }

    /// Whether a block over several nodes would meet blocks of other nodes.
    fn is_mixed(&self, nodes: &[u32]) -> bool {
        nodes.len() > 1 && nodes.iter().any(|id| self.is_taken(*id, nodes))
    }

    /// Whether blocks of other nodes than these lie on a node.
    fn is_taken(&self, id: u32, nodes: &[u32]) -> bool {
        let node = self.machine.get(&id);
        node.is_some_and(|node| {
            node.number_of_assignments > 0 && (node.cells.len() == 1 || !is_same_group(&node.cells, nodes))
        })
    }

    fn hints(&self, uid: &str, wish: &Wish) -> Hints {
        let possible = self.possible(uid, wish);
        if possible.is_empty() {
            // Upstream has no opinion then, and tells why when it is to give.
            return Hints::new();
        }
        let hint = |(nodes, preferred): &(BTreeSet<u32>, bool)| Hint {
            nodes: Some(nodes.clone()),
            preferred: *preferred,
        };
        let hints: Vec<Hint> = possible.iter().map(hint).collect();
        wish.keys().map(|resource| (resource.clone(), Some(hints.clone()))).collect()
    }

    /// Every group of nodes that has what is asked for, and whether no fewer would do on an empty machine.
    fn possible(&self, uid: &str, wish: &Wish) -> Vec<(BTreeSet<u32>, bool)> {
        let all: Vec<u32> = self.machine.keys().copied().collect();
        let mut least = all.len();
        let mut found = Vec::new();
        for size in 1..=all.len() {
            for nodes in combinations(&all, size) {
                let sum = |read: &dyn Fn(&Node) -> u64| -> u64 {
                    nodes.iter().filter_map(|id| self.machine.get(id)).map(read).sum()
                };
                if wish.iter().any(|(name, size)| sum(&|node| node.allocatable(name)) < *size) {
                    continue;
                }
                least = least.min(size);
                let in_group = |id: &u32| self.machine.get(id).is_some_and(|node| node.cells.len() > 1);
                let is_free = match nodes.as_slice() {
                    [one] => !in_group(one),
                    many => !self.is_mixed(many),
                };
                let has = |(name, size): (&String, &u64)| {
                    sum(&|node| node.free(name)) + self.reusable_of(uid, &nodes, name) >= *size
                };
                if is_free && wish.iter().all(has) {
                    found.push(nodes);
                }
            }
        }
        found
            .into_iter()
            .map(|nodes| (nodes.len() == least, nodes))
            .map(|(best, nodes)| (nodes.into_iter().collect(), best))
            .collect()
    }

    fn reusable_of(&self, uid: &str, nodes: &[u32], resource: &str) -> u64 {
        let own = self.reusable.get(uid).and_then(|own| own.get(nodes));
        own.and_then(|own| own.get(resource)).copied().unwrap_or(0)
    }

    /// Notes what an init container leaves, or what a container after it uses again.
    fn reuse(&mut self, uid: &str, spec: &PodSpec, container: &Container, blocks: &[Block]) {
        self.reusable.retain(|pod, _| pod == uid);
        let own = self.reusable.entry(uid.to_owned()).or_default();
        let leaves = is_init(spec, container);
        for block in blocks {
            let left = own
                .entry(block.numa_affinity.clone())
                .or_default()
                .entry(block.resource.clone())
                .or_default();
            *left = if leaves { block.size.max(*left) } else { left.saturating_sub(block.size) };
        }
    }

    /// What a container uses again is no longer an init container's: all blocks of a pod are together what it has.
    fn shorten_init(&mut self, uid: &str, spec: &PodSpec, container: &Container, block: &Block) {
        let Some(own) = self.entries.get_mut(uid) else { return };
        let mut left = block.size;
        let before = spec.init_containers.iter().flatten().take_while(|init| init.name != container.name);
        for init in before.filter(|init| !is_sidecar(init)) {
            for known in own.get_mut(&init.name).into_iter().flatten() {
                if known.resource == block.resource
                    && is_same_group(&known.numa_affinity, &block.numa_affinity)
                {
                    let taken = known.size.min(left);
                    known.size -= taken;
                    left -= taken;
                }
            }
        }
    }
}

/// Puts a block of which `size` bytes are new on its nodes; what of it there is not.
fn assign(machine: &mut BTreeMap<u32, Node>, block: &Block, size: u64) -> Result<(), &'static str> {
    let mut left = size;
    for id in &block.numa_affinity {
        let node = machine.get_mut(id).ok_or("the NUMA that does not exist")?;
        node.number_of_assignments += 1;
        node.cells.clone_from(&block.numa_affinity);
        if !node.memory_map.contains_key(&block.resource) {
            return Err("memory resource that does not exist");
        }
        left = node.take(&block.resource, left);
    }
    Ok(())
}

/// The hints that lead to the blocks that a container has already.
fn again(blocks: &[Block]) -> Hints {
    let hint = |block: &Block| {
        let nodes = Some(block.numa_affinity.iter().copied().collect());
        (block.resource.clone(), Some(vec![Hint { nodes, preferred: true }]))
    };
    blocks.iter().map(hint).collect()
}

/// The best of some groups: preferred, then narrow, then with low numbers.
fn best<'a>(groups: impl Iterator<Item = &'a (BTreeSet<u32>, bool)>) -> Option<&'a (BTreeSet<u32>, bool)> {
    groups.reduce(|known, new| match (known.1, new.1) {
        (false, true) => new,
        (true, false) => known,
        _ if below(&new.0, &known.0) => new,
        _ => known,
    })
}

/// Whether two states of a machine are the same. Blocks over several nodes may lie on them in another order.
fn is_same(known: &BTreeMap<u32, Node>, expected: &BTreeMap<u32, Node>) -> bool {
    let sums = |machine: &BTreeMap<u32, Node>, cells: &[u32], name: &str| {
        let tables = cells.iter().filter_map(|id| machine.get(id)?.memory_map.get(name));
        tables.fold((0, 0), |(free, reserved), table| (free + table.free, reserved + table.reserved))
    };
    known.len() == expected.len()
        && known.iter().all(|(id, one)| {
            let Some(other) = expected.get(id) else { return false };
            let fixed = |table: &Table| (table.total, table.system_reserved, table.allocatable);
            one.number_of_assignments == other.number_of_assignments
                && is_same_group(&one.cells, &other.cells)
                && one.memory_map.len() == other.memory_map.len()
                && one.memory_map.iter().all(|(name, table)| {
                    other.memory_map.get(name).is_some_and(|other| fixed(table) == fixed(other))
                        && sums(known, &one.cells, name) == sums(expected, &one.cells, name)
                })
        })
}

fn is_same_group(a: &[u32], b: &[u32]) -> bool {
    a.iter().collect::<BTreeSet<_>>() == b.iter().collect::<BTreeSet<_>>()
}

/// Whether a container runs before the others and then leaves what it had.
fn is_init(spec: &PodSpec, container: &Container) -> bool {
    let mut inits = spec.init_containers.iter().flatten();
    inits.any(|init| init.name == container.name && !is_sidecar(init))
}

/// What a container asks for.
fn wish(container: &Container) -> Wish {
    let Some(resources) = &container.resources else { return Wish::new() };
    let lists = [&resources.requests, &resources.limits];
    let names = lists.into_iter().flatten().flat_map(BTreeMap::keys);
    let mut wish = Wish::new();
    for name in names.filter(|name| *name == MEMORY || name.starts_with("hugepages-")) {
        let asked =
            amount(resources.requests.as_ref(), name).or_else(|| amount(resources.limits.as_ref(), name));
        let bytes = asked.and_then(|asked| u64::try_from(asked.value()).ok()).unwrap_or(0);
        wish.insert(name.clone(), bytes);
    }
    wish
}

/// What a pod asks for at once.
fn wish_of_pod(spec: &PodSpec) -> Wish {
    let (mut lasting, mut peak) = (Wish::new(), Wish::new());
    for container in spec.init_containers.iter().flatten() {
        for (name, size) in wish(container) {
            let sidecars = lasting.entry(name.clone()).or_default();
            if is_sidecar(container) {
                *sidecars += size;
            } else {
                let highest = peak.entry(name).or_default();
                *highest = (*highest).max(*sidecars + size);
            }
        }
    }
    let mut sum = Wish::new();
    for container in &spec.containers {
        for (name, size) in wish(container) {
            *sum.entry(name).or_default() += size;
        }
    }
    for (name, size) in &mut sum {
        *size += lasting.get(name).copied().unwrap_or(0);
        *size = (*size).max(peak.get(name).copied().unwrap_or(0));
    }
    sum
}
