//! One watch of a stream: events as etcd tells them.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_etcd::etcdserverpb::WatchResponse;
use plimsoll_etcd::mvccpb::event::EventType;
use plimsoll_etcd::mvccpb::{self, KeyValue};
use plimsoll_mvcc::{Event, EventKind, Revision};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::watch::{Answers, Gone};
use super::{Etcd, REQUEST, convert, key, refusal};
use crate::{Watch, WatchEnd, WatchItem};

/// How often a client that asked for it hears how far it is (etcd: `--experimental-watch-progress-notify-interval`).
const PROGRESS: Duration = Duration::from_secs(600);
/// Events and bytes that are sent at once, unless one revision has more.
const EVENTS: usize = 1000;
const BYTES: usize = 1 << 20;

/// Somebody who wants to know how far the watch is.
pub(super) type Question = oneshot::Sender<Revision>;

/// What is told, and how.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) puts: bool,
    pub(super) deletions: bool,
    pub(super) previous: bool,
    pub(super) progress: bool,
    pub(super) fragments: bool,
}

/// A watch of a stream.
pub(super) struct Watcher {
    pub(super) etcd: Etcd,
    pub(super) id: i64,
    pub(super) form: Form,
    pub(super) answers: Answers,
}

impl Watcher {
    /// Tells events until the client is gone or there are no more.
    pub(super) async fn run(self, mut watch: Watch, mut questions: mpsc::Receiver<Question>) {
        let mut ticks = interval_at(Instant::now() + PROGRESS, PROGRESS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What is there goes before what is asked.
            let sent = tokio::select! {
                biased;
                item = watch.next() => match item {
                    Ok(WatchItem::Event(first)) => {
                        ticks.reset();
                        self.tell(gather(&mut watch, first).await).await
                    }
                    Err(end) => return self.end(end).await,
                },
                Some(question) = questions.recv() => {
                    // Who asked may be gone.
                    let _ = question.send(self.reached(&watch));
                    Ok(())
                }
                _ = ticks.tick(), if self.form.progress => {
                    let header = self.etcd.header(self.reached(&watch));
                    self.send(WatchResponse { header, watch_id: self.id, ..Default::default() }).await
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// A watch that begins later has not reached its beginning.
    fn reached(&self, watch: &Watch) -> Revision {
        watch.progress().min(self.etcd.store.revision())
    }

    async fn tell(&self, events: Vec<Arc<Event>>) -> Result<(), Gone> {
        let Some(revision) = events.last().map(|event| event.revision()) else { return Ok(()) };
        let asked = |event: &&Arc<Event>| match event.kind {
            EventKind::Put => self.form.puts,
            EventKind::Delete => self.form.deletions,
        };
        let told: Vec<_> = events.iter().filter(asked).map(|event| self.event(event)).collect();
        if told.is_empty() {
            return Ok(());
        }
        let mut pieces = self.pieces(told).into_iter().peekable();
        while let Some(events) = pieces.next() {
            self.send(WatchResponse {
                header: self.etcd.header(revision),
                watch_id: self.id,
                fragment: pieces.peek().is_some(),
                events,
                ..Default::default()
            })
            .await?;
        }
        Ok(())
    }

    fn event(&self, event: &Event) -> mvccpb::Event {
        let previous = event.previous.as_deref().filter(|_| self.form.previous).map(convert::key_value);
        let (kind, kv) = match event.kind {
            EventKind::Put => (EventType::Put, convert::key_value(&event.entry)),
            EventKind::Delete => (
                EventType::Delete,
                KeyValue {
                    key: key::bytes(&event.entry.key),
                    mod_revision: event.entry.modified.0,
                    ..Default::default()
                },
            ),
        };
        mvccpb::Event { r#type: kind.into(), kv: Some(kv), prev_kv: previous }
    }

    /// All of it, or parts that requests could be as long as, where the client puts them together again.
    fn pieces(&self, events: Vec<mvccpb::Event>) -> Vec<Vec<mvccpb::Event>> {
        if !self.form.fragments {
            return vec![events];
        }
        let mut pieces = vec![Vec::new()];
        let mut size = 0;
        for event in events {
            let more = event.encoded_len();
            if size > 0 && size + more > REQUEST {
                pieces.push(Vec::new());
                size = 0;
            }
            size += more;
            if let Some(piece) = pieces.last_mut() {
                piece.push(event);
            }
        }
        pieces
    }

    async fn end(&self, end: WatchEnd) {
        let (compact_revision, cancel_reason) = match end {
            WatchEnd::Lagged => (self.etcd.store.compacted().0, refusal::COMPACTED.to_owned()),
            other => (0, other.to_string()),
        };
        let header = self.etcd.header_now();
        let id = self.id;
        let canceled = WatchResponse {
            header,
            watch_id: id,
            canceled: true,
            compact_revision,
            cancel_reason,
            ..Default::default()
        };
        // Nobody may be there any more.
        let _ = self.send(canceled).await;
    }

    async fn send(&self, response: WatchResponse) -> Result<(), Gone> {
        self.answers.send(Ok(response)).await.map_err(|_| Gone)
    }
}

/// What else is there already. A revision is told whole.
async fn gather(watch: &mut Watch, first: Arc<Event>) -> Vec<Arc<Event>> {
    let mut bytes = first.entry.value.len();
    let mut events = vec![first];
    loop {
        let whole = watch.is_settled();
        match watch.ready() {
            Some(event) => {
                bytes += event.entry.value.len();
                events.push(event);
            }
            None if whole => return events,
            // The thread that hands it out is at it.
            None => tokio::task::yield_now().await,
        }
        if (events.len() >= EVENTS || bytes >= BYTES) && watch.is_between_revisions() {
            return events;
        }
    }
}
