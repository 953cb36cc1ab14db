//! Connections to pods. Each worker has its own, so that nobody waits for another thread.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_remote::{Authorities, client_tls};
use plimsoll_route::settings::Protocol;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use crate::body::Sending;

/// After this time without use a connection to a pod is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Connections to one pod that are kept though nobody uses them.
const MOST_IDLE: usize = 128;

type Place = (SocketAddr, Protocol);

/// A connection that takes a request.
pub(crate) enum Sender {
    One(http1::SendRequest<Sending>),
    /// Takes many at once.
    Two(http2::SendRequest<Sending>),
}

impl Sender {
    /// Sends, and gives the request back if nothing of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Sending>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Sending>>> {
        match self {
            Self::One(sender) => sender.try_send_request(request).await,
            Self::Two(sender) => sender.try_send_request(request).await,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("no connection in time")]
    Late,
}

/// The connections of a worker.
pub(crate) struct Upstreams {
    idle: Mutex<HashMap<Place, Idle>>,
    tls: Arc<ClientConfig>,
    /// Something is idle.
    wake: Notify,
}

#[derive(Default)]
struct Idle {
    /// The last one used is used first.
    one: Vec<(http1::SendRequest<Sending>, Instant)>,
    two: Option<(http2::SendRequest<Sending>, Instant)>,
}

/// A connection in use, given back when the answer is over.
pub(crate) struct Lease {
    upstreams: Arc<Upstreams>,
    place: Place,
    sender: http1::SendRequest<Sending>,
}

impl Lease {
    /// The connection may serve another request.
    pub(crate) fn give_back(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut idle = self.upstreams.idle();
        let list = &mut idle.entry(self.place).or_default().one;
        if list.len() < MOST_IDLE {
            list.push((self.sender, Instant::now()));
        }
        if list.len() == 1 {
            self.upstreams.wake.notify_one();
        }
    }
}

impl Upstreams {
    pub(crate) fn new() -> Arc<Self> {
        // Pods' certificates name nobody: nginx does not look at them either.
        let tls = client_tls(&Authorities::Anybody, None).expect("without certificates none is unreadable");
        Arc::new(Self { idle: Mutex::default(), tls: Arc::new(tls), wake: Notify::new() })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was used before and is still open.
    pub(crate) async fn reuse(&self, address: SocketAddr, protocol: Protocol) -> Option<Sender> {
        loop {
            let mut sender = self.take(&(address, protocol))?;
            let open = match &mut sender {
                Sender::One(sender) => sender.ready().await.is_ok(),
                Sender::Two(sender) => sender.ready().await.is_ok(),
            };
            if open {
                return Some(sender);
            }
        }
    }

    fn take(&self, place: &Place) -> Option<Sender> {
        let mut all = self.idle();
        let idle = all.get_mut(place)?;
        if let Some((sender, used)) = &mut idle.two {
            if !sender.is_closed() {
                *used = Instant::now();
                return Some(Sender::Two(sender.clone()));
            }
            idle.two = None;
        }
        while let Some((sender, _)) = idle.one.pop() {
            if !sender.is_closed() {
                return Some(Sender::One(sender));
            }
        }
        None
    }

    /// Closes the connections to a pod that nobody uses: one of them was found broken.
    pub(crate) fn forget(&self, address: SocketAddr, protocol: Protocol) {
        self.idle().remove(&(address, protocol));
    }

    /// A new connection.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        protocol: Protocol,
        patience: Duration,
    ) -> Result<Sender, ConnectError> {
        let opening = self.open(address, protocol);
        tokio::time::timeout(patience, opening).await.unwrap_or(Err(ConnectError::Late))
    }

    async fn open(&self, address: SocketAddr, protocol: Protocol) -> Result<Sender, ConnectError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let encrypted = matches!(protocol, Protocol::Https | Protocol::Grpcs);
        if !encrypted {
            return self.shake(stream, address, protocol).await;
        }
        let mut tls = self.tls.clone();
        if protocol == Protocol::Grpcs {
            Arc::make_mut(&mut tls).alpn_protocols = vec![b"h2".to_vec()];
        }
        let stream =
            TlsConnector::from(tls).connect(ServerName::IpAddress(address.ip().into()), stream).await?;
        self.shake(stream, address, protocol).await
    }

    async fn shake<S>(
        &self,
        stream: S,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Result<Sender, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        if matches!(protocol, Protocol::Http | Protocol::Https) {
            let (sender, connection) =
                http1::Builder::new().preserve_header_case(false).handshake(io).await?;
            tokio::spawn(connection.with_upgrades());
            return Ok(Sender::One(sender));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake(io).await?;
        tokio::spawn(connection);
        self.idle().entry((address, protocol)).or_default().two = Some((sender.clone(), Instant::now()));
        self.wake.notify_one();
        Ok(Sender::Two(sender))
    }

    /// The lease of a connection, if it serves one request at a time.
    pub(crate) fn lease(
        self: &Arc<Self>,
        sender: Sender,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Option<Lease> {
        match sender {
            Sender::One(sender) => {
                Some(Lease { upstreams: self.clone(), place: (address, protocol), sender })
            }
            Sender::Two(_) => None,
        }
    }

    /// Closes what is idle for long; sleeps while nothing is idle.
    pub(crate) async fn sweep(&self) {
        loop {
            self.wake.notified().await;
            while !self.swept(Instant::now()) {
                tokio::time::sleep(IDLE / 2).await;
            }
        }
    }

    /// Whether nothing is idle any more.
    fn swept(&self, now: Instant) -> bool {
        let mut all = self.idle();
        all.retain(|_, idle| {
            idle.one.retain(|(sender, used)| !sender.is_closed() && now.duration_since(*used) < IDLE);
            idle.two = idle
                .two
                .take()
                .filter(|(sender, used)| !sender.is_closed() && now.duration_since(*used) < IDLE);
            !idle.one.is_empty() || idle.two.is_some()
        });
        all.is_empty()
    }
}
