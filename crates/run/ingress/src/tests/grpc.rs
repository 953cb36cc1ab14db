//! Real gRPC, by Ingresses and GRPCRoutes: calls of all kinds, errors and metadata.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use plimsoll_etcd::etcdserverpb::kv_client::KvClient;
use plimsoll_etcd::etcdserverpb::watch_client::WatchClient;
use plimsoll_etcd::etcdserverpb::watch_request::RequestUnion;
use plimsoll_etcd::etcdserverpb::watch_server::{Watch, WatchServer};
use plimsoll_etcd::etcdserverpb::{RangeRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use plimsoll_etcd::health::health_client::HealthClient;
use plimsoll_etcd::health::health_server::{Health, HealthServer};
use plimsoll_etcd::health::{HealthCheckRequest, HealthCheckResponse};
use plimsoll_route::{Draft, SecretKey};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::either::Either;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Code, Request, Response, Status, Streaming};

use super::gateways::{listener, planned, to};
use super::stage::{LOCAL, Stage, ingress};
use super::tls::{encrypted, secret};
use crate::connection::Kind;

/// A pod.
struct Pod;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Pod {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let mut metadata = MetadataMap::new();
        for name in ["x-way", "x-forwarded-for", "x-mine-bin"] {
            if let Some(value) = request.metadata().as_ref().get(name) {
                metadata.as_mut().insert(name, value.clone());
            }
        }
        if request.get_ref().service == "gone" {
            return Err(Status::with_metadata(Code::NotFound, "it is gone", metadata));
        }
        let status = i32::try_from(request.get_ref().service.len()).unwrap();
        Ok(Response::from_parts(metadata, HealthCheckResponse { status }, tonic::Extensions::default()))
    }

    type WatchStream = Answers<HealthCheckResponse>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let told = (0..3).map(|status| Ok(HealthCheckResponse { status }));
        let end = [Err(Status::aborted("enough"))];
        Ok(Response::new(Box::pin(futures::stream::iter(told.chain(end)))))
    }
}

#[tonic::async_trait]
impl Watch for Pod {
    type WatchStream = Answers<WatchResponse>;

