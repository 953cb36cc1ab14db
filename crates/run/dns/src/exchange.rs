//! One question to one server, and its reply.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_netplan::dns::Query;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::encrypted::Encrypted;

/// How long a whole conversation over TCP may take.
const TCP_PATIENCE: Duration = Duration::from_secs(3);

/// A server, and how it is asked.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) way: Way,
}

/// How a server is asked.
#[derive(Clone)]
pub(crate) enum Way {
    /// By UDP, and again by TCP if the reply was cut.
    Datagrams,
    /// By TCP.
    Stream,
    /// Over TLS.
    Encrypted(Arc<Encrypted>),
}

/// Asks one server under a new identifier and port, which a forger would have to guess.
pub(crate) async fn exchange(target: &Target, query: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let (server, mut query) = (target.address, query.to_vec());
    let id: [u8; 2] = rand::random();
    query[..2].copy_from_slice(&id);
    let reply = match &target.way {
        Way::Stream => return timeout(patience, exchange_tcp(server, &query)).await?,
        Way::Encrypted(encrypted) => return timeout(patience, encrypted.exchange(&query)).await?,
        Way::Datagrams => timeout(patience, exchange_udp(server, &query)).await??,
    };
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
    converse(&mut TcpStream::connect(server).await?, query).await
}

/// One question and its reply on a stream.
pub(crate) async fn converse<S>(stream: &mut S, query: &[u8]) -> io::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    stream.flush().await?;
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
    use super::*;

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
