//! Which processors of several machines are taken: upstream's cases and their outcomes
//! (kubelet: pkg/kubelet/cm/cpumanager/cpu_assignment_test.go).
#![expect(clippy::unwrap_used, reason = "tests")]

use super::choice::{Filling, packed, spread};
use super::*;

fn machine(cpus: u32, place: impl Fn(u32) -> [u32; 4]) -> Topology {
    let place = |cpu: u32| {
        let [core, socket, node, cache] = place(cpu);
        Place { core, socket, node, cache }
    };
    Topology::new((0..cpus).map(|cpu| (cpu, place(cpu))).collect())
}

/// One socket of four cores with two threads each.
fn one_socket() -> Topology {
    machine(8, |cpu| [cpu % 4, 0, 0, 0])
}

/// Two sockets with three cores of two threads each, numbered in turn.
fn in_turn() -> Topology {
    machine(12, |cpu| [cpu % 6, cpu % 2, cpu % 2, cpu % 2])
}

/// Two sockets with four cores without threads.
fn without_threads() -> Topology {
    machine(8, |cpu| [cpu, cpu / 4, cpu / 4, cpu / 4])
}

/// Two sockets of two memory nodes each, ten cores of two threads on each.
fn four_nodes() -> Topology {
    machine(80, |cpu| [cpu % 40, cpu % 40 / 20, cpu % 40 / 10, cpu % 40 / 20])
}

/// Four caches for four cores each without threads: on one socket, on two, on two nodes of one.
fn caches_of_one() -> Topology {
    machine(16, |cpu| [cpu, 0, 0, cpu / 4])
}

fn caches_of_two() -> Topology {
    machine(16, |cpu| [cpu, cpu / 8, cpu / 8, cpu / 4])
}

fn caches_of_nodes() -> Topology {
    machine(16, |cpu| [cpu, 0, cpu / 8, cpu / 4])
}

/// Two caches for four cores of two threads each.
fn caches_of_threads() -> Topology {
    machine(16, |cpu| [cpu % 8, 0, 0, cpu % 8 / 4])
}

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

#[test]
fn what_is_less_than_a_node_is_filled_as_asked() {
    use Filling::{Caches, Cores, Threads};
    for (machine, filling, available, count, expected) in [
        (in_turn(), Cores, "1-5,7-11", 1, "2"),
        (in_turn(), Cores, "0-11", 8, "0-2,4,6-8,10"),
        (four_nodes(), Cores, "0-79", 64, "0-31,40-71"),
        // Across cores.
        (one_socket(), Threads, "0-7", 3, "0-2"),
        (in_turn(), Threads, "0-11", 2, "0,2"),
        (in_turn(), Threads, "0-11", 3, "0,2,4"),
        (in_turn(), Threads, "0-11", 6, "0,2,4,6,8,10"),
        (in_turn(), Threads, "0-11", 8, "0-4,6,8,10"),
        (without_threads(), Threads, "0-7", 2, "0-1"),
        (four_nodes(), Threads, "0-79", 8, "0-7"),
        // By caches.
        (caches_of_one(), Caches, "1-15", 10, "1-2,4-11"),
        (caches_of_two(), Caches, "0-15", 4, "0-3"),
        (caches_of_two(), Caches, "2-15", 6, "2-7"),
        (caches_of_two(), Caches, "8-15", 4, "8-11"),
        (caches_of_nodes(), Caches, "3-8,12", 2, "4-5"),
        (caches_of_threads(), Caches, "2-7,10-15", 6, "4-6,12-14"),
        (caches_of_threads(), Caches, "1-7,9-15", 10, "1,4-7,9,12-15"),
        // Of an odd number the last thread stays; what no cache has is taken as without.
        (caches_of_threads(), Caches, "0-15", 3, "0-1,8"),
        (caches_of_one(), Caches, "0,4,8,12", 2, "0,4"),
    ] {
        let found = packed(&machine, &set(available), count, filling).unwrap();
        assert_eq!(found.to_string(), expected, "{filling:?} {available} {count}");
    }
}

