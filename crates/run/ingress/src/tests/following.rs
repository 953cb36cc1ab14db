//! What the cluster has, told late by an API in memory, and what owners are told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use http::{Method, Request};
use kube::client::Body;
use plimsoll_client::{Informers, from_service};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::Service;

use super::memory::Memory;
use super::stage::{self, LOCAL};
use super::tls::secret;
use crate::listen::bind;
use crate::{Config, run};

/// An API that knows the kinds of the Gateway API only from some time on.
#[derive(Clone, Default)]
struct Api {
    memory: Memory,
    established: Arc<AtomicBool>,
}

impl Service<Request<Body>> for Api {
    type Response = <Memory as Service<Request<Body>>>::Response;
    type Error = <Memory as Service<Request<Body>>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.memory.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let unknown =
            request.uri().path().contains("gateway.networking") && !self.established.load(Ordering::Relaxed);
        if unknown {
            (*request.method_mut(), *request.uri_mut()) = (Method::GET, "/apis/nothing".parse().unwrap());
        }
        self.memory.call(request)
    }
}

/// An ingress that follows an API.
struct Following {
    api: Api,
    http: SocketAddr,
    https: SocketAddr,
    _end: DropGuard,
}

impl Following {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(resolver: Option<SocketAddr>) -> Self {
        let free = || bind(SocketAddr::new(LOCAL, 0), 1).unwrap()[0].local_addr().unwrap();
        let config = Config { http: free(), https: free(), resolver, ..stage::config() };
        let (api, shutdown) = (Api::default(), CancellationToken::new());
        let (http, https) = (config.http, config.https);
        let client = from_service(api.clone());
        let (informers, stop) = (Informers::new(client.clone()), shutdown.clone());
        tokio::spawn(async move { run(config, client, informers, stop).await.unwrap() });
        let following = Self { api, http, https, _end: shutdown.drop_guard() };
        let spec = json!({"controller": "plimsoll.io/ingress"});
        following.put("/apis/networking.k8s.io/v1/ingressclasses/ours", json!({"spec": spec}));
        let addresses = json!([{"type": "InternalIP", "address": "10.0.0.1"}]);
        following.put("/api/v1/nodes/n", json!({"status": {"addresses": addresses}}));
        following
    }

    /// Puts an object in its place, which tells its name and namespace.
    fn put(&self, path: &str, mut object: Value) {
        let parts: Vec<&str> = path.split('/').collect();
        object["metadata"]["name"] = json!(parts[parts.len() - 1]);
        if let Some(at) = parts.iter().position(|part| *part == "namespaces") {
            object["metadata"]["namespace"] = json!(parts[at + 1]);
        }
        self.api.memory.put(path, object);
    }

    fn get(&self, path: &str) -> Value {
        self.api.memory.get(path).unwrap_or_default()
    }

    /// The answer to a request for a host; none while nobody listens.
    async fn ask(&self, host: &str) -> (u16, String) {
        let Ok(stream) = tokio::net::TcpStream::connect(self.http).await else { return (0, String::new()) };
        stage::ask(&mut stage::client_over(stream).await, stage::get(host, "/", &[])).await
    }

    /// The Events so far: whose, the reason, the message.
    fn events(&self) -> Vec<[String; 3]> {
        let all = self.api.memory.paths("/api/v1/events").into_iter().map(|path| self.get(&path));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        all.map(|one| [text(&one["involvedObject"]["name"]), text(&one["reason"]), text(&one["message"])])
            .collect()
    }
}

/// Waits for what does not tell when it comes.
async fn until(what: &str, look: impl AsyncFn() -> bool) {
    for _ in 0..10_000 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

fn ingress(path: &str, second: u8, secret: &str) -> Value {
    let mut ingress = stage::ingress("", &[], "a.com", path, "one");
    ingress["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:{second:02}Z"));
    ingress["metadata"]["uid"] = json!(format!("{second}"));
    ingress["spec"]["ingressClassName"] = json!("ours");
    ingress["spec"]["tls"] = json!([{"hosts": ["a.com"], "secretName": secret}]);
    ingress
}

const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/ns/ingresses";
const SECRET: &str = "/api/v1/namespaces/ns/secrets/s";

