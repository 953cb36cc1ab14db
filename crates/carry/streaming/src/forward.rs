//! Port-forward.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::negotiate::Offer;
use crate::pipe::Outgoing;
use crate::spdy::{self, Opened};
use crate::websocket::{self, Channels, Encoding};
use crate::{Refusal, StreamReader, StreamWriter, StreamingError};

/// How long the second stream of a connection may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many connections may wait for their second stream.
const HALVES: usize = 256;
/// How many ports a WebSocket may name: two channels each, numbered by a byte, a digit in base64.
const PORTS: usize = 100;

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Spdy,
    /// SPDY inside WebSocket.
    Tunnel,
    /// A pair of channels for each port.
    Channels(Encoding),
}

const SPDY: [(&str, Protocol); 1] = [("portforward.k8s.io", Protocol::Spdy)];
const WEBSOCKET: [(&str, Protocol); 4] = [
    ("SPDY/3.1+portforward.k8s.io", Protocol::Tunnel),
    ("v4.channel.k8s.io", Protocol::Channels(Encoding::Binary)),
    ("v4.base64.channel.k8s.io", Protocol::Channels(Encoding::Base64)),
    ("", Protocol::Channels(Encoding::Binary)),
];

/// Answers a request for port-forward: send the response, then open the upgrade.
///
/// Only clients that speak channels over WebSocket name their `ports` in the request.
///
/// # Errors
/// When the request is not a proper upgrade; [`Refusal::response`] says so to the client.
pub fn accept_forward<B>(
    request: &mut Request<B>,
    ports: Vec<u16>,
) -> Result<(Response<()>, ForwardUpgrade), Refusal> {
    let (response, protocol) = Offer::read(request.headers())?.take(&SPDY, &WEBSOCKET)?;
    if matches!(protocol, Protocol::Channels(_)) && !(1..=PORTS).contains(&ports.len()) {
        return Err(Refusal::bad(format!("between 1 and {PORTS} ports are required")));
    }
    Ok((response, ForwardUpgrade { upgrade: hyper::upgrade::on(request), protocol, ports }))
}

/// A port-forward whose client has not switched protocols yet.
#[derive(Debug)]
pub struct ForwardUpgrade {
    upgrade: OnUpgrade,
    protocol: Protocol,
    ports: Vec<u16>,
}

impl ForwardUpgrade {
    /// Waits for the response to be sent.
    ///
    /// # Errors
    /// When the client goes away.
    pub async fn open(self) -> Result<PortForward, StreamingError> {
        let stream = TokioIo::new(self.upgrade.await?);
        open(stream, self.protocol, self.ports).await
    }
}

async fn open<S>(stream: S, protocol: Protocol, ports: Vec<u16>) -> Result<PortForward, StreamingError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let session = match protocol {
        Protocol::Spdy => {
            let (read, write) = tokio::io::split(stream);
            spdy::serve(read, write)
        }
        Protocol::Tunnel => {
            let (read, write) = websocket::tunnel(stream).await;
            spdy::serve(read, write)
        }
        Protocol::Channels(encoding) => {
            return channels(websocket::serve(stream, encoding, 2 * ports.len()), &ports).await;
        }
    };
    let pairs = Pairs { opened: session.opened, halves: HashMap::new() };
    Ok(PortForward { source: Source::Pairs(pairs), gone: session.gone, _queue: session.queue })
}

/// Connections that a client wants to ports of the pod.
#[derive(Debug)]
pub struct PortForward {
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
    source: Source,
    /// Keeps the session open while there is no connection.
    _queue: mpsc::Sender<Outgoing>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// The port of the pod.
    pub port: u16,
    /// The bytes of the connection.
    pub data: ConnectionData,
    /// A place for the reason when it fails: text. Dropping it says that all is well.
    pub error: StreamWriter,
}

/// The bytes of a connection, in both directions. Shutting it down ends the direction to the client.
#[derive(Debug)]
pub struct ConnectionData {
    reader: StreamReader,
    writer: StreamWriter,
}

#[derive(Debug)]
enum Source {
    Pairs(Pairs),
    /// All there will ever be.
    Known(std::vec::IntoIter<Connection>),
}

