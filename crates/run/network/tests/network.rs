//! Real packets between pods, the node and a client from elsewhere. Needs root.

#![expect(clippy::unwrap_used, reason = "tests")]

mod policies;
mod support;

use std::fs::File;
use std::os::fd::AsFd;

use plimsoll_kernel::link::{Links, Route, Veth, in_namespace, index_of};
use plimsoll_kernel::pod_network::{Attached, PodNetwork, PortMapping, Protocol};
use plimsoll_network::{BridgeNetwork, Config, cleanup, reach_hosts, run};
use serde_json::json;
use support::{
    Api, Machine, Pod, ask, ask_udp, config, namespace, on_a_machine, serve_in, serve_ipv6, until, who,
};
use tokio_util::sync::CancellationToken;

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
        assert!(!network.ready());
        network.set_pod_cidr(&["10.42.7.0/24".parse().unwrap()]).await.unwrap();
        assert!(network.ready());
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

#[test]
fn services_lead_to_their_endpoints() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let world = elsewhere();
        let network = open(folder.path()).await;
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        let client = Pod::start(&network, "client").await;
        let api = Api::default();
        let ports = json!([{"port": 80, "nodePort": 30080}]);
        api.put_service("web", json!({"type": "NodePort", "clusterIP": "10.43.0.1", "ports": ports}));
        api.put_endpoints("web", 8080, "TCP", &[(a.address, "here"), (b.address, "here")]);
        api.put_service(
            "empty",
            json!({"clusterIP": "10.43.0.2", "ports": [{"port": 80}],
            "externalIPs": ["192.0.2.77"]}),
        );
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
        until("the Service works", || client.ask("10.43.0.1:80").ends_with("to 10.42.7.4")).await;

        assert_eq!(who(40, || client.ask("10.43.0.1:80")), ["a", "b"]);
        assert_eq!(who(40, || ask("10.43.0.1:80")), ["a", "b"], "from the node");
        let hairpin = (0..40).map(|_| a.ask("10.43.0.1:80")).find(|answer| answer.starts_with("a "));
        assert_eq!(hairpin.unwrap(), "a to 10.42.7.1", "a pod reaches itself");
        for address in ["127.0.0.1:30080", "192.0.2.1:30080", "10.42.7.1:30080"] {
            assert_eq!(who(40, || ask(address)), ["a", "b"], "{address}");
        }
        assert_eq!(who(40, || from(&world, "192.0.2.1:30080")), ["a", "b"]);
        assert!(from(&world, "192.0.2.1:30080").ends_with(" to 10.42.7.1"), "targets see the node");
        assert_eq!(who(40, || client.ask("192.0.2.1:30080")), ["a", "b"]);
        assert!(from(&world, "10.43.0.1:80").ends_with(" to 10.42.7.1"), "the node as the way to Services");
        for (what, address) in [
            ("no endpoints", "10.43.0.2:80"),
            ("no such port", "10.43.0.1:81"),
            ("no such Service", "10.43.9.9:80"),
        ] {
            assert_eq!(client.ask(address), "ConnectionRefused", "{what}");
            assert_eq!(ask(address), "ConnectionRefused", "{what}, from the node");
        }

        serve_in(&File::open("/proc/thread-self/ns/net").unwrap(), "node", 6443);
        for (service, server) in [("10.43.0.3", "10.42.7.1"), ("10.43.0.4", "192.0.2.1")] {
            api.put_service(service, json!({"clusterIP": service, "ports": [{"port": 443}]}));
            api.put_endpoints(service, 6443, "TCP", &[(server.parse().unwrap(), "here")]);
            let address = format!("{service}:443");
            until("the node serves", || client.ask(&address) == "node to 10.42.7.4").await;
            assert_eq!(ask(&address), "node to 10.42.7.1", "the node asks itself");
        }

        api.put_endpoints("web", 8080, "TCP", &[(b.address, "here")]);
        until("an endpoint is gone", || who(10, || client.ask("10.43.0.1:80")) == ["b"]).await;
        assert_eq!(who(10, || ask("127.0.0.1:30080")), ["b"]);

        // The rules stay without the process, and are taken over.
        stop.cancel();
        task.await.unwrap().unwrap();
        assert_eq!(who(5, || client.ask("10.43.0.1:80")), ["b"]);
        api.put_endpoints("web", 8080, "TCP", &[(a.address, "here")]);
        api.put_service("web", json!({"clusterIP": "10.43.0.1", "ports": [{"port": 80}]}));
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
        until("the new rules hold", || who(5, || client.ask("10.43.0.1:80")) == ["a"]).await;
        assert_eq!(ask("127.0.0.1:30080"), "ConnectionRefused", "the NodePort is gone");

        // Somebody flushes everything: the next change brings it back.
        let mut tables = plimsoll_kernel::nft::Tables::open().unwrap();
        let mut flush = plimsoll_kernel::nft::Batch::new(plimsoll_kernel::nft::Family::Ipv4, "plim-a1b2c3");
        flush.delete_table();
        tables.commit(&flush.finish()).unwrap();
        api.put_endpoints("empty", 8080, "TCP", &[(b.address, "here")]);
        until("the rules are back", || client.ask("10.43.0.2:80").starts_with("b ")).await;
        assert_eq!(who(5, || client.ask("10.43.0.1:80")), ["a"]);
        let late = Pod::start(&network, "late").await;
        assert_eq!(late.ask("10.43.0.1:80"), "a to 10.42.7.5");

        api.delete("services", "web");
        until("the Service is gone", || client.ask("10.43.0.1:80") == "ConnectionRefused").await;
        stop.cancel();
        task.await.unwrap().unwrap();
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

