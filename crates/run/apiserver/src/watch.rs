//! Streams of changes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::{Entry, Event, EventKind, Revision, StoreError, Watch, WatchItem};
use tokio::time::{Instant, Sleep};

use crate::body::{self, ResponseBody};
use crate::collection;
use crate::custom::Present;
use crate::frame::{Presenter, Stage};
use crate::list_options::{ListOptions, Start, WatchOptions};
use crate::metrics::Events as Sent;
use crate::negotiate::{Form, Media};
use crate::query::Query;
use crate::registry::{self, Selection};
use crate::server::Api;
use crate::target::ResourcePath;
use crate::transcode::Events;

/// Clients that want bookmarks get one this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// And a last one this long before the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// A watch without `timeoutSeconds` ends after this time at the earliest, twice this at the latest.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1800);
/// A watch of objects whose definition changes tells what happened before during this time, and ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What waits is sent in pieces of about this many bytes.
const PIECE: usize = 64 * 1024;
/// About what sending a piece costs, with what the kernel does for it on both ends. Events that come faster than all who watch them can be sent
/// pieces wait for each other, so that a burst of changes costs each watcher few pieces.
const SENDING: Duration = Duration::from_micros(40);
/// How long events wait for others at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// The timer is not finer.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// GET of a collection with `watch=true`.
pub(crate) async fn serve(
    api: &Arc<Api>,
    kind: &'static Kind,
    target: &ResourcePath,
    (form, media): (Form, Media),
    query: &Query,
) -> Result<Response<ResponseBody>, Status> {
    let options = WatchOptions::read(query, api.store.revision())?;
    let selection = Selection::read(api, kind, query, &target.name)?;
    let presenter = Presenter::new(Arc::clone(api), kind, (form, media), query)?;
    let stream = Stream::open(presenter, selection, &target.namespace, &options)?;
    let pieces = stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((piece, stream))
    });
    let mut response = Response::new(body::stream(pieces));
    let media_type = match media {
        Media::Json => "application/json",
        Media::Protobuf => plimsoll_protobuf::WATCH_MEDIA_TYPE,
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.extensions_mut().insert(Events);
    Ok(response)
}

struct Stream {
    presenter: Presenter,
    selection: Selection,
    /// The objects that a watch begins with, as far as they are not sent.
    present: std::vec::IntoIter<Arc<Entry>>,
    /// The bookmark that follows them.
    marked: Option<Revision>,
    /// `None` when only what waits is left.
    watch: Option<Watch>,
    /// What is to be sent next.
    waiting: BytesMut,
    /// When the last piece was sent.
    last: Instant,
    bookmarks: bool,
    /// How many events were sent, to whomever.
    sent: Sent,
    /// What defines the objects, if users do.
    definition: Option<Present>,
    /// Rings for the next bookmark, and at the end.
    alarm: Pin<Box<Sleep>>,
    end: Instant,
}

impl Stream {
    fn open(
        presenter: Presenter,
        selection: Selection,
        namespace: &str,
        options: &WatchOptions,
    ) -> Result<Self, Status> {
        let (kind, store) = (presenter.kind(), &presenter.api().store);
        let mut present = Vec::new();
        let mut marked = None;
        let after = match options.start {
            Start::Objects => {
                let listed = collection::select(store, kind, namespace, &selection, &ListOptions::default())?;
                present = listed.entries;
                marked = options.bookmarks.then_some(listed.revision);
                listed.revision
            }
            Start::Behind(revision) => revision,
            Start::Now => store.revision(),
        };
        let namespace = selection.namespace().filter(|_| namespace.is_empty()).unwrap_or(namespace);
        // Objects whose keys only begin like the one that is asked for are left out by the selection.
        let prefix = match selection.key(kind, namespace) {
            Some(key) => key,
            None => registry::prefix(kind, namespace)?,
        };
        let mut waiting = BytesMut::new();
        let watch = match store.watch(&prefix, Some(after)) {
            Ok(watch) => Some(watch),
            Err(StoreError::Compacted { compacted, .. }) => {
                let gone = Status::expired(format!("too old resource version: {after} ({compacted})"));
                presenter.error(&gone, &mut waiting);
                None
            }
            Err(error) => return Err(Status::internal(error)),
        };
        let now = Instant::now();
        let end = now + options.timeout.unwrap_or_else(|| LEAST_TIMEOUT.mul_f64(1.0 + rand::random::<f64>()));
        let alarm = Box::pin(tokio::time::sleep_until(next_alarm(now, end, options.bookmarks)));
        let (present, bookmarks) = (present.into_iter(), options.bookmarks);
        let sent = presenter.api().metrics.events(kind);
        sent.begun(present.len() + watch.as_ref().map_or(0, Watch::backlog));
        let last = now;
        let definition = Present::of(&presenter.api().customs, kind);
        Ok(Self {
            presenter,
            selection,
            present,
            marked,
            watch,
            waiting,
            last,
            bookmarks,
            sent,
            definition,
            alarm,
            end,
        })
    }

