//! The way of an event to where it is kept: a queue of bounded length.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use plimsoll_audit::{Event, Level};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use super::{AuditMode, Truncation, encoded};

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
    errors: Counter,
    truncation: Option<Truncation>,
}

impl Sink {
    /// A queue of `length` and its end.
    pub(super) fn new(
        name: &'static str,
        mode: AuditMode,
        length: usize,
        truncation: Option<Truncation>,
        errors: Counter,
    ) -> (Self, mpsc::Receiver<Entry>) {
        let (queue, entries) = mpsc::channel(length.max(1));
        (Self { name, mode, queue, lost: AtomicU64::new(0), errors, truncation }, entries)
    }

    /// The event in a form that is not too large; nothing if it cannot be made so.
    pub(super) fn fitting(&self, event: &Event, line: &Bytes) -> Option<Bytes> {
        let Some(Truncation { event: most, .. }) = self.truncation.filter(|limit| line.len() > limit.event)
        else {
            return Some(line.clone());
        };
        let short = encoded(&event.truncated());
        if event.level >= Level::Request && short.len() <= most {
            return Some(short);
        }
        self.lose();
        None
    }

    /// May events be lost?
    pub(super) fn is_lenient(&self) -> bool {
        self.mode != AuditMode::BlockingStrict
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
        self.errors.inc();
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
            let (sink, mut entries) = Sink::new("test", mode, 1, None, Counter::default());
            let filled = sink.queue.try_send(Entry { line: Bytes::from_static(b"1"), kept: None });
            assert!(filled.is_ok());
            assert_eq!(sink.send(Bytes::from_static(b"2")).await, outcome, "{mode:?}");
            assert_eq!(sink.lost.load(Ordering::Relaxed), 1);
            assert_eq!(entries.recv().await.expect("the first").line, "1");
            assert!(entries.try_recv().is_err());
        }
    }

    #[test]
    fn large_events_lose_their_bodies_or_are_lost() {
        let body = serde_json::json!({"data": "x".repeat(1000)});
        for (level, most, expected) in [
            (Level::Request, 5000, Some(true)),
            (Level::Request, 600, Some(false)),
            (Level::Request, 100, None),
            (Level::Metadata, 600, None),
        ] {
            let limit = Truncation { event: most, batch: 0 };
            let (sink, _entries) = Sink::new("test", AuditMode::Batch, 1, Some(limit), Counter::default());
            let user = plimsoll_audit::UserInfo::default();
            let mut event = Event::received(level, "id".to_owned(), user, "time".to_owned());
            event.request_object = body.clone();
            let told = sink.fitting(&event, &encoded(&event));
            let whole = told.as_ref().map(|line| line.windows(3).any(|part| part == b"xxx"));
            assert_eq!(whole, expected, "{level:?} {most}");
            let marked =
                told.is_some_and(|line| String::from_utf8_lossy(&line).contains("audit.k8s.io/truncated"));
            assert_eq!(marked, expected == Some(false));
        }
    }

    #[tokio::test]
    async fn blocking_waits_for_the_answer() {
        let (sink, mut entries) = Sink::new("test", AuditMode::BlockingStrict, 4, None, Counter::default());
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
