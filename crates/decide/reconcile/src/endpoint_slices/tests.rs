//! Tables of what becomes of slices.

use serde_json::Value;

use super::*;
use crate::testing::{object, summary};

fn service(extra: Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "svc"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
                 "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        service["spec"][key] = value.clone();
    }
    object(service)
}

fn pod(name: &str, ip: &str, ready: bool, deleting: bool) -> Arc<Pod> {
    Arc::new(object(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"},
            "deletionTimestamp": deleting.then_some("2024-01-01T00:00:00Z")},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })))
}

fn node(name: &str, zone: &str) -> Arc<Node> {
    Arc::new(object(json!({
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"allocatable": {"cpu": "2"}, "conditions": [{"type": "Ready", "status": "True"}]},
    })))
}

fn on(node: &str, mut pod: Arc<Pod>) -> Arc<Pod> {
    let spec = Arc::make_mut(&mut pod).spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    pod
}

fn run(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Vec<Action> {
    run_with(service, pods, slices, &mut Memory::default())
}

fn run_with(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    memory: &mut Memory,
) -> Vec<Action> {
    let nodes = [node("n1", "z1"), node("n2", "z2")];
    let shares = shares(nodes.iter().map(|node| &**node));
    let nodes = nodes.map(|node| (node.metadata.name.clone().unwrap_or_default(), node));
    let nodes = HashMap::from(nodes);
    decide(&Observed { service, pods, slices, nodes: &nodes, shares: shares.as_ref() }, memory)
}

/// The slices after the actions on a server that keeps what it is told.
fn apply(slices: &[Arc<EndpointSlice>], actions: &[Action]) -> Vec<Arc<EndpointSlice>> {
    let mut slices = slices.to_vec();
    for action in actions {
        match action {
            Action::Create(create) => {
                let mut made: EndpointSlice = object(create.object.clone());
                made.metadata.name = Some(format!("web-{}", slices.len()));
                slices.push(Arc::new(made));
            }
            Action::Patch(patch) => {
                let of = |slice: &&mut Arc<EndpointSlice>| {
                    slice.metadata.name.as_ref() == Some(&patch.target.name)
                };
                let slice = slices.iter_mut().find(of).expect("patched slices exist");
                let mut changed = (**slice).clone();
                let held: Holder = object(patch.body.clone());
                changed.endpoints = held.endpoints.or(changed.endpoints);
                changed.ports = held.ports.or(changed.ports);
                *slice = Arc::new(changed);
            }
            Action::Delete(delete) => {
                slices.retain(|slice| slice.metadata.name.as_ref() != Some(&delete.target.name))
            }
            Action::Event(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    slices
}

/// What a patch brings.
#[derive(serde::Deserialize)]
struct Holder {
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<EndpointPort>>,
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect()
}

fn many(numbers: std::ops::Range<usize>) -> Vec<Arc<Pod>> {
    let address = |n: usize| format!("10.1.{}.{}", n / 200, n % 200);
    numbers.map(|n| pod(&format!("p{n:03}"), &address(n), true, false)).collect()
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let cases = [
        (true, false, false, (true, true, false)),
        (false, false, false, (false, false, false)),
        (true, true, false, (false, true, true)),
        (false, false, true, (true, false, false)),
        (true, true, true, (true, true, true)),
    ];
    for (ready, deleting, publish, (want_ready, want_serving, want_terminating)) in cases {
        let service = service(json!({"publishNotReadyAddresses": publish}));
        let actions = run(&service, &[pod("a", "10.1.0.1", ready, deleting)], &[]);
        let Action::Create(create) = &actions[0] else { panic!("{actions:?}") };
        let expected = json!({"ready": want_ready, "serving": want_serving, "terminating": want_terminating});
        assert_eq!(create.object["endpoints"][0]["conditions"], expected);
        assert_eq!(create.object["ports"][0]["port"], 8080);
        assert_eq!(create.object["metadata"]["labels"][SERVICE], "web");
    }
}

#[test]
fn an_empty_service_has_one_empty_slice_and_rests() {
    let service = service(json!({}));
    let slices = apply(&[], &run(&service, &[], &[]));
    assert_eq!(slices.len(), 1);
    assert!(run(&service, &[], &slices).is_empty());
    let filled = apply(&slices, &run(&service, &[pod("a", "10.1.0.1", true, false)], &slices));
    assert_eq!(filled.len(), 1);
}

#[test]
fn one_changed_pod_changes_one_slice() {
    let service = service(json!({}));
    let mut pods = many(0..250);
    let slices = apply(&[], &run(&service, &pods, &[]));
    assert_eq!(sizes(&slices), [100, 100, 50]);
    assert!(run(&service, &pods, &slices).is_empty());

    pods[120] = pod("p120", "10.1.0.120", false, false);
    let actions = run(&service, &pods, &slices);
    assert_eq!(actions.len(), 1, "{:?}", actions.iter().map(summary).collect::<Vec<_>>());
    pods.truncate(10);
    let slices = apply(&slices, &actions);
    let slices = apply(&slices, &run(&service, &pods, &slices));
    // Endpoints never move between slices: somebody watching could miss them for a moment.
    assert!(sizes(&slices).iter().sum::<usize>() == 10 && slices.len() < 3);
    assert!(run(&service, &pods, &slices).is_empty());
}

#[test]
fn services_without_selector_are_left_alone() {
    let service: Service = object(json!({"metadata": {"name": "web"}, "spec": {"ports": []}}));
    assert!(run(&service, &[], &[]).is_empty());
}

#[test]
fn what_is_left_fills_one_slice_or_makes_another() {
    let service = service(json!({}));
    let slices = apply(&[], &run(&service, &many(0..250), &[]));
    // Pods there are then; slices after that.
    let cases =
        [(0..300, vec![100, 100, 100]), (0..301, vec![100, 100, 50, 51]), (0..350, vec![100, 100, 50, 100])];
    for (pods, expected) in cases {
        let after = apply(&slices, &run(&service, &many(pods.clone()), &slices));
        assert_eq!(sizes(&after), expected, "{pods:?}");
    }
}

#[test]
fn slices_of_a_former_service_of_the_name_go() {
    let service = service(json!({}));
    let mut slices = apply(&[], &run(&service, &many(0..1), &[]));
    let owners = Arc::make_mut(&mut slices[0]).metadata.owner_references.as_mut();
    owners.expect("slices are owned")[0].uid = "former".to_owned();
    let lines: Vec<_> = run(&service, &many(0..1), &slices).iter().map(summary).collect();
    assert_eq!(lines, ["create EndpointSlice web-", "delete EndpointSlice web-0"]);
}

#[test]
fn slices_whose_ports_nobody_wants_become_those_that_are_missing() {
    let old = service(json!({}));
    let slices = apply(&[], &run(&old, &many(0..1), &[]));
    let new =
        service(json!({"ports": [{"name": "http", "port": 80, "targetPort": 9000, "protocol": "TCP"}]}));
    let actions = run(&new, &many(0..1), &slices);
    assert_eq!(actions.len(), 1);
    assert!(summary(&actions[0]).contains(r#""port":9000"#), "{:?}", actions[0]);
    let families = service(json!({"ipFamilies": ["IPv6"]}));
    let lines: Vec<_> = run(&families, &many(0..1), &slices).iter().map(summary).collect();
    assert_eq!(lines, ["create EndpointSlice web-", "delete EndpointSlice web-0"]);
}

#[test]
fn pods_of_missing_nodes_are_left_out_unless_all_are_published() {
    let lost = [on("gone", pod("a", "10.1.0.1", true, false))];
    for (publish, count, again) in [(false, 0, true), (true, 1, false)] {
        let service = service(json!({"publishNotReadyAddresses": publish}));
        let mut actions = run(&service, &lost, &[]);
        assert_eq!(matches!(actions.last(), Some(Action::RequeueAfter(_))), again);
        actions.truncate(1);
        assert_eq!(sizes(&apply(&[], &actions)), [count]);
    }
}

#[test]
fn both_families_have_slices_of_their_own() {
    let service = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let mut both = pod("a", "10.1.0.1", true, false);
    let ips = &mut Arc::make_mut(&mut both).status.get_or_insert_default().pod_ips;
    ips.get_or_insert_default().push(object(json!({"ip": "fd00::1"})));
    let slices = apply(&[], &run(&service, &[both, pod("b", "10.1.0.2", true, false)], &[]));
    let of = |slice: &Arc<EndpointSlice>| (slice.address_type.clone(), sizes(std::slice::from_ref(slice)));
    let got: Vec<_> = slices.iter().map(of).collect();
    assert_eq!(got, [("IPv4".to_owned(), vec![2]), ("IPv6".to_owned(), vec![1])]);
}

#[test]
fn changes_carry_the_time_of_their_cause() {
    let mut service = service(json!({}));
    service.metadata.creation_timestamp = object(json!("2024-01-01T00:00:00Z"));
    let mut memory = Memory::default();
    let first = run_with(&service, &many(0..1), &[], &mut memory);
    let Action::Create(create) = &first[0] else { panic!("{first:?}") };
    let told = &create.object["metadata"]["annotations"][trigger_time::ANNOTATION];
    assert_eq!(told, "2024-01-01T00:00:00Z");
    let slices = apply(&[], &first);
    let grown = run_with(&service, &many(0..2), &slices, &mut memory);
    let Action::Patch(patch) = &grown[0] else { panic!("{grown:?}") };
    let told = &patch.body["metadata"]["annotations"];
    assert_eq!(*told, json!({trigger_time::ANNOTATION: null}), "nothing with a time of its own has changed");
}

/// The hints of each endpoint, in the order of addresses: zones, then nodes.
fn hints_of(slices: &[Arc<EndpointSlice>]) -> Vec<String> {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let mut lines: Vec<_> = endpoints
        .map(|endpoint| {
            let hints = endpoint.hints.clone().unwrap_or_default();
            let zones = hints.for_zones.into_iter().flatten().map(|zone| zone.name);
            let nodes = hints.for_nodes.into_iter().flatten().map(|node| node.name);
            format!("{} {}", endpoint.addresses[0], zones.chain(nodes).collect::<Vec<_>>().join(","))
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn near_endpoints_are_preferred_as_the_service_says() {
    let pods = [
        pod("a", "10.1.0.1", true, false),
        on("n2", pod("b", "10.1.0.2", true, false)),
        pod("c", "10.1.0.3", false, false),
    ];
    let cases = [
        (json!(null), ["10.1.0.1 ", "10.1.0.2 ", "10.1.0.3 "]),
        (json!("PreferClose"), ["10.1.0.1 z1", "10.1.0.2 z2", "10.1.0.3 "]),
        (json!("PreferSameZone"), ["10.1.0.1 z1", "10.1.0.2 z2", "10.1.0.3 "]),
        (json!("PreferSameNode"), ["10.1.0.1 z1,n1", "10.1.0.2 z2,n2", "10.1.0.3 "]),
    ];
    // Each follows on the one before: slices that need no other change get and lose their hints, too.
    let mut slices = Vec::new();
    for (distribution, expected) in cases {
        let service = service(json!({"trafficDistribution": distribution}));
        slices = apply(&slices, &run(&service, &pods, &slices));
        assert_eq!(hints_of(&slices), expected, "{distribution}");
        assert!(run(&service, &pods, &slices).is_empty(), "{distribution}");
    }
}

#[test]
fn zones_share_endpoints_by_their_processors() {
    let mut auto = service(json!({}));
    auto.metadata.annotations = object(json!({"service.kubernetes.io/topology-mode": "Auto"}));
    let all_in_one: Vec<_> = many(0..4);
    let mut memory = Memory::default();
    let actions = run_with(&auto, &all_in_one, &[], &mut memory);
    let told = summary(&actions[1]);
    assert_eq!(
        told,
        "event TopologyAwareHintsEnabled Topology Aware Hints has been enabled, addressType: IPv4"
    );
    let slices = apply(&[], &actions);
    let zones: Vec<_> = hints_of(&slices).iter().map(|line| line[line.len() - 2..].to_owned()).collect();
    assert_eq!(zones.iter().filter(|zone| *zone == "z1").count(), 2, "{zones:?}");
    assert!(run_with(&auto, &all_in_one, &slices, &mut memory).is_empty(), "at rest");

    let few = run_with(&auto, &many(0..1), &slices, &mut memory);
    assert_eq!(
        summary(&few[1]),
        "event TopologyAwareHintsDisabled Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4"
    );
    assert_eq!(hints_of(&apply(&slices, &few)), ["10.1.0.0 "]);
    let plain = run_with(&service(json!({})), &all_in_one, &slices, &mut memory);
    assert!(!hints_of(&apply(&slices, &plain)).iter().any(|line| line.contains('z')));
}

#[test]
fn shares_need_two_zones_and_no_silence() {
    let cases = [
        (vec![node("a", "z1"), node("b", "z2")], Some(0.5)),
        (vec![node("a", "z1"), node("b", "z2"), node("c", "z2"), node("d", "z2")], Some(0.25)),
        (vec![node("a", "z1"), node("b", "z1")], None),
        (vec![node("a", "z1"), node("b", "z2"), node("c", "")], None),
    ];
    for (nodes, expected) in cases {
        let shares = shares(nodes.iter().map(|node| &**node));
        assert_eq!(shares.map(|shares| shares["z1"]), expected);
    }
}
