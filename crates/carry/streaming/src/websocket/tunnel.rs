//! A byte stream inside WebSocket messages: how newer clients carry SPDY through proxies.

use std::io;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, future};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::connection;

/// The two halves of the byte stream.
pub(crate) async fn tunnel<S>(
    stream: S,
) -> (impl AsyncRead + Send + Unpin + 'static, impl AsyncWrite + Send + Unpin + 'static)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (write, read) = connection(stream).await.split();
    let bytes = read.map_err(io::Error::other).try_filter_map(|message| future::ok(payload(message)));
    let messages = write
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| future::ok::<_, io::Error>(Message::Binary(bytes)));
    (StreamReader::new(bytes), SinkWriter::new(CopyToBytes::new(messages)))
}

fn payload(message: Message) -> Option<Bytes> {
    match message {
        Message::Binary(bytes) => Some(bytes),
        Message::Text(text) => Some(text.into()),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
    }
}
