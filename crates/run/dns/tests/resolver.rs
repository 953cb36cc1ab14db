//! Questions over real sockets, in a network namespace because of port 53. Needs root.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use plimsoll_client::Informers;
use plimsoll_dns::{Config, Copies, run};
use plimsoll_kernel::link::{LOOPBACK, Links, in_namespace};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

const OURS: &str = "127.0.0.10:53";
/// Where the pod of the API server asks from.
const POD: &str = "127.0.0.31";
const METRICS: &str = "127.0.0.10:9153";
const UPSTREAM: &str = "127.0.0.20:53";

fn on_a_machine<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let make = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        Links::open().unwrap().set_up(LOOPBACK).unwrap();
        std::fs::File::open("/proc/thread-self/ns/net").unwrap()
    };
    let machine = std::thread::spawn(make).join().unwrap();
    in_namespace(machine.as_fd(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
        Ok(())
    })
    .unwrap();
}

/// An API server with two Services, a pod and a configuration that never change; silent until told to answer.
#[derive(Clone)]
struct Api {
    answers: bool,
    corefile: Option<&'static str>,
}

impl tower::Service<http::Request<kube::client::Body>> for Api {
    type Response = http::Response<UnsyncBoxBody<Bytes, Infallible>>;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<kube::client::Body>) -> Self::Future {
        let watch = request.uri().query().unwrap_or_default().contains("watch=");
        let path = request.uri().path();
        let main = request.uri().query().unwrap_or_default().contains("coredns&");
        let items = if path.ends_with("/configmaps") && main {
            json!(
                self.corefile
                    .iter()
                    .map(|text| json!({
                        "metadata": {"name": "coredns", "namespace": "kube-system", "resourceVersion": "3"},
                        "data": {"Corefile": text},
                    }))
                    .collect::<Vec<_>>()
            )
        } else if path.ends_with("/pods") {
            json!([{"metadata": {"name": "client", "namespace": "default", "uid": "u", "resourceVersion": "4"},
                "spec": {"nodeName": "node", "containers": []},
                "status": {"phase": "Running", "podIPs": [{"ip": POD}]}}])
        } else if path.ends_with("/services") {
            json!([
                {"metadata": {"name": "web", "namespace": "default", "resourceVersion": "1"},
                    "spec": {"clusterIP": "10.43.0.1", "ports": [{"port": 80}]}},
                {"metadata": {"name": "away", "namespace": "default", "resourceVersion": "2"},
                    "spec": {"type": "ExternalName", "externalName": "www.example.org"}},
            ])
        } else {
            json!([])
        };
        let body = json!({"metadata": {"resourceVersion": "9"}, "items": items}).to_string();
        let answers = self.answers;
        Box::pin(async move {
            if watch || !answers {
                std::future::pending::<()>().await;
            }
            Ok(http::Response::new(Full::new(Bytes::from(body)).boxed_unsync()))
        })
    }
}

/// A resolver that knows `*.example.org`, and counts what it is asked.
async fn upstream(asked: Arc<AtomicUsize>) {
    upstream_at(UPSTREAM, asked).await;
}

async fn upstream_at(address: &str, asked: Arc<AtomicUsize>) -> tokio::task::AbortHandle {
    let socket = UdpSocket::bind(address).await.unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(4 << 20)).unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let streams = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            let reply = upstream_reply(&query, true);
            stream.write_u16(reply.len() as u16).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    };
    let datagrams = async move {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            asked.fetch_add(1, Ordering::SeqCst);
            let mut forged = upstream_reply(&buffer[..length], false);
            forged[0] ^= 1;
            socket.send_to(&forged, client).await.unwrap();
            socket.send_to(&upstream_reply(&buffer[..length], false), client).await.unwrap();
        }
    };
    tokio::spawn(async { tokio::join!(streams, datagrams) }).abort_handle()
}

fn upstream_reply(query: &[u8], tcp: bool) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_available = true;
    let question = query.queries[0].clone();
    let name = question.name().clone();
    reply.queries.push(question);
    let text = name.to_string().to_lowercase();
    let address = |last| Record::from_rdata(name.clone(), 60, RData::A(A::new(192, 0, 2, last)));
    if text == "big.example.org." && !tcp {
        reply.metadata.truncation = true;
    } else if text == "big.example.org." {
        reply.answers.extend((0..100).map(address));
    } else if text.ends_with("example.org.") {
        reply.answers.push(address(7));
    } else if text == "broken.example.com." {
        reply.metadata.response_code = ResponseCode::ServFail;
    } else {
        reply.metadata.response_code = ResponseCode::NXDomain;
        let soa = SOA::new(Name::root(), Name::root(), 1, 2, 3, 4, 60);
        reply.authorities.push(Record::from_rdata(Name::root(), 60, RData::SOA(soa)));
    }
    reply.to_vec().unwrap()
}

