//! NetworkPolicies, tried with packets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use plimsoll_kernel::link::in_namespace;
use plimsoll_kernel::nft::{Batch, Family, Tables};
use plimsoll_kernel::pod_network::PodNetwork;
use plimsoll_network::{BridgeNetwork, Policies, cleanup};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Api, Pod, ask, ask_udp, config, on_a_machine, serve_in, until};
use crate::{elsewhere, from, open};

/// The policies' loop, until it is stopped.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), plimsoll_network::Error>>,
}

impl Running {
    fn start(network: &BridgeNetwork, api: &Api) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(Policies::new(network).unwrap().run(api.client(), stop.clone()));
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

/// Asks all at once, since who is dropped waits.
fn together<const N: usize>(asks: [&(dyn Fn() -> String + Sync); N]) -> [String; N] {
    thread::scope(|scope| asks.map(|ask| scope.spawn(ask)).map(|asking| asking.join().unwrap()))
}

/// A connection from `client` to a server of `server` that sends back what it is sent.
fn connect(client: &Pod, server: &Pod, port: u16) -> TcpStream {
    let listener = in_namespace(server.netns.as_fd(), || TcpListener::bind(("0.0.0.0", port))).unwrap();
    let made = in_namespace(client.netns.as_fd(), || TcpStream::connect((server.address, port))).unwrap();
    made.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let (mut reader, _) = listener.accept().unwrap();
    let mut writer = reader.try_clone().unwrap();
    thread::spawn(move || std::io::copy(&mut reader, &mut writer));
    made
}

fn echoes(connection: &mut TcpStream) -> bool {
    connection.write_all(b"?").unwrap();
    connection.read_exact(&mut [0]).is_ok()
}

async fn start(network: &BridgeNetwork, api: &Api, name: &str) -> Pod {
    api.put_pod(name, None);
    Pod::start(network, name).await
}

#[test]
fn policies_hold_for_what_passes() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let (world, api) = (elsewhere(), Api::default());
        serve_in(&world, "world", 8080);
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        serve_in(&here, "node", 9090);
        api.put_namespace("default");
        api.put_namespace("kube-system");
        let network = open(folder.path()).await;
        let policies = Running::start(&network, &api);
        let (a, b) = (start(&network, &api, "a").await, start(&network, &api, "b").await);
        api.put_pod("far", Some("192.0.2.9"));
        let (web, other) = (format!("{}:8080", a.address), format!("{}:8081", a.address));
        a.serve(8081);
        let socket = b.udp();
        assert_eq!([b.ask(&web), b.ask_udp(&socket, &web)], [format!("a to {}", b.address), "a".to_owned()]);

        let mut kept = connect(&b, &a, 7007);
        assert!(echoes(&mut kept));

        // What was let pass before is judged anew.
        api.put_policy("web", json!({"podSelector": app("a"), "policyTypes": ["Ingress"]}));
        until("a receives nothing", || b.ask(&web) == "TimedOut").await;
        assert_eq!(b.ask_udp(&socket, &web), "WouldBlock");
        assert!(!echoes(&mut kept));
        assert_eq!(from(&world, &web), "TimedOut");
        assert_eq!(a.ask(&web), format!("a to {}", a.address), "itself");
        assert!(ask(&web).starts_with("a to "), "the node");
        assert!(a.ask(&format!("{}:8080", b.address)).starts_with("b to "), "answers");

