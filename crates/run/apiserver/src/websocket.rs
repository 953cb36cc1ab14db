//! Logs and watches for clients that want messages over WebSocket instead of a body that grows.
//!
//! What enters: the request and the answer as everybody else gets it. What leaves: the answer that switches
//! protocols, and a task that pours the body into messages. An answer that is no stream stays as it is.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyStream;
use plimsoll_meta::status::Status;
use plimsoll_streaming::{MessageForm, MessagesUpgrade, accept_messages};

use crate::body::{self, RequestBody, ResponseBody};
use crate::guarded::Session;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A piece of a body, as it comes.
    Bytes,
    /// A line of it, with its end.
    Lines,
}

/// The protocols of clients that read bytes; none is as good as the first (apiserver: wsstream).
const BYTES: [(&str, MessageForm); 3] = [
    ("", MessageForm::Binary),
    ("binary.k8s.io", MessageForm::Binary),
    ("base64.binary.k8s.io", MessageForm::Base64),
];
/// The protocols of clients that read lines, which are text in any case.
const LINES: [(&str, MessageForm); 3] = [
    ("", MessageForm::Text),
    ("binary.k8s.io", MessageForm::Text),
    ("base64.binary.k8s.io", MessageForm::Text),
];

/// A client that waits for messages.
pub(crate) struct WebSocket {
    switching: Response<()>,
    upgrade: MessagesUpgrade,
    content: Content,
}

impl WebSocket {
    /// The client, if the request wants messages. The request is an ordinary one afterwards.
    pub(crate) fn wanted(
        request: &mut Request<RequestBody>,
        content: Content,
    ) -> Result<Option<Self>, Status> {
        if !is_wanted(request.headers()) {
            return Ok(None);
        }
        let known = match content {
            Content::Bytes => &BYTES,
            Content::Lines => &LINES,
        };
        let (switching, upgrade) =
            accept_messages(request, known).map_err(|refusal| Status::bad_request(refusal.to_string()))?;
        request.headers_mut().remove(UPGRADE);
        request.headers_mut().remove(CONNECTION);
        Ok(Some(Self { switching, upgrade, content }))
    }

    /// What the client gets instead of the answer.
    pub(crate) fn answer(client: Option<Self>, response: Response<ResponseBody>) -> Response<ResponseBody> {
        match client {
            Some(client) if response.status() == StatusCode::OK => client.pour(response.into_body()),
            _ => response,
        }
    }

    fn pour(self, body: ResponseBody) -> Response<ResponseBody> {
        let Self { switching, upgrade, content } = self;
        let mut response = switching.map(|()| body::full(Bytes::new()));
        let session = Session::default();
        response.extensions_mut().insert(session.clone());
        tokio::spawn(async move {
            // A body that breaks off ends the messages, as it would end for others.
            let pieces = BodyStream::new(body)
                .scan((), |(), frame| std::future::ready(frame.ok()))
                .filter_map(|frame| std::future::ready(frame.into_data().ok()));
            let poured = match content {
                Content::Bytes => upgrade.pour(pieces).await,
                Content::Lines => upgrade.pour(lines(pieces)).await,
            };
            if let Err(error) = poured {
                tracing::debug!(%error, "a client of messages went away");
            }
            drop(session);
        });
        response
    }
}

/// Whether the headers ask for a WebSocket.
fn is_wanted(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// The same bytes, cut after each newline; what has no newline at the end is left out.
fn lines(pieces: impl Stream<Item = Bytes>) -> impl Stream<Item = Bytes> {
    let cut = |rest: &mut BytesMut, piece: Bytes| {
        rest.extend_from_slice(&piece);
        let mut whole = Vec::new();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            whole.push(rest.split_to(end + 1).freeze());
        }
        std::future::ready(Some(futures::stream::iter(whole)))
    };
    pieces.scan(BytesMut::new(), cut).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    #[tokio::test]
    async fn lines_are_cut_wherever_pieces_end() {
        let pieces = ["a", "b\nc\n", "", "\nd"].map(|piece| Bytes::from_static(piece.as_bytes()));
        let cut: Vec<Bytes> = lines(stream::iter(pieces)).collect().await;
        assert_eq!(cut, ["ab\n", "c\n", "\n"]);
    }

    #[test]
    fn a_websocket_is_asked_for_with_two_headers() {
        for (connection, upgrade, expected) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, Upgrade", "WebSocket", true),
            ("keep-alive", "websocket", false),
            ("Upgrade", "SPDY/3.1", false),
        ] {
            let header = |text| http::HeaderValue::from_static(text);
            let headers =
                HeaderMap::from_iter([(CONNECTION, header(connection)), (UPGRADE, header(upgrade))]);
            assert_eq!(is_wanted(&headers), expected, "{connection}, {upgrade}");
        }
    }
}
