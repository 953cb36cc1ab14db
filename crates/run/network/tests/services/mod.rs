//! Services and their endpoints, tried with packets.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use plimsoll_kernel::link::in_namespace;
use plimsoll_network::{cleanup, run};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{Api, Pod, ask, config, on_a_machine, serve_in, until, who};
use crate::{elsewhere, from, open};

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
fn load_balancers_admit_their_source_ranges_and_node_ports_their_addresses() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let world = elsewhere();
        let network = open(folder.path()).await;
        let (a, client) = (Pod::start(&network, "a").await, Pod::start(&network, "client").await);
        let api = Api::default();
        let admit = |ranges: &[&str]| {
            let ports = json!([{"port": 80, "nodePort": 30080}]);
            let spec = json!({"type": "LoadBalancer", "clusterIP": "10.43.0.1", "ports": ports,
                "loadBalancerSourceRanges": ranges});
            api.put_balanced("web", spec, &["192.0.2.1"]);
        };
        api.put_endpoints("web", 8080, "TCP", &[(a.address, "here")]);
        admit(&["192.0.2.8/30", "192.0.2.9/32", "fd00::/8"]);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
        until("who is in a range comes in", || from(&world, "192.0.2.1:80").starts_with("a ")).await;
        assert_eq!(client.ask("192.0.2.1:80"), "TimedOut", "pods are judged, too");
        assert_eq!(ask("192.0.2.1:80"), "TimedOut", "and this node");
        admit(&["10.42.7.0/24", "192.0.2.1/32"]);
        until("others do not", || from(&world, "192.0.2.1:80") == "TimedOut").await;
        assert_eq!(who(3, || client.ask("192.0.2.1:80")), ["a"]);
        assert_eq!(who(3, || ask("192.0.2.1:80")), ["a"]);
        assert_eq!(who(3, || from(&world, "192.0.2.1:30080")), ["a"], "a node port is none of it");
        assert_eq!(who(3, || from(&world, "10.43.0.1:80")), ["a"], "nor is the cluster address");

        // The ranges are found after a restart, and node ports moved to one address.
        stop.cancel();
        task.await.unwrap().unwrap();
        assert_eq!(from(&world, "192.0.2.1:80"), "TimedOut", "nobody is there, the rules are");
        admit(&["192.0.2.0/28"]);
        let (stop, chosen) = (CancellationToken::new(), "192.0.2.0/24".parse().unwrap());
        let chosen = plimsoll_network::Config { node_port_addresses: vec![chosen], ..config(folder.path()) };
        let task = tokio::spawn(run(chosen, api.client(), stop.clone()));
        until("the new range holds", || from(&world, "192.0.2.1:80").starts_with("a ")).await;
        assert_eq!(client.ask("192.0.2.1:80"), "TimedOut");
        assert_eq!(who(3, || client.ask("192.0.2.1:30080")), ["a"]);
        assert_eq!(who(3, || from(&world, "192.0.2.1:30080")), ["a"]);
        for other in ["127.0.0.1:30080", "10.42.7.1:30080"] {
            assert_eq!(ask(other), "ConnectionRefused", "{other}");
        }
        admit(&[]);
        until("everybody is admitted", || client.ask("192.0.2.1:80").starts_with("a ")).await;
        stop.cancel();
        task.await.unwrap().unwrap();
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

