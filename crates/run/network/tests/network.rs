//! Real packets between pods, the node and a client from elsewhere. Needs root.

#![expect(clippy::unwrap_used, reason = "tests")]

mod hosts;
mod plugins;
mod policies;
mod repairs;
mod services;
mod support;

use std::fs::File;
use std::os::fd::AsFd;

use plimsoll_kernel::link::{Links, Route, Veth, in_namespace, index_of};
use plimsoll_kernel::pod_network::{Attached, PodNetwork, PortMapping, Protocol};
use plimsoll_network::{BridgeNetwork, Config, cleanup, run};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use support::{Api, Pod, ask, ask_udp, config, namespace, on_a_machine, serve_in, serve_ipv6, until};

async fn open(folder: &std::path::Path) -> BridgeNetwork {
    let network = BridgeNetwork::open(config(folder)).await.unwrap();
    network.set_pod_cidr(&["10.42.7.0/24".parse().unwrap()]).await.unwrap();
    network
}

/// A machine elsewhere, 192.0.2.9, on a link with this one, 192.0.2.1.
fn elsewhere() -> File {
    let netns = namespace();
    let mut links = Links::open().unwrap();
    let veth = Veth { name: "uplink", peer: "eth0", peer_namespace: netns.as_fd(), mtu: 1450, group: 0 };
    links.create_veth(&veth).unwrap();
    let device = index_of("uplink").unwrap();
    links.ensure_address(device, "192.0.2.1/24".parse().unwrap()).unwrap();
    in_namespace(netns.as_fd(), || {
        let device = index_of("eth0")?;
        let via_node = |destination: &str| Route {
            destination: destination.parse().unwrap(),
            device,
            gateway: Some("192.0.2.1".parse().unwrap()),
            source: None,
        };
        Links::open()?.ensure(
            &[device],
            &[(device, "192.0.2.9/24".parse().unwrap())],
            &[via_node("10.42.0.0/16"), via_node("10.43.0.0/16")],
        )
    })
    .unwrap();
    netns
}

fn from(netns: &File, server: &str) -> String {
    in_namespace(netns.as_fd(), || Ok(ask(server))).unwrap()
}

#[test]
fn pods_reach_each_other_the_node_and_the_world() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let world = elsewhere();
        serve_in(&world, "world", 8080);
        let network = BridgeNetwork::open(config(folder.path())).await.unwrap();
        assert!(network.trouble().await.is_some());
        network.set_pod_cidr(&["10.42.7.0/24".parse().unwrap()]).await.unwrap();
        assert_eq!(network.trouble().await, None);
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        assert_eq!(a.attached.addresses, ["10.42.7.2".parse::<std::net::IpAddr>().unwrap()]);
        let again = network.attach(Pod::request("a", &a.netns)).await.unwrap();
        assert_eq!(again, a.attached);
        serve_in(&File::open("/proc/thread-self/ns/net").unwrap(), "node", 9090);

        assert_eq!(a.ask("10.42.7.3:8080"), "b to 10.42.7.2");
        assert_eq!(b.ask("10.42.7.2:8080"), "a to 10.42.7.3");
        assert_eq!(a.ask("10.42.7.2:8080"), "a to 10.42.7.2");
        assert_eq!(a.ask("127.0.0.1:8080"), "a to 127.0.0.1");
        assert_eq!(a.ask("10.42.7.1:9090"), "node to 10.42.7.2", "the gateway");
        assert_eq!(a.ask("192.0.2.1:9090"), "node to 10.42.7.2", "the node's other address");
        assert_eq!(a.ask("10.43.0.10:9090"), "node to 10.42.7.2", "the resolver's address");
        assert_eq!(ask("10.42.7.3:8080"), "b to 10.42.7.1");
        assert_eq!(a.ask("192.0.2.9:8080"), "world to 192.0.2.1", "the world sees the node");
        assert_eq!(from(&world, "10.42.7.2:8080"), "a to 192.0.2.9", "who has a route is not changed");

        network.detach("b").await.unwrap();
        network.detach("b").await.unwrap();
        network.detach("unknown").await.unwrap();
        assert_ne!(a.ask("10.42.7.3:8080"), "b to 10.42.7.2");
        let c = Pod::start(&network, "c").await;
        assert_eq!(c.address.to_string(), "10.42.7.4", "not the address that was just given up");
        assert_eq!(network.attached().len(), 2);

        drop(network);
        let network = open(folder.path()).await;
        assert_eq!(network.attach(Pod::request("a", &a.netns)).await.unwrap(), a.attached, "after a restart");
        assert_eq!(c.ask("10.42.7.2:8080"), "a to 10.42.7.4");

        cleanup(folder.path(), "a1b2c3").await.unwrap();
        cleanup(folder.path(), "a1b2c3").await.unwrap();
        let left: Vec<_> = Links::open().unwrap().list().unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(left, ["lo", "uplink"]);
        let tables = plimsoll_kernel::nft::Tables::open().unwrap().list(plimsoll_kernel::nft::Family::Ipv4);
        assert_eq!(tables.unwrap(), Vec::<String>::new());
        assert!(!folder.path().join("network").exists());
    });
}

