//! The two ends that callers hold, and what passes between them and a session.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::PollSender;

/// How much of a stream may wait for its reader.
const UNREAD: usize = 256 << 10;
/// How much goes into one frame.
const CHUNK: usize = 32 << 10;
/// How many frames may wait for the client.
const UNSENT: usize = 16;

/// The number of a SPDY stream or a WebSocket channel.
pub(crate) type StreamId = u32;

/// What a session sends to its client.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Bytes of a stream.
    Data(StreamId, Bytes),
    /// A stream has no more.
    Finish(StreamId),
    /// A stream of the client is accepted (SPDY).
    Reply(StreamId),
    /// A stream of the client is not accepted (SPDY).
    Refuse(StreamId),
    /// An answer to a ping (SPDY; WebSocket answers by itself).
    Pong(u32),
    /// Everything has been sent.
    Close,
}

/// The queue of a session.
pub(crate) fn outgoing() -> (mpsc::Sender<Outgoing>, mpsc::Receiver<Outgoing>) {
    mpsc::channel(UNSENT)
}

/// A stream from the client: the session writes to the first, the caller reads from the second.
pub(crate) fn incoming() -> (DuplexStream, StreamReader) {
    let (session, caller) = tokio::io::duplex(UNREAD);
    (session, StreamReader { inner: caller, answer: None })
}

/// What the client sends on one stream. Dropping it tells a SPDY client to stop.
#[derive(Debug)]
pub struct StreamReader {
    inner: DuplexStream,
    /// The other direction of the stream, which ends when nobody reads any more: on seeing that end,
    /// `kubectl` stops sending.
    answer: Option<StreamWriter>,
}

impl StreamReader {
    pub(crate) fn with_answer(mut self, answer: StreamWriter) -> Self {
        self.answer = Some(answer);
        self
    }
}

impl AsyncRead for StreamReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

/// What the client gets on one stream. Shutting down or dropping it ends the stream.
#[derive(Debug)]
pub struct StreamWriter {
    stream: StreamId,
    queue: PollSender<Outgoing>,
    /// The client does not want the stream any more.
    reset: Arc<AtomicBool>,
    finished: bool,
}

impl StreamWriter {
    pub(crate) fn new(stream: StreamId, queue: mpsc::Sender<Outgoing>) -> Self {
        Self { stream, queue: PollSender::new(queue), reset: Arc::default(), finished: false }
    }

    /// Set it to make every write fail.
    pub(crate) fn reset(&self) -> &Arc<AtomicBool> {
        &self.reset
    }

    fn check(&self) -> io::Result<()> {
        match self.finished || self.reset.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }
}

fn broken<E>(_: E) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncWrite for StreamWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        ready!(self.queue.poll_reserve(cx)).map_err(broken)?;
        let chunk = &bytes[..bytes.len().min(CHUNK)];
        let item = Outgoing::Data(self.stream, Bytes::copy_from_slice(chunk));
        self.queue.send_item(item).map_err(broken)?;
        Poll::Ready(Ok(chunk.len()))
    }

    /// The session flushes whenever nothing waits.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.check())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        ready!(self.queue.poll_reserve(cx)).map_err(broken)?;
        let item = Outgoing::Finish(self.stream);
        self.finished = true;
        Poll::Ready(self.queue.send_item(item).map_err(broken))
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let Some(queue) = self.queue.get_ref() else { return };
        if let Err(TrySendError::Full(item)) = queue.try_send(Outgoing::Finish(self.stream))
            && let Ok(runtime) = Handle::try_current()
        {
            let queue = queue.clone();
            // It fails when the session is over, and then nobody waits for it.
            runtime.spawn(async move { queue.send(item).await.is_ok() });
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_writer_ends_once() {
        let (queue, mut sent) = outgoing();
        let mut writer = StreamWriter::new(7, queue.clone());
        writer.write_all(b"hello").await.unwrap();
        writer.shutdown().await.unwrap();
        assert_eq!(writer.write_all(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        drop(writer);
        let dropped = StreamWriter::new(9, queue);
        drop(dropped);
        let mut seen = Vec::new();
        while let Some(item) = sent.recv().await {
            seen.push(format!("{item:?}"));
        }
        assert_eq!(seen, ["Data(7, b\"hello\")", "Finish(7)", "Finish(9)"]);
    }

    #[tokio::test]
    async fn a_full_queue_stops_the_writer_and_a_reset_frees_it() {
        let (queue, sent) = outgoing();
        let mut writer = StreamWriter::new(1, queue);
        let reset = Arc::clone(writer.reset());
        for _ in 0..UNSENT {
            writer.write_all(b"x").await.unwrap();
        }
        let blocked = Box::pin(writer.write_all(b"x"));
        assert!(futures::poll!(blocked).is_pending());
        reset.store(true, Ordering::Relaxed);
        assert!(writer.write_all(b"x").await.is_err());
        drop(sent);
        assert!(writer.shutdown().await.is_err());
    }
}
