//! Queries over UDP, many with one call of the kernel.
//!
//! Threads of their own wait for them, each at a socket of its own, so that answers do not wait for whatever else
//! the process computes. What memory knows is answered where it was read, a batch at a time; questions to others
//! become tasks.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, MultiHeaders, Shutdown, SockaddrStorage, recvmmsg, sendmmsg, sendto, shutdown,
};
use plimsoll_netplan::dns::Transport;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::resolver::{Asked, Next, Question, Resolver};

/// Queries that wait for others' answers at once; more are dropped, and clients ask again.
const WAITING: usize = 20_000;

/// Longest query, in bytes; longer ones are cut and refused as malformed.
const LONGEST_QUERY: usize = 4096;

/// Queries that are read at once.
const BATCH: usize = 32;

/// Threads for each address, if there are as many processors.
const THREADS: usize = 4;

/// How often a thread looks for more queries before it sleeps, at most. To sleep and to be woken costs several
/// times what a look does, on both sides.
const LOOKS: u32 = 32;

/// How long a socket that failed is left alone.
const PAUSE: Duration = Duration::from_millis(10);

/// Threads that answer; they end when this is dropped.
pub(crate) struct Answering {
    sockets: Vec<Arc<UdpSocket>>,
    ended: CancellationToken,
}

/// How many sockets an address should have.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(THREADS)
}

/// Begins to answer on bound sockets, with a thread for each.
///
/// # Errors
/// When there can be no more threads.
pub(crate) fn answer(sockets: Vec<UdpSocket>, resolver: &Arc<Resolver>) -> io::Result<Answering> {
    let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
    let answering = Answering { sockets, ended: CancellationToken::new() };
    let waiting = Arc::new(Semaphore::new(WAITING));
    for socket in &answering.sockets {
        let place = Place {
            socket: socket.clone(),
            resolver: resolver.clone(),
            waiting: waiting.clone(),
            runtime: Handle::current(),
            ended: answering.ended.clone(),
        };
        std::thread::Builder::new().name("dns".to_owned()).spawn(move || place.serve())?;
    }
    Ok(answering)
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.ended.cancel();
        for socket in &self.sockets {
            // Wakes all who read. That nobody is connected is an error, and beside the point.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
        }
    }
}

/// Where one thread answers.
struct Place {
    socket: Arc<UdpSocket>,
    resolver: Arc<Resolver>,
    waiting: Arc<Semaphore>,
    runtime: Handle,
    ended: CancellationToken,
}

/// Replies that leave together.
struct Replies {
    headers: MultiHeaders<SockaddrStorage>,
    /// Kept for their space; the first ones are those to be sent.
    messages: Vec<Vec<u8>>,
    clients: Vec<Option<SockaddrStorage>>,
}