#[test]
fn changes_of_endpoints_refuse_nobody() {
    const CONNECTIONS: usize = 6000;
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let network = open(folder.path()).await;
        let mut pods = Vec::new();
        for name in ["a", "b", "c", "d"] {
            pods.push(Pod::start(&network, name).await);
        }
        let client = Pod::start(&network, "client").await;
        let api = Api::default();
        let ports = json!([{"port": 80, "nodePort": 30080}]);
        api.put_service("web", json!({"type": "NodePort", "clusterIP": "10.43.0.1", "ports": ports}));
        let endpoints = |number: usize| {
            let some: Vec<_> = pods[..number].iter().map(|pod| (pod.address, "here")).collect();
            api.put_endpoints("web", 8080, "TCP", &some);
        };
        endpoints(4);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
        until("the Service works", || ask("10.42.7.1:30080").ends_with("to 10.42.7.1")).await;
        // A packet looks up how many endpoints there are, and then one of them, while both change.
        let refused = Arc::new(Mutex::new(Vec::new()));
        let ask_often = |netns: File, address: &'static str| {
            let refused = Arc::clone(&refused);
            let asking = move || {
                let answers = (0..CONNECTIONS).map(|_| ask(address));
                let bad: Vec<_> = answers.filter(|answer| answer == "ConnectionRefused").collect();
                refused.lock().unwrap().extend(bad);
                Ok(())
            };
            std::thread::spawn(move || in_namespace(netns.as_fd(), asking).unwrap())
        };
        let node = File::open("/proc/thread-self/ns/net").unwrap();
        let askers = [
            ask_often(node, "10.42.7.1:30080"),
            ask_often(client.netns.try_clone().unwrap(), "10.43.0.1:80"),
        ];
        for number in (1..=4).chain((2..=3).rev()).cycle() {
            if askers.iter().all(std::thread::JoinHandle::is_finished) {
                break;
            }
            endpoints(number);
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
        assert_eq!(*refused.lock().unwrap(), Vec::<String>::new());
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

#[test]
fn external_addresses_short_memories_and_pods_that_end() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let network = open(folder.path()).await;
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        let client = Pod::start(&network, "client").await;
        b.serve(9090);
        let api = Api::default();
        // The port's name stands for another number in each pod.
        let spec =
            json!({"clusterIP": "10.43.0.1", "externalIPs": ["198.51.100.7"], "ports": [{"port": 80}]});
        api.put_service("web", spec);
        let ready = |pod: &Pod| json!({"addresses": [pod.address], "conditions": {"ready": true}});
        api.put_slice("web-1", "web", (8080, "TCP"), &[ready(&a)]);
        api.put_slice("web-2", "web", (9090, "TCP"), &[ready(&b)]);
        let spec = json!({"clusterIP": "10.43.0.2", "ports": [{"port": 80}], "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}});
        api.put_service("sticky", spec);
        api.put_endpoints("sticky", 8080, "TCP", &[(a.address, "here"), (b.address, "here")]);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
        let both = || who(40, || client.ask("10.43.0.1:80")) == ["a", "b"];
        until("each pod is asked on its own port", both).await;
        assert_eq!(who(40, || client.ask("198.51.100.7:80")), ["a", "b"], "an external address");

        // Hints of zones hold as soon as the node is in one of them.
        let hinted = |pod: &Pod, zone: &str| json!({"addresses": [pod.address], "conditions": {"ready": true}, "hints": {"forZones": [{"name": zone}]}});
        api.put_slice("web-1", "web", (8080, "TCP"), &[hinted(&a, "one")]);
        api.put_slice("web-2", "web", (9090, "TCP"), &[hinted(&b, "two")]);
        for (zone, near) in [("one", "a"), ("two", "b")] {
            api.put_zone(zone);
            until(zone, || who(20, || client.ask("10.43.0.1:80")) == [near]).await;
        }
        api.put_zone("three");
        until("a zone without endpoints", both).await;

        until("the other Service leads somewhere", || client.ask("10.43.0.2:80").contains(" to ")).await;
        let first = who(1, || client.ask("10.43.0.2:80"));
        assert_eq!(who(20, || client.ask("10.43.0.2:80")), first);
        let family = plimsoll_kernel::nft::Family::Ipv4;
        let mut tables = plimsoll_kernel::nft::Tables::open().unwrap();
        let mut remembered = || tables.elements(family, "plim-a1b2c3", "affinity").unwrap().len();
        assert_eq!(remembered(), 1);
        until("the client is forgotten", || remembered() == 0).await;

        // Who ends is asked only when nobody else is there, and not when it does not serve.
        let ends = |pod: &Pod, serving: bool| {
            let conditions = json!({"ready": false, "serving": serving, "terminating": true});
            json!({"addresses": [pod.address], "conditions": conditions})
        };
        api.put_slice("web-1", "web", (8080, "TCP"), &[ends(&a, true)]);
        until("b alone", || who(20, || client.ask("10.43.0.1:80")) == ["b"]).await;
        api.put_slice("web-2", "web", (9090, "TCP"), &[ends(&b, false)]);
        until("a, as nothing else is there", || who(20, || client.ask("10.43.0.1:80")) == ["a"]).await;
        api.put_slice("web-1", "web", (8080, "TCP"), &[ends(&a, false)]);
        until("nobody", || client.ask("10.43.0.1:80") == "ConnectionRefused").await;
        stop.cancel();
        task.await.unwrap().unwrap();
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