    /// The next piece of the body; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        self.begin().await;
        let shutdown = self.presenter.api().shutdown.clone();
        loop {
            if !self.waiting.is_empty() {
                self.last = Instant::now();
                return Some(std::mem::take(&mut self.waiting).freeze());
            }
            let watch = self.watch.as_mut()?;
            tokio::select! {
                biased;
                item = watch.next() => match item {
                    Ok(WatchItem::Event(event)) => {
                        if let Some(pause) = pause(self.last.elapsed(), watch.company()) {
                            tokio::time::sleep(pause).await;
                        }
                        self.take(event).await;
                    }
                    Err(_) => {
                        // The client was slower than history is long; it lists again.
                        self.fail(&Status::expired("the watch fell too far behind"));
                    }
                },
                () = shutdown.cancelled() => return None,
                () = past(&mut self.definition) => {
                    self.definition = None;
                    self.end = self.end.min(Instant::now() + LAST_WORDS);
                    self.alarm.as_mut().reset(self.end);
                }
                () = &mut self.alarm => {
                    let (now, revision) = (Instant::now(), watch.progress());
                    if now >= self.end {
                        return None;
                    }
                    let marked = self.presenter.bookmark(revision, false, &mut self.waiting);
                    self.check(marked);
                    self.alarm.as_mut().reset(next_alarm(now, self.end, self.bookmarks));
                }
            }
        }
    }

    /// Some of the objects that the watch begins with, then the bookmark behind them.
    async fn begin(&mut self) {
        while self.waiting.len() < PIECE && self.watch.is_some() {
            let Some(entry) = self.present.next() else {
                if let Some(revision) = self.marked.take() {
                    let marked = self.presenter.bookmark(revision, true, &mut self.waiting);
                    self.check(marked);
                }
                return;
            };
            let written = self.presenter.object(Stage::Added, &entry, &mut self.waiting).await;
            self.check(written);
        }
    }

    /// An event and those that wait behind it.
    async fn take(&mut self, event: Arc<Event>) {
        let mut next = Some(event);
        while let Some(event) = next {
            let written = self.event(&event).await;
            self.check(written);
            let room = self.waiting.len() < PIECE;
            next = self.watch.as_mut().filter(|_| room).and_then(Watch::ready);
        }
    }

    /// What this client sees of a change: an object can come into and go out of its selection.
    async fn event(&mut self, event: &Arc<Event>) -> Result<(), Status> {
        let kind = self.presenter.kind();
        let before = event.previous.as_ref().is_some_and(|previous| self.selection.matches(kind, previous));
        let after = event.kind == EventKind::Put && self.selection.matches(kind, &event.entry);
        let stage = match (before, after) {
            (false, false) => return Ok(()),
            (false, true) => Stage::Added,
            (true, true) => Stage::Modified,
            (true, false) => Stage::Deleted,
        };
        let before = self.waiting.len();
        let written = self.presenter.event(stage, event, &mut self.waiting).await;
        self.sent.sent(self.waiting.len() - before);
        written
    }

    fn check(&mut self, written: Result<(), Status>) {
        if let Err(status) = written {
            self.fail(&status);
        }
    }

    fn fail(&mut self, status: &Status) {
        self.watch = None;
        self.presenter.error(status, &mut self.waiting);
    }
}

/// How long an event waits for others when the last piece was sent this long ago.
fn pause(since: Duration, company: usize) -> Option<Duration> {
    let due = SENDING.saturating_mul(u32::try_from(company).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
    let left = due.saturating_sub(since);
    (left >= LEAST_PAUSE).then_some(left)
}

/// Returns when the objects are defined in another way, or not any more.
async fn past(definition: &mut Option<Present>) {
    match definition {
        Some(definition) => definition.is_past().await,
        None => std::future::pending().await,
    }
}

/// When to wake up next: for a bookmark, or to end.
fn next_alarm(now: Instant, end: Instant, bookmarks: bool) -> Instant {
    let next = (now + BOOKMARK_EVERY).min(end.checked_sub(FAREWELL).unwrap_or(now));
    if bookmarks && next > now { next } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_many_watchers_wait_for_each_other_in_a_burst() {
        let ms = Duration::from_millis;
        for (since, company, expected) in [
            (0, 1, None),
            (0, 24, None),
            (0, 100, Some(4)),
            (3, 100, Some(1)),
            (4, 100, None),
            (0, 100_000, Some(10)),
            (9, 100_000, Some(1)),
            (10, 100_000, None),
        ] {
            assert_eq!(pause(ms(since), company), expected.map(ms), "{since} ms, {company} watchers");
        }
    }

    #[test]
    fn a_bookmark_each_minute_and_one_before_the_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (now, end, expected) in [(0, 300, 60), (239, 300, 298), (298, 300, 300), (0, 1, 1), (0, 62, 60)] {
            assert_eq!(next_alarm(at(now), at(end), true), at(expected), "at {now} of {end}");
        }
        assert_eq!(next_alarm(start, at(300), false), at(300));
    }
}
