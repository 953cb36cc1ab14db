//! Keeps memory like etcd: a list, and then all changes.
//!
//! All keys of etcd are watched, whoever writes them, so that each of its revisions shows up here: memory is as new as
//! a revision when the watch has passed it, and no notice of progress has to be believed. A watch that breaks goes on
//! behind the last revision that it brought, at another member: nothing is lost and nothing comes twice. Only when
//! etcd has compacted what is missing, everything is listed again, and watchers are told to do the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use plimsoll_etcd::etcdserverpb::kv_client::KvClient;
use plimsoll_etcd::etcdserverpb::watch_client::WatchClient;
use plimsoll_etcd::etcdserverpb::watch_request::RequestUnion;
use plimsoll_etcd::etcdserverpb::{RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use plimsoll_etcd::mvccpb::event::EventType;
use plimsoll_etcd::mvccpb::{self, KeyValue};
use plimsoll_mvcc::{Entry, Event, EventKind, Memo, Mvcc, Revision};
use tokio::sync::{Notify, watch};
use tokio_stream::StreamExt;
use tonic::Status;

use super::connection::{LARGEST, Members, Repeat, Wire};
use super::form::Form;
use super::{LIMITS, PREFIX};
use crate::StoreError;
use crate::shared::Shared;

/// Keys of one answer of a list.
const PAGE: i64 = 2000;
/// How long opening a watch may take.
const OPEN: Duration = Duration::from_secs(4);
/// The pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// What `etcd` is asked for when everything is meant.
const ALL: &[u8] = &[0];

/// What the feed works with.
pub(super) struct Feed {
    pub(super) shared: Arc<Shared>,
    pub(super) members: Arc<Members>,
    pub(super) form: Arc<Form>,
    /// Memory is as new as this.
    pub(super) reached: watch::Sender<Revision>,
    /// Somebody waits in vain for what this member should have sent.
    pub(super) nudge: Arc<Notify>,
}

/// Why a watch ended.
enum End {
    /// The member does not send any more.
    Broken(Status),
    /// What is missing was compacted.
    Compacted,
    /// What came cannot be read.
    Unreadable(StoreError),
}

/// Everything as it was at one revision.
pub(super) async fn list(members: &Members, form: &Form) -> Result<Mvcc, StoreError> {
    let found = read(members, form, PREFIX.into(), end(PREFIX), usize::MAX, 0).await?;
    let rows = found.entries.into_iter().map(|entry| Ok::<_, StoreError>((EventKind::Put, entry)));
    Mvcc::load(LIMITS, found.revision, rows)
}

/// Some keys of one revision.
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) revision: Revision,
    /// How many there are behind them.
    pub(super) left: usize,
}

/// The first `limit` keys from `from` on and before `end`, at a revision; 0: the newest.
pub(super) async fn read(
    members: &Members,
    form: &Form,
    mut from: Bytes,
    end: Bytes,
    limit: usize,
    revision: i64,
) -> Result<Found, StoreError> {
    let mut found = Found { entries: Vec::new(), revision: Revision(revision), left: 0 };
    loop {
        let request = RangeRequest {
            key: from.clone(),
            range_end: end.clone(),
            limit: PAGE.min(i64::try_from(limit - found.entries.len()).unwrap_or(i64::MAX)),
            revision: found.revision.0,
            ..RangeRequest::default()
        };
        let range = |wire: Wire| {
            let request = request.clone();
            async move { KvClient::new(wire).max_decoding_message_size(LARGEST).range(request).await }
        };
        let page = members.ask(Repeat::Always, range).await.map_err(super::failure)?;
        if found.revision.0 == 0 {
            found.revision = Revision(page.header.map(|header| header.revision).unwrap_or_default());
        }
        for pair in &page.kvs {
            found.entries.push(form.open(pair)?.0);
        }
        found.left = usize::try_from(page.count).unwrap_or_default().saturating_sub(page.kvs.len());
        match page.kvs.last() {
            // The first key behind it.
            Some(last) if page.more && found.entries.len() < limit => {
                from = [&last.key[..], &[0]].concat().into()
            }
            _ => return Ok(found),
        }
    }
}

/// The first key that does not begin with the prefix.
pub(super) fn end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // It ends with a character of ASCII.
        *last += 1;
    }
    end.into()
}

