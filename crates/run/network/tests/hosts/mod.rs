//! Pods of other nodes, tried with packets.

use plimsoll_kernel::link::{Links, Route};
use plimsoll_kernel::pod_network::PodNetwork;
use plimsoll_network::{BridgeNetwork, Config, cleanup, reach_hosts};
use tokio_util::sync::CancellationToken;

use crate::from;
use crate::support::{Api, Machine, Pod, ask, serve_ipv6, until};

/// Nodes a and b share a link, b and c another; what a and c send to each other passes b.
#[test]
fn pods_of_other_nodes_are_reached() {
    let (a, b, c) = (Machine::new("a"), Machine::new("b"), Machine::new("c"));
    a.wire("192.0.2.1/24", &b, "192.0.2.2/24");
    b.wire("198.51.100.2/24", &c, "198.51.100.3/24");
    a.route("198.51.100.0/24", "192.0.2.2", &b);
    c.route("192.0.2.0/24", "198.51.100.2", &b);
    let (api, stop) = (Api::default(), CancellationToken::new());
    let start = |machine: &Machine, range: &str| {
        let (api, stop) = (api.clone(), stop.clone());
        machine.on(|| async move {
            let network = BridgeNetwork::open(machine.config()).await.unwrap();
            network.set_pod_cidr(&[range.parse().unwrap()]).await.unwrap();
            tokio::spawn(reach_hosts(network.clone(), api.client(), stop));
            network
        })
    };
    let ways = |machine: &Machine, wanted: &[&str]| {
        machine.on(|| async {
            let ways = || {
                let (mut links, all) = (Links::open().unwrap(), Links::open().unwrap().list().unwrap());
                let name = |index| all.iter().find(|link| link.index == index).unwrap().name.clone();
                let text = |route: Route| format!("{} by {}", route.destination, name(route.device));
                let mut found: Vec<_> = links.far_routes().unwrap().into_iter().map(text).collect();
                found.sort();
                found
            };
            until(&format!("{}: {wanted:?}, not {:?}", machine.name, ways()), || ways() == wanted).await;
        });
    };
    let networks = [(&a, "10.42.1.0/24"), (&b, "10.42.2.0/24"), (&c, "10.42.3.0/24")]
        .map(|(node, range)| start(node, range));
    api.put_node("a", "10.42.1.0/24", &["192.0.2.1"]);
    api.put_node("b", "10.42.2.0/24", &["192.0.2.2", "198.51.100.2"]);
    api.put_node("c", "10.42.3.0/24", &["198.51.100.3"]);
    ways(&a, &["10.42.2.0/24 by b", "10.42.3.0/24 by plimx-a1b2c3"]);
    ways(&b, &["10.42.1.0/24 by a", "10.42.3.0/24 by c"]);
    ways(&c, &["10.42.1.0/24 by plimx-a1b2c3", "10.42.2.0/24 by b"]);
    let pod = |machine: &Machine, network: &BridgeNetwork| {
        machine.on(|| async { Pod::start(network, machine.name).await })
    };
    let (at_a, at_b, at_c) = (pod(&a, &networks[0]), pod(&b, &networks[1]), pod(&c, &networks[2]));
    assert_eq!([&at_a, &at_b, &at_c].map(|pod| pod.attached.mtu), [1450, 1500, 1450]);
    let all_reach_all = |what: &str| {
        for (from, own) in [(&at_a, "10.42.1.2"), (&at_b, "10.42.2.2"), (&at_c, "10.42.3.2")] {
            for (to, name) in [("10.42.1.2:8080", "a"), ("10.42.2.2:8080", "b"), ("10.42.3.2:8080", "c")] {
                assert_eq!(from.ask(to), format!("{name} to {own}"), "{what}: from {own}");
            }
        }
    };
    all_reach_all("at first");
    // A node itself reaches pods of others, too.
    assert_eq!(a.on(|| async { ask("10.42.3.2:8080") }), "c to 10.42.1.1");

    // Who starts again finds everything in place, and puts back what is not.
    let [network, _, _] = networks;
    stop.cancel();
    a.on(|| async move { drop(network) });
    all_reach_all("without the program");
    a.on(|| async {
        let mut links = Links::open().unwrap();
        let lost = links.far_routes().unwrap();
        lost.iter().for_each(|route| links.remove_far_route(route).unwrap());
        let stray = Route { destination: "10.42.9.0/24".parse().unwrap(), ..lost[0] };
        links.ensure_far_route(&stray).unwrap();
    });
    let stop = CancellationToken::new();
    let again = a.on(|| async {
        let network = BridgeNetwork::open(a.config()).await.unwrap();
        tokio::spawn(reach_hosts(network.clone(), api.client(), stop.clone()));
        network
    });
    ways(&a, &["10.42.2.0/24 by b", "10.42.3.0/24 by plimx-a1b2c3"]);
    all_reach_all("after a restart");

    api.delete("nodes", "c");
    ways(&a, &["10.42.2.0/24 by b"]);
    assert_ne!(at_a.ask("10.42.3.2:8080"), "c to 10.42.1.2");
    assert_eq!(at_a.ask("10.42.2.2:8080"), "b to 10.42.1.2");
    let late = a.on(|| async { Pod::start(&again, "late").await });
    assert_eq!(late.attached.mtu, 1500, "nobody needs the tunnel");
    a.on(|| async {
        stop.cancel();
        until("nobody keeps the ways any more", || stop.is_cancelled()).await;
        cleanup(a.folder.path(), "a1b2c3").await.unwrap();
        let left: Vec<_> = Links::open().unwrap().list().unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(left, ["lo", "b"]);
        assert_eq!(Links::open().unwrap().far_routes().unwrap(), []);
    });
}