#[test]
fn clients_return_to_their_endpoint_and_outsiders_stay_on_the_node() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let world = elsewhere();
        let network = open(folder.path()).await;
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        let client = Pod::start(&network, "client").await;
        let api = Api::default();
        let both = [(a.address, "here"), (b.address, "there")];
        api.put_service(
            "sticky",
            json!({"clusterIP": "10.43.0.1", "ports": [{"port": 80}],
            "sessionAffinity": "ClientIP"}),
        );
        api.put_endpoints("sticky", 8080, "TCP", &both);
        api.put_service(
            "local",
            json!({"type": "NodePort", "clusterIP": "10.43.0.2",
            "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]}),
        );
        api.put_endpoints("local", 8080, "TCP", &both);
        api.put_service(
            "inside",
            json!({"clusterIP": "10.43.0.3", "ports": [{"port": 80}],
            "internalTrafficPolicy": "Local"}),
        );
        api.put_endpoints("inside", 8080, "TCP", &[(b.address, "there")]);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
        until("the Services work", || client.ask("10.43.0.1:80").ends_with("to 10.42.7.4")).await;

        // People look at rules with this program: it must be able to show ours.
        if let Ok(shown) = std::process::Command::new("nft").args(["list", "ruleset"]).output() {
            let text = String::from_utf8_lossy(&shown.stdout);
            assert!(text.contains("chain pick-2-for-10800s"), "{shown:?}");
        }
        let first = who(1, || client.ask("10.43.0.1:80"));
        assert_eq!(who(20, || client.ask("10.43.0.1:80")), first);
        let (left, other) =
            if first == ["a"] { ((b.address, "here"), "b") } else { ((a.address, "here"), "a") };
        api.put_endpoints("sticky", 8080, "TCP", &[left]);
        until("the other is chosen", || who(5, || client.ask("10.43.0.1:80")) == [other]).await;
        api.put_endpoints("sticky", 8080, "TCP", &both);
        until("both are back", || client.ask("10.43.0.1:80").starts_with(other)).await;
        assert_eq!(who(20, || client.ask("10.43.0.1:80")), [other], "the new target sticks");

        assert_eq!(who(20, || from(&world, "192.0.2.1:30080")), ["a"]);
        assert_eq!(from(&world, "192.0.2.1:30080"), "a to 192.0.2.9", "the client's address is kept");
        assert_eq!(who(40, || client.ask("192.0.2.1:30080")), ["a", "b"], "pods count as inside");
        assert_eq!(client.ask("10.43.0.3:80"), "TimedOut", "dropped, not refused");
        api.put_endpoints("local", 8080, "TCP", &[(b.address, "there")]);
        until("nothing is here", || from(&world, "192.0.2.1:30080") == "TimedOut").await;
        stop.cancel();
        task.await.unwrap().unwrap();
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

#[test]
fn datagrams_follow_the_endpoints() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let network = open(folder.path()).await;
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        let client = Pod::start(&network, "client").await;
        let api = Api::default();
        api.put_service("dns", json!({"clusterIP": "10.43.0.1", "ports": [{"port": 53, "protocol": "UDP"}]}));
        api.put_endpoints("dns", 8080, "UDP", &[(a.address, "here")]);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
        let socket = client.udp();
        until("the Service works", || client.ask_udp(&socket, "10.43.0.1:53") == "a").await;
        api.put_endpoints("dns", 8080, "UDP", &[(b.address, "here")]);
        until("the same socket reaches the new endpoint", || client.ask_udp(&socket, "10.43.0.1:53") == "b")
            .await;
        api.put_endpoints("dns", 8080, "UDP", &[]);
        until("nobody is left", || client.ask_udp(&socket, "10.43.0.1:53") == "ConnectionRefused").await;
        stop.cancel();
        task.await.unwrap().unwrap();
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

/// Prints what 10,000 Services cost: programming all of them, one endpoint's change, a connection.
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

        tokio::spawn(run(both, api.client(), stop.clone()));
        let spec =
            |address: &str| json!({"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}]});
        api.put_service("six", spec("fd43::20"));
        api.put_endpoints("six", 8081, "TCP", &[(here_a.parse().unwrap(), "here")]);
        api.put_service("nobody", spec("fd43::21"));
        until("the Service leads to the pod", || from(&netns_b, "[fd43::20]:80") == format!("a to {here_b}"))
            .await;
        // The pod sees its own address changed, or its answer would not pass the node.
        assert_eq!(from(&netns_a, "[fd43::20]:80"), "a to fd42:0:0:7::1", "to itself");
        until("without endpoints", || from(&netns_b, "[fd43::21]:80") == "ConnectionRefused").await;
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

#[test]
fn load_balancers_are_told_of_endpoints_here() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let api = Api::default();
        let stop = CancellationToken::new();
        tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
        let spec = json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999,
            "clusterIP": "10.43.0.20", "clusterIPs": ["10.43.0.20"], "ports": [{"port": 80, "nodePort": 30080}],
        });
        // The runtime has one thread, so whoever asks must not block it.
        let asked = async || {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let talk = async {
                let mut stream = tokio::net::TcpStream::connect("127.0.0.1:30999").await?;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await?;
                Ok::<_, std::io::Error>(answer)
            };
            talk.await.unwrap_or_else(|error| format!("{:?}", error.kind()))
        };
        let becomes = async |wanted: &[&str]| {
            let mut last = String::new();
            for _ in 0..2000 {
                last = asked().await;
                if wanted.iter().all(|part| last.contains(part)) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            panic!("{wanted:?} in {last}");
        };
        let endpoints = |node: &str| {
            let endpoints = [("10.42.7.2".parse().unwrap(), node), ("10.42.7.3".parse().unwrap(), node)];
            api.put_endpoints("web", 8080, "TCP", &endpoints);
        };
        api.put_service("web", spec.clone());
        becomes(&["503 Service Unavailable", "\"localEndpoints\": 0", "\"serviceProxyHealthy\": true"]).await;
        endpoints("here");
        becomes(&["200 OK", "application/json", "nosniff", "x-load-balancing-endpoint-weight: 2"]).await;
        becomes(&["{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n"])
            .await;
        endpoints("there");
        becomes(&["503 Service Unavailable", "x-load-balancing-endpoint-weight: 0"]).await;
        // Another Service takes the port over.
        api.delete("services", "web");
        becomes(&["ConnectionRefused"]).await;
        api.put_service("other", spec);
        becomes(&["\"name\": \"other\""]).await;
        stop.cancel();
        becomes(&["ConnectionRefused"]).await;
    });
}

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
        cleanup(a.folder.path(), "a1b2c3").await.unwrap();
        let left: Vec<_> = Links::open().unwrap().list().unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(left, ["lo", "b"]);
        assert_eq!(Links::open().unwrap().far_routes().unwrap(), []);
    });
}