#[tokio::test(start_paused = true)]
async fn owners_of_ingresses_are_told_once_what_is_wrong() {
    let following = Following::start();
    let (good, shown) = secret(&["a.com"]);
    let mut given = serde_json::to_value(&good).unwrap();
    given["type"] = json!("kubernetes.io/tls");
    following.put(SECRET, given.clone());
    following.put(&format!("{INGRESSES}/young"), ingress("/", 9, "other"));
    following.put(&format!("{INGRESSES}/old"), ingress("/", 1, "s"));
    let expected = [
        "young CertificateConflict host \"a.com\" already has Secret ns/s, of an older Ingress",
        "young PathConflict path \"/\" of host \"a.com\" is served by Ingress ns/old, which is older",
    ];
    until("the loser of a conflict is told", async || told(&following) == expected).await;
    let path = format!("{INGRESSES}/old");
    until("the status has the node's address", async || told_of(&following, "old")).await;
    assert!(following.api.memory.log().contains(&format!("PATCH {path}/status")));

    // A broken Secret is told, and what was there before stays.
    let mut broken = given.clone();
    broken["data"]["tls.key"] = json!("eA==");
    following.put(SECRET, broken);
    let problem = "old InvalidCertificate Secret ns/s tls.key: ";
    until("a broken Secret is told", async || {
        told(&following).iter().any(|event| event.starts_with(problem) && event.ends_with("before is kept"))
    })
    .await;
    let https = following.https;
    assert_eq!(super::tls::connect(https, "a.com").await.1, shown, "the old certificate stays");

    // The other one serves when the older one is gone; nobody is told twice.
    let before = told(&following).len();
    following.put(SECRET, given);
    following.api.memory.delete(&path);
    until("the younger one serves", async || super::tls::connect(https, "a.com").await.1 != shown).await;
    assert_eq!(told(&following).len(), before);
}

fn told(following: &Following) -> Vec<String> {
    let mut all: Vec<String> = following.events().iter().map(|event| event.join(" ")).collect();
    all.sort();
    all
}

const GATEWAY: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/ns/gateways/gw";

/// Status and reason of a condition of the Gateway.
fn condition(following: &Following, at: &str, kind: &str) -> String {
    let gateway = following.get(GATEWAY);
    let all = gateway["status"].pointer(at).and_then(Value::as_array).cloned().unwrap_or_default();
    let one = all.iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
    format!("{} {}", one["status"].as_str().unwrap_or("-"), one["reason"].as_str().unwrap_or("-"))
}

#[tokio::test(start_paused = true)]
async fn gateways_are_programmed_however_late_their_kinds_and_ports_come() {
    let following = Following::start();
    let taken = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let listeners = json!([{"name": "a", "port": port, "protocol": "HTTP"}]);
    following.put(GATEWAY, json!({"spec": {"gatewayClassName": "plimsoll", "listeners": listeners}}));
    // Nobody knows the kinds for minutes.
    tokio::time::sleep(Duration::from_secs(200)).await;
    following.api.established.store(true, Ordering::Relaxed);
    until("a port that somebody has is told", async || {
        condition(&following, "/listeners/0/conditions", "Accepted") == "False PortUnavailable"
    })
    .await;
    assert_eq!(condition(&following, "/conditions", "Programmed"), "False Invalid");
    drop(taken);
    let programmed = async || condition(&following, "/conditions", "Programmed") == "True Programmed";
    until("it is opened when it is free", programmed).await;
    let port = SocketAddr::new(LOCAL, port);
    let open = async |port: SocketAddr| tokio::net::TcpStream::connect(port).await.is_ok();
    assert!(open(port).await);

    // Another protocol at the same port, then none, then the first again.
    let put = |class: &str, protocol: &str| {
        let tls = json!({"mode": "Passthrough"});
        let listeners = json!([{"name": "a", "port": port.port(), "protocol": protocol, "tls": tls}]);
        let spec = json!({"gatewayClassName": class, "listeners": listeners});
        following.put(GATEWAY, json!({"metadata": {"uid": protocol}, "spec": spec}));
    };
    put("plimsoll", "TLS");
    until("it is open for TLS", programmed).await;
    put("theirs", "TLS");
    until("it is closed", async || !open(port).await).await;
    // A kind may not be served for a moment.
    following.api.established.store(false, Ordering::Relaxed);
    put("plimsoll", "HTTP");
    until("it is open again", async || open(port).await).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(condition(&following, "/conditions", "Programmed"), "- -");
    following.api.established.store(true, Ordering::Relaxed);
    until("that is told", programmed).await;
    assert!(!open(following.http).await, "no Ingress asks for its port");
}