fn query(name: &str, id: u16) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn describe(reply: &[u8], id: u16) -> String {
    let message = Message::from_vec(reply).unwrap();
    assert_eq!(message.metadata.id, id);
    let mut words = vec![format!("{:?}", message.metadata.response_code)];
    if message.metadata.truncation {
        words.push("cut".to_owned());
    }
    words.extend(message.answers.iter().map(|record| record.data.to_string()));
    words.join(" ")
}

async fn ask(name: &str) -> String {
    ask_from("127.0.0.1", name).await
}

async fn ask_from(client: &str, name: &str) -> String {
    let socket = UdpSocket::bind((client, 0)).await.unwrap();
    socket.connect(OURS).await.unwrap();
    let id: u16 = rand::random();
    socket.send(&query(name, id)).await.unwrap();
    let mut buffer = [0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(8), socket.recv(&mut buffer)).await;
    describe(&buffer[..length.unwrap().unwrap()], id)
}

async fn ask_tcp(stream: &mut TcpStream, name: &str) -> String {
    let id: u16 = rand::random();
    let query = query(name, id);
    stream.write_u16(query.len() as u16).await.unwrap();
    stream.write_all(&query).await.unwrap();
    let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut reply).await.unwrap();
    describe(&reply, id)
}

struct Machine {
    _folder: tempfile::TempDir,
    stop: CancellationToken,
}

/// Starts the resolver; its upstreams are `resolv_conf`'s.
async fn start(resolv_conf: &str, api: bool) -> Machine {
    start_with(resolv_conf, Api { answers: api, corefile: None }).await
}

async fn start_with(resolv_conf: &str, api: Api) -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, resolv_conf).unwrap();
    let ours: SocketAddr = OURS.parse().unwrap();
    let config = Config {
        listen: vec![ours],
        metrics: vec![METRICS.parse().unwrap()],
        zone: "cluster.local".to_owned(),
        node_name: "node".to_owned(),
        addresses: vec![ours.ip()],
        resolv_conf: path,
        copies: Copies::Shared,
    };
    let informers = Informers::new(plimsoll_client::from_service(api.clone()));
    let stop = CancellationToken::new();
    tokio::spawn(run(config, informers, stop.clone()));
    let ready = |answer: &str| !api.answers || !answer.starts_with("ServFail");
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let bound = UdpSocket::bind(OURS).await.is_err();
        if bound && ready(&ask("web.default.svc.cluster.local.").await) {
            return Machine { _folder: folder, stop };
        }
    }
    panic!("the resolver does not start");
}

#[test]
fn names_of_the_cluster_and_of_others() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.10\nnameserver 127.0.0.20\n", true).await;
        let cases = [
            ("web.default.svc.cluster.local.", "NoError 10.43.0.1"),
            ("none.default.svc.cluster.local.", "NXDomain"),
            ("www.example.org.", "NoError 192.0.2.7"),
            ("WWW.Example.ORG.", "NoError 192.0.2.7"),
            ("nowhere.example.net.", "NXDomain"),
            ("nowhere.example.net.", "NXDomain"),
            ("broken.example.com.", "ServFail"),
            ("away.default.svc.cluster.local.", "NoError www.example.org. 192.0.2.7"),
            ("big.example.org.", "NoError cut"),
        ];
        for (name, expected) in cases {
            assert_eq!(ask(name).await, expected, "{name}");
        }
        // Two for www.example.org (without and with EDNS), one for each other name, two for the failure
        // are too many: it is not asked again when a server said so.
        assert_eq!(asked.load(Ordering::SeqCst), 5, "the cache answers the rest");
        let mut stream = TcpStream::connect(OURS).await.unwrap();
        assert_eq!(ask_tcp(&mut stream, "web.default.svc.cluster.local.").await, "NoError 10.43.0.1");
        assert_eq!(ask_tcp(&mut stream, "big.example.org.").await.split(' ').count(), 101);
        machine.stop.cancel();
    });
}

#[test]
fn the_same_question_is_asked_once() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.20\n", true).await;
        let storm = (0..100).map(|_| ask("storm.example.org."));
        let replies = futures::future::join_all(storm).await;
        assert!(replies.iter().all(|reply| reply == "NoError 192.0.2.7"));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let storm = (0..500).map(|n| async move { ask(&format!("h{n}.example.org.")).await });
        let replies = futures::future::join_all(storm).await;
        assert!(replies.iter().all(|reply| reply == "NoError 192.0.2.7"));
        machine.stop.cancel();
    });
}