impl Feed {
    /// Goes on until it is aborted.
    pub(super) async fn run(self) {
        loop {
            let (at, wire) = self.members.current();
            let end = self.follow(wire).await;
            self.shared.broken.store(true, Ordering::Relaxed);
            match end {
                End::Broken(status) => {
                    tracing::warn!(error = status.message(), "watch of etcd broke off and goes on elsewhere");
                    self.members.leave(at);
                }
                End::Compacted => self.again().await,
                End::Unreadable(error) => tracing::error!(%error, "state of etcd cannot be read"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Lists everything again.
    async fn again(&self) {
        tracing::warn!("etcd has compacted changes that were not seen; everything is listed again");
        match list(&self.members, &self.form).await {
            Ok(state) => {
                let revision = state.revision();
                *self.shared.write() = state;
                self.shared.hub.pass(revision);
                self.shared.hub.scatter();
                self.reached.send_replace(revision);
            }
            Err(error) => tracing::warn!(%error, "etcd was not listed"),
        }
    }

    async fn follow(&self, wire: Wire) -> End {
        let from = self.shared.read().revision().next();
        let create = WatchCreateRequest {
            key: ALL.into(),
            range_end: ALL.into(),
            start_revision: from.0,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The requests' side stays open: its end would end the watch.
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let mut client = WatchClient::new(wire).max_decoding_message_size(LARGEST);
        let opened = tokio::time::timeout(OPEN, client.watch(requests)).await;
        let mut stream = match opened {
            Ok(Ok(stream)) => stream.into_inner(),
            Ok(Err(status)) => return End::Broken(status),
            Err(_) => return End::Broken(Status::deadline_exceeded("watch was not opened in time")),
        };
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.nudge.notified() => Err(Status::unavailable("member is behind")),
            };
            match message {
                Ok(Some(message)) if message.compact_revision > 0 => return End::Compacted,
                Ok(Some(message)) if message.canceled => {
                    return End::Broken(Status::unavailable(message.cancel_reason));
                }
                Ok(Some(message)) => match self.take(&message) {
                    Ok(()) => self.shared.broken.store(false, Ordering::Relaxed),
                    Err(error) => return End::Unreadable(error),
                },
                Ok(None) => return End::Broken(Status::unavailable("stream ended")),
                Err(status) => return End::Broken(status),
            }
        }
    }

    /// Shows what a message brings: whole revisions, in order.
    fn take(&self, message: &WatchResponse) -> Result<(), StoreError> {
        let Some(last) = message.events.iter().filter_map(|event| event.kv.as_ref()).next_back() else {
            return Ok(());
        };
        let reached = Revision(last.mod_revision);
        let changes = changes(&message.events);
        let opened = changes.map(|change| self.open(change)).collect::<Result<Vec<_>, _>>()?;
        let mut events = Vec::new();
        {
            let mut state = self.shared.write();
            let (mut opened, mut sub) = (opened.into_iter().peekable(), 0);
            while let Some(change) = opened.next() {
                let at = change.revision();
                let last = opened.peek().is_none_or(|next| next.revision() != at);
                // A member that is behind may begin earlier than it was asked to.
                let event = match change {
                    Change::Put(entry) => put(&state, entry),
                    Change::Gone(key, at) => self.gone(&state, &key, at),
                };
                if let Some(event) = event {
                    let event = Arc::new(Event { sub, last, ..event });
                    state.apply(std::slice::from_ref(&event));
                    events.push(event);
                }
                sub = if last { 0 } else { sub + 1 };
            }
            state.advance(reached);
            state.trim();
        }
        self.shared.hub.publish(&events);
        self.shared.hub.pass(reached);
        self.reached.send_if_modified(|known| {
            let newer = reached > *known;
            *known = reached.max(*known);
            newer
        });
        Ok(())
    }

    fn open(&self, (kind, pair): (EventType, &KeyValue)) -> Result<Change, StoreError> {
        Ok(match kind {
            EventType::Put => Change::Put(self.form.open(pair)?.0),
            EventType::Delete => {
                Change::Gone(String::from_utf8_lossy(&pair.key).into_owned(), Revision(pair.mod_revision))
            }
        })
    }

    fn gone(&self, state: &Mvcc, key: &str, at: Revision) -> Option<Event> {
        let previous = state.get(key).filter(|previous| previous.modified < at)?;
        let entry = Arc::new(self.form.last(&previous, at));
        Some(event(EventKind::Delete, entry, Some(previous)))
    }
}

/// A change of a key of ours.
enum Change {
    Put(Entry),
    Gone(String, Revision),
}

impl Change {
    fn revision(&self) -> Revision {
        match self {
            Self::Put(entry) => entry.modified,
            Self::Gone(_, at) => *at,
        }
    }
}

fn changes(events: &[mvccpb::Event]) -> impl Iterator<Item = (EventType, &KeyValue)> {
    let ours = |event: &&mvccpb::Event| {
        event.kv.as_ref().is_some_and(|pair| pair.key.starts_with(PREFIX.as_bytes()))
    };
    events.iter().filter(ours).filter_map(|event| Some((event.r#type(), event.kv.as_ref()?)))
}

fn put(state: &Mvcc, mut entry: Entry) -> Option<Event> {
    let previous = state.get(&entry.key);
    if previous.as_ref().is_some_and(|previous| previous.modified >= entry.modified) {
        return None;
    }
    if let Some(previous) = &previous {
        entry.key = Arc::clone(&previous.key);
    }
    Some(event(EventKind::Put, Arc::new(entry), previous))
}

/// The only one of its revision, as long as nobody says otherwise.
fn event(kind: EventKind, entry: Arc<Entry>, previous: Option<Arc<Entry>>) -> Event {
    Event { kind, entry, previous, sub: 0, last: true, memo: Memo::default() }
}