#[test]
fn nodes_give_equal_parts() {
    for (machine, available, count, group, expected) in [
        (in_turn(), "1-5,7-11", 1, 1, "1"),
        (in_turn(), "1-5,7-11", 1, 2, "2"),
        (in_turn(), "0-11", 8, 1, "0-3,6-9"),
        (four_nodes(), "0-79", 64, 1, "0-7,10-17,20-27,30-37,40-47,50-57,60-67,70-77"),
        (four_nodes(), "0-79", 48, 1, "0-7,10-17,20-27,40-47,50-57,60-67"),
        (four_nodes(), "1-29,32-39,41-69,72-79", 48, 1, "1-8,10-17,20-27,41-48,50-57,60-67"),
        (four_nodes(), "2-29,31-39,42-69,71-79", 48, 1, "10-17,20-27,31-38,50-57,60-67,71-78"),
        (
            four_nodes(),
            "0-2,10-12,20-22,30-32,40-41,50-51,60-61,70-71",
            16,
            1,
            "0-1,10-11,20-21,30-31,40-41,50-51,60-61,70-71",
        ),
        (four_nodes(), "0-79", 26, 1, "0-6,10-16,40-45,50-55"),
        (four_nodes(), "0-79", 26, 2, "0-6,10-15,40-46,50-55"),
        (four_nodes(), "0-79", 62, 1, "0-7,10-17,20-27,30-37,40-47,50-57,60-66,70-76"),
        (four_nodes(), "0-79", 62, 2, "0-7,10-17,20-27,30-36,40-47,50-57,60-67,70-76"),
        (
            four_nodes(),
            "0-8,10-18,20-39,40-48,50-58,60-79",
            62,
            1,
            "0-7,10-17,20-27,30-37,40-46,50-56,60-67,70-77",
        ),
        (
            four_nodes(),
            "0-8,10-18,20-39,40-48,50-58,60-79",
            62,
            2,
            "0-7,10-16,20-27,30-37,40-47,50-56,60-67,70-77",
        ),
        (
            four_nodes(),
            "0-3,10-13,20-23,30-36,40-43,50-53,60-63,70-76",
            34,
            1,
            "0-3,10-13,20-23,30-34,40-43,50-53,60-63,70-74",
        ),
    ] {
        let found = spread(&machine, &set(available), count, group, Filling::Cores).unwrap();
        assert_eq!(found, set(expected), "{available} {count} {group}: {found}");
    }
}

#[test]
fn options_exclude_each_other() {
    let read = |names: &[&str], alpha| {
        let given = names.iter().map(|name| ((*name).to_owned(), "true".to_owned())).collect();
        Options::parse(&given, alpha)
    };
    let pair = |one: &str, other: &str| {
        Err(format!("static policy options {one} and {other} can not be used at the same time"))
    };
    let (cores, caches, spread) =
        ("distribute-cpus-across-cores", "prefer-align-cpus-by-uncorecache", "distribute-cpus-across-numa");
    assert_eq!(read(&["full-pcpus-only", cores], true), pair("full-pcpus-only", cores));
    assert_eq!(read(&[spread, cores], true), pair(spread, cores));
    assert_eq!(read(&[caches, cores], true), pair(caches, cores));
    assert_eq!(read(&[caches, spread], false), pair(caches, spread));
    let all = read(&["full-pcpus-only", caches, "strict-cpu-reservation", "align-by-socket"], true).unwrap();
    let expected =
        Options { full_cores: true, by_cache: true, strict: true, by_socket: true, ..Options::default() };
    assert_eq!(all, expected);
    for name in [cores, "align-by-socket"] {
        let refused =
            format!("CPU Manager Policy Alpha-level Options not enabled, but option {name:?} provided");
        assert_eq!(read(&[name], false), Err(refused));
    }
    let by_socket = Options { by_socket: true, ..Options::default() };
    let check = |machine: Topology, policy| {
        Static::new(machine, &set("0"), 0, by_socket).unwrap().check(policy).map_err(|it| it[..20].to_owned())
    };
    use super::hints::Policy;
    assert_eq!(check(four_nodes(), Policy::Restricted), Ok(()));
    assert_eq!(check(four_nodes(), Policy::SingleNode), Err("Topolgy manager sing".to_owned()));
    let one_node = machine(4, |cpu| [cpu, cpu / 2, 0, 0]);
    assert_eq!(check(one_node, Policy::Restricted), Err("Align by socket is n".to_owned()));
}