        let ingress =
            |rule: Value| json!({"podSelector": app("a"), "policyTypes": ["Ingress"], "ingress": [rule]});
        let table = [
            // rule; from b to 8080 and 8081, from elsewhere to 8080
            (json!({"from": [{"podSelector": app("b")}], "ports": [{"port": "web"}]}), [true, false, false]),
            (json!({"ports": [{"port": 8080, "endPort": 8085}]}), [true, true, true]),
            (json!({"ports": [{"port": 8080, "protocol": "UDP"}, {"port": 8081}]}), [false, true, false]),
            (json!({"from": [{"podSelector": app("far")}]}), [false, false, true]),
            (
                json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["192.0.2.0/24"]}}]}),
                [true, true, false],
            ),
            (
                json!({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}, {"namespaceSelector": app("none")}]}),
                [false, false, true],
            ),
            (json!({}), [true, true, true]),
        ];
        for (rule, expected) in table {
            api.put_policy("web", ingress(rule.clone()));
            let found = || {
                together([&|| b.ask(&web), &|| b.ask(&other), &|| from(&world, &web)])
                    .map(|answer| answer.starts_with("a to "))
            };
            until(&format!("{rule}: {expected:?}"), || found() == expected).await;
        }

        // What b may send: nothing, but to the node; the resolver is like a pod.
        let egress =
            |rules: Value| json!({"podSelector": app("b"), "policyTypes": ["Egress"], "egress": rules});
        let reached = || {
            together([&|| b.ask("10.43.0.10:9090"), &|| b.ask("10.42.7.1:9090"), &|| b.ask(&web), &|| {
                b.ask("192.0.2.9:8080")
            }])
            .map(|answer| answer.contains(" to "))
        };
        api.put_policy("out", egress(json!([])));
        until("b sends nothing", || reached() == [false, true, false, false]).await;
        assert!(from(&world, &format!("{}:8080", b.address)).starts_with("b to "), "answers");
        let dns = json!({"namespaceSelector": {"matchLabels": {"name": "kube-system"}}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}});
        api.put_policy(
            "out",
            egress(json!([{"to": [dns]}, {"to": [{"podSelector": app("a")}], "ports": [{"port": "web"}]}])),
        );
        until("b sends to the resolver and a", || reached() == [true, true, true, false]).await;
        api.put_policy("out", egress(json!([{"to": [{"ipBlock": {"cidr": "192.0.2.9/32"}}]}])));
        until("b sends elsewhere", || reached() == [false, true, false, true]).await;
        for name in ["web", "out"] {
            api.delete("networkpolicies", name);
        }
        until("nothing is isolated", || reached() == [true; 4]).await;
        policies.stop().await;
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

#[test]
fn an_isolated_pod_is_never_open() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let api = Api::default();
        api.put_namespace("default");
        api.put_policy("deny", json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["asks"]}]}}));
        let network = open(folder.path()).await;
        let policies = Running::start(&network, &api);
        let asks = start(&network, &api, "asks").await;
        let closed = start(&network, &api, "closed").await;
        let to = format!("{}:8080", closed.address);
        let asked = || ask_udp(&asks.udp(), &to);
        assert_eq!(asked(), "WouldBlock", "its rules stood before its first packet");

        let stop = Arc::new(AtomicBool::new(false));
        let (socket, server, stopped) = (asks.udp(), to.clone(), stop.clone());
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let asking = thread::spawn(move || {
            let mut asked = 0;
            while !stopped.load(Ordering::Relaxed) {
                assert_eq!(ask_udp(&socket, &server), "WouldBlock", "after {asked} times");
                asked += 1;
            }
            asked
        });
        policies.stop().await;
        assert_eq!(asked(), "WouldBlock", "without the process");
        drop(network);
        let network = BridgeNetwork::open(config(folder.path())).await.unwrap();
        let policies = Running::start(&network, &api);
        let late = start(&network, &api, "late").await;
        assert_eq!(
            [asked(), ask_udp(&asks.udp(), &format!("{}:8080", late.address))],
            ["WouldBlock", "WouldBlock"]
        );
        stop.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0);

        // Somebody flushes everything: the next change brings it back.
        let mut flush = Batch::new(Family::Ipv4, "plim-a1b2c3");
        flush.delete_table();
        Tables::open().unwrap().commit(&flush.finish()).unwrap();
        assert_eq!(asked(), "closed");
        network.detach("late").await.unwrap();
        start(&network, &api, "later").await;
        assert_eq!(asked(), "WouldBlock", "the rules are back");
        let own = Tables::open().unwrap().elements(Family::Ipv4, "plim-a1b2c3", "own-pods").unwrap();
        assert_eq!(own.len(), 3, "and what the network has there");
        policies.stop().await;
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}
