//! Connections: TLS with optional client certificates, HTTP/1.1 and HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::audit::Source;
use crate::body;
use crate::pace::{Due, Pacer};
use crate::peer::Peer;
use crate::server::{Api, StartError, certificates, private_key, roots};
use crate::stages;
use crate::stalling::Stalling;

/// Requests that a connection may have open, as upstream's.
const MOST_STREAMS: u32 = 1000;
/// Bytes of a request's head; identity tokens that name many groups are long.
const HEAD: u32 = 128 * 1024;

/// TLS of a server: its own certificate, clients' certificates checked but not required.
pub fn server_tls(
    certificate: &Path,
    key: &Path,
    client_authority: &Path,
) -> Result<Arc<rustls::ServerConfig>, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Pem {
        path: certificate.to_owned(),
        cause: error.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_authority)?), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(&error))?;
    tls(certificate, key, clients)
}

/// TLS of a server whose clients' certificates are checked by `clients`.
pub(crate) fn tls(
    certificate: &Path,
    key: &Path,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<rustls::ServerConfig>, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Pem {
        path: certificate.to_owned(),
        cause: error.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(certificate)?, private_key(key)?)
        .map_err(|error| failed(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Listens on an address and serves what comes until `shutdown`.
pub(crate) async fn serve(
    api: Arc<Api>,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let listener = plimsoll_kernel::listen::tcp(address)
        .and_then(TcpListener::from_std)
        .map_err(|source| StartError::Listen { address, source })?;
    tracing::info!(%address, "serving the API");
    let acceptor = TlsAcceptor::from(tls);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => drop(api.connections.spawn(connection(
                    Arc::clone(&api),
                    acceptor.clone(),
                    stream,
                    shutdown.clone(),
                ))),
                Err(error) => {
                    // Out of file descriptors, most likely: others may end meanwhile.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    Ok(())
}

async fn connection(api: Arc<Api>, acceptor: TlsAcceptor, stream: TcpStream, shutdown: CancellationToken) {
    // Small answers must not wait for more to come.
    let _ = stream.set_nodelay(true);
    let patience = api.limits.patience;
    let Ok(Ok(stream)) = tokio::time::timeout(patience, acceptor.accept(stream)).await else {
        api.metrics.handshake_failed();
        return;
    };
    let source = stream.get_ref().0.peer_addr().ok();
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Peer::Remote(api.verifiers.certify(chain));
    let chance = api.limits.goaway_chance;
    let enough = Arc::new(Notify::new());
    let leave = Arc::clone(&enough);
    let pacer = Pacer::new(patience);
    let paced = Arc::clone(&pacer);
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (api, peer, open) = (Arc::clone(&api), peer.clone(), paced.begin());
        if chance > 0.0 && request.version() == http::Version::HTTP_2 && rand::random::<f64>() < chance {
            leave.notify_one();
        }
        async move {
            let mut request =
                request.map(|body| body.map_err(|error| body::Error::new(&error)).boxed_unsync());
            if let (Some(_), Some(source)) = (&api.audit, source) {
                request.extensions_mut().insert(Source(source));
            }
            Ok::<_, Infallible>(open.answered(stages::serve(&api, &peer, request).await))
        }
    });
    let builder = builder(stream.get_ref().1.alpn_protocol(), patience);
    let stream = Stalling::new(stream, Arc::clone(&pacer), patience);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let due = tokio::select! {
        outcome = &mut serving => return ended(outcome),
        due = pacer.due() => due,
        // What is asked already is answered; watches end by themselves.
        () = either(&shutdown, &enough) => Due::Idle,
    };
    if due == Due::Idle {
        serving.as_mut().graceful_shutdown();
        tokio::select! {
            outcome = &mut serving => return ended(outcome),
            () = lingering(&pacer, patience) => {}
        }
    }
    tracing::debug!(?source, "a client takes nothing, and is left");
}

fn ended(outcome: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}

/// The protocol that the handshake has agreed on: waiting for a client to show which one it speaks could
/// take any time.
fn builder(protocol: Option<&[u8]>, patience: Duration) -> Builder<TokioExecutor> {
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = match protocol {
        Some(b"h2") => builder.http2_only(),
        Some(_) => builder.http1_only(),
        None => builder,
    };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(HEAD)
        .keep_alive_interval(Some(patience));
    builder
}

/// A connection that says goodbye has served its requests, and its client does not hang up.
async fn lingering(pacer: &Pacer, patience: Duration) {
    while pacer.due().await == Due::Idle {
        tokio::time::sleep(patience).await;
        if pacer.is_idle() {
            return;
        }
    }
}

/// The server ends, or this connection has served enough.
async fn either(shutdown: &CancellationToken, enough: &Notify) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = enough.notified() => {}
    }
}
