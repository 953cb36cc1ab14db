//! Connections to pods. Each worker has its own, so that nobody waits for another thread.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_remote::{Authorities, client_tls};
use plimsoll_route::settings::Protocol;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use crate::body::{Sending, twin};
use crate::wire::{Answered, Mover, Wire, by_hyper};

/// After this time without use a connection to a pod is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Connections to one pod that are kept though nobody uses them.
const MOST_IDLE: usize = 128;

type Place = (SocketAddr, Protocol);

/// A connection that takes a request.
pub(crate) enum Sender {
    One(Wire),
    /// Takes many at once.
    Two(http2::SendRequest<Sending>),
}

impl Sender {
    /// The same for a request that wants this mover, or can do with it.
    async fn moved_by(self, mover: Mover) -> hyper::Result<Self> {
        match self {
            Self::One(wire) => wire.moved_by(mover).await.map(Self::One),
            two => Ok(two),
        }
    }

    /// Sends a request, as [`Wire::send`] does.
    pub(crate) async fn send(&mut self, request: Request<Sending>, twice: bool) -> Answered {
        match self {
            Self::One(wire) => wire.send(request, twice).await,
            Self::Two(sender) => {
                let spare = twice.then(|| twin(&request));
                by_hyper(sender.try_send_request(request), spare).await
            }
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

type Wires = Vec<(Wire, Instant)>;

#[derive(Default)]
struct Idle {
    /// The last one used is used first.
    one: Wires,
    /// Those that have a task.
    tasks: Wires,
    two: Option<(http2::SendRequest<Sending>, Instant)>,
}

/// A connection in use, given back when the answer is over.
pub(crate) struct Lease {
    upstreams: Arc<Upstreams>,
    place: Place,
    pub(crate) wire: Wire,
}

impl Lease {
    /// The connection may serve another request.
    pub(crate) fn give_back(self) {
        if self.wire.is_closed() {
            return;
        }
        let mut idle = self.upstreams.idle();
        let list = idle.entry(self.place).or_default().wires(self.wire.mover());
        if list.len() < MOST_IDLE {
            list.push((self.wire, Instant::now()));
        }
        if list.len() == 1 {
            self.upstreams.wake.notify_one();
        }
    }
}

impl Idle {
    fn wires(&mut self, mover: Mover) -> &mut Wires {
        match mover {
            Mover::Asker => &mut self.one,
            Mover::Task => &mut self.tasks,
        }
    }

    /// One that this mover has, else any.
    fn wire(&mut self, mover: Mover) -> Option<Wire> {
        let other = if mover == Mover::Asker { Mover::Task } else { Mover::Asker };
        let found = self.wires(mover).pop().or_else(|| self.wires(other).pop());
        found.map(|(wire, _)| wire)
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
    pub(crate) async fn reuse(
        &self,
        address: SocketAddr,
        protocol: Protocol,
        mover: Mover,
    ) -> Option<Sender> {
        loop {
            let mut sender = self.take(&(address, protocol), mover)?;
            let open = match &mut sender {
                Sender::One(wire) => wire.ready().await,
                Sender::Two(sender) => sender.ready().await.is_ok(),
            };
            if open && let Ok(sender) = sender.moved_by(mover).await {
                return Some(sender);
            }
        }
    }

    fn take(&self, place: &Place, mover: Mover) -> Option<Sender> {
        let mut all = self.idle();
        let idle = all.get_mut(place)?;
        if let Some((sender, used)) = &mut idle.two {
            if !sender.is_closed() {
                *used = Instant::now();
                return Some(Sender::Two(sender.clone()));
            }
            idle.two = None;
        }
        idle.wire(mover).map(Sender::One)
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
        mover: Mover,
        patience: Duration,
    ) -> Result<Sender, ConnectError> {
        let opening = self.open(address, protocol);
        let sender = tokio::time::timeout(patience, opening).await.unwrap_or(Err(ConnectError::Late))?;
        Ok(sender.moved_by(mover).await?)
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
        if matches!(protocol, Protocol::Http | Protocol::Https) {
            return Ok(Sender::One(Wire::new(stream)));
        }
        let builder = http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
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
            Sender::One(wire) => Some(Lease { upstreams: self.clone(), place: (address, protocol), wire }),
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
            for wires in [&mut idle.one, &mut idle.tasks] {
                wires.retain_mut(|(wire, used)| now.duration_since(*used) < IDLE && !wire.has_ended());
            }
            idle.two = idle
                .two
                .take()
                .filter(|(sender, used)| !sender.is_closed() && now.duration_since(*used) < IDLE);
            !idle.one.is_empty() || !idle.tasks.is_empty() || idle.two.is_some()
        });
        all.is_empty()
    }
}
