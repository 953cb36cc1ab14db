//! One SPDY connection.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use super::frame::{Frame, FrameReader, FrameWriter, SpdyError};
use super::headers::Headers;
use crate::pipe::{Outgoing, StreamId, StreamReader, StreamWriter, incoming, outgoing};

/// How many streams of a client may be open.
const STREAMS: usize = 1024;
/// How many streams may wait to be noticed by the caller.
const WAITING: usize = 16;
/// How long a client may take to hang up after we did.
const LINGER: Duration = Duration::from_secs(5);
/// How much is written at once.
const WRITE: usize = 128 << 10;

/// A stream that the client opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: StreamId,
    pub(crate) headers: Headers,
    pub(crate) reader: StreamReader,
    pub(crate) writer: StreamWriter,
}

impl Opened {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// A connection's handle. When it and all writers are dropped, the connection closes.
pub(crate) struct Session {
    pub(crate) queue: mpsc::Sender<Outgoing>,
    pub(crate) opened: mpsc::Receiver<Opened>,
    /// Cancelled when the connection is over.
    pub(crate) gone: CancellationToken,
}

/// Serves a connection in a task of its own.
pub(crate) fn serve<R, W>(read: R, write: W) -> Session
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (queue, unsent) = outgoing();
    let (accept, opened) = mpsc::channel(WAITING);
    let gone = CancellationToken::new();
    let last = Arc::new(AtomicU32::new(0));
    // The session must not keep itself alive.
    let from_client =
        Incoming { queue: queue.downgrade(), accept, streams: HashMap::new(), last: Arc::clone(&last) };
    let over = gone.clone().drop_guard();
    tokio::spawn(async move {
        let reading = from_client.run(read);
        let writing = write_all(write, unsent, &last);
        tokio::pin!(reading);
        let result = tokio::select! {
            result = &mut reading => result,
            result = writing => match result {
                // What the client sent meanwhile must be read, or closing would destroy what we sent.
                Ok(()) => tokio::time::timeout(LINGER, reading).await.unwrap_or(Ok(())),
                Err(error) => Err(error.into()),
            },
        };
        if let Err(error) = result {
            tracing::debug!(%error, "SPDY connection ended");
        }
        drop(over);
    });
    Session { queue, opened, gone }
}

/// The client's half.
struct Incoming {
    queue: mpsc::WeakSender<Outgoing>,
    accept: mpsc::Sender<Opened>,
    streams: HashMap<StreamId, Stream>,
    /// The last stream that was accepted.
    last: Arc<AtomicU32>,
}

struct Stream {
    /// None after the client finished it, or the caller stopped reading.
    data: Option<DuplexStream>,
    /// Tells the caller's writer; gone when that is.
    reset: Weak<AtomicBool>,
}

impl Incoming {
    async fn run(mut self, read: impl AsyncRead + Unpin) -> Result<(), SpdyError> {
        let mut frames = FramedRead::with_capacity(read, FrameReader::default(), 32 << 10);
        while let Some(frame) = frames.next().await {
            self.handle(frame?).await;
        }
        Ok(())
    }

    async fn handle(&mut self, frame: Frame) {
        match frame {
            Frame::Open { stream, headers, fin } => self.open(stream, headers, fin).await,
            Frame::Data { stream, bytes, fin } => self.data(stream, &bytes, fin).await,
            Frame::Reset(stream) => self.reset(stream),
            // Odd pings are the client's; we send none ourselves.
            Frame::Ping(number) if number % 2 == 1 => self.send(Outgoing::Pong(number)).await,
            Frame::Ping(_) | Frame::GoAway | Frame::Other => {}
        }
    }

    async fn open(&mut self, stream: StreamId, headers: Headers, fin: bool) {
        let Some(queue) = self.queue.upgrade() else { return };
        self.streams.retain(|_, open| open.data.is_some() || open.reset.strong_count() > 0);
        let in_order = stream % 2 == 1 && stream > self.last.load(Ordering::Relaxed);
        if !in_order || self.streams.len() >= STREAMS || self.accept.is_closed() {
            return self.send(Outgoing::Refuse(stream)).await;
        }
        let (data, reader) = incoming();
        let writer = StreamWriter::new(stream, queue);
        let reset = Arc::downgrade(writer.reset());
        self.last.store(stream, Ordering::Relaxed);
        self.streams.insert(stream, Stream { data: (!fin).then_some(data), reset });
        // The client drops data that comes before the reply.
        self.send(Outgoing::Reply(stream)).await;
        // A caller that wants no more streams drops this one, which ends it.
        let _ = self.accept.send(Opened { stream, headers, reader, writer }).await;
    }

    async fn data(&mut self, stream: StreamId, bytes: &[u8], fin: bool) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        if let Some(data) = &mut stream.data
            && (data.write_all(bytes).await.is_err() || fin)
        {
            // Dropping it is the end of the stream for the reader, if there still is one.
            stream.data = None;
        }
    }

    fn reset(&mut self, stream: StreamId) {
        if let Some(reset) = self.streams.remove(&stream).and_then(|stream| stream.reset.upgrade()) {
            reset.store(true, Ordering::Relaxed);
        }
    }

    async fn send(&self, item: Outgoing) {
        if let Some(queue) = self.queue.upgrade() {
            // When the writing half is over, reading ends by itself.
            let _ = queue.send(item).await;
        }
    }
}

/// Our half: sends what is queued until it is told to close or nobody can queue any more.
async fn write_all(
    mut to: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Outgoing>,
    last: &AtomicU32,
) -> io::Result<()> {
    let (mut frames, mut open, mut bytes) = (FrameWriter::default(), HashSet::new(), Vec::new());
    loop {
        let mut item = queue.recv().await.unwrap_or(Outgoing::Close);
        let closing = loop {
            encode(&item, &mut open, &mut frames, last, &mut bytes);
            if matches!(item, Outgoing::Close) || bytes.len() >= WRITE {
                break matches!(item, Outgoing::Close);
            }
            match queue.try_recv() {
                Ok(next) => item = next,
                Err(_) => break false,
            }
        };
        to.write_all(&bytes).await?;
        to.flush().await?;
        bytes.clear();
        if closing {
            return to.shutdown().await;
        }
    }
}

/// Adds a frame. Before the farewell, streams that are still open are finished.
fn encode(
    item: &Outgoing,
    open: &mut HashSet<StreamId>,
    frames: &mut FrameWriter,
    last: &AtomicU32,
    bytes: &mut Vec<u8>,
) {
    match item {
        Outgoing::Reply(stream) => {
            open.insert(*stream);
        }
        Outgoing::Finish(stream) => {
            open.remove(stream);
        }
        Outgoing::Close => open.drain().for_each(|stream| frames.write(&Outgoing::Finish(stream), 0, bytes)),
        Outgoing::Data(..) | Outgoing::Refuse(_) | Outgoing::Pong(_) => {}
    }
    frames.write(item, last.load(Ordering::Relaxed), bytes);
}
