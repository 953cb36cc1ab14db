//! Asking other resolvers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use plimsoll_netplan::dns::Query;
use plimsoll_netplan::dns::corefile::{Block, Forward, Policy, Server, Tls};
use rand::seq::SliceRandom;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::cache::{Cache, Key, Remembered};
use crate::encrypted::Encrypted;
use crate::exchange::{Target, Way, exchange};
use crate::health::Health;
use crate::metrics::Metrics;

/// How long one server may take, in turn.
const PATIENCE: [Duration; 2] = [Duration::from_millis(1000), Duration::from_millis(2000)];

/// Questions that are under way at once; more wait for their turn.
const UNDER_WAY: usize = 512;

/// Nameservers of a file that count, as in the C library.
const SERVERS: usize = 3;

const PORT: u16 = 53;

/// The resolvers that a configuration names, and what they said.
pub(crate) struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    resolv_conf: PathBuf,
    /// Where we listen: asking there would never end.
    own: Vec<SocketAddr>,
    node: Mutex<NodeServers>,
    /// Servers that are asked over TLS, with their connections.
    encrypted: Mutex<HashMap<(SocketAddr, Tls), Arc<Encrypted>>>,
    cache: Mutex<Cache>,
    /// Questions under way: who asks the same waits for the same reply.
    asking: Mutex<HashMap<Key, Asking>>,
    health: Health,
    turn: AtomicUsize,
    turns: Semaphore,
    metrics: Arc<Metrics>,
}

type Asking = Shared<BoxFuture<'static, Option<Bytes>>>;

#[derive(Default)]
struct NodeServers {
    /// What the file's change time was when it was read.
    changed: Option<SystemTime>,
    addresses: Arc<[SocketAddr]>,
}

const POISON: &str = "no code under the lock panics";

