//! A webhook server with a certificate of its own: each path has a behaviour.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_pki::{Authority, Purpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a path answers: `response` without its uid, or an HTTP status.
#[derive(Clone)]
pub(crate) enum Behaviour {
    Respond(fn(&Value) -> Value),
    Fail(u16),
    Hang,
}

/// A running server.
pub(crate) struct WebhookServer {
    pub(crate) address: SocketAddr,
    /// For `caBundle`.
    pub(crate) authority: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    behaviours: HashMap<&'static str, Behaviour>,
    calls: Mutex<Vec<(String, Value)>>,
}

impl WebhookServer {
    pub(crate) async fn start(folder: &Path, behaviours: &[(&'static str, Behaviour)]) -> Self {
        let authority = Authority::ensure(folder, "webhook-ca", "webhook-ca").expect("an authority");
        let request = plimsoll_pki::Request {
            purpose: Purpose::Server,
            dns_names: vec!["hook.web.svc".to_owned()],
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            ..plimsoll_pki::Request::client("webhook", &[])
        };
        let files = authority.ensure_issued(folder, "webhook", &request).expect("a certificate");
        let chain = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .expect("a chain");
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut behaviours: HashMap<_, _> = behaviours.iter().cloned().collect();
        behaviours.insert("marker", Behaviour::Respond(|_| json!({"allowed": false})));
        let state = Arc::new(State { behaviours, ..State::default() });
        let server = Self {
            address: listener.local_addr().expect("an address"),
            authority: BASE64_STANDARD.encode(std::fs::read(authority.certificate()).expect("the authority")),
            state: Arc::clone(&state),
        };
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), state));
        server
    }

    /// `clientConfig` of a path.
    pub(crate) fn config(&self, path: &str) -> Value {
        json!({"url": format!("https://{}/{path}", self.address), "caBundle": self.authority})
    }

    /// The `request` of each review that a path was sent.
    pub(crate) fn calls(&self, path: &str) -> Vec<Value> {
        let calls = self.state.calls.lock().expect("calls");
        calls
            .iter()
            .filter(|(called, _)| called == path)
            .map(|(_, review)| review["request"].clone())
            .collect()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            // Clients close connections when they like.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    assert!(request.uri().query().is_some_and(|query| query.starts_with("timeout=")), "{}", request.uri());
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("a review");
    state.calls.lock().expect("calls").push((path.clone(), review.clone()));
    let respond = |code: StatusCode, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = code;
        Ok(response)
    };
    match state.behaviours.get(path.as_str()) {
        Some(Behaviour::Respond(make)) => {
            let mut response = make(&review["request"]);
            response["uid"] = review["request"]["uid"].clone();
            let review =
                json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response});
            respond(StatusCode::OK, review.to_string())
        }
        Some(Behaviour::Fail(code)) => {
            respond(StatusCode::from_u16(*code).expect("a code"), "out of order".to_owned())
        }
        Some(Behaviour::Hang) => std::future::pending().await,
        None => respond(StatusCode::NOT_FOUND, String::new()),
    }
}

/// A response that patches.
pub(crate) fn patched(operations: Value) -> Value {
    let patch = BASE64_STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patch": patch, "patchType": "JSONPatch"})
}
