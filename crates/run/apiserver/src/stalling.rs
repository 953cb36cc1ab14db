//! A connection whose client must take what is written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::pace::Pacer;

/// Fails when nothing can be written for longer than the patience, unless what is sent may wait.
pub(crate) struct Stalling<S> {
    inner: S,
    pacer: Arc<Pacer>,
    patience: Duration,
    /// Runs while something waits to be written.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S> Stalling<S> {
    pub(crate) fn new(inner: S, pacer: Arc<Pacer>, patience: Duration) -> Self {
        Self { inner, pacer, patience, waits: None }
    }

    fn held<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let patience = self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waits.as_mut().poll(context));
        if self.pacer.is_free() {
            return Poll::Pending;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.held(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.held(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.held(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.inner).poll_shutdown(context);
        self.held(context, closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;
    use crate::pace::Pace;
    use http::Response;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_is_left() {
        let pacer = Pacer::new(PATIENCE);
        let (near, mut far) = tokio::io::duplex(8);
        let mut near = Stalling::new(near, Arc::clone(&pacer), PATIENCE);
        for _ in 0..3 {
            near.write_all(b"12345678").await.expect("written");
            tokio::time::sleep(PATIENCE * 10).await;
            far.read_exact(&mut [0; 8]).await.expect("read");
        }
        let late = near.write_all(b"1234567890").await.map_err(|error| error.kind());
        assert_eq!(late, Err(io::ErrorKind::TimedOut));
        let mut response = Response::new(body::full("x"));
        response.extensions_mut().insert(Pace::Free);
        let _logs = pacer.begin().answered(response);
        let wait = tokio::time::timeout(PATIENCE * 100, near.write_all(b"1234567890")).await;
        assert!(wait.is_err(), "logs may wait for who reads them");
    }
}
