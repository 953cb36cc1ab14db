//! What one admission webhook costs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use plimsoll_pki::{Authority, Purpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::connection::{Call, Endpoint};
use super::load::{Aims, milliseconds, percentile, spread};
use super::objects;
use super::server::ApiServer;
use crate::report;

const REQUESTS: usize = 1_000;
const LIMIT: Duration = Duration::from_secs(10);

/// Creates of config maps without and with a validating webhook on this machine.
pub(crate) fn one(server: &ApiServer) -> anyhow::Result<()> {
    super::client(async {
        let endpoint = super::endpoint(server)?;
        let aims = || Aims { rate: "none", processor: "none", tail: "none" };
        let load = spread(server, &endpoint, 1, 0..REQUESTS, objects::config_map).await?;
        load.report("creates without a webhook, 1 client", &aims());
        let address = listen(server).await?;
        round_trips(server, address).await?;
        register(server, &endpoint, address).await?;
        let load = spread(server, &endpoint, 1, REQUESTS..2 * REQUESTS, objects::config_map).await?;
        let aims = Aims { tail: "the round trip more, no more", ..aims() };
        load.report("creates with one webhook, 1 client", &aims);
        Ok(())
    })
}

/// Starts a webhook that allows everything.
async fn listen(server: &ApiServer) -> anyhow::Result<SocketAddr> {
    let pki = server.pki();
    let authority = Authority::ensure(&pki, "ca", "bench-ca")?;
    let request = plimsoll_pki::Request {
        purpose: Purpose::Server,
        addresses: vec![[127, 0, 0, 1].into()],
        ..plimsoll_pki::Request::client("webhook", &[])
    };
    let files = authority.ensure_issued(&pki, "webhook", &request)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(files.certificate)?],
            PrivateKeyDer::from_pem_file(files.key)?,
        )?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind(("127.0.0.1", 0)).await?);
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let builder = Builder::new(TokioExecutor::new());
                // The server may leave whenever it likes.
                let _ = builder.serve_connection(TokioIo::new(stream), service_fn(allow)).await;
            });
        }
    });
    Ok(address)
}

async fn allow(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let bytes = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let review: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": true},
    });
    Ok(Response::new(Full::new(answer.to_string().into())))
}

/// How long the webhook takes to answer on a connection that stays.
async fn round_trips(server: &ApiServer, address: SocketAddr) -> anyhow::Result<()> {
    let mut connection = Endpoint::new(address, server.pki(), "bench")?.connect().await?;
    let review =
        json!({"request": {"uid": "u", "object": {"metadata": {"name": "a"}, "data": {"key": "value"}}}});
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let sent = Instant::now();
        connection.call(&Call::post("/", review.to_string())).await?;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    let (half, tail) = (milliseconds(percentile(&times, 50)), milliseconds(percentile(&times, 99)));
    report("round trip of the webhook alone, half of them within", &format!("{half:.2} ms"), "none");
    report("  99 % within", &format!("{tail:.2} ms"), "none");
    Ok(())
}

/// Makes the configuration, and waits until it is in force.
async fn register(server: &ApiServer, endpoint: &Endpoint, address: SocketAddr) -> anyhow::Result<()> {
    let authority = std::fs::read(server.pki().join("ca.crt"))?;
    let configuration = json!({"metadata": {"name": "bench"}, "webhooks": [{
        "name": "bench.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": format!("https://{address}/"), "caBundle": STANDARD.encode(authority)},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
        "matchConditions": [],
    }]});
    let mut admin = Endpoint::new(server.address(), server.pki(), "admin")?.connect().await?;
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    admin.call(&Call::post(path, configuration.to_string())).await?;
    let mut connection = endpoint.connect().await?;
    let probe =
        Call::post(format!("{}?dryRun=All", objects::MAPS), r#"{"metadata":{"generateName":"probe-"}}"#);
    // The first calls make the connection to the webhook.
    let deadline = Instant::now() + LIMIT;
    for _ in 0..100 {
        connection.call(&probe).await?;
        anyhow::ensure!(Instant::now() < deadline, "the webhook is slow");
    }
    Ok(())
}
