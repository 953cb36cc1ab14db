//! Streams over WebSocket: channels, and SPDY inside.

mod channels;
mod tunnel;

pub(crate) use channels::{Channel, Channels, Encoding, serve};
pub(crate) use tunnel::tunnel;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// How long a message may be. Python's client sends what it is given in one piece.
const LONGEST: usize = 16 << 20;
/// Buffers of a connection.
const BUFFER: usize = 32 << 10;

/// A connection whose handshake is done.
pub(crate) async fn connection<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}
