//! The server side of remote streams: exec, attach, port-forward, and messages.
//!
//! What enters: an HTTP/1.1 request that wants to be upgraded. What leaves: the response to send,
//! and, once it was sent, a [`RemoteCommand`] (stdin, stdout, stderr, terminal sizes, a place for the
//! final status) or a [`PortForward`] (one connection after the other). Whether the client speaks
//! SPDY/3.1 (`kubectl` before 1.31), channels over WebSocket, or SPDY inside WebSocket makes no
//! difference to the caller. Logs and watches can be had as messages over WebSocket, too
//! ([`MessagesUpgrade`]).
//!
//! A session is one task for each upgraded connection. Its buffers are bounded: a client that does not
//! read stops the writers, a command that does not read stops the client.
//!
//! It never runs a command, opens a port, or decides who may.
//!
//! ```no_run
//! # use plimsoll_streaming::{CommandStreams, Outcome, RemoteCommand, accept_command};
//! # use tokio::io::AsyncWriteExt;
//! # async fn example(mut request: http::Request<hyper::body::Incoming>) -> Result<(), Box<dyn std::error::Error>> {
//! let streams = CommandStreams::from_query(request.uri().query().unwrap_or_default());
//! let (response, upgrade) = accept_command(&mut request, streams)?;
//! tokio::spawn(async move {
//!     let mut command: RemoteCommand = upgrade.open().await?;
//!     if let Some(stdout) = &mut command.stdout {
//!         stdout.write_all(b"hello\n").await?;
//!     }
//!     command.finish(Outcome::Success).await;
//!     Ok::<_, plimsoll_streaming::StreamingError>(())
//! });
//! # drop(response); Ok(())
//! # }
//! ```

mod command;
mod error;
mod forward;
mod messages;
mod negotiate;
mod outcome;
mod pipe;
mod query;
mod resize;
mod spdy;
mod websocket;

pub use command::{CommandUpgrade, RemoteCommand, accept_command};
pub use error::{Refusal, StreamingError};
pub use forward::{Connection, ForwardUpgrade, PortForward, accept_forward};
pub use messages::{MessageForm, MessagesUpgrade, accept_messages};
pub use outcome::Outcome;
pub use pipe::{StreamReader, StreamWriter};
pub use query::{CommandStreams, QueryError, command, ports};
pub use resize::{Resizes, TerminalSize};
pub use spdy::{Frame, FrameReader, SpdyError};