impl Upstream {
    pub(crate) fn new(resolv_conf: PathBuf, own: &[SocketAddr], metrics: Arc<Metrics>) -> Self {
        let inner = Inner {
            resolv_conf,
            own: own.to_vec(),
            node: Mutex::default(),
            encrypted: Mutex::default(),
            cache: Mutex::default(),
            asking: Mutex::default(),
            health: Health::new(metrics.clone()),
            turn: AtomicUsize::new(0),
            turns: Semaphore::new(UNDER_WAY),
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The reply that is remembered, if there is one. Its identifier and the spelling of its name may be
    /// another's.
    pub(crate) fn remembered(&self, query: &Query<'_>, block: &Block) -> Option<Vec<u8>> {
        block.cache?;
        let found = self.inner.fresh(&key(query), block);
        self.inner.metrics.looked_up(found.as_ref().map(|remembered| remembered.denial));
        found.map(|remembered| remembered.reply)
    }

    /// A reply to the query; nothing when nobody can be asked. Its identifier and the spelling of its name
    /// may be another's.
    pub(crate) async fn resolve(&self, message: &[u8], block: &Arc<Block>) -> Option<Bytes> {
        let query = Query::parse(message).ok()?;
        let name = String::from_utf8_lossy(query.name.bytes());
        let directive = block.forwards.iter().position(|forward| forward.holds(&name))?;
        let key = key(&query);
        let asking = {
            let mut asking = self.inner.asking.lock().expect(POISON);
            match asking.get(&key) {
                Some(asking) => asking.clone(),
                None => {
                    // Somebody may have got the reply since this query found none.
                    if let Some(found) = self.inner.fresh(&key, block) {
                        return Some(found.reply.into());
                    }
                    let ask = self.inner.clone().ask(key.clone(), message.to_vec(), block.clone(), directive);
                    asking.entry(key).or_insert(ask.boxed().shared()).clone()
                }
            }
        };
        asking.await
    }

    /// How many replies that name records are kept, and how many that say there are none.
    pub(crate) fn cached(&self) -> (usize, usize) {
        self.inner.cache.lock().expect(POISON).sizes()
    }
}

impl Inner {
    fn fresh(&self, key: &Key, block: &Block) -> Option<Remembered> {
        block.cache?;
        self.cache.lock().expect(POISON).get(key, Instant::now())
    }

    /// The reply, remembered before the question counts as answered: nobody asks it in between.
    async fn ask(
        self: Arc<Self>,
        key: Key,
        query: Vec<u8>,
        block: Arc<Block>,
        directive: usize,
    ) -> Option<Bytes> {
        let reply = self.find(&key, &query, &block, directive).await;
        self.asking.lock().expect(POISON).remove(&key);
        reply
    }

    async fn find(&self, key: &Key, query: &[u8], block: &Block, directive: usize) -> Option<Bytes> {
        let _turn = self.turns.acquire().await.ok()?;
        let forward = &block.forwards[directive];
        let servers = self.servers(forward);
        let works = |server: &Target| self.health.works(server.address);
        if !servers.is_empty() && !servers.iter().any(works) {
            self.metrics.all_broken.inc();
            // Servers that did not answer a moment ago are not waited for when something can be told.
            if let Some(reply) = self.stale(key) {
                return Some(reply);
            }
        }
        match self.ask_servers(&servers, forward, query).await {
            Some(reply) => {
                if let Some(limits) = block.cache {
                    self.cache.lock().expect(POISON).put(key.clone(), &reply, limits, Instant::now());
                }
                Some(reply.into())
            }
            None => self.stale(key),
        }
    }

    fn stale(&self, key: &Key) -> Option<Bytes> {
        let reply = self.cache.lock().expect(POISON).get_stale(key, Instant::now())?;
        self.metrics.stale.inc();
        Some(reply.into())
    }

    /// The first useful reply. A server's failure counts only when no other does better.
    async fn ask_servers(&self, servers: &[Target], forward: &Forward, query: &[u8]) -> Option<Vec<u8>> {
        let mut failure = None;
        for patience in PATIENCE {
            for server in servers {
                let start = Instant::now();
                match exchange(server, query, patience).await {
                    Ok(reply) => {
                        self.metrics.exchanged(&server.address.to_string(), &reply, start.elapsed());
                        self.health.answered(server.address);
                        if !is_failure(&reply) {
                            return Some(reply);
                        }
                        failure = Some(reply);
                    }
                    Err(error) => {
                        tracing::debug!(server = %server.address, %error, "resolver does not answer");
                        self.health.failed(server, forward.most_failures, forward.health_check);
                    }
                }
            }
            if failure.is_some() {
                break;
            }
        }
        failure
    }

    /// The servers in the order in which they are asked: those that work first.
    fn servers(&self, forward: &Forward) -> Vec<Target> {
        let mut servers = Vec::new();
        let plain = if forward.force_tcp { Way::Stream } else { Way::Datagrams };
        let plain = |address: &SocketAddr| Target { address: *address, way: plain.clone() };
        for server in &forward.servers {
            match server {
                Server::Address(address) if self.own.contains(address) => {}
                Server::Address(address) => servers.push(plain(address)),
                Server::Node => servers.extend(self.node_servers().iter().map(plain)),
                Server::Encrypted(address) => match self.encrypted(*address, &forward.tls) {
                    Ok(way) => servers.push(Target { address: *address, way: Way::Encrypted(way) }),
                    Err(error) => tracing::warn!(%address, %error, "resolver cannot be asked over TLS"),
                },
            }
        }
        match forward.policy {
            Policy::Random => servers.shuffle(&mut rand::rng()),
            Policy::RoundRobin if !servers.is_empty() => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % servers.len();
                servers.rotate_left(turn);
            }
            Policy::RoundRobin | Policy::Sequential => {}
        }
        servers.sort_by_key(|server| !self.health.works(server.address));
        servers
    }

    fn encrypted(&self, address: SocketAddr, tls: &Tls) -> std::io::Result<Arc<Encrypted>> {
        let mut known = self.encrypted.lock().expect(POISON);
        let key = (address, tls.clone());
        if let Some(found) = known.get(&key) {
            return Ok(found.clone());
        }
        let new = Arc::new(Encrypted::new(address, tls)?);
        known.insert(key, new.clone());
        Ok(new)
    }

    /// The servers of the node's file, which is read again when it changed.
    fn node_servers(&self) -> Arc<[SocketAddr]> {
        let changed = std::fs::metadata(&self.resolv_conf).and_then(|data| data.modified()).ok();
        let mut node = self.node.lock().expect(POISON);
        if node.changed != changed || changed.is_none() {
            let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
            *node = NodeServers { changed, addresses: nameservers(&text, &self.own).into() };
        }
        node.addresses.clone()
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
}
