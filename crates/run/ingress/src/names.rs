//! The addresses of names outside: of those that ExternalName Services stand for.
//!
//! Each is asked for again when its time is over. Where nobody answers, what was known before counts on.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use plimsoll_route::external::is_elsewhere;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Names are asked for not more often and not less often, whatever their records say.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// The resolver has so long for an answer, and gets so many tries.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 3;

/// Names that are wanted.
pub(crate) type Wanted = BTreeSet<String>;

/// Their addresses.
pub(crate) type Known = HashMap<String, Vec<IpAddr>>;

/// Keeps the addresses of the names that are wanted known.
pub(crate) async fn follow(
    resolver: Option<SocketAddr>,
    mut wanted: watch::Receiver<Wanted>,
    known: watch::Sender<Known>,
) {
    let Some(resolver) = resolver else { return std::future::pending().await };
    let mut due: HashMap<String, Instant> = HashMap::new();
    loop {
        let (names, now) = (wanted.borrow_and_update().clone(), Instant::now());
        due.retain(|name, _| names.contains(name));
        for name in names {
            due.entry(name).or_insert(now);
        }
        known.send_if_modified(|known| {
            let before = known.len();
            known.retain(|name, _| due.contains_key(name));
            known.len() < before
        });
        let mut asking = JoinSet::new();
        for name in due.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()) {
            asking.spawn(async move { (ask(resolver, &name).await, name) });
        }
        while let Some(asked) = asking.join_next().await {
            let Ok((answer, name)) = asked else { continue };
            let lifetime = match answer {
                Ok((addresses, lifetime)) => {
                    known.send_if_modified(|known| {
                        known.insert(name.clone(), addresses.clone()) != Some(addresses)
                    });
                    lifetime.clamp(SHORTEST, LONGEST)
                }
                Err(error) => {
                    tracing::debug!(name, %error, "name not resolved");
                    SHORTEST
                }
            };
            due.insert(name, Instant::now() + lifetime);
        }
        let next = due.values().min().copied();
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return std::future::pending().await },
            () = async { match next { Some(next) => sleep_until(next).await, None => std::future::pending().await } } => {}
        }
    }
}

/// The addresses of a name, of the first family that has any, and how long they count.
async fn ask(resolver: SocketAddr, name: &str) -> io::Result<(Vec<IpAddr>, Duration)> {
    for kind in [RecordType::A, RecordType::AAAA] {
        let (addresses, lifetime) = read(&exchange(resolver, &question(name, kind)?).await?)?;
        if !addresses.is_empty() {
            return Ok((addresses, lifetime));
        }
    }
    Ok((Vec::new(), SHORTEST))
}

fn question(name: &str, kind: RecordType) -> io::Result<Vec<u8>> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{name}.")).map_err(io::Error::other)?;
    message.queries.push(Query::query(name, kind));
    message.to_vec().map_err(io::Error::other)
}

async fn exchange(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any = SocketAddr::new(if resolver.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    for _ in 0..TRIES {
        socket.send(question).await?;
        let mut reply = vec![0; 4096];
        let answered = timeout(PATIENCE, async {
            loop {
                let length = socket.recv(&mut reply).await?;
                // A late answer to another question counts for nothing.
                if length > 2 && reply[..2] == question[..2] {
                    return io::Result::Ok(length);
                }
            }
        });
        if let Ok(length) = answered.await {
            reply.truncate(length?);
            return Ok(reply);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// A name that is not there has no addresses; a resolver in trouble has said nothing.
fn read(reply: &[u8]) -> io::Result<(Vec<IpAddr>, Duration)> {
    let message = Message::from_vec(reply).map_err(io::Error::other)?;
    let code = message.metadata.response_code;
    if ![ResponseCode::NoError, ResponseCode::NXDomain].contains(&code) {
        return Err(io::Error::other(code.to_string()));
    }
    let lifetime = message.answers.iter().map(|record| record.ttl).min().unwrap_or_default();
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let addresses = message.answers.iter().filter_map(|record| address(&record.data));
    let mut addresses: Vec<IpAddr> = addresses.filter(|address| is_elsewhere(*address)).collect();
    addresses.sort();
    Ok((addresses, Duration::from_secs(lifetime.into())))
}
