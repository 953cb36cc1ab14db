//! Asking other resolvers.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use plimsoll_netplan::dns::Query;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::cache::{Cache, Key};

/// How long one server may take, in turn.
const PATIENCE: [Duration; 2] = [Duration::from_millis(1000), Duration::from_millis(2000)];

/// How long a whole conversation over TCP may take.
const TCP_PATIENCE: Duration = Duration::from_secs(3);

/// Questions that are under way at once; more wait for their turn.
const UNDER_WAY: usize = 512;

/// Nameservers that count, as in the C library.
const SERVERS: usize = 3;

const PORT: u16 = 53;

/// The resolvers of the host.
pub(crate) struct Upstream {
    inner: Arc<Inner>,
    /// Questions under way: who asks the same waits for the same reply.
    asking: Mutex<HashMap<Key, Shared<BoxFuture<'static, Option<Bytes>>>>>,
}

struct Inner {
    resolv_conf: PathBuf,
    /// Where we listen: asking there would never end.
    own: Vec<SocketAddr>,
    servers: Mutex<Servers>,
    cache: Mutex<Cache>,
    turns: Semaphore,
}

#[derive(Default)]
struct Servers {
    /// What the file's change time was when it was read.
    changed: Option<SystemTime>,
    addresses: Arc<[SocketAddr]>,
}

const POISON: &str = "no code under the lock panics";

impl Upstream {
    pub(crate) fn new(resolv_conf: PathBuf, own: &[SocketAddr]) -> Self {
        let inner = Inner {
            resolv_conf,
            own: own.to_vec(),
            servers: Mutex::default(),
            cache: Mutex::default(),
            turns: Semaphore::new(UNDER_WAY),
        };
        Self { inner: Arc::new(inner), asking: Mutex::default() }
    }

    /// A reply to the query, remembered or new; nothing when nobody can be asked. Its identifier and
    /// the spelling of its name may be another's.
    pub(crate) async fn resolve(&self, query: &[u8]) -> Option<Bytes> {
        let key = key(&Query::parse(query).ok()?);
        if let Some(reply) = self.inner.cache.lock().expect(POISON).get(&key, Instant::now()) {
            return Some(reply.into());
        }
        let asking = {
            let mut asking = self.asking.lock().expect(POISON);
            let start = || self.inner.clone().ask(key.clone(), query.to_vec()).boxed().shared();
            asking.entry(key.clone()).or_insert_with(start).clone()
        };
        let reply = asking.await;
        self.asking.lock().expect(POISON).remove(&key);
        reply
    }
}

impl Inner {
    async fn ask(self: Arc<Self>, key: Key, query: Vec<u8>) -> Option<Bytes> {
        let _turn = self.turns.acquire().await.ok()?;
        match self.ask_servers(&query).await {
            Some(reply) => {
                self.cache.lock().expect(POISON).put(key, &reply, Instant::now());
                Some(reply.into())
            }
            None => self.cache.lock().expect(POISON).get_stale(&key, Instant::now()).map(Bytes::from),
        }
    }

    /// The first useful reply. A server's failure counts only when no other does better.
    async fn ask_servers(&self, query: &[u8]) -> Option<Vec<u8>> {
        let mut failure = None;
        let servers = self.servers();
        for patience in PATIENCE {
            for server in servers.iter() {
                match exchange(*server, query, patience).await {
                    Ok(reply) if is_failure(&reply) => failure = Some(reply),
                    Ok(reply) => return Some(reply),
                    Err(error) => tracing::debug!(%server, %error, "resolver does not answer"),
                }
            }
            if failure.is_some() {
                break;
            }
        }
        failure
    }

    /// The servers of the file, which is read again when it changed.
    fn servers(&self) -> Arc<[SocketAddr]> {
        let changed = std::fs::metadata(&self.resolv_conf).and_then(|data| data.modified()).ok();
        let mut servers = self.servers.lock().expect(POISON);
        if servers.changed != changed || changed.is_none() {
            let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
            *servers = Servers { changed, addresses: nameservers(&text, &self.own).into() };
        }
        servers.addresses.clone()
    }
}

fn key(query: &Query<'_>) -> Key {
    let question = query.question();
    let mut key = question.to_ascii_lowercase();
    // Type and class are no letters.
    let fixed = question.len().saturating_sub(4);
    key[fixed..].copy_from_slice(&question[fixed..]);
    let flags = [query.has_edns(), query.wants_signatures(), query.checking_disabled()];
    key.push(flags.iter().fold(0, |all, flag| all << 1 | u8::from(*flag)));
    key.into()
}

fn nameservers(text: &str, own: &[SocketAddr]) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        address.parse::<IpAddr>().ok()
    };
    let servers = text.lines().filter_map(address).map(|address| SocketAddr::new(address, PORT));
    servers.filter(|server| !own.contains(server)).take(SERVERS).collect()
}

/// Server failure, not implemented, refused.
fn is_failure(reply: &[u8]) -> bool {
    reply.get(3).is_none_or(|byte| !matches!(byte & 0x0f, 0 | 3))
}

/// Asks one server under a new identifier and port, which a forger would have to guess.
async fn exchange(server: SocketAddr, query: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let mut query = query.to_vec();
    let id: [u8; 2] = rand::random();
    query[..2].copy_from_slice(&id);
    let reply = timeout(patience, exchange_udp(server, &query)).await??;
    if reply[2] & 0x02 == 0 {
        return Ok(reply);
    }
    // Cut off: the whole reply comes by TCP, if that works.
    Ok(timeout(TCP_PATIENCE, exchange_tcp(server, &query)).await.ok().and_then(Result::ok).unwrap_or(reply))
}

async fn exchange_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], query) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn exchange_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    if answers(&reply, query) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether a message is a reply to this query: same identifier, same question.
fn answers(reply: &[u8], query: &[u8]) -> bool {
    let Ok(parsed) = Query::parse(query) else { return false };
    let question = parsed.question();
    reply.len() >= 12
        && reply[..2] == query[..2]
        && reply[2] & 0x80 != 0
        && reply.get(12..12 + question.len()).is_some_and(|repeated| repeated.eq_ignore_ascii_case(question))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn nameservers_of_resolv_conf() {
        let text = "# nameserver 192.0.2.9\nsearch example.org\nnameserver 192.0.2.1\n nameserver  ::1 \n\
                    nameserver x\nnameserver\nnameserver 10.43.0.10\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let own: SocketAddr = "10.43.0.10:53".parse().unwrap();
        let found: Vec<_> = nameservers(text, &[own]).iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[::1]:53", "192.0.2.2:53"]);
    }

    #[test]
    fn replies_must_repeat_identifier_and_question() {
        let query = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        let mut reply = query;
        reply[2] = 0x81;
        let mut spelled = reply;
        spelled[13] = b'A';
        let with = |index: usize, byte: u8| {
            let mut bytes = reply;
            bytes[index] = byte;
            bytes
        };
        for (what, message, good) in [
            ("the same", reply, true),
            ("another spelling", spelled, true),
            ("another identifier", with(1, 3), false),
            ("another name", with(13, b'b'), false),
            ("another type", with(16, 28), false),
            ("a query", query, false),
        ] {
            assert_eq!(answers(&message, &query), good, "{what}");
        }
        assert!(!answers(&reply[..11], &query));
    }
}
