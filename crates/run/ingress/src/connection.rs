//! A client's connection: who is behind it, what it speaks, its requests.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use plimsoll_route::client::within;
use plimsoll_route::gateway::{Ending, Stream};
use plimsoll_route::proxy_protocol::{self, Header};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarms::Clock;
use crate::certificates::AtPort;
use crate::serve::{Peer, Worker, serve};
use crate::streams;
use crate::upstream::Upstreams;
use crate::{Error, Shared};

/// Clients may take so long for a handshake or header, and keep a silent connection so long, as nginx allows.
const SHAKE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(75);

/// Requests that one HTTP/2 connection may have under way, and bytes of their headers.
const STREAMS: u32 = 128;
const HEAD: u32 = 32 << 10;

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Encrypted,
}

/// The port of a connection, and what shakes hands there.
#[derive(Clone)]
pub(crate) struct Entrance {
    pub(crate) port: u16,
    pub(crate) tls: Option<TlsAcceptor>,
}

/// What the connections of a worker use.
pub(crate) struct Front {
    pub(crate) worker: Arc<Worker>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tracker: TaskTracker,
    tls: ServerConfig,
    either: Builder<TokioExecutor>,
    one: Builder<TokioExecutor>,
    two: Builder<TokioExecutor>,
}

impl Front {
    pub(crate) fn new(shared: Arc<Shared>, shutdown: CancellationToken) -> Result<Self, Error> {
        let tls = tls(&shared)?;
        let clock = Clock::default();
        let builder = |protocol: fn(Builder<TokioExecutor>) -> Builder<TokioExecutor>| {
            builder(protocol(Builder::new(TokioExecutor::new())), &clock)
        };
        let (either, one, two) =
            (builder(|either| either), builder(Builder::http1_only), builder(Builder::http2_only));
        Ok(Self {
            worker: Arc::new(Worker { shared, upstreams: Upstreams::new(), clock }),
            // Its own, which no other thread looks at for each request.
            shutdown: shutdown.child_token(),
            tracker: TaskTracker::new(),
            tls,
            either,
            one,
            two,
        })
    }

    /// What shakes hands at a port.
    pub(crate) fn acceptor(&self, port: u16) -> TlsAcceptor {
        let mut tls = self.tls.clone();
        tls.cert_resolver = Arc::new(resolver(&self.worker.shared, port));
        TlsAcceptor::from(Arc::new(tls))
    }

    /// The same where nobody knows what is spoken inside.
    fn inner(&self, acceptor: &TlsAcceptor) -> TlsAcceptor {
        let mut tls = ServerConfig::clone(acceptor.config());
        tls.alpn_protocols.clear();
        TlsAcceptor::from(Arc::new(tls))
    }
}

fn builder(mut builder: Builder<TokioExecutor>, clock: &Clock) -> Builder<TokioExecutor> {
    builder.http1().timer(clock.clone()).header_read_timeout(QUIET);
    builder
        .http2()
        .timer(clock.clone())
        .max_concurrent_streams(STREAMS)
        .enable_connect_protocol()
        .max_header_list_size(HEAD)
        .keep_alive_interval(Some(QUIET));
    builder
}

fn resolver(shared: &Shared, port: u16) -> AtPort {
    let certificates = shared.certificates.clone();
    AtPort { certificates, port, ingress: shared.serves_ingresses(port) }
}

fn tls(shared: &Shared) -> Result<ServerConfig, Error> {
    let bad = |error: rustls::Error| Error::Certificate(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let resolver = Arc::new(resolver(shared, shared.config.https.port()));
    let mut config = builder.map_err(bad)?.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(bad)?;
    Ok(config)
}

/// Serves a connection until its client hangs up, or what is under way at the end is answered.
pub(crate) async fn run(front: Arc<Front>, stream: TcpStream, from: SocketAddr, entrance: Entrance) {
    if let Err(error) = begin(&front, stream, from, entrance).await {
        tracing::debug!(%from, %error, "connection ended");
    }
}

async fn begin(
    front: &Front,
    mut stream: TcpStream,
    from: SocketAddr,
    Entrance { port, tls }: Entrance,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let config = &front.worker.shared.config;
    let mut source = from;
    if config.proxy_protocol && within(&config.trusted, from.ip()) {
        let told = tokio::time::timeout(SHAKE, proxied(&mut stream)).await??;
        source = told.unwrap_or(from);
    }
    let _connected = front.worker.shared.metrics.connected();
    let peer = Peer::new(&front.worker.shared, source, tls.is_some(), port);
    match tls {
        None => {
            tokio::time::timeout(SHAKE, stream.readable()).await??;
            requests(front, &front.either, stream, peer).await
        }
        Some(tls) if front.worker.shared.routes.load().has_streams(port) => {
            let (bytes, name) = tokio::time::timeout(SHAKE, streams::hello(&mut stream)).await??;
            let shared = &front.worker.shared;
            let found = shared.routes.load().stream(port, shared.serves_ingresses(port), &name);
            // What was read is read once more.
            let (rest, back) = stream.into_split();
            let stream = tokio::io::join(io::Cursor::new(bytes).chain(rest), back);
            let Some(Stream { ending, shares }) = found else {
                return encrypted(front, tls, stream, peer).await;
            };
            let Some(shares) = shares else { return Ok(()) };
            match ending {
                Ending::Pod => streams::pass(&front.worker, stream, &shares).await?,
                Ending::Here => {
                    let stream = tokio::time::timeout(SHAKE, front.inner(&tls).accept(stream)).await??;
                    streams::pass(&front.worker, stream, &shares).await?;
                }
            }
            Ok(())
        }
        Some(tls) => encrypted(front, tls, stream, peer).await,
    }
}

/// Requests over TLS.
async fn encrypted<S>(
    front: &Front,
    tls: TlsAcceptor,
    stream: S,
    peer: Peer,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = tokio::time::timeout(SHAKE, tls.accept(stream)).await??;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    requests(front, if http2 { &front.two } else { &front.one }, stream, peer).await
}

async fn requests<S>(
    front: &Front,
    builder: &Builder<TokioExecutor>,
    stream: S,
    peer: Peer,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (worker, peer) = (front.worker.clone(), Arc::new(peer));
    let service = service_fn(move |request| {
        let (worker, peer) = (worker.clone(), peer.clone());
        async move { Ok::<_, Infallible>(serve(&worker, &peer, request).await) }
    });
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = front.shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Reads the header of the PROXY protocol and not a byte more.
async fn proxied(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::new();
    loop {
        match proxy_protocol::parse(&bytes) {
            Header::Complete { source, .. } => return Ok(source),
            Header::Invalid => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol"));
            }
            Header::Incomplete => {
                let known = bytes.len();
                bytes.resize(known + proxy_protocol::missing(&bytes), 0);
                stream.read_exact(&mut bytes[known..]).await?;
            }
        }
    }
}
