//! The stage: an ingress without an API, pods that are played, clients.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use plimsoll_route::gateway::Plan;
use plimsoll_route::{Assembler, BackendKey, Draft, Links, Port};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::connection::Kind;
use crate::links::Linker;
use crate::listen::{Workers, bind};
use crate::{Config, Shared};

pub(super) type Sent = BoxBody<Bytes, Infallible>;
pub(super) type Client = http1::SendRequest<Sent>;

/// An ingress that runs.
pub(super) struct Stage {
    pub(super) shared: Arc<Shared>,
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    linker: Linker,
    assembler: Assembler<Linker>,
    shutdown: CancellationToken,
    workers: Workers,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(super) const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The usual settings.
pub(super) fn config() -> Config {
    let any = SocketAddr::new(LOCAL, 0);
    Config {
        http: any,
        https: any,
        node_name: "n".to_owned(),
        trusted: Vec::new(),
        resolver: None,
        proxy_protocol: false,
        limit_status: 503,
        metrics: None,
        workers: 2,
        farewell: Duration::from_secs(1),
    }
}

impl Stage {
    pub(super) fn start(change: impl FnOnce(&mut Config)) -> Self {
        let any = SocketAddr::new(LOCAL, 0);
        let (http, https) = (bind(any, 2).unwrap(), bind(any, 2).unwrap());
        let (plain, encrypted) = (http[0].local_addr().unwrap(), https[0].local_addr().unwrap());
        let mut config = Config { http: plain, https: encrypted, ..config() };
        change(&mut config);
        let shared = Arc::new(Shared::new(config).unwrap());
        let linker = Linker::new(shared.metrics.clone());
        let shutdown = CancellationToken::new();
        let (workers, _) = Workers::start(shared.clone(), &shutdown).unwrap();
        workers.serve(http, Kind::Plain, &shutdown);
        workers.serve(https, Kind::Encrypted, &shutdown);
        Self {
            shared,
            http: plain,
            https: encrypted,
            linker,
            assembler: Assembler::default(),
            shutdown,
            workers,
        }
    }

    /// Takes these Ingresses in the place of all others.
    pub(super) fn rules(&mut self, ingresses: &[Value]) {
        let read = |ingress: &Value| Arc::new(Draft::of(&serde_json::from_value(ingress.clone()).unwrap()));
        let drafts: Vec<_> = ingresses.iter().map(read).collect();
        self.take(&drafts, &Plan::default());
    }

    /// Takes what is decided in the place of the present table.
    pub(super) fn take(&mut self, drafts: &[Arc<Draft>], plan: &Plan) {
        let key = |draft: &Draft| (draft.owner.namespace.clone(), draft.owner.name.clone());
        let present: HashSet<_> = drafts.iter().map(|draft| key(draft)).collect();
        let gone: Vec<_> = self.assembler.drafts().map(key).filter(|key| !present.contains(key)).collect();
        for (namespace, name) in gone {
            self.assembler.remove(&namespace, &name);
        }
        for draft in drafts {
            self.assembler.put(draft.clone());
        }
        let assembly = self.assembler.assemble(Some(plan), &mut self.linker);
        self.shared.routes.store(Arc::new(assembly.table));
        self.linker.settle();
    }

    /// The pods of a Service.
    pub(super) fn pods(&mut self, service: &str, pods: &[SocketAddr]) {
        let key =
            BackendKey { namespace: "ns".to_owned(), service: service.to_owned(), port: Port::Number(80) };
        self.linker.backend(&key).set(pods.iter().copied());
    }

    /// A further port, as a listener of a Gateway has.
    pub(super) fn open(&self, kind: Kind) -> SocketAddr {
        let listeners = bind(SocketAddr::new(LOCAL, 0), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        self.workers.serve(listeners, kind, &self.shutdown);
        address
    }

    pub(super) async fn client(&self) -> Client {
        self.client_at(self.http).await
    }

    pub(super) async fn client_at(&self, port: SocketAddr) -> Client {
        client_over(TcpStream::connect(port).await.unwrap()).await
    }
}

pub(super) async fn client_over(stream: TcpStream) -> Client {
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    client
}

/// An Ingress of one path for one Service.
pub(super) fn ingress(
    name: &str,
    annotations: &[(&str, &str)],
    host: &str,
    path: &str,
    service: &str,
) -> Value {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), json!(value)))
        .collect();
    let backend = json!({"service": {"name": service, "port": {"number": 80}}});
    let kind = if annotations.keys().any(|name| name.ends_with("rewrite-target")) {
        "ImplementationSpecific"
    } else {
        "Prefix"
    };
    json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "annotations": annotations},
        "spec": {"rules": [
            {"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}},
        ]},
    })
}

/// A pod that answers with what `answer` makes of requests, in either version of HTTP.
pub(super) async fn pod<A, F>(answer: A) -> SocketAddr
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<BoxBody<Bytes, hyper::Error>>> + Send + 'static,
{
    pod_at(LOCAL, answer).await
}

async fn pod_at<A, F>(address: IpAddr, answer: A) -> SocketAddr
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<BoxBody<Bytes, hyper::Error>>> + Send + 'static,
{
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// A pod that answers with its name, the request's target and some headers.
pub(super) async fn telling(name: &'static str) -> SocketAddr {
    telling_at(LOCAL, name).await
}

pub(super) async fn telling_at(address: IpAddr, name: &'static str) -> SocketAddr {
    pod_at(address, move |request: Request<Incoming>| async move {
        let header =
            |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        let named = ["host", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "connection", "cookie"];
        let headers: Vec<String> = named.iter().map(|name| format!("{name}={}", header(name))).collect();
        let target = request.uri().path_and_query().unwrap().as_str().to_owned();
        Response::new(whole(format!("{name} {} {target} {}", request.method(), headers.join(" "))))
    })
    .await
}

/// A pod that changes to WebSocket, or what it calls so: it says a word of five letters again in capitals.
pub(super) async fn shouting() -> SocketAddr {
    pod(|mut request: Request<Incoming>| async move {
        assert_eq!(
            (request.method(), &request.headers()["upgrade"]),
            (&Method::GET, &"websocket".parse().unwrap())
        );
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let mut word = [0; 5];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        response.header("connection", "Upgrade").header("upgrade", "websocket").body(whole("")).unwrap()
    })
    .await
}

pub(super) fn whole(text: impl Into<Bytes>) -> BoxBody<Bytes, hyper::Error> {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

pub(super) fn get(host: &str, target: &str, headers: &[(&str, &str)]) -> Request<Sent> {
    let mut request = Request::get(target).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new().boxed()).unwrap()
}

/// Status and text of the answer.
pub(super) async fn ask(client: &mut Client, request: Request<Sent>) -> (u16, String) {
    client.ready().await.unwrap();
    let response = client.send_request(request).await.unwrap();
    told(response).await
}

pub(super) async fn told(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}