#[test]
#[ignore = "a measurement; run with --release --ignored --nocapture"]
fn measure_ten_thousand_services() {
    use std::time::Instant;
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let network = open(folder.path()).await;
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        let client = Pod::start(&network, "client").await;
        let connect = |times: u32| {
            let start = Instant::now();
            (0..times).for_each(|_| assert!(client.ask("10.43.0.1:80").starts_with("a ")));
            start.elapsed() / times
        };
        for services in [11u16, 10_000] {
            let api = Api::default();
            for number in 1..=services {
                let address = format!("10.43.{}.{}", number / 250, number % 250);
                let other = format!("10.42.{}.{}", number / 250, number % 250).parse().unwrap();
                let name = format!("s{number}");
                api.put_service(&name, json!({"clusterIP": address, "ports": [{"port": 80}]}));
                let endpoints = [(a.address, "here"), (other, "there")];
                let single = number == 1 || number == services;
                api.put_endpoints(&name, 8080, "TCP", &endpoints[..if single { 1 } else { 2 }]);
            }
            let stop = CancellationToken::new();
            let start = Instant::now();
            let task = tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
            let last = format!("10.43.{}.{}:80", services / 250, services % 250);
            until("the last Service works", || client.ask(&last).starts_with("a ")).await;
            println!("{services} Services: listed, planned and programmed in {:?}", start.elapsed());
            println!("{services} Services: a connection and a thread take {:?}", connect(200));
            let changes = 100u32;
            let start = Instant::now();
            for number in 0..changes {
                let (pod, name) = if number % 2 == 0 { (&b, "b ") } else { (&a, "a ") };
                api.put_endpoints("s2", 8080, "TCP", &[(pod.address, "here")]);
                until("the change is made", || client.ask("10.43.0.2:80").starts_with(name)).await;
            }
            println!(
                "{services} Services: one endpoint's change until a connection follows it {:?}",
                start.elapsed() / changes
            );
            stop.cancel();
            task.await.unwrap().unwrap();
        }
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