    /// Counts what it is asked.
    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let numbered = request.into_inner().enumerate();
        let answers = numbered.map(|(count, asked)| {
            Ok(WatchResponse {
                watch_id: count as i64,
                created: asked?.request_union.is_some(),
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

async fn pod() -> SocketAddr {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(HealthServer::new(Pod)).add_service(WatchServer::new(Pod));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

/// What calls `g.com` at a port.
fn channel(port: SocketAddr, kind: Kind) -> Channel {
    let address = match kind {
        Kind::Plain => "http://g.com",
        Kind::Encrypted => "https://g.com",
    };
    let connect = move |_: Uri| async move {
        let stream = match kind {
            Kind::Plain => Either::Left(TcpStream::connect(port).await?),
            Kind::Encrypted => Either::Right(encrypted(port, "g.com", &[b"h2"]).await?),
        };
        io::Result::Ok(TokioIo::new(stream))
    };
    Endpoint::from_static(address).connect_with_connector_lazy(tower::service_fn(connect))
}

fn check(service: &str) -> Request<HealthCheckRequest> {
    let mut request = Request::new(HealthCheckRequest { service: service.to_owned() });
    request.metadata_mut().insert_bin("x-mine-bin", tonic::metadata::MetadataValue::from_bytes(b"\0\xff"));
    request
}

/// Calls of all kinds; the way is what a filter adds.
async fn calls_pass(channel: &Channel, way: Option<&str>) {
    let way_of =
        |metadata: &MetadataMap| metadata.get("x-way").map(|value| value.to_str().unwrap().to_owned());
    let health = HealthClient::new(channel.clone());
    let calls = (0..20_usize).map(|length| {
        let mut health = health.clone();
        async move {
            // A large message, too.
            let length = if length == 0 { 300_000 } else { length };
            let answer = health.check(check(&"x".repeat(length))).await.unwrap();
            assert_eq!(answer.get_ref().status as usize, length);
            assert_eq!(way_of(answer.metadata()).as_deref(), way);
            let bytes = answer.metadata().get_bin("x-mine-bin").unwrap().to_bytes().unwrap();
            assert_eq!(&bytes[..], b"\0\xff");
            assert_eq!(answer.metadata().get("x-forwarded-for").unwrap(), "127.0.0.1");
        }
    });
    futures::future::join_all(calls).await;
    let mut health = health;
    let refused = health.check(check("gone")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "it is gone"));
    assert_eq!(way_of(refused.metadata()).as_deref(), way);

    let mut told = health.watch(check("")).await.unwrap().into_inner();
    for expected in 0..3 {
        assert_eq!(told.message().await.unwrap().unwrap().status, expected);
    }
    let end = told.message().await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Aborted, "enough"), "trailers come after messages");

    // Each question waits for the answer to the one before it.
    let (ask, asked) = mpsc::channel(1);
    let asked = futures::stream::unfold(asked, |mut asked| async { Some((asked.recv().await?, asked)) });
    let question =
        || WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
    ask.send(question()).await.unwrap();
    let mut answers = WatchClient::new(channel.clone()).watch(asked).await.unwrap().into_inner();
    for count in 0..5 {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.watch_id, answer.created), (count, true));
        ask.send(question()).await.unwrap();
    }
    drop(ask);
    assert_eq!(answers.message().await.unwrap().unwrap().watch_id, 5);
    assert!(answers.message().await.unwrap().is_none(), "both sides have ended");
}

#[tokio::test]
async fn calls_pass_by_ingresses() {
    let mut stage = Stage::start(|_| {});
    let rules = |ssl: &str| {
        let annotations = [("backend-protocol", "GRPC"), ("ssl-redirect", ssl)];
        let mut rules = ingress("g", &annotations, "g.com", "/", "one");
        rules["spec"]["tls"] = json!([{"hosts": ["g.com"]}]);
        rules
    };
    stage.rules(&[rules("false")]);
    stage.pods("one", &[pod().await, pod().await]);
    for (port, kind) in [(stage.https, Kind::Encrypted), (stage.http, Kind::Plain)] {
        let channel = channel(port, kind);
        calls_pass(&channel, None).await;
        let unknown = KvClient::new(channel).range(RangeRequest::default()).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unimplemented, "the pod says so");
    }
    stage.pods("one", &[]);
    let nobody = HealthClient::new(channel(stage.https, Kind::Encrypted)).check(check("")).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unavailable);
}

fn method(service: &str, method: Option<&str>) -> Value {
    json!({"method": {"service": service, "method": method}})
}

#[tokio::test]
async fn calls_pass_by_routes_of_gateways() {
    let mut stage = Stage::start(|_| {});
    let way = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-way", "value": "route"}]}}]);
    let health = "grpc.health.v1.Health";
    let rules = json!([
        {"matches": [method(health, Some("Check")), method(health, Some("Watch"))], "filters": way, "backendRefs": to("one")},
        {"matches": [method("etcdserverpb.Watch", None)], "backendRefs": to("one")},
    ]);
    let key = SecretKey { namespace: "ns".to_owned(), name: "s".to_owned() };
    for kind in [Kind::Plain, Kind::Encrypted] {
        let port = stage.open(kind);
        let listeners = listener(port, if kind == Kind::Plain { "HTTP" } else { "HTTPS" });
        let drafts: [Arc<Draft>; 0] = [];
        stage.take(&drafts, &planned(&stage, &listeners, &rules));
        stage.shared.certificates.set(&key, &secret(&["g.com"]).0).unwrap();
        stage.pods("one", &[pod().await]);
        let channel = channel(port, kind);
        calls_pass(&channel, Some("route")).await;
        let unknown = KvClient::new(channel).range(RangeRequest::default()).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unimplemented, "no rule is for it");
    }
}
