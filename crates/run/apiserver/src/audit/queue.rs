//! The way of an event to where it is kept: a queue of bounded length.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::AuditMode;

/// How long a request waits for its event at most: a slow disk slows requests, and never stops them.
const PATIENCE: Duration = Duration::from_secs(5);

/// An event on its way.
#[derive(Debug)]
pub(super) struct Entry {
    /// The event as JSON.
    pub(super) line: Bytes,
    /// Told whether it is kept.
    pub(super) kept: Option<oneshot::Sender<bool>>,
}

/// Where events go.
#[derive(Debug)]
pub(super) struct Sink {
    name: &'static str,
    mode: AuditMode,
    queue: mpsc::Sender<Entry>,
    lost: AtomicU64,
}

impl Sink {
    /// A queue of `length` and its end.
    pub(super) fn new(name: &'static str, mode: AuditMode, length: usize) -> (Self, mpsc::Receiver<Entry>) {
        let (queue, entries) = mpsc::channel(length.max(1));
        (Self { name, mode, queue, lost: AtomicU64::new(0) }, entries)
    }

    /// False when the event is not kept and must be.
    pub(super) async fn send(&self, line: Bytes) -> bool {
        if self.mode == AuditMode::Batch {
            self.offer(line);
            return true;
        }
        let (kept, answer) = oneshot::channel();
        let way = async {
            self.queue.send(Entry { line, kept: Some(kept) }).await.ok()?;
            answer.await.ok()
        };
        let arrived = matches!(tokio::time::timeout(PATIENCE, way).await, Ok(Some(true)));
        if !arrived {
            self.lose();
        }
        arrived || self.mode == AuditMode::Blocking
    }

    /// Puts the event into the queue if there is room.
    pub(super) fn offer(&self, line: Bytes) {
        if self.queue.try_send(Entry { line, kept: None }).is_err() {
            self.lose();
        }
    }

    fn lose(&self) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        // Told ever more rarely, so that the log of the program does not fill the same disk.
        if lost.is_power_of_two() {
            tracing::error!(sink = self.name, lost, "audit events are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_without_bound() {
        for (mode, outcome) in
            [(AuditMode::Batch, true), (AuditMode::Blocking, true), (AuditMode::BlockingStrict, false)]
        {
            let (sink, mut entries) = Sink::new("test", mode, 1);
            let filled = sink.queue.try_send(Entry { line: Bytes::from_static(b"1"), kept: None });
            assert!(filled.is_ok());
            assert_eq!(sink.send(Bytes::from_static(b"2")).await, outcome, "{mode:?}");
            assert_eq!(sink.lost.load(Ordering::Relaxed), 1);
            assert_eq!(entries.recv().await.expect("the first").line, "1");
            assert!(entries.try_recv().is_err());
        }
    }

    #[tokio::test]
    async fn blocking_waits_for_the_answer() {
        let (sink, mut entries) = Sink::new("test", AuditMode::BlockingStrict, 4);
        let writer = async {
            for answer in [true, false] {
                let entry = entries.recv().await.expect("an entry");
                entry.kept.expect("somebody waits").send(answer).expect("waits still");
            }
        };
        let sends = async { (sink.send(Bytes::new()).await, sink.send(Bytes::new()).await) };
        assert_eq!(tokio::join!(sends, writer).0, (true, false));
    }
}