#[test]
fn a_pod_can_neither_forge_its_address_nor_reach_the_nodes_loopback() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let network = open(folder.path()).await;
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        serve_in(&File::open("/proc/thread-self/ns/net").unwrap(), "node", 9090);
        let route = |destination: &str, device| Route {
            destination: destination.parse().unwrap(),
            device,
            gateway: Some("10.42.7.1".parse().unwrap()),
            source: None,
        };
        in_namespace(a.netns.as_fd(), || {
            let (device, mut links) = (index_of("eth0")?, Links::open()?);
            links.ensure_address(device, "10.42.7.99/32".parse().unwrap())?;
            plimsoll_kernel::link::sysctl("net/ipv4/conf/eth0/route_localnet", "1")?;
            links.remove_address(1, "127.0.0.1/8".parse().unwrap())?;
            links.ensure_route(&route("127.0.0.1/32", device))
        })
        .unwrap();
        let ask_as = |source: &str| {
            in_namespace(a.netns.as_fd(), || {
                let socket = std::net::UdpSocket::bind(source)?;
                socket.set_read_timeout(Some(std::time::Duration::from_millis(200)))?;
                Ok(ask_udp(&socket, &format!("{}:8080", b.address)))
            })
            .unwrap()
        };
        assert_eq!(ask_as("10.42.7.2:0"), "b");
        assert_eq!(ask_as("10.42.7.99:0"), "WouldBlock");
        assert_eq!(ask_as("10.42.7.2:0"), "b");
        assert_eq!(a.ask("127.0.0.1:9090"), "TimedOut");
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

#[test]
fn host_ports_lead_to_their_pod() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let world = elsewhere();
        let network = open(folder.path()).await;
        let netns = namespace();
        let mut request = Pod::request("a", &netns);
        let port = |host_port, host_ip: Option<&str>| PortMapping {
            protocol: Protocol::Tcp,
            container_port: 8080,
            host_port,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        };
        request.port_mappings = vec![port(80, None), port(81, Some("127.0.0.1"))];
        network.attach(request).await.unwrap();
        serve_in(&netns, "a", 8080);
        let b = Pod::start(&network, "b").await;
        assert_eq!(from(&world, "192.0.2.1:80"), "a to 192.0.2.9");
        assert_eq!(from(&world, "192.0.2.1:81"), "ConnectionRefused");
        assert_eq!(ask("127.0.0.1:80"), "a to 10.42.7.1");
        assert_eq!(ask("127.0.0.1:81"), "a to 10.42.7.1");
        assert_eq!(b.ask("192.0.2.1:80"), "a to 10.42.7.3");
        assert_eq!(
            in_namespace(netns.as_fd(), || Ok(ask("192.0.2.1:80"))).unwrap(),
            "a to 10.42.7.1",
            "itself"
        );
        drop(network);
        let network = open(folder.path()).await;
        assert_eq!(from(&world, "192.0.2.1:80"), "a to 192.0.2.9", "after a restart");
        network.detach("a").await.unwrap();
        assert_eq!(from(&world, "192.0.2.1:80"), "ConnectionRefused");
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

