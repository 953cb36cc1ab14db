//! What would be one long body, as messages over WebSocket: browsers cannot read a body while it grows.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::negotiate::Offer;
use crate::{Refusal, StreamingError, websocket};

/// How long a client may take to hang up after we did.
const LINGER: Duration = Duration::from_secs(5);

/// How a piece becomes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageForm {
    /// Its bytes.
    Binary,
    /// Its bytes in base64, as text.
    Base64,
    /// Itself, as text; what is not UTF-8 in it is replaced.
    Text,
}

impl MessageForm {
    fn message(self, piece: Bytes) -> Message {
        match self {
            Self::Binary => Message::Binary(piece),
            Self::Base64 => Message::text(STANDARD.encode(&piece)),
            Self::Text => Message::Text(Utf8Bytes::try_from(piece.clone()).unwrap_or_else(|_| {
                let text = String::from_utf8_lossy(&piece);
                Utf8Bytes::from(text.as_ref())
            })),
        }
    }
}

/// Answers a request for messages in one of the known protocols: send the response, then pour.
///
/// # Errors
/// When the request is not a proper upgrade to WebSocket; [`Refusal::response`] says so to the client.
pub fn accept_messages<B>(
    request: &mut Request<B>,
    known: &[(&'static str, MessageForm)],
) -> Result<(Response<()>, MessagesUpgrade), Refusal> {
    let (response, form) = Offer::read(request.headers())?.take(&[], known)?;
    Ok((response, MessagesUpgrade { upgrade: hyper::upgrade::on(request), form }))
}

/// A client that has not switched protocols yet.
#[derive(Debug)]
pub struct MessagesUpgrade {
    upgrade: OnUpgrade,
    form: MessageForm,
}

impl MessagesUpgrade {
    /// Waits for the response to be sent, then sends each piece, until there is none or the client is gone.
    ///
    /// # Errors
    /// When the client goes away before the end.
    pub async fn pour(self, pieces: impl Stream<Item = Bytes> + Send) -> Result<(), StreamingError> {
        pour(TokioIo::new(self.upgrade.await?), self.form, pieces).await
    }
}

async fn pour<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    form: MessageForm,
    pieces: impl Stream<Item = Bytes> + Send,
) -> Result<(), StreamingError> {
    let mut socket = websocket::connection(stream).await;
    tokio::pin!(pieces);
    loop {
        tokio::select! {
            piece = pieces.next() => match piece {
                Some(piece) => socket.send(form.message(piece)).await.map_err(failed)?,
                None => break,
            },
            // What the client says does not matter, only that it is there.
            said = socket.next() => if said.transpose().map_err(failed)?.is_none_or(|said| said.is_close()) {
                return Err(StreamingError::Gone);
            },
        }
    }
    socket.close(None).await.map_err(failed)?;
    let goodbye = async {
        while let Some(Ok(_)) = socket.next().await {}
        socket.get_mut().shutdown().await
    };
    // Who does not answer has been told everything all the same.
    let _ = tokio::time::timeout(LINGER, goodbye).await;
    Ok(())
}

fn failed(error: Error) -> StreamingError {
    match error {
        Error::Io(error) => StreamingError::Io(error),
        _ => StreamingError::Gone,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use futures::stream;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    async fn client(stream: impl AsyncRead + AsyncWrite + Unpin) -> Vec<Message> {
        let mut client = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        let mut seen = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            seen.push(message);
        }
        seen
    }

    #[tokio::test]
    async fn each_piece_is_a_message_and_the_last_says_goodbye() {
        for (form, expected) in [
            (MessageForm::Binary, Message::binary(&b"a\xff"[..])),
            (MessageForm::Base64, Message::text("Yf8=")),
            (MessageForm::Text, Message::text("a\u{fffd}")),
        ] {
            let (near, far) = tokio::io::duplex(1024);
            let pieces = stream::iter([Bytes::from_static(b"a\xff"), Bytes::from_static(b"")]);
            let (poured, seen) = tokio::join!(pour(near, form, pieces), client(far));
            poured.unwrap();
            assert_eq!(seen.len(), 3, "{seen:?}");
            assert_eq!(seen[0], expected);
            assert!(seen[1].is_empty() && seen[2].is_close(), "{seen:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_it() {
        let (near, far) = tokio::io::duplex(1024);
        let leave = async {
            WebSocketStream::from_raw_socket(far, Role::Client, None).await.close(None).await.unwrap();
        };
        let (poured, ()) = tokio::join!(pour(near, MessageForm::Text, stream::pending()), leave);
        assert!(matches!(poured, Err(StreamingError::Gone)), "{poured:?}");
    }

    #[test]
    fn only_websockets_and_known_protocols_are_taken() {
        let request = |upgrade: &str, protocol: &str| {
            let request = Request::builder()
                .header("connection", "Upgrade")
                .header("upgrade", upgrade)
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
                .header("x-stream-protocol-version", "v4.channel.k8s.io");
            match protocol {
                "" => request,
                protocol => request.header("sec-websocket-protocol", protocol),
            }
            .body(())
            .unwrap()
        };
        let known = [("", MessageForm::Binary), ("base64.binary.k8s.io", MessageForm::Base64)];
        for (upgrade, protocol, expected) in [
            ("websocket", "", Some(MessageForm::Binary)),
            ("WebSocket", "base64.binary.k8s.io", Some(MessageForm::Base64)),
            ("websocket", "v4.channel.k8s.io", None),
            ("SPDY/3.1", "", None),
        ] {
            let taken = accept_messages(&mut request(upgrade, protocol), &known);
            assert_eq!(taken.ok().map(|(_, upgrade)| upgrade.form), expected, "{upgrade} {protocol}");
        }
    }
}
