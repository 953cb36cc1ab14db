//! The machine's processors and memory nodes, from the files of the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::placement::hints::Nodes;
use plimsoll_podlife::placement::memory::{Bank, Banks};
use plimsoll_podlife::placement::{CpuSet, Place, Topology};

/// How far it is to another memory node when nobody says it, by the firmware's measure: 10 is none.
const AWAY: u32 = 20;

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn nodes_online(system: &Path) -> CpuSet {
    read(system.join("node/online")).parse().unwrap_or_default()
}

/// How processors hang together, from the files of the kernel below `system`.
pub(super) fn topology(system: &Path) -> Topology {
    let online: CpuSet = read(system.join("cpu/online")).parse().unwrap_or_default();
    let cpus_of = |node: u32| -> CpuSet {
        read(system.join(format!("node/node{node}/cpulist"))).parse().unwrap_or_default()
    };
    let nodes: Vec<(u32, CpuSet)> = nodes_online(system).iter().map(|node| (node, cpus_of(node))).collect();
    let node_of = |cpu: u32| nodes.iter().find(|(_, cpus)| cpus.contains(cpu));
    let place = |cpu: u32| {
        let folder = system.join(format!("cpu/cpu{cpu}/topology"));
        let siblings: CpuSet = read(folder.join("thread_siblings_list")).parse().unwrap_or_default();
        let socket = read(folder.join("physical_package_id")).parse().unwrap_or(0);
        let (node, of_node) = node_of(cpu).map_or((0, online.len()), |(node, cpus)| (*node, cpus.len()));
        Place {
            // The first of its threads: numbers of cores repeat in each socket.
            core: siblings.iter().next().unwrap_or(cpu),
            socket,
            node,
            cache: split_cache(&system.join(format!("cpu/cpu{cpu}/cache/index3")), of_node).unwrap_or(socket),
        }
    };
    Topology::new(online.iter().map(|cpu| (cpu, place(cpu))).collect::<BTreeMap<_, _>>())
}

/// The number of a cache that only a part of the `of_node` processors of a memory node share.
fn split_cache(folder: &Path, of_node: usize) -> Option<u32> {
    let shared: CpuSet = read(folder.join("shared_cpu_list")).parse().ok()?;
    let id = read(folder.join("id")).parse().ok()?;
    (!shared.is_empty() && shared.len() != of_node).then_some(id)
}

/// The memory nodes; one when the machine does not tell of any.
pub(super) fn nodes(system: &Path) -> Nodes {
    let online = nodes_online(system);
    let ids: Vec<u32> = if online.is_empty() { vec![0] } else { online.iter().collect() };
    let ways = |from: u32| -> BTreeMap<u32, u32> {
        let text = read(system.join(format!("node/node{from}/distance")));
        let mut told = text.split_whitespace().map(|word| word.parse().ok());
        let way = |to: &u32| (*to, told.next().flatten().unwrap_or(if *to == from { 10 } else { AWAY }));
        ids.iter().map(way).collect()
    };
    Nodes(ids.iter().map(|id| (*id, ways(*id))).collect())
}

/// What the memory nodes have; `memory` bytes when the machine does not tell of any.
pub(super) fn banks(system: &Path, memory: u64) -> Banks {
    let bank = |node: u32| -> Bank {
        let folder = system.join(format!("node/node{node}"));
        let text = read(folder.join("meminfo"));
        let line = text.lines().find_map(|line| line.split_once("MemTotal:"));
        let kilobytes = line.and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<u64>().ok());
        Bank {
            total: kilobytes.map_or(memory, |kilobytes| kilobytes * 1024),
            huge_pages: huge_pages(&folder.join("hugepages")),
        }
    };
    let banks: Banks = nodes_online(system).iter().map(|node| (node, bank(node))).collect();
    if banks.is_empty() { Banks::from([(0, Bank { total: memory, ..Bank::default() })]) } else { banks }
}

fn huge_pages(folder: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let pages = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let bytes = size * 1024;
        let count: u64 = read(entry.path().join("nr_hugepages")).parse().unwrap_or(0);
        Some((format!("hugepages-{}", Quantity::from_bytes(bytes)), count * bytes.unsigned_abs()))
    });
    pages.collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_memory_nodes_have() {
        let temp = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| {
            let path = temp.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let alone = Banks::from([(0, Bank { total: 7, ..Bank::default() })]);
        assert_eq!((banks(temp.path(), 7), nodes(temp.path()).ids()), (alone, [0].into()));
        put("node/online", "0-1");
        put("node/node0/distance", "10 21\n");
        put("node/node0/meminfo", "Node 0 MemTotal:       2048 kB\nNode 0 MemFree: 1 kB\n");
        put("node/node0/hugepages/hugepages-2048kB/nr_hugepages", "3\n");
        let pages = BTreeMap::from([("hugepages-2Mi".to_owned(), 6 << 20)]);
        let first = Bank { total: 2 << 20, huge_pages: pages };
        let second = Bank { total: 7, ..Bank::default() };
        assert_eq!(banks(temp.path(), 7), Banks::from([(0, first), (1, second)]));
        let ways = [(0, [(0, 10), (1, 21)].into()), (1, [(0, AWAY), (1, 10)].into())];
        assert_eq!(nodes(temp.path()), Nodes(ways.into()));
    }

    #[test]
    fn the_kernel_tells_how_processors_hang_together() {
        let temp = tempfile::tempdir().unwrap();
        let put = |file: String, text: &str| {
            let path = temp.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("cpu/online".into(), "0-3\n");
        put("node/online".into(), "0-1\n");
        for (node, cpus) in [(0, "0,2\n"), (1, "1,3\n")] {
            put(format!("node/node{node}/cpulist"), cpus);
        }
        for (cpu, siblings, socket) in [(0, "0,2", "0"), (1, "1,3", "1"), (2, "0,2", "0"), (3, "1,3", "1")] {
            put(format!("cpu/cpu{cpu}/topology/thread_siblings_list"), siblings);
            put(format!("cpu/cpu{cpu}/topology/physical_package_id"), socket);
        }
        let place = |core, socket, cache| Place { core, socket, node: socket, cache };
        let places = [(0, place(0, 0, 0)), (1, place(1, 1, 1)), (2, place(0, 0, 0)), (3, place(1, 1, 1))];
        assert_eq!(topology(temp.path()), Topology::new(places.into()));
        // A cache that all of a node share divides nothing; the second node has one for each processor.
        for (cpu, shared, id) in [(0, "0,2", "7"), (1, "1", "8"), (2, "0,2", "7"), (3, "3", "9")] {
            put(format!("cpu/cpu{cpu}/cache/index3/shared_cpu_list"), shared);
            put(format!("cpu/cpu{cpu}/cache/index3/id"), id);
        }
        let places = [(0, place(0, 0, 0)), (1, place(1, 1, 8)), (2, place(0, 0, 0)), (3, place(1, 1, 9))];
        assert_eq!(topology(temp.path()), Topology::new(places.into()));
    }
}