impl PortForward {
    /// The next connection; none when the client is gone. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Connection> {
        match &mut self.source {
            Source::Pairs(pairs) => pairs.next().await,
            Source::Known(connections) => match connections.next() {
                Some(connection) => Some(connection),
                None => {
                    self.gone.cancelled().await;
                    None
                }
            },
        }
    }
}

/// Streams of a SPDY client: two for each connection, found by their request id.
#[derive(Debug)]
struct Pairs {
    opened: mpsc::Receiver<Opened>,
    halves: HashMap<String, Half>,
}

#[derive(Debug)]
struct Half {
    stream: Opened,
    is_data: bool,
    until: Instant,
}

impl Pairs {
    async fn next(&mut self) -> Option<Connection> {
        loop {
            let patience = self.halves.values().map(|half| half.until).min();
            let opened = tokio::select! {
                opened = self.opened.recv() => opened?,
                () = sleep_until(patience) => {
                    self.give_up().await;
                    continue;
                }
            };
            if let Some((data, error)) = self.pair(opened)
                && let Some(connection) = connect(data, error).await
            {
                return Some(connection);
            }
        }
    }

    /// Adds a stream; when it is the second of its connection, both come out: data, error.
    fn pair(&mut self, stream: Opened) -> Option<(Opened, Opened)> {
        let is_data = match stream.header("streamtype") {
            Some("data") => true,
            Some("error") => false,
            _ => return None,
        };
        let id = request_id(&stream, is_data);
        match self.halves.remove(&id) {
            Some(half) if half.is_data != is_data => {
                Some(if is_data { (stream, half.stream) } else { (half.stream, stream) })
            }
            // The same stream twice: the first counts, and the second is dropped, which ends it.
            Some(half) => {
                self.halves.insert(id, half);
                None
            }
            None => {
                if self.halves.len() < HALVES {
                    self.halves.insert(id, Half { stream, is_data, until: Instant::now() + PATIENCE });
                }
                None
            }
        }
    }

    /// Lets go of connections whose second stream did not come.
    async fn give_up(&mut self) {
        let now = Instant::now();
        let late: Vec<_> = self.halves.extract_if(|_, half| half.until <= now).collect();
        for (id, mut half) in late.into_iter().filter(|(_, half)| !half.is_data) {
            complain(&mut half.stream.writer, &format!("timed out waiting for streams of request {id}"))
                .await;
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Clients that send no request id open the error stream first and the data stream right behind it.
fn request_id(stream: &Opened, is_data: bool) -> String {
    match stream.header("requestid") {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ if is_data => stream.stream.saturating_sub(2).to_string(),
        _ => stream.stream.to_string(),
    }
}

async fn connect(data: Opened, mut error: Opened) -> Option<Connection> {
    let port = data.header("port").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    let Some(port) = port else {
        let text = format!("{:?} is not a port", data.header("port").unwrap_or_default());
        complain(&mut error.writer, &text).await;
        return None;
    };
    let data = ConnectionData { reader: data.reader, writer: data.writer };
    Some(Connection { port, data, error: error.writer })
}

async fn complain(error: &mut StreamWriter, text: &str) {
    // It fails when the client is gone, and then nobody wants to know.
    let _ = error.write_all(text.as_bytes()).await;
}

/// Each channel begins with its port, two bytes, little endian.
async fn channels(session: Channels, ports: &[u16]) -> Result<PortForward, StreamingError> {
    let mut channels = session.channels.into_iter();
    let mut connections = Vec::new();
    for (port, number) in ports.iter().zip((0..).step_by(2)) {
        for channel in [number, number + 1] {
            let port = Bytes::copy_from_slice(&port.to_le_bytes());
            let sent = session.queue.send(Outgoing::Data(channel, port)).await;
            sent.map_err(|_| StreamingError::Gone)?;
        }
        let (Some(data), Some(error)) = (channels.next(), channels.next()) else { break };
        let data = ConnectionData { reader: data.reader, writer: data.writer };
        connections.push(Connection { port: *port, data, error: error.writer });
    }
    let source = Source::Known(connections.into_iter());
    Ok(PortForward { source, gone: session.gone, _queue: session.queue })
}

impl AsyncRead for ConnectionData {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for ConnectionData {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
