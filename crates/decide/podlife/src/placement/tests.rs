//! Machines, pods, and the processors they get.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::hints::{Hint, Hints, Keeping, Nodes, Policy, Scope, merge};
use super::*;

/// Two sockets, a memory node each, four cores of two threads each: threads of a core are 8 apart.
fn two_sockets() -> Topology {
    let place =
        |cpu: u32| Place { core: cpu % 8, socket: cpu % 8 / 4, node: cpu % 8 / 4, cache: cpu % 8 / 4 };
    Topology::new((0..16).map(|cpu| (cpu, place(cpu))).collect())
}

/// One socket of two memory nodes, four cores without threads.
fn split_socket() -> Topology {
    let place = |cpu: u32| Place { core: cpu, socket: 0, node: cpu / 2, cache: 0 };
    Topology::new((0..4).map(|cpu| (cpu, place(cpu))).collect())
}

fn pod(uid: &str, init: &[&str], main: &[&str]) -> Pod {
    let container = |(at, cpu): (usize, &&str), kind: &str| {
        let list = json!({"cpu": cpu, "memory": "1Gi"});
        json!({"name": format!("{kind}{at}"), "resources": {"requests": list, "limits": list}})
    };
    let list = |cpus: &[&str], kind: &str| -> Vec<_> {
        cpus.iter().enumerate().map(|it| container(it, kind)).collect()
    };
    serde_json::from_value(json!({
        "metadata": {"uid": uid},
        "spec": {"initContainers": list(init, "i"), "containers": list(main, "c")},
    }))
    .unwrap()
}

fn nodes(count: u32) -> Nodes {
    let way = |from: u32, to: u32| 10 + 10 * from.abs_diff(to);
    Nodes((0..count).map(|from| (from, (0..count).map(|to| (to, way(from, to))).collect())).collect())
}

fn keeping(policy: Policy, scope: Scope) -> Keeping {
    Keeping { policy, scope, ..Keeping::default() }
}

fn policy(topology: Topology, options: Options, policy: Policy) -> Allocator {
    with_scope(topology, options, keeping(policy, Scope::Container))
}

fn with_scope(topology: Topology, options: Options, keeping: Keeping) -> Allocator {
    let cpus = Static::new(topology, &"0".parse().unwrap(), 0, options).unwrap();
    Allocator::new(Some(cpus), None, keeping, nodes(2)).unwrap()
}

fn given(it: &Allocator) -> &Static {
    it.cpus.as_ref().unwrap()
}

