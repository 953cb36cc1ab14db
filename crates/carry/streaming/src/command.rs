//! Exec and attach.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::negotiate::Offer;
use crate::pipe::{Outgoing, StreamId};
use crate::spdy::{self, Opened};
use crate::websocket::{self, Channel, Channels, Encoding};
use crate::{CommandStreams, Outcome, Refusal, Resizes, StreamReader, StreamWriter, StreamingError};

/// How long a client may take to open its streams (kubelet: DefaultStreamCreationTimeout).
const PATIENCE: Duration = Duration::from_secs(30);

/// The channels over WebSocket.
const STDOUT: StreamId = 1;
const STDERR: StreamId = 2;
const ERROR: StreamId = 3;
/// stdin, stdout, stderr, error and resize, in this order.
const CHANNELS: usize = 5;

/// How a command's streams travel, and how the end is told.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Spdy { ending: Ending, resize: bool },
    WebSocket { encoding: Encoding, ending: Ending },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Json,
    Text,
}

const SPDY: [(&str, Protocol); 4] = [
    ("v4.channel.k8s.io", Protocol::Spdy { ending: Ending::Json, resize: true }),
    ("v3.channel.k8s.io", Protocol::Spdy { ending: Ending::Text, resize: true }),
    ("v2.channel.k8s.io", Protocol::Spdy { ending: Ending::Text, resize: false }),
    ("channel.k8s.io", Protocol::Spdy { ending: Ending::Text, resize: false }),
];

const WEBSOCKET: [(&str, Protocol); 6] = [
    ("v5.channel.k8s.io", Protocol::WebSocket { encoding: Encoding::Binary, ending: Ending::Json }),
    ("v4.channel.k8s.io", Protocol::WebSocket { encoding: Encoding::Binary, ending: Ending::Json }),
    ("v4.base64.channel.k8s.io", Protocol::WebSocket { encoding: Encoding::Base64, ending: Ending::Json }),
    ("channel.k8s.io", Protocol::WebSocket { encoding: Encoding::Binary, ending: Ending::Text }),
    ("base64.channel.k8s.io", Protocol::WebSocket { encoding: Encoding::Base64, ending: Ending::Text }),
    ("", Protocol::WebSocket { encoding: Encoding::Binary, ending: Ending::Text }),
];

