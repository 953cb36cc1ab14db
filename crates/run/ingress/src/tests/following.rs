//! What the cluster has, told late by an API in memory, and what owners are told.

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request};
use kube::client::Body;
use plimsoll_client::{Informers, from_service};
use serde_json::{Value, json};
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
        let free = || bind(SocketAddr::new(LOCAL, 0), 1).unwrap()[0].local_addr().unwrap();
        let config = Config { http: free(), https: free(), ..stage::config() };
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
    until("the status has the node's address", async || {
        following.get(&path)["status"]["loadBalancer"]["ingress"][0]["ip"] == "10.0.0.1"
    })
    .await;
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
