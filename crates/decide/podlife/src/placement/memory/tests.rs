//! Machines, pods, and the memory they get.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use plimsoll_meta::quantity::Quantity;
use serde_json::{Value, json};

use super::*;
use crate::placement::hints::{Keeping, Nodes, Policy, Scope};
use crate::placement::{Allocator, Corrupt, Refused};

const GI: u64 = 1 << 30;

/// Two nodes of 10 Gi each, 1 Gi of huge pages on the second, 1 Gi of each kept.
fn banks() -> Banks {
    let pages = BTreeMap::from([("hugepages-2Mi".to_owned(), GI)]);
    let bank = |huge_pages| Bank { total: 10 * GI, huge_pages };
    BTreeMap::from([(0, bank(BTreeMap::new())), (1, bank(pages))])
}

fn list(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), text.parse().unwrap())).collect()
}

fn one_each() -> Reserved {
    let given = [0, 1].map(|node| Reservation { node, limits: list(&[("memory", "1Gi")]) });
    reserved(&banks(), &list(&[("memory", "2Gi"), ("cpu", "1")]), &given).unwrap()
}

fn allocator(policy: Policy, scope: Scope) -> Allocator {
    let memory = Memory::new(&banks(), &one_each());
    let ways = |from: u32| [0, 1].map(|to| (to, 10 + 10 * from.abs_diff(to))).into();
    let nodes = Nodes([0, 1].map(|from| (from, ways(from))).into());
    Allocator::new(None, Some(memory), Keeping { policy, scope, ..Keeping::default() }, nodes).unwrap()
}

fn container(name: &str, gi: u64) -> Value {
    let list = json!({"cpu": "1", "memory": format!("{gi}Gi")});
    json!({"name": name, "resources": {"requests": list, "limits": list}})
}

fn pod(uid: &str, init: &[u64], main: &[u64]) -> Pod {
    let list = |sizes: &[u64], kind: &str| -> Vec<Value> {
        sizes.iter().enumerate().map(|(at, gi)| container(&format!("{kind}{at}"), *gi)).collect()
    };
    let spec = json!({"initContainers": list(init, "i"), "containers": list(main, "c")});
    serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": spec})).unwrap()
}

fn nodes(it: &Allocator, uid: &str, container: &str) -> Vec<u32> {
    it.memory.as_ref().unwrap().nodes_of(uid, container).into_iter().collect()
}

fn free(it: &Allocator) -> Vec<u64> {
    let record = it.memory.as_ref().unwrap().record("Static");
    let record = Record::read(&record, "Static").unwrap();
    record.machine_state.values().map(|node| node.memory_map["memory"].free / GI).collect()
}

#[test]
fn reservations_have_to_add_up() {
    let of = |node, amount| Reservation { node, limits: list(&[("memory", amount)]) };
    let check = |kept: &[(&str, &str)], given: &[Reservation]| reserved(&banks(), &list(kept), given);
    assert_eq!(one_each()[&1]["memory"], GI);
    for (kept, given, expected) in [
        (
            &[("memory", "1Gi")][..],
            vec![of(2, "1Gi")],
            "the reserved memory configuration references a NUMA node 2 that does not exist on this machine",
        ),
        (
            &[("memory", "1100Mi")],
            vec![of(0, "512Mi"), of(1, "512Mi")],
            "the total amount \"1Gi\" of type \"memory\" is not equal to the value \"1100Mi\" determined by Node \
             Allocatable feature",
        ),
        (
            &[("memory", "100Mi")],
            vec![],
            "the total amount \"0\" of type \"memory\" is not equal to the value \"100Mi\" determined by Node \
             Allocatable feature",
        ),
        (&[], vec![], "[memorymanager] you should specify the system reserved memory"),
    ] {
        assert_eq!(check(kept, &given).unwrap_err(), expected);
    }
}

#[test]
fn guaranteed_pods_get_memory_on_as_few_nodes_as_it_goes() {
    let mut it = allocator(Policy::None, Scope::Container);
    assert_eq!(free(&it), [9, 8]);
    for (uid, gi, expected, left) in
        [("a", 5, &[0][..], [4, 8]), ("b", 5, &[1], [4, 3]), ("c", 4, &[0], [0, 3])]
    {
        it.admit(&pod(uid, &[], &[gi])).unwrap();
        assert_eq!((nodes(&it, uid, "c0").as_slice(), free(&it)), (expected, left.to_vec()), "{uid}");
    }
    // Nodes that have blocks of their own take none that spread over both.
    let refused = it.admit(&pod("d", &[], &[12])).unwrap_err();
    assert_eq!(refused.reason(), "UnexpectedAdmissionError");
    assert_eq!(
        refused.message(),
        "Allocate failed due to [memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough \
         memory is available, which is unexpected"
    );
    ["a", "b", "c"].into_iter().for_each(|uid| it.release(uid));
    it.admit(&pod("d", &[], &[12])).unwrap();
    assert_eq!((nodes(&it, "d", "c0"), free(&it)), (vec![0, 1], vec![0, 5]));
    // Nodes that have blocks together take only blocks that spread over all of them.
    it.admit(&pod("e", &[], &[1])).unwrap();
    assert_eq!((nodes(&it, "e", "c0"), free(&it)), (vec![0, 1], vec![0, 4]));
    it.admit(&pod("f", &[], &[5])).unwrap_err();
    it.release("d");
    assert_eq!(free(&it), [9, 7]);
    it.release("e");
    assert_eq!(free(&it), [9, 8]);
    assert_eq!(free(&it), [9, 8]);
    let burstable = json!({"metadata": {"uid": "g"}, "spec": {"containers": [{"name": "c",
        "resources": {"requests": {"memory": "1Gi"}}}]}});
    it.admit(&serde_json::from_value(burstable).unwrap()).unwrap();
    assert!(it.pods().is_empty());
}

