//! A machine with a resolver, its upstreams and its clients.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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

pub(crate) const OURS: &str = "127.0.0.10:53";
/// Where a pod of the API server asks from, and one that has a search of its own.
pub(crate) const POD: &str = "127.0.0.31";
pub(crate) const PICKY_POD: &str = "127.0.0.32";
/// Where the resolver answers too, unless somebody else does.
pub(crate) const LOCAL: &str = "127.0.0.11:53";
pub(crate) const METRICS: &str = "127.0.0.10:9153";
pub(crate) const UPSTREAM: &str = "127.0.0.20:53";

pub(crate) fn on_a_machine<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
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
pub(crate) struct Api {
    pub(crate) answers: bool,
    pub(crate) corefile: Option<&'static str>,
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
            let own = json!({"searches": ["corp.example"], "options": [{"name": "ndots", "value": "2"}]});
            json!([
                {"metadata": {"name": "client", "namespace": "default", "uid": "u", "resourceVersion": "4"},
                    "spec": {"nodeName": "node", "containers": []},
                    "status": {"phase": "Running", "podIPs": [{"ip": POD}]}},
                {"metadata": {"name": "picky", "namespace": "default", "uid": "v", "resourceVersion": "5"},
                    "spec": {"nodeName": "node", "containers": [], "dnsConfig": own},
                    "status": {"phase": "Running", "podIPs": [{"ip": PICKY_POD}]}},
            ])
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
pub(crate) async fn upstream(asked: Arc<AtomicUsize>) {
    upstream_at(UPSTREAM, asked).await;
}

pub(crate) async fn upstream_at(address: &str, asked: Arc<AtomicUsize>) -> tokio::task::AbortHandle {
    slow_upstream_at(address, asked, Duration::ZERO).await
}

/// One that thinks for a while before each answer by UDP.
pub(crate) async fn slow_upstream_at(
    address: &str,
    asked: Arc<AtomicUsize>,
    thinks: Duration,
) -> tokio::task::AbortHandle {
    let socket = Arc::new(UdpSocket::bind(address).await.unwrap());
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
            let (socket, query) = (socket.clone(), buffer[..length].to_vec());
            let answer = async move {
                tokio::time::sleep(thinks).await;
                let mut forged = upstream_reply(&query, false);
                forged[0] ^= 1;
                socket.send_to(&forged, client).await.unwrap();
                socket.send_to(&upstream_reply(&query, false), client).await.unwrap();
            };
            if thinks.is_zero() { answer.await } else { drop(tokio::spawn(answer)) }
        }
    };
    tokio::spawn(async { tokio::join!(streams, datagrams) }).abort_handle()
}

pub(crate) fn upstream_reply(query: &[u8], tcp: bool) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_available = true;
    let question = query.queries[0].clone();
    let (name, question_kind) = (question.name().clone(), question.query_type());
    reply.queries.push(question);
    let text = name.to_string().to_lowercase();
    let address = |last| Record::from_rdata(name.clone(), 60, RData::A(A::new(192, 0, 2, last)));
    if text == "big.example.org." && !tcp {
        reply.metadata.truncation = true;
    } else if text == "big.example.org." {
        reply.answers.extend((0..100).map(address));
    } else if text.ends_with("example.org.") && question_kind == RecordType::A {
        reply.answers.push(address(7));
    } else if text == "broken.example.com." {
        reply.metadata.response_code = ResponseCode::ServFail;
    } else {
        if !text.ends_with("example.org.") {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        let soa = SOA::new(Name::root(), Name::root(), 1, 2, 3, 4, 60);
        reply.authorities.push(Record::from_rdata(Name::root(), 60, RData::SOA(soa)));
    }
    reply.to_vec().unwrap()
}

pub(crate) fn query(name: &str, id: u16) -> Vec<u8> {
    query_for(name, RecordType::A, id)
}

pub(crate) fn query_for(name: &str, kind: RecordType, id: u16) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

pub(crate) fn describe(reply: &[u8], id: u16) -> String {
    let message = Message::from_vec(reply).unwrap();
    assert_eq!(message.metadata.id, id);
    let mut words = vec![format!("{:?}", message.metadata.response_code)];
    if message.metadata.truncation {
        words.push("cut".to_owned());
    }
    words.extend(message.answers.iter().map(|record| record.data.to_string()));
    words.join(" ")
}

pub(crate) async fn ask(name: &str) -> String {
    ask_from("127.0.0.1", name).await
}

pub(crate) async fn ask_from(client: &str, name: &str) -> String {
    ask_at(OURS, client, name, RecordType::A).await
}

pub(crate) async fn ask_at(server: &str, client: &str, name: &str, kind: RecordType) -> String {
    let socket = UdpSocket::bind((client, 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    let id: u16 = rand::random();
    socket.send(&query_for(name, kind, id)).await.unwrap();
    let mut buffer = [0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(8), socket.recv(&mut buffer)).await;
    describe(&buffer[..length.unwrap().unwrap()], id)
}

pub(crate) async fn ask_tcp(stream: &mut TcpStream, name: &str) -> String {
    let id: u16 = rand::random();
    let query = query(name, id);
    stream.write_u16(query.len() as u16).await.unwrap();
    stream.write_all(&query).await.unwrap();
    let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut reply).await.unwrap();
    describe(&reply, id)
}

pub(crate) struct Machine {
    _folder: tempfile::TempDir,
    pub(crate) stop: CancellationToken,
}

/// Starts the resolver; its upstreams are `resolv_conf`'s.
pub(crate) async fn start(resolv_conf: &str, api: bool) -> Machine {
    start_with(resolv_conf, Api { answers: api, corefile: None }).await
}

pub(crate) async fn start_with(resolv_conf: &str, api: Api) -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, resolv_conf).unwrap();
    let ours: SocketAddr = OURS.parse().unwrap();
    let config = Config {
        listen: vec![ours],
        listen_if_free: vec![LOCAL.parse().unwrap()],
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

/// Waits until a question is answered as expected: informers bring what changes answers in their own order.
pub(crate) async fn eventually(client: &str, name: &str, expected: &str) {
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