#[test]
fn without_anybody_to_ask_failure_is_told_at_once() {
    on_a_machine(|| async {
        let machine = start("search example.org\n", true).await;
        let start = Instant::now();
        assert_eq!(ask("www.example.org.").await, "ServFail");
        assert_eq!(ask("9.9.9.10.in-addr.arpa.").await, "NXDomain");
        assert!(start.elapsed() < Duration::from_secs(1));
        machine.stop.cancel();
    });
}

#[test]
fn nothing_is_denied_before_the_cluster_is_known() {
    on_a_machine(|| async {
        let machine = start("", false).await;
        assert_eq!(ask("web.default.svc.cluster.local.").await, "ServFail");
        assert_eq!(ask("none.default.svc.cluster.local.").await, "ServFail");
        machine.stop.cancel();
    });
}

/// Waits until a question is answered as expected: informers bring what changes answers in their own order.
async fn eventually(client: &str, name: &str, expected: &str) {
    let mut answer = String::new();
    for _ in 0..400 {
        answer = ask_from(client, name).await;
        if answer == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{name}: {answer} instead of {expected}");
}

#[test]
fn a_pods_search_is_answered_with_its_first_question() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.20\nsearch corp.example\n", true).await;
        eventually(POD, "www.example.org.default.svc.cluster.local.", "NoError 192.0.2.7").await;
        // The host's domain, then the name itself.
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        for (client, name, expected) in [
            (POD, "web.default.default.svc.cluster.local.", "NoError 10.43.0.1"),
            (POD, "nowhere.example.net.default.svc.cluster.local.", "NXDomain"),
            (POD, "broken.example.com.default.svc.cluster.local.", "NXDomain"),
            (POD, "example.default.svc.cluster.local.", "NXDomain"),
            ("127.0.0.1", "www.example.org.default.svc.cluster.local.", "NXDomain"),
        ] {
            assert_eq!(ask_from(client, name).await, expected, "{client} {name}");
        }
        machine.stop.cancel();
    });
}

#[test]
fn the_corefile_counts() {
    const COREFILE: &str = ".:53 {
        rewrite name old.example.net www.example.org
        rewrite name suffix .inside.example .default.svc.cluster.local
        hosts {
            192.0.2.77 mirror.example.net
            fallthrough
        }
        kubernetes cluster.local {
            pods disabled
        }
        forward . 127.0.0.20 {
            except nobody.example
        }
        cache 30
    }
    stub.example.org {
        forward . 127.0.0.21
    }
";
    on_a_machine(|| async {
        let (asked, stub) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        upstream(asked.clone()).await;
        upstream_at("127.0.0.21:53", stub.clone()).await;
        let machine = start_with("", Api { answers: true, corefile: Some(COREFILE) }).await;
        eventually("127.0.0.1", "mirror.example.net.", "NoError 192.0.2.77").await;
        for (name, expected) in [
            ("old.example.net.", "NoError 192.0.2.7"),
            ("web.inside.example.", "NoError 10.43.0.1"),
            ("10-0-0-1.default.pod.cluster.local.", "NXDomain"),
            ("a.nobody.example.", "ServFail"),
        ] {
            assert_eq!(ask(name).await, expected, "{name}");
        }
        assert_eq!((asked.load(Ordering::SeqCst), stub.load(Ordering::SeqCst)), (1, 0));
        assert_eq!(ask("a.stub.example.org.").await, "NoError 192.0.2.7");
        assert_eq!((asked.load(Ordering::SeqCst), stub.load(Ordering::SeqCst)), (1, 1));
        machine.stop.cancel();
    });
}

#[test]
fn a_server_that_fails_is_asked_last() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        // Nobody reads at the first.
        let _silent = std::net::UdpSocket::bind("127.0.0.22:53").unwrap();
        upstream(asked.clone()).await;
        let corefile = ". {\n forward . 127.0.0.22 127.0.0.20 {\n policy sequential\n max_fails 1\n }\n}\n";
        let machine = start_with("", Api { answers: true, corefile: Some(corefile) }).await;
        eventually("127.0.0.1", "a.example.org.", "NoError 192.0.2.7").await;
        let start = Instant::now();
        assert_eq!(ask("b.example.org.").await, "NoError 192.0.2.7");
        assert!(start.elapsed() < Duration::from_millis(900), "the silent server is not waited for again");
        machine.stop.cancel();
    });
}

