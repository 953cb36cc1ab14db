//! A server with files of its own, and a client that sees codes and headers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use plimsoll_apiserver::{Config, Credentials, Features, Gate, ResponseBody, Safeguards, Server, User};
use plimsoll_pki::{Authority, Purpose};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A running server; stops when it is dropped.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) folder: Arc<TempDir>,
    pub(crate) authority: Authority,
    shutdown: CancellationToken,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `message` of a Status.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Cluster {
    /// A server that listens nowhere.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server whose configuration is changed by `adjust` before it starts.
    pub(crate) async fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().expect("a scratch folder")), adjust).await
    }

    /// A server with the files that an earlier one left. That one must have been run by another runtime,
    /// which is gone: what a server follows it follows to the end of its process.
    pub(crate) async fn start_in(folder: Arc<TempDir>, adjust: impl FnOnce(&mut Config)) -> Self {
        let path = |name: &str| folder.path().join(name);
        let authority = Authority::ensure(folder.path(), "ca", "test-ca").expect("an authority");
        let request = plimsoll_pki::Request {
            purpose: Purpose::Server,
            dns_names: vec!["localhost".to_owned()],
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            ..plimsoll_pki::Request::client("kube-apiserver", &[])
        };
        let server = authority.ensure_issued(folder.path(), "apiserver", &request).expect("a certificate");
        let agent = plimsoll_pki::Request::client("agent", &["system:masters"]);
        let agent = authority.ensure_issued(folder.path(), "agent", &agent).expect("a certificate");
        let proxies = Authority::ensure(folder.path(), "front-proxy-ca", "proxies").expect("an authority");
        let proxy = plimsoll_pki::Request::client("front-proxy-client", &[]);
        let proxy =
            proxies.ensure_issued(folder.path(), "front-proxy-client", &proxy).expect("a certificate");
        let mut config = Config {
            store: path("store"),
            datastore: None,
            compaction_interval: None,
            quota: 2 << 30,
            snapshots: None,
            listen: Vec::new(),
            advertise: SocketAddr::from(([10, 0, 0, 1], 6443)),
            service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
            node_ports: 30000..=32767,
            cluster_dns: vec!["10.96.0.10".parse().expect("an address")],
            credentials: Credentials {
                client_ca: authority.certificate().to_owned(),
                certificate: server.certificate,
                key: server.key,
                kubelet_certificate: agent.certificate,
                kubelet_key: agent.key,
                front_proxy_certificate: proxy.certificate,
                front_proxy_key: proxy.key,
                service_account_key: path("sa.key"),
            },
            safeguards: Safeguards::default(),
            features: Features::default(),
            limits: plimsoll_apiserver::Limits::default(),
            authentication: Default::default(),
            authorization: Default::default(),
            authorization_file: None,
            first_objects: Vec::new(),
            own_objects: Vec::new(),
        };
        adjust(&mut config);
        // Tests of the audit read all that is asked, so nothing is asked for them here.
        let quiet = config.safeguards.audit.policy.is_some();
        let gated = config.limits.priority_and_fairness == Gate::On && !quiet;
        let shutdown = CancellationToken::new();
        let server = Server::start(config, shutdown.clone()).await.expect("the server starts");
        server.describe(vec![("goaway-chance".to_owned(), "0".to_owned())]);
        let cluster = Self { server, folder, authority, shutdown };
        if gated {
            cluster.settled().await;
        }
        cluster
    }

    /// Waits for the status of the flow schemas, the last that a new server writes, so that the revisions a
    /// test sees are its own.
    async fn settled(&self) {
        for _ in 0..6000 {
            let list = self.get("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas").await.json();
            let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
            // Upstream's suggested and mandatory ones.
            if items.len() >= 13 && items.iter().all(|one| one["status"]["conditions"][0].is_object()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("the flow schemas get no status");
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Asks as an administrator.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.ask_as(admin(), method, path, &[], body).await
    }

    /// Asks as `user`, with more headers; a body is JSON unless a header says otherwise.
    pub(crate) async fn ask_as(
        &self,
        user: User,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let body = body.map(|body| body.to_string().into_bytes());
        self.send(user, method, path, headers, body).await
    }

    /// Asks as an administrator with a body that need not be JSON.
    pub(crate) async fn ask_text(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.send(admin(), method, path, headers, Some(body.as_bytes().to_vec())).await
    }

    /// Asks as an administrator with a body that need not be text.
    pub(crate) async fn ask_bytes(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        self.send(admin(), method, path, headers, Some(body)).await
    }

    async fn send(
        &self,
        user: User,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        let response = self.open(user, method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// An answer whose body is not read yet.
    pub(crate) async fn open(
        &self,
        user: User,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Response<ResponseBody> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(kube::client::Body::from(body.unwrap_or_default())).expect("a request");
        self.server.service(user, "test").oneshot(request).await.unwrap_or_else(|never| match never {})
    }

    /// GET as an administrator.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    /// POST as an administrator.
    pub(crate) async fn post(&self, path: &str, object: Value) -> Answer {
        self.ask(Method::POST, path, Some(object)).await
    }

    /// PUT as an administrator.
    pub(crate) async fn put(&self, path: &str, object: Value) -> Answer {
        self.ask(Method::PUT, path, Some(object)).await
    }

    /// PATCH as an administrator, with the media type of the patch.
    pub(crate) async fn patch(&self, path: &str, media_type: &str, patch: Value) -> Answer {
        self.ask_as(admin(), Method::PATCH, path, &[("content-type", media_type)], Some(patch)).await
    }

    /// Waits for something to become so.
    pub(crate) async fn until(&self, so: impl AsyncFn() -> bool) {
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !so().await {
            assert!(std::time::Instant::now() < patience, "it does not come to pass");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// DELETE as an administrator.
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, None).await
    }
}

/// Somebody who may do everything.
pub(crate) fn admin() -> User {
    User::authenticated("admin", &["system:masters"])
}

/// An address that nobody listens on.
pub(crate) fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

/// A kubeconfig of the server on `address` for a user with these credentials.
pub(crate) fn kubeconfig(cluster: &Cluster, address: SocketAddr, user: Value) -> String {
    use base64::Engine;
    let authority = base64::engine::general_purpose::STANDARD.encode(cluster.authority.pem());
    serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("https://{address}"), "certificate-authority-data": authority}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": user}]})
    .to_string()
}