/// How long it takes until a pod has `bytes` from another one, which sends as fast as it may.
fn transfer(sender: &Pod, receiver: &Pod, bytes: usize) -> std::time::Duration {
    use std::io::{Read, Write};
    let bind = || std::net::TcpListener::bind(("0.0.0.0", 0));
    let listener = in_namespace(sender.netns.as_fd(), bind).unwrap();
    let address = std::net::SocketAddr::new(sender.address, listener.local_addr().unwrap().port());
    let sending = std::thread::spawn(move || listener.accept().unwrap().0.write_all(&vec![0; bytes]));
    let start = std::time::Instant::now();
    let connect = || std::net::TcpStream::connect(address);
    let mut stream = in_namespace(receiver.netns.as_fd(), connect).unwrap();
    stream.read_exact(&mut vec![0; bytes]).unwrap();
    sending.join().unwrap().unwrap();
    start.elapsed()
}

#[test]
fn pods_are_as_fast_as_their_annotations_say() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let network = open(folder.path()).await;
        let (slow, quick) = (namespace(), Pod::start(&network, "quick").await);
        let mut request = Pod::request("slow", &slow);
        let annotate = |request: &mut plimsoll_kernel::pod_network::Attach, way: &str, rate: &str| {
            request.annotations.insert(format!("kubernetes.io/{way}-bandwidth"), rate.to_owned());
        };
        annotate(&mut request, "ingress", "1");
        let refused = network.attach(request.clone()).await.unwrap_err();
        assert_eq!(refused.to_string(), "resource is unreasonably small (< 1kbit)");
        annotate(&mut request, "ingress", "8M");
        annotate(&mut request, "egress", "4M");
        let attached = network.attach(request).await.unwrap();
        let slow = Pod { id: "slow".to_owned(), netns: slow, address: attached.addresses[0], attached };
        // A million bytes and the headers with them: a second and two.
        for (from, to, least, most) in [(&quick, &slow, 0.9, 1.6), (&slow, &quick, 1.9, 2.8)] {
            let took = transfer(from, to, 1_000_000).as_secs_f64();
            assert!((least..most).contains(&took), "{} to {}: {took} s", from.id, to.id);
        }
        let other = Pod::start(&network, "other").await;
        assert!(transfer(&quick, &other, 1_000_000).as_secs_f64() < 0.5, "others are not slowed down");
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