#[test]
fn what_was_known_is_told_when_nobody_answers() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        let upstream = upstream_at(UPSTREAM, asked.clone()).await;
        let corefile = ". {\n forward . 127.0.0.20 {\n max_fails 1\n }\n cache 1 {\n serve_stale\n }\n}\n";
        let machine = start_with("", Api { answers: true, corefile: Some(corefile) }).await;
        eventually("127.0.0.1", "a.example.org.", "NoError 192.0.2.7").await;
        // The second for which it counts as fresh goes by while the server is away.
        upstream.abort();
        eventually("127.0.0.1", "b.example.org.", "ServFail").await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(ask("a.example.org.").await, "NoError 192.0.2.7");
        upstream_at("127.0.0.20:53", asked.clone()).await;
        eventually("127.0.0.1", "b.example.org.", "NoError 192.0.2.7").await;
        machine.stop.cancel();
    });
}

#[test]
fn a_storm_of_many_pods_loses_nothing() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.20\n", true).await;
        // 150 pods that ask 100 questions each before they read an answer.
        let pods = (0..150).map(|pod| async move {
            let socket = UdpSocket::bind((format!("127.0.1.{pod}"), 0)).await.unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(1 << 20))
                .unwrap();
            socket.connect(OURS).await.unwrap();
            for number in 0..100 {
                socket.send(&query(&format!("n{number}-{}.example.org.", pod % 10), number)).await.unwrap();
            }
            let (mut answers, mut buffer) = (std::collections::HashSet::new(), [0; 512]);
            while answers.len() < 100 {
                let length = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
                let length = length.unwrap_or_else(|_| panic!("pod {pod} got {} answers", answers.len()));
                let reply = Message::from_vec(&buffer[..length.unwrap()]).unwrap();
                assert_eq!(reply.answers.len(), 1);
                answers.insert(reply.metadata.id);
            }
        });
        futures::future::join_all(pods).await;
        assert_eq!(asked.load(Ordering::SeqCst), 1000, "each name is asked for once");
        machine.stop.cancel();
    });
}

#[test]
fn figures_are_told() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.20\n", true).await;
        for name in ["www.example.org.", "www.example.org.", "none.default.svc.cluster.local."] {
            ask(name).await;
        }
        let get = async |path: &str| {
            let mut stream = TcpStream::connect(METRICS).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        assert!(get("/ready").await.ends_with("OK") && get("/health").await.ends_with("OK"));
        let text = get("/metrics").await;
        for line in [
            "coredns_dns_responses_total{rcode=\"NXDOMAIN\",plugin=\"kubernetes\",server=\"dns://:53\",zone=\".\",view=\"\"} 1",
            "coredns_dns_responses_total{rcode=\"NOERROR\",plugin=\"forward\",server=\"dns://:53\",zone=\".\",view=\"\"} 2",
            "coredns_cache_hits_total{type=\"success\",server=\"dns://:53\",zones=\".\",view=\"\"} 1",
            "coredns_cache_misses_total{server=\"dns://:53\",zones=\".\",view=\"\"} 1",
            "coredns_proxy_request_duration_seconds_count{proxy_name=\"forward\",to=\"127.0.0.20:53\"} 1",
        ] {
            let mut wanted: Vec<&str> = line.split(['{', '}', ',']).collect();
            wanted.sort_unstable();
            let found = text.lines().any(|told| {
                let mut told: Vec<&str> = told.split(['{', '}', ',']).collect();
                told.sort_unstable();
                told == wanted
            });
            assert!(found, "{line} is not in\n{text}");
        }
        machine.stop.cancel();
    });
}

/// Prints how many queries of the cluster's own names one connection's worth of clients gets answered.
#[test]
#[ignore = "a measurement; run with --release --ignored --nocapture"]
fn measure_queries_per_second() {
    on_a_machine(|| async {
        let machine = start("", true).await;
        let stop = Arc::new(AtomicUsize::new(0));
        let flood = |stop: Arc<AtomicUsize>| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(OURS).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let query = query("web.default.svc.cluster.local.", 7);
            let (mut count, mut buffer) = (0u64, [0; 512]);
            for _ in 0..64 {
                socket.send(&query).unwrap();
            }
            while stop.load(Ordering::Relaxed) == 0 {
                socket.recv(&mut buffer).unwrap();
                socket.send(&query).unwrap();
                count += 1;
            }
            count
        };
        let client = {
            let stop = stop.clone();
            std::thread::spawn(move || flood(stop))
        };
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.store(1, Ordering::Relaxed);
        let count = tokio::task::spawn_blocking(|| client.join().unwrap()).await.unwrap();
        println!("{} queries per second", count / 3);
        machine.stop.cancel();
    });
}
