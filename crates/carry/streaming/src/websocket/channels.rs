//! Channels: the first byte of each message says which stream the rest belongs to.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::connection;
use crate::pipe::{Outgoing, StreamId, StreamReader, StreamWriter, incoming, outgoing};

/// The channel whose message says that the client finished another one (v5).
const CLOSE: u8 = 255;
/// How long a client may take to hang up after we did.
const LINGER: Duration = Duration::from_secs(5);

/// How channels are put into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A byte, then the bytes.
    Binary,
    /// A digit, then the bytes in base64, as text.
    Base64,
}

/// One stream in both directions.
pub(crate) struct Channel {
    pub(crate) reader: StreamReader,
    pub(crate) writer: StreamWriter,
}

/// A connection's handle. When it and all writers are dropped, the connection closes.
pub(crate) struct Channels {
    pub(crate) queue: mpsc::Sender<Outgoing>,
    pub(crate) channels: Vec<Channel>,
    /// Cancelled when the connection is over.
    pub(crate) gone: CancellationToken,
}

/// Serves a connection with so many channels in a task of its own.
pub(crate) fn serve<S>(stream: S, encoding: Encoding, count: usize) -> Channels
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (queue, unsent) = outgoing();
    let (data, channels) = (0..).take(count).map(|number| channel(number, &queue)).unzip();
    let gone = CancellationToken::new();
    let over = gone.clone().drop_guard();
    tokio::spawn(async move {
        let (write, read) = connection(stream).await.split();
        let reading = read_all(read, encoding, data);
        tokio::pin!(reading);
        let result = tokio::select! {
            result = &mut reading => result,
            result = write_all(write, encoding, unsent) => match result {
                Ok(()) => tokio::time::timeout(LINGER, reading).await.unwrap_or(Ok(())),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = result {
            tracing::debug!(%error, "WebSocket connection ended");
        }
        drop(over);
    });
    Channels { queue, channels, gone }
}

fn channel(number: StreamId, queue: &mpsc::Sender<Outgoing>) -> (Option<DuplexStream>, Channel) {
    let (data, reader) = incoming();
    (Some(data), Channel { reader, writer: StreamWriter::new(number, queue.clone()) })
}

async fn read_all<S: AsyncRead + AsyncWrite + Unpin>(
    mut messages: SplitStream<WebSocketStream<S>>,
    encoding: Encoding,
    mut data: Vec<Option<DuplexStream>>,
) -> Result<(), Error> {
    while let Some(message) = messages.next().await {
        match message? {
            Message::Binary(bytes) => deliver(decode(bytes, encoding), &mut data).await,
            Message::Text(text) => deliver(decode(text.into(), encoding), &mut data).await,
            // The last message of the connection follows it: none.
            Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Ok(())
}

/// The channel of a message and its bytes; none when it makes no sense.
fn decode(mut message: Bytes, encoding: Encoding) -> Option<(u8, Bytes)> {
    let first = *message.first()?;
    message.advance(1);
    match encoding {
        Encoding::Binary => Some((first, message)),
        Encoding::Base64 => Some((first.checked_sub(b'0')?, STANDARD.decode(&message).ok()?.into())),
    }
}

/// Messages that make no sense are ignored, as upstream's server does.
async fn deliver(message: Option<(u8, Bytes)>, data: &mut [Option<DuplexStream>]) {
    let Some((channel, bytes)) = message else { return };
    if channel == CLOSE {
        let finished = bytes.first().and_then(|channel| data.get_mut(usize::from(*channel)));
        return finished.into_iter().for_each(|channel| *channel = None);
    }
    let Some(channel) = data.get_mut(usize::from(channel)) else { return };
    if let Some(to) = channel
        && to.write_all(&bytes).await.is_err()
    {
        *channel = None;
    }
}

async fn write_all<S: AsyncRead + AsyncWrite + Unpin>(
    mut to: SplitSink<WebSocketStream<S>, Message>,
    encoding: Encoding,
    mut queue: mpsc::Receiver<Outgoing>,
) -> Result<(), Error> {
    while let Some(item) = queue.recv().await {
        match item {
            Outgoing::Data(channel, bytes) => to.feed(encode(channel, &bytes, encoding)).await?,
            Outgoing::Close => break,
            // The client has no word for the end of one channel, and the others are SPDY's.
            Outgoing::Finish(_) | Outgoing::Reply(_) | Outgoing::Refuse(_) | Outgoing::Pong(_) => {}
        }
        if queue.is_empty() {
            to.flush().await?;
        }
    }
    // Clients take a close without a code for an error.
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    to.send(Message::Close(Some(normal))).await?;
    to.close().await
}

fn encode(channel: StreamId, bytes: &[u8], encoding: Encoding) -> Message {
    let channel = u8::try_from(channel).expect("a connection has few channels");
    match encoding {
        Encoding::Binary => {
            let mut message = Vec::with_capacity(1 + bytes.len());
            message.push(channel);
            message.extend_from_slice(bytes);
            Message::Binary(message.into())
        }
        Encoding::Base64 => {
            let mut message = String::from(char::from(b'0' + channel));
            STANDARD.encode_string(bytes, &mut message);
            Message::Text(message.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_their_channel() {
        for (message, encoding, expected) in [
            (&b"\x00in"[..], Encoding::Binary, Some((0, &b"in"[..]))),
            (b"\x04", Encoding::Binary, Some((4, b""))),
            (b"", Encoding::Binary, None),
            (b"0aGk=", Encoding::Base64, Some((0, b"hi"))),
            (b"4", Encoding::Base64, Some((4, b""))),
            (b"\x00aGk=", Encoding::Base64, None),
            (b"0a b", Encoding::Base64, None),
            (b"", Encoding::Base64, None),
        ] {
            let decoded = decode(Bytes::from_static(message), encoding);
            assert_eq!(
                decoded.as_ref().map(|(channel, bytes)| (*channel, &**bytes)),
                expected,
                "{message:?}"
            );
        }
        for encoding in [Encoding::Binary, Encoding::Base64] {
            let message = encode(3, b"status", encoding);
            assert_eq!(decode(message.into_data(), encoding), Some((3, Bytes::from_static(b"status"))));
        }
    }
}