#[test]
fn pods_have_both_families() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let both = Config {
            cluster_cidr: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/48".parse().unwrap()],
            service_cidr: vec!["10.43.0.0/16".parse().unwrap(), "fd43::/112".parse().unwrap()],
            ..config(folder.path())
        };
        let network = BridgeNetwork::open(both.clone()).await.unwrap();
        let ranges = ["10.42.7.0/24".parse().unwrap(), "fd42:0:0:7::/64".parse().unwrap()];
        network.set_pod_cidr(&ranges).await.unwrap();
        let api = Api::default();
        for name in ["a", "b"] {
            api.put_pod(name, None);
        }
        api.put_namespace("default");
        let stop = CancellationToken::new();
        tokio::spawn(plimsoll_network::Policies::new(&network).unwrap().run(api.client(), stop.clone()));
        let (netns_a, netns_b) = (namespace(), namespace());
        let mut request = Pod::request("a", &netns_a);
        request.port_mappings =
            vec![PortMapping { protocol: Protocol::Tcp, container_port: 8081, host_port: 85, host_ip: None }];
        let a = network.attach(request).await.unwrap();
        let b = network.attach(Pod::request("b", &netns_b)).await.unwrap();
        let texts = |pod: &Attached| pod.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&a), ["10.42.7.2", "fd42:0:0:7::2"]);
        assert_eq!(texts(&b), ["10.42.7.3", "fd42:0:0:7::3"]);
        for (netns, name) in [(&netns_a, "a"), (&netns_b, "b")] {
            serve_in(netns, name, 8080);
            serve_ipv6(netns, name, 8081);
        }
        let (here_a, here_b) = ("fd42:0:0:7::2", "fd42:0:0:7::3");
        assert_eq!(from(&netns_a, "10.42.7.3:8080"), "b to 10.42.7.2");
        assert_eq!(from(&netns_a, &format!("[{here_b}]:8081")), format!("b to {here_a}"), "at once");
        assert_eq!(from(&netns_b, &format!("[{here_a}]:8081")), format!("a to {here_b}"));
        assert_eq!(from(&netns_a, &format!("[{here_a}]:8081")), format!("a to {here_a}"));
        assert_eq!(ask(&format!("[{here_b}]:8081")), "b to fd42:0:0:7::1");
        // A hostPort is open on the node's addresses of both families.
        assert_eq!(from(&netns_b, "[fd42:0:0:7::1]:85"), format!("a to {here_b}"));
        assert_eq!(ask("[::1]:85"), "ConnectionRefused", "not on the loopback, which says so");

        tokio::spawn(run(both, api.client(), stop.clone()));
        let spec =
            |address: &str| json!({"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}]});
        api.put_service("six", spec("fd43::20"));
        api.put_endpoints("six", 8081, "TCP", &[(here_a.parse().unwrap(), "here")]);
        api.put_service("nobody", spec("fd43::21"));
        let mut open = spec("fd43::22");
        open["type"] = "NodePort".into();
        open["ports"][0]["nodePort"] = 30086.into();
        api.put_service("open", open);
        api.put_endpoints("open", 8081, "TCP", &[(here_a.parse().unwrap(), "here")]);
        until("the Service leads to the pod", || from(&netns_b, "[fd43::20]:80") == format!("a to {here_b}"))
            .await;
        // The pod sees its own address changed, or its answer would not pass the node.
        assert_eq!(from(&netns_a, "[fd43::20]:80"), "a to fd42:0:0:7::1", "to itself");
        let node_port = || from(&netns_b, "[fd42:0:0:7::1]:30086");
        until("the port of the node leads to the pod", || node_port() == "a to fd42:0:0:7::1").await;
        assert_eq!(ask("[::1]:30086"), "ConnectionRefused");
        until("without endpoints", || from(&netns_b, "[fd43::21]:80") == "ConnectionRefused").await;
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

/// Prints what connecting a pod takes, alone and among thirty.
#[test]
#[ignore = "a measurement; run with --release --ignored --nocapture"]
fn measure_thirty_pods() {
    use std::time::Instant;
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let network = open(folder.path()).await;
        let pods: Vec<_> = (0..31).map(|number| (number.to_string(), namespace())).collect();
        let (alone, together) = pods.split_first().unwrap();
        let start = Instant::now();
        network.attach(Pod::request(&alone.0, &alone.1)).await.unwrap();
        println!("one pod connected in {:?}", start.elapsed());
        let start = Instant::now();
        let attached = together.iter().map(|(id, netns)| network.attach(Pod::request(id, netns)));
        assert!(futures::future::join_all(attached).await.iter().all(Result::is_ok));
        println!("thirty pods connected in {:?}", start.elapsed());
        let start = Instant::now();
        let detached = pods.iter().map(|(id, _)| network.detach(id));
        assert!(futures::future::join_all(detached).await.iter().all(Result::is_ok));
        println!("thirty-one pods disconnected in {:?}", start.elapsed());
        let left = || Links::open().unwrap().list().unwrap().len();
        until("their links are gone", || left() == 2).await;
        println!("and their links gone after {:?}", start.elapsed());
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}