fn own(policy: &Allocator, uid: &str, container: &str) -> String {
    given(policy).own(uid, container).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn guaranteed_pods_that_ask_for_whole_processors_get_whole_cores() {
    let mut cpus = policy(two_sockets(), Options::default(), Policy::None);
    // The node with the least left comes first; what is left of the reserved core serves who wants no core.
    for (uid, asked, given) in [
        ("a", "2", "1,9"),
        ("b", "1", "8"),
        ("c", "1", "2"),
        ("d", "500m", ""),
        ("e", "1500m", ""),
        ("f", "4", "3-4,11-12"),
        ("g", "7", "5-7,10,13-15"),
    ] {
        cpus.admit(&pod(uid, &[], &[asked])).unwrap();
        assert_eq!(own(&cpus, uid, "c0"), given, "{uid}");
    }
    assert_eq!(given(&cpus).shared().to_string(), "0");
    let refused = cpus.admit(&pod("h", &[], &["1"])).unwrap_err();
    assert_eq!(
        (refused.reason(), refused.message().as_str()),
        (
            "UnexpectedAdmissionError",
            "Allocate failed due to not enough cpus available to satisfy request: requested=1, available=0, \
             which is unexpected"
        )
    );
    cpus.release("a");
    assert_eq!(given(&cpus).shared().to_string(), "0-1,9");
    cpus.admit(&pod("h", &[], &["2"])).unwrap();
    // Asked again, it keeps what it has.
    cpus.admit(&pod("h", &[], &["2"])).unwrap();
    assert_eq!(own(&cpus, "h", "c0"), "1,9");
    // Those of f and g lie on both sockets; what was there before counts once.
    let Tally { whole_cores, parted_cores, one_cache, .. } = cpus.tally();
    assert_eq!((whole_cores, parted_cores, one_cache), (0, 0, 4));
}

#[test]
fn a_whole_socket_is_taken_before_cores() {
    let mut cpus = policy(two_sockets(), Options::default(), Policy::None);
    cpus.admit(&pod("a", &[], &["9"])).unwrap();
    assert_eq!(own(&cpus, "a", "c0"), "4-8,12-15");
}

#[test]
fn containers_use_again_what_init_containers_had() {
    let mut cpus = policy(two_sockets(), Options::default(), Policy::None);
    cpus.admit(&pod("a", &["4"], &["2", "2"])).unwrap();
    let found = [own(&cpus, "a", "i0"), own(&cpus, "a", "c0"), own(&cpus, "a", "c1")];
    assert_eq!(found, ["1-2,9-10", "1,9", "2,10"]);
    assert_eq!(given(&cpus).shared().len(), 12);
    // What cannot be given as a whole is not given in part.
    let before = given(&cpus).state().clone();
    assert!(cpus.admit(&pod("b", &[], &["8", "8"])).is_err());
    assert_eq!(*given(&cpus).state(), before);
    cpus.release("a");
    assert_eq!(given(&cpus).shared().len(), 16);
}

#[test]
fn full_cores_only() {
    let options = Options { full_cores: true, ..Options::default() };
    let mut cpus = policy(two_sockets(), options, Policy::None);
    let refused = cpus.admit(&pod("a", &[], &["3"])).unwrap_err();
    assert_eq!(
        (refused.reason(), refused.message().as_str()),
        ("SMTAlignmentError", "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2")
    );
    cpus.admit(&pod("a", &[], &["12"])).unwrap();
    let refused = cpus.admit(&pod("b", &[], &["4"])).unwrap_err();
    assert_eq!(
        refused.message(),
        "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = 2, requested CPUs = 4, \
         CPUs per core = 2"
    );
    let Tally { whole_cores, parted_cores, one_cache, .. } = cpus.tally();
    assert_eq!((whole_cores, parted_cores, one_cache), (1, 2, 0));
}

#[test]
fn spread_over_memory_nodes_in_equal_parts() {
    let options = Options { spread: true, ..Options::default() };
    let mut cpus = policy(two_sockets(), options, Policy::None);
    cpus.admit(&pod("a", &[], &["2"])).unwrap();
    assert_eq!(own(&cpus, "a", "c0"), "4,12", "one node is enough: that which has more");
    cpus.release("a");
    cpus.admit(&pod("b", &[], &["10"])).unwrap();
    let taken = given(&cpus).own("b", "c0").unwrap();
    let on = |node: u32| two_sockets().cpus_of(&[node].into()).intersection(taken).len();
    assert_eq!([on(0), on(1)], [5, 5]);
}

#[test]
fn strict_reservation_shares_no_reserved_processor() {
    let options = Options { strict: true, ..Options::default() };
    let cpus = policy(split_socket(), options, Policy::None);
    assert_eq!(given(&cpus).shared().to_string(), "1-3");
    let chosen = Static::new(split_socket(), &CpuSet::default(), 1, options).unwrap();
    assert_eq!(chosen.shared().to_string(), "1-3");
    let none = Static::new(split_socket(), &CpuSet::default(), 0, options).unwrap_err();
    assert!(none.starts_with("[cpumanager] the static policy requires"), "{none}");
}

#[test]
fn resources_are_kept_together_as_strictly_as_the_policy_says() {
    // One of node 0 is reserved, so that two fit on node 1 only.
    for (kind, asked, expected) in [
        (Policy::None, "2", Ok("2-3")),
        (Policy::BestEffort, "2", Ok("2-3")),
        (Policy::Restricted, "2", Ok("2-3")),
        (Policy::SingleNode, "2", Ok("2-3")),
        (Policy::BestEffort, "3", Ok("1-3")),
        // Three need both nodes, and both nodes are preferred then.
        (Policy::Restricted, "3", Ok("1-3")),
        (Policy::SingleNode, "3", Err("TopologyAffinityError")),
    ] {
        let mut cpus = policy(split_socket(), Options::default(), kind);
        let result = cpus.admit(&pod("a", &[], &[asked])).map(|()| own(&cpus, "a", "c0"));
        let result = result.as_deref().map_err(Refused::reason);
        assert_eq!(result, expected, "{kind:?} {asked}");
    }
    // Two of two nodes are a compromise.
    let mut cpus = policy(split_socket(), Options::default(), Policy::Restricted);
    cpus.admit(&pod("a", &[], &["1"])).unwrap();
    assert_eq!(own(&cpus, "a", "c0"), "1");
    cpus.admit(&pod("b", &[], &["1"])).unwrap();
    let refused = cpus.admit(&pod("c", &[], &["2"])).unwrap_err();
    assert_eq!(
        (refused.reason(), refused.message().as_str()),
        ("TopologyAffinityError", "Resources cannot be allocated with Topology locality",)
    );
    // A pod as a whole has to fit on one node.
    let mut whole = with_scope(split_socket(), Options::default(), keeping(Policy::SingleNode, Scope::Pod));
    assert_eq!(whole.admit(&pod("a", &[], &["1", "2"])), Err(Refused::Apart));
    whole.admit(&pod("a", &["2"], &["1", "1"])).unwrap();
    assert_eq!([own(&whole, "a", "c0"), own(&whole, "a", "c1")], ["2", "3"]);
}

#[test]
fn a_socket_is_as_good_as_a_node_when_aligned_by_sockets() {
    // Two of different nodes of one socket.
    let taken = |options| {
        let mut cpus = policy(split_socket(), options, Policy::Restricted);
        cpus.admit(&pod("a", &[], &["1"])).unwrap();
        cpus.release("a");
        cpus.admit(&pod("b", &[], &["1"])).unwrap();
        cpus.admit(&pod("c", &[], &["1"])).unwrap();
        cpus.release("b");
        cpus.admit(&pod("d", &[], &["2"])).map(|()| own(&cpus, "d", "c0"))
    };
    assert_eq!(taken(Options::default()), Err(Refused::Apart));
    let by_socket = Options { by_socket: true, ..Options::default() };
    assert_eq!(taken(by_socket).as_deref(), Ok("1,3"));
}

fn set(nodes: &[u32]) -> Option<BTreeSet<u32>> {
    Some(nodes.iter().copied().collect())
}

fn hint(nodes: &[u32], preferred: bool) -> Hint {
    Hint { nodes: set(nodes), preferred }
}

#[test]
fn hints_are_merged() {
    let provider = |name: &str, hints: Option<Vec<Hint>>| Hints::from([(name.to_owned(), hints)]);
    let both = |a, b| [provider("a", Some(a)), provider("b", Some(b))];
    let anywhere = || vec![hint(&[0], true), hint(&[1], true), hint(&[0, 1], false)];
    for (providers, policy, expected, admitted) in [
        (both(anywhere(), anywhere()), Policy::BestEffort, hint(&[0], true), true),
        (both(anywhere(), vec![hint(&[1], true)]), Policy::SingleNode, hint(&[1], true), true),
        (
            both(vec![hint(&[0], true)], vec![hint(&[1], true)]),
            Policy::BestEffort,
            hint(&[0, 1], false),
            true,
        ),
        (
            both(vec![hint(&[0], true)], vec![hint(&[1], true)]),
            Policy::Restricted,
            hint(&[0, 1], false),
            false,
        ),
        (both(anywhere(), vec![hint(&[0, 1], true)]), Policy::Restricted, hint(&[0, 1], false), false),
        (both(anywhere(), vec![]), Policy::BestEffort, hint(&[0], false), true),
        (both(anywhere(), vec![]), Policy::SingleNode, Hint { nodes: None, preferred: false }, false),
        ([provider("a", Some(anywhere())), provider("b", None)], Policy::SingleNode, hint(&[0], true), true),
        ([Hints::new(), Hints::new()], Policy::SingleNode, Hint { nodes: None, preferred: true }, true),
        (both(vec![], vec![]), Policy::None, Hint { nodes: None, preferred: false }, true),
    ] {
        assert_eq!(
            merge(&keeping(policy, Scope::Container), &nodes(2), &providers),
            (expected, admitted),
            "{policy:?} {providers:?}"
        );
    }
}

#[test]
fn hints_of_larger_machines() {
    let merged = |closest, lists: &[Vec<Hint>]| {
        let providers: Vec<Hints> =
            lists.iter().map(|hints| Hints::from([("a".to_owned(), Some(hints.clone()))])).collect();
        let keeping = Keeping { closest, ..keeping(Policy::BestEffort, Scope::Container) };
        merge(&keeping, &nodes(4), &providers).0
    };
    // Numbers of nodes are compared as sets of bits; near ones are better only when that is asked for.
    let two = [vec![hint(&[0, 3], true), hint(&[1, 2], true)]];
    assert_eq!(merged(false, &two), hint(&[1, 2], true));
    let two = [vec![hint(&[0, 2], true), hint(&[2, 3], true)]];
    assert_eq!(merged(false, &two), hint(&[0, 2], true));
    assert_eq!(merged(true, &two), hint(&[2, 3], true));
    // What nobody prefers comes as near as it goes to what is needed, from below.
    let three = [vec![hint(&[0, 1], false), hint(&[0, 1, 2, 3], false)], vec![hint(&[0, 1, 2], false)]];
    assert_eq!(merged(false, &three), hint(&[0, 1, 2], false));
}

#[test]
fn options_of_keeping_together() {
    let read = |name: &str, value: &str| {
        Keeping::default().with_options(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    };
    assert!(read("prefer-closest-numa-nodes", "true").unwrap().closest);
    assert_eq!(read("max-allowable-numa-nodes", "12").unwrap().most_nodes, 12);
    for (name, value, expected) in [
        ("x", "1", "unknown Topology Manager Policy option: \"x\""),
        (
            "prefer-closest-numa-nodes",
            "ja",
            "bad value for option \"prefer-closest-numa-nodes\": strconv.ParseBool: parsing \"ja\": invalid syntax",
        ),
        (
            "max-allowable-numa-nodes",
            "4",
            "the minimum value of \"max-allowable-numa-nodes\" should not be less than 8",
        ),
    ] {
        assert_eq!(read(name, value).unwrap_err(), expected);
    }
    let many = Allocator::new(None, None, keeping(Policy::Restricted, Scope::Pod), nodes(9)).unwrap_err();
    assert_eq!(many, "unsupported on machines with more than 8 NUMA Nodes");
    assert!(Allocator::new(None, None, Keeping::default(), nodes(9)).is_ok());
}

#[test]
fn what_init_containers_had_is_for_others_when_they_are_over() {
    let mut cpus = policy(two_sockets(), Options::default(), Policy::None);
    let pod = pod("a", &["4"], &["2"]);
    cpus.admit(&pod).unwrap();
    assert_eq!(given(&cpus).shared().len(), 12);
    cpus.started(&pod, "i0");
    assert_eq!(given(&cpus).shared().len(), 12);
    cpus.started(&pod, "c0");
    assert_eq!((own(&cpus, "a", "i0").as_str(), given(&cpus).shared().len()), ("", 14));
    // The next agent gives it nothing again.
    cpus.admit(&pod).unwrap();
    assert_eq!((own(&cpus, "a", "i0").as_str(), own(&cpus, "a", "c0").as_str()), ("", "1,9"));
}

#[test]
fn records_are_upstreams() {
    let valid = "{\"policyName\": \"none\", \"defaultCPUSet\": \"1-3\", \"entries\": {\"pod\": {\"container1\": \"4-6\", \
                 \"container2\": \"1-3\"}}, \"checksum\": 3610638499}";
    let state = State::read(valid, "none").unwrap();
    assert_eq!(state.shared.to_string(), "1-3");
    assert_eq!(state.entries["pod"]["container1"].to_string(), "4-6");
    let bare = State { shared: "4-6".parse().unwrap(), entries: BTreeMap::new() };
    assert_eq!(
        bare.write("none"),
        "{\"policyName\":\"none\",\"defaultCpuSet\":\"4-6\",\"checksum\":354655845}"
    );
    assert_eq!(State::read(&state.write("none"), "none").unwrap(), state);
    assert!(matches!(State::read(&valid.replace("3610638499", "1337"), "none"), Err(Corrupt::Text(_))));
    assert!(matches!(State::read("{", "none"), Err(Corrupt::Text(_))));
    assert_eq!(
        State::read(valid, "static").unwrap_err().to_string(),
        "configured policy \"static\" differs from state checkpoint policy \"none\""
    );
    let mut cpus = policy(split_socket(), Options::default(), Policy::None);
    cpus.admit(&pod("a", &[], &["1"])).unwrap();
    let kept = State::read(&given(&cpus).state().write("static"), "static").unwrap();
    let mut next = policy(split_socket(), Options::default(), Policy::None);
    next.cpus.as_mut().unwrap().restore(kept.clone()).unwrap();
    assert_eq!(own(&next, "a", "c0"), "1");
    let mut other = policy(two_sockets(), Options::default(), Policy::None).cpus.unwrap();
    let other = other.restore(kept).unwrap_err();
    assert!(other.starts_with("current set of available CPUs \"0-15\" doesn't match"), "{other}");
}