/// The link of the two nodes knows IPv4 alone, so that IPv6 is wrapped.
#[test]
fn both_families_reach_other_nodes() {
    let (a, b) = (Machine::new("a"), Machine::new("b"));
    a.wire("192.0.2.1/24", &b, "192.0.2.2/24");
    let (api, stop) = (Api::default(), CancellationToken::new());
    let start = |machine: &Machine, ranges: [&str; 2]| {
        let (api, stop) = (api.clone(), stop.clone());
        let cluster_cidr = ["10.42.0.0/16", "fd42::/48"].map(|range| range.parse().unwrap()).to_vec();
        let config = Config { cluster_cidr, ..machine.config() };
        machine.on(|| async move {
            let network = BridgeNetwork::open(config).await.unwrap();
            network.set_pod_cidr(&ranges.map(|range| range.parse().unwrap())).await.unwrap();
            tokio::spawn(reach_hosts(network.clone(), api.client(), stop));
            let pod = Pod::start(&network, machine.name).await;
            serve_ipv6(&pod.netns, machine.name, 8081);
            (network, pod)
        })
    };
    let (_of_a, at_a) = start(&a, ["10.42.1.0/24", "fd42:0:0:1::/64"]);
    let (_of_b, at_b) = start(&b, ["10.42.2.0/24", "fd42:0:0:2::/64"]);
    api.put_node("a", "10.42.1.0/24,fd42:0:0:1::/64", &["192.0.2.1"]);
    api.put_node("b", "10.42.2.0/24,fd42:0:0:2::/64", &["192.0.2.2"]);
    for machine in [&a, &b] {
        machine.on(|| async {
            let both = || Links::open().unwrap().far_routes().unwrap().len() == 3;
            until("the ways of both families are there", both).await;
        });
    }
    assert_eq!(from(&at_a.netns, "10.42.2.2:8080"), "b to 10.42.1.2");
    assert_eq!(from(&at_b.netns, "10.42.1.2:8080"), "a to 10.42.2.2");
    assert_eq!(from(&at_a.netns, "[fd42:0:0:2::2]:8081"), "b to fd42:0:0:1::2");
    assert_eq!(from(&at_b.netns, "[fd42:0:0:1::2]:8081"), "a to fd42:0:0:2::2");
    stop.cancel();
}