#[test]
fn huge_pages_lie_where_the_memory_lies() {
    let mut it = allocator(Policy::None, Scope::Container);
    let mut pod = pod("a", &[], &[1]);
    let resources = pod.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap();
    for list in [&mut resources.requests, &mut resources.limits] {
        let text = serde_json::from_value(json!("512Mi")).unwrap();
        list.as_mut().unwrap().insert("hugepages-2Mi".into(), text);
    }
    it.admit(&pod).unwrap();
    let block = |resource: &str, size| Block { numa_affinity: vec![1], resource: resource.into(), size };
    assert_eq!(
        it.memory.as_ref().unwrap().own("a", "c0").unwrap(),
        [block("hugepages-2Mi", GI / 2), block("memory", GI)]
    );
    assert_eq!(free(&it), [9, 7]);
}

#[test]
fn the_topology_manager_has_its_say() {
    for (policy, scope, pod, expected) in [
        (Policy::SingleNode, Scope::Container, pod("a", &[], &[5, 6]), Ok([vec![0], vec![1]])),
        (Policy::SingleNode, Scope::Pod, pod("a", &[], &[5, 6]), Err("TopologyAffinityError")),
        (Policy::SingleNode, Scope::Pod, pod("a", &[8], &[3, 3]), Ok([vec![0], vec![0]])),
        (Policy::SingleNode, Scope::Container, pod("a", &[], &[10, 1]), Err("TopologyAffinityError")),
        (Policy::Restricted, Scope::Pod, pod("a", &[], &[5, 6]), Ok([vec![0, 1], vec![0, 1]])),
        (Policy::BestEffort, Scope::Container, pod("a", &[], &[10, 1]), Ok([vec![0, 1], vec![0, 1]])),
        (Policy::Restricted, Scope::Container, pod("a", &[], &[10, 1]), Err("TopologyAffinityError")),
    ] {
        let mut it = allocator(policy, scope);
        let result = it.admit(&pod);
        let result = result.map(|()| ["c0", "c1"].map(|name| nodes(&it, "a", name)));
        assert_eq!(
            result.as_ref().map_err(Refused::reason),
            expected.as_ref().map_err(|it| *it),
            "{policy:?} {scope:?}"
        );
    }
}

#[test]
fn containers_use_again_what_init_containers_had() {
    let mut it = allocator(Policy::None, Scope::Container);
    let pod = pod("a", &[6], &[2, 3]);
    it.admit(&pod).unwrap();
    assert_eq!(free(&it), [3, 8]);
    let size =
        |it: &Allocator, name: &str| it.memory.as_ref().unwrap().own("a", name).map(|all| all[0].size / GI);
    assert_eq!(["i0", "c0", "c1"].map(|name| size(&it, name)), [Some(1), Some(2), Some(3)]);
    it.started(&pod, "c0");
    assert_eq!((size(&it, "i0"), free(&it)), (None, vec![4, 8]));
    it.release("a");
    assert_eq!(free(&it), [9, 8]);
}

#[test]
fn the_next_agent_goes_on() {
    let mut it = allocator(Policy::None, Scope::Container);
    it.admit(&pod("a", &[], &[12])).unwrap();
    let text = it.memory.as_ref().unwrap().record("Static");
    let record = Record::read(&text, "Static").unwrap();
    let mut next = Memory::new(&banks(), &one_each());
    next.restore(record.clone()).unwrap();
    assert_eq!(next.record("Static"), text);
    let mut changed = one_each();
    changed.get_mut(&0).unwrap().insert("memory".into(), 2 * GI);
    assert_eq!(
        Memory::new(&banks(), &changed).restore(record.clone()).unwrap_err(),
        "[memorymanager] the expected machine state is different from the real one"
    );
    let mut elsewhere = record.clone();
    elsewhere.entries.get_mut("a").unwrap().get_mut("c0").unwrap()[0].numa_affinity = vec![7];
    assert_eq!(
        Memory::new(&banks(), &one_each()).restore(elsewhere).unwrap_err(),
        "[memorymanager] (pod: a, container: c0) the memory assignment uses the NUMA that does not exist"
    );
    let mut empty = record;
    empty.machine_state.clear();
    assert_eq!(
        Memory::new(&banks(), &one_each()).restore(empty).unwrap_err(),
        "[memorymanager] machine state can not be empty when it has memory assignments"
    );
}

#[test]
fn records_are_upstreams() {
    let valid = r#"{
        "policyName":"static",
        "machineState":{"0":{"numberOfAssignments":0,"memoryMap":{"memory":{"total":2048,"systemReserved":512,"allocatable":1536,"reserved":512,"free":1024}},"cells":[]}},
        "entries":{"pod":{"container1":[{"numaAffinity":[0],"type":"memory","size":512}]}},
        "checksum": 4215593881
    }"#;
    let record = Record::read(valid, "static").unwrap();
    assert_eq!(record.entries["pod"]["container1"][0].size, 512);
    assert_eq!(
        Record::write("static", &record.machine_state, &record.entries),
        valid.chars().filter(|letter| !letter.is_whitespace()).collect::<String>()
    );
    assert!(matches!(Record::read(&valid.replace("4215593881", "101010"), "static"), Err(Corrupt::Text(_))));
    assert!(matches!(Record::read("{", "static"), Err(Corrupt::Text(_))));
    assert!(matches!(Record::read(valid, "Static"), Err(Corrupt::Policy { .. })));
}