/// Answers a request for exec or attach: send the response, then open the upgrade.
///
/// # Errors
/// When the request is not a proper upgrade; [`Refusal::response`] says so to the client.
pub fn accept_command<B>(
    request: &mut Request<B>,
    streams: CommandStreams,
) -> Result<(Response<()>, CommandUpgrade), Refusal> {
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(Refusal::bad("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let (response, protocol) = Offer::read(request.headers())?.take(&SPDY, &WEBSOCKET)?;
    let upgrade = hyper::upgrade::on(request);
    Ok((response, CommandUpgrade { upgrade, protocol, streams }))
}

/// A command whose client has not switched protocols yet.
#[derive(Debug)]
pub struct CommandUpgrade {
    upgrade: OnUpgrade,
    protocol: Protocol,
    streams: CommandStreams,
}

impl CommandUpgrade {
    /// Waits for the response to be sent and for the client's streams.
    ///
    /// # Errors
    /// When the client goes away or does not open its streams in time.
    pub async fn open(self) -> Result<RemoteCommand, StreamingError> {
        let stream = TokioIo::new(self.upgrade.await?);
        open(stream, self.protocol, self.streams).await
    }
}

/// The streams of a running command.
#[derive(Debug)]
pub struct RemoteCommand {
    /// The client's input, if it has any.
    pub stdin: Option<StreamReader>,
    /// Where the client reads output.
    pub stdout: Option<StreamWriter>,
    /// Where the client reads errors; never with a terminal.
    pub stderr: Option<StreamWriter>,
    /// The sizes of the client's terminal.
    pub resize: Option<Resizes>,
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
    error: StreamWriter,
    ending: Ending,
    queue: mpsc::Sender<Outgoing>,
}

impl RemoteCommand {
    /// Tells the client how the command ended and closes the connection. What was written to the other
    /// streams before is delivered first; writers taken out of here should be shut down by now.
    pub async fn finish(self, outcome: Outcome) {
        let message = match self.ending {
            Ending::Json => outcome.status().to_string(),
            Ending::Text => outcome.text(),
        };
        let Self { mut error, queue, .. } = self;
        // These fail when the client is gone, and then nobody wants to know.
        let _ = error.write_all(message.as_bytes()).await;
        let _ = error.shutdown().await;
        let _ = queue.send(Outgoing::Close).await;
    }
}

async fn open<S>(
    stream: S,
    protocol: Protocol,
    wanted: CommandStreams,
) -> Result<RemoteCommand, StreamingError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let wanted = CommandStreams { stderr: wanted.stderr && !wanted.tty, ..wanted };
    match protocol {
        Protocol::WebSocket { encoding, ending } => open_channels(stream, encoding, ending, wanted).await,
        Protocol::Spdy { ending, resize } => {
            let opening = open_spdy(stream, ending, wanted, wanted.tty && resize);
            tokio::time::timeout(PATIENCE, opening).await.unwrap_or(Err(StreamingError::Timeout))
        }
    }
}

async fn open_channels<S>(
    stream: S,
    encoding: Encoding,
    ending: Ending,
    wanted: CommandStreams,
) -> Result<RemoteCommand, StreamingError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Channels { queue, channels, gone } = websocket::serve(stream, encoding, CHANNELS);
    let channels = <[Channel; CHANNELS]>::try_from(channels);
    let [stdin, stdout, stderr, error, resize] = channels.map_err(|_| StreamingError::Gone)?;
    // An empty message on the first channel that the client reads tells it that it is connected.
    let hello = if wanted.stdout {
        STDOUT
    } else if wanted.stderr {
        STDERR
    } else {
        ERROR
    };
    queue.send(Outgoing::Data(hello, Bytes::new())).await.map_err(|_| StreamingError::Gone)?;
    Ok(RemoteCommand {
        // What the client sends to a channel that is dropped here is thrown away.
        stdin: wanted.stdin.then_some(stdin.reader),
        stdout: wanted.stdout.then_some(stdout.writer),
        stderr: wanted.stderr.then_some(stderr.writer),
        resize: wanted.tty.then(|| Resizes::new(resize.reader)),
        gone,
        error: error.writer,
        ending,
        queue,
    })
}

async fn open_spdy<S>(
    stream: S,
    ending: Ending,
    wanted: CommandStreams,
    resize: bool,
) -> Result<RemoteCommand, StreamingError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let mut session = spdy::serve(read, write);
    let mut streams = Streams::default();
    while !streams.complete(wanted, resize) {
        streams.add(session.opened.recv().await.ok_or(StreamingError::Gone)?);
    }
    let reader = |stream: Opened| stream.reader.with_answer(stream.writer);
    Ok(RemoteCommand {
        stdin: streams.stdin.filter(|_| wanted.stdin).map(reader),
        stdout: streams.stdout.filter(|_| wanted.stdout).map(|stream| stream.writer),
        stderr: streams.stderr.filter(|_| wanted.stderr).map(|stream| stream.writer),
        resize: streams.resize.map(|stream| Resizes::new(reader(stream))),
        gone: session.gone,
        error: streams.error.ok_or(StreamingError::Gone)?.writer,
        ending,
        queue: session.queue,
    })
}

/// The streams that a SPDY client has opened so far.
#[derive(Default)]
struct Streams {
    error: Option<Opened>,
    stdin: Option<Opened>,
    stdout: Option<Opened>,
    stderr: Option<Opened>,
    resize: Option<Opened>,
}

impl Streams {
    fn add(&mut self, opened: Opened) {
        let slot = match opened.header("streamtype") {
            Some("error") => &mut self.error,
            Some("stdin") => &mut self.stdin,
            Some("stdout") => &mut self.stdout,
            Some("stderr") => &mut self.stderr,
            Some("resize") => &mut self.resize,
            other => return tracing::debug!(kind = ?other, "client opened a stream of unknown type"),
        };
        // The first of a kind counts; another one is dropped, which ends it.
        slot.get_or_insert(opened);
    }

    fn complete(&self, wanted: CommandStreams, resize: bool) -> bool {
        let needed = [
            (true, &self.error),
            (wanted.stdin, &self.stdin),
            (wanted.stdout, &self.stdout),
            (wanted.stderr, &self.stderr),
            (resize, &self.resize),
        ];
        needed.iter().all(|(needed, stream)| !needed || stream.is_some())
    }
}