impl Place {
    fn serve(&self) {
        let mut space = vec![0; BATCH * LONGEST_QUERY];
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let (mut replies, mut looking) = (Replies::new(), Looking::default());
        while !self.ended.is_cancelled() {
            let flags = looking.flags();
            match self.batch(flags, &mut headers, &mut space, &mut replies) {
                Ok(()) => looking.found(),
                Err(Errno::EAGAIN) => looking.found_nothing(),
                Err(Errno::EINTR | Errno::ECONNREFUSED) => {}
                Err(error) => {
                    tracing::warn!(%error, "DNS queries cannot be read");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Answers all queries that are there.
    fn batch(
        &self,
        flags: MsgFlags,
        headers: &mut MultiHeaders<SockaddrStorage>,
        space: &mut [u8],
        replies: &mut Replies,
    ) -> nix::Result<()> {
        let mut slices: Vec<_> =
            space.chunks_mut(LONGEST_QUERY).map(|chunk| [IoSliceMut::new(chunk)]).collect();
        let came = recvmmsg(self.socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
        let since = Instant::now();
        if self.ended.is_cancelled() {
            return Ok(());
        }
        for query in came {
            if let (Some(message), Some(from)) = (query.iovs().next(), query.address)
                && let Some(client) = client(&from)
            {
                self.query(message, client, from, since, replies);
            }
        }
        replies.send(&self.socket);
        Ok(())
    }

    fn query(
        &self,
        message: &[u8],
        client: IpAddr,
        from: SockaddrStorage,
        since: Instant,
        replies: &mut Replies,
    ) {
        let asked = Asked { message, client, transport: Transport::Udp, since };
        match self.resolver.answer(&asked, replies.next()) {
            Next::Nothing => {}
            Next::Send => replies.clients.push(Some(from)),
            Next::Ask(question) => {
                let reply = std::mem::take(replies.next());
                self.ask(message.to_vec(), client, from, since, question, reply);
            }
        }
    }

    fn ask(
        &self,
        message: Vec<u8>,
        client: IpAddr,
        from: SockaddrStorage,
        since: Instant,
        question: Question,
        mut reply: Vec<u8>,
    ) {
        let Ok(permit) = self.waiting.clone().try_acquire_owned() else { return };
        let (socket, resolver) = (self.socket.clone(), self.resolver.clone());
        let asking = async move {
            let asked = Asked { message: &message, client, transport: Transport::Udp, since };
            resolver.ask_elsewhere(&asked, question, &mut reply).await;
            // A runtime's thread must not wait where a client does not read.
            if let Err(error) = sendto(socket.as_raw_fd(), &reply, &from, MsgFlags::MSG_DONTWAIT) {
                tracing::debug!(%client, %error, "reply not sent");
            }
            drop(permit);
        };
        self.runtime.spawn(self.ended.clone().run_until_cancelled_owned(asking));
    }
}

/// Whether a thread looks for queries again or sleeps until one comes: it looks the longer the more often it
/// found some, so that what comes in bursts finds it awake, and a quiet node lets it sleep.
#[derive(Default)]
struct Looking {
    /// How many looks in vain are worth their while.
    worth: u32,
    left: u32,
}

impl Looking {
    fn flags(&self) -> MsgFlags {
        if self.left == 0 { MsgFlags::MSG_WAITFORONE } else { MsgFlags::MSG_DONTWAIT }
    }

    fn found(&mut self) {
        // Found by looking, or only by sleeping after that was in vain.
        self.worth = if self.left > 0 { (self.worth * 2).min(LOOKS) } else { (self.worth / 2).max(1) };
        self.left = self.worth;
    }

    fn found_nothing(&mut self) {
        self.left -= 1;
        // Who asks may wait for this very processor.
        std::thread::yield_now();
    }
}

impl Replies {
    fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            messages: vec![Vec::new(); BATCH],
            clients: Vec::with_capacity(BATCH),
        }
    }

    /// Space for the reply after those that are ready; it is ready itself when its client is added.
    fn next(&mut self) -> &mut Vec<u8> {
        &mut self.messages[self.clients.len()]
    }

    /// Sends what is ready. What cannot be sent is lost, as datagrams may be.
    fn send(&mut self, socket: &UdpSocket) {
        let mut sent = 0;
        while sent < self.clients.len() {
            let slices: Vec<_> =
                self.messages[sent..].iter().map(|message| [IoSlice::new(message)]).collect();
            let clients = &self.clients[sent..];
            let flags = MsgFlags::empty();
            match sendmmsg(socket.as_raw_fd(), &mut self.headers, &slices, clients, [], flags) {
                Ok(told) => sent += told.count(),
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::debug!(%error, "reply not sent");
                    sent += 1;
                }
            }
        }
        self.clients.clear();
    }
}

/// The address that a datagram came from.
fn client(from: &SockaddrStorage) -> Option<IpAddr> {
    let ipv4 = from.as_sockaddr_in().map(|address| SocketAddr::from(SocketAddrV4::from(*address)));
    let ipv6 = || from.as_sockaddr_in6().map(|address| SocketAddr::from(SocketAddrV6::from(*address)));
    Some(ipv4.or_else(ipv6)?.ip().to_canonical())
}