/// A resolver that tells what is in `told`: addresses, or nothing of that name, or that it is in trouble.
async fn resolver(told: Arc<Mutex<Result<Vec<Ipv4Addr>, ResponseCode>>>) -> SocketAddr {
    let socket = UdpSocket::bind((LOCAL, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
            let question = query.queries[0].clone();
            assert_eq!(question.name().to_string(), "outside.example.");
            match &*told.lock().unwrap() {
                Err(code) => reply.metadata.response_code = *code,
                Ok(all) if question.query_type() == RecordType::A => reply
                    .answers
                    .extend(all.iter().map(|address| {
                        Record::from_rdata(question.name().clone(), 1, RData::A(A(*address)))
                    })),
                Ok(_) => {}
            }
            reply.queries.push(question);
            socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

/// An address of this machine that is not its loopback, if it has one.
fn own_address() -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) if !address.is_loopback() => Some(address),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn names_outside_are_backends_as_long_as_they_lead_somewhere() {
    let Some(own) = own_address() else { return };
    let answer = Arc::new(Mutex::new(Ok(vec![own])));
    let following = Following::start_with(Some(resolver(answer.clone()).await));
    let pod = stage::telling_at(own.into(), "outside").await;
    let service = |name: &str| {
        let ports = json!([{"port": 80, "targetPort": pod.port()}]);
        let spec = json!({"type": "ExternalName", "externalName": name, "ports": ports});
        following.put("/api/v1/namespaces/ns/services/one", json!({"spec": spec}));
    };
    let mut plain = ingress("/", 1, "s");
    plain["spec"]["tls"] = json!([]);
    following.put(&format!("{INGRESSES}/a"), plain);
    service("outside.example");
    let status = async |expected: u16| {
        let (status, text) = following.ask("a.com").await;
        assert!(status != 200 || text.starts_with("outside GET / host=a.com"), "{text}");
        status == expected
    };
    let tell = |told| *answer.lock().unwrap() = told;
    until("the name is a backend", async || status(200).await).await;
    tell(Err(ResponseCode::ServFail));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(status(200).await, "what was known counts on");
    tell(Err(ResponseCode::NXDomain));
    until("the name is gone", async || status(503).await).await;
    tell(Ok(vec![own]));
    until("it is there again", async || status(200).await).await;
    tell(Ok(vec![Ipv4Addr::LOCALHOST]));
    until("this node's loopback is nobody's backend", async || status(503).await).await;
    service(&own.to_string());
    until("an address needs no resolver", async || status(200).await).await;
    service("127.0.0.1");
    until("nor does one that is refused", async || status(503).await).await;
}

#[tokio::test(start_paused = true)]
async fn classes_services_endpoints_and_defaults_count_when_they_come() {
    let following = Following::start();
    let pod = stage::telling("pod").await;
    let mut plain = ingress("/", 1, "s");
    plain["spec"]["tls"] = json!([]);
    plain["spec"]["ingressClassName"] = json!("later");
    following.put(&format!("{INGRESSES}/a"), plain);
    let rest = json!({"service": {"name": "one", "port": {"name": "web"}}});
    let spec = json!({"ingressClassName": "ours", "defaultBackend": rest});
    following.put(&format!("{INGRESSES}/rest"), json!({"metadata": {"uid": "rest"}, "spec": spec}));
    let class = |controller: &str| {
        let spec = json!({"controller": controller});
        following.put("/apis/networking.k8s.io/v1/ingressclasses/later", json!({"spec": spec}));
    };
    let slice = |ready: bool| {
        let endpoints = json!([{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}]);
        let labels = json!({"kubernetes.io/service-name": "one"});
        let path = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/one";
        following.put(
            path,
            json!({"metadata": {"labels": labels}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "web", "port": pod.port(), "protocol": "TCP"}]}),
        );
    };
    let answers = async |host: &str, expected: u16| following.ask(host).await.0 == expected;
    until("there is no Service", async || answers("b.com", 503).await).await;
    let ports = json!([{"name": "web", "port": 80}]);
    following.put(
        "/api/v1/namespaces/ns/services/one",
        json!({"spec": {"clusterIP": "10.0.0.9", "ports": ports}}),
    );
    slice(true);
    until("what no rule fits goes to the default backend", async || answers("b.com", 200).await).await;
    assert!(!told_of(&following, "a"), "nobody has its class");
    class("k8s.io/other");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(answers("a.com", 200).await && !told_of(&following, "a"), "it is another one's");
    class("plimsoll.io/ingress");
    until("it is served as soon as its class is ours", async || told_of(&following, "a")).await;
    following.api.memory.delete(&format!("{INGRESSES}/rest"));
    until("the default backend is gone", async || answers("b.com", 404).await).await;
    assert!(answers("a.com", 200).await);
    slice(false);
    until("the pod is not ready", async || answers("a.com", 503).await).await;
}

/// Whether an Ingress has the node's address in its status, as all have that are served.
fn told_of(following: &Following, name: &str) -> bool {
    following.get(&format!("{INGRESSES}/{name}"))["status"]["loadBalancer"]["ingress"][0]["ip"] == "10.0.0.1"
}
