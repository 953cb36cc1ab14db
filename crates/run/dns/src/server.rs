//! Queries over UDP and TCP.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use plimsoll_netplan::dns::Transport;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::resolver::{Asked, Next, Resolver};
use crate::{Config, Error, datagrams};

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 256;

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Room for queries that arrive faster than they are taken, in bytes: 15,000 at once, as the kernel counts.
const BACKLOG: usize = 16 << 20;

/// Sockets that listen.
pub(crate) struct Servers {
    resolver: Arc<Resolver>,
    datagrams: Vec<UdpSocket>,
    streams: Vec<TcpListener>,
}

/// Listens on all addresses that must be had, or on none, and on those others that are free.
pub(crate) async fn bind(config: &Config, resolver: Arc<Resolver>) -> Result<Servers, Error> {
    let mut servers = Servers { resolver, datagrams: Vec::new(), streams: Vec::new() };
    for address in &config.listen {
        servers.add(*address).await.map_err(|source| Error::Listen { address: *address, source })?;
    }
    for address in &config.listen_if_free {
        if let Err(error) = servers.add(*address).await {
            tracing::warn!(%address, %error, "DNS is not answered on this address too");
        }
    }
    Ok(servers)
}

impl Servers {
    /// The stream's address can be had only once, so that it tells whether another resolver is there; the
    /// datagrams' is had by each of our threads.
    async fn add(&mut self, address: SocketAddr) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        let sockets: Vec<_> =
            (0..datagrams::threads()).map(|_| datagram_socket(address)).collect::<io::Result<_>>()?;
        self.streams.push(listener);
        self.datagrams.extend(sockets);
        Ok(())
    }

    /// Answers for ever. Dropping the future stops everything.
    pub(crate) async fn serve(self) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        let _answering = datagrams::answer(self.datagrams, &self.resolver).map_err(Error::Threads)?;
        for listener in self.streams {
            tasks.spawn(serve_streams(listener, self.resolver.clone()));
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

/// One of several sockets at an address. The kernel gives each client to one of them, so that the threads that
/// read them do not wait for, nor wake, each other.
fn datagram_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.cloexec(), None)?;
    socket.set_reuse_port(true)?;
    if let Err(error) = setsockopt(&socket, sockopt::RcvBufForce, &BACKLOG) {
        tracing::warn!(%address, %error, "a burst of DNS queries may lose some");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

async fn serve_streams(listener: TcpListener, resolver: Arc<Resolver>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        let permit = connections.clone().acquire_owned().await.expect("it is never closed");
        while tasks.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, client)) => {
                let resolver = resolver.clone();
                tasks.spawn(async move {
                    // Whatever ends a conversation, the client sees it end.
                    let _ = converse(stream, client.ip().to_canonical(), &resolver).await;
                    drop(permit);
                });
            }
            // Out of descriptors, most likely: some will be free soon.
            Err(error) => {
                tracing::warn!(%error, "DNS connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, client: IpAddr, resolver: &Resolver) -> io::Result<()> {
    let (mut query, mut reply) = (Vec::new(), Vec::new());
    loop {
        let length = timeout(SILENCE, stream.read_u16()).await??;
        query.resize(length.into(), 0);
        timeout(SILENCE, stream.read_exact(&mut query)).await??;
        let asked = Asked { message: &query, client, transport: Transport::Tcp, since: Instant::now() };
        match resolver.answer(&asked, &mut reply) {
            Next::Nothing => return Ok(()),
            Next::Send => {}
            Next::Ask(question) => {
                resolver.ask_elsewhere(&asked, question, &mut reply).await;
            }
        }
        let length = u16::try_from(reply.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        reply.splice(0..0, length.to_be_bytes());
        timeout(SILENCE, stream.write_all(&reply)).await??;
    }
}
