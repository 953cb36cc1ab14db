//! Streams of changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::{Entry, Event, EventKind, Revision, StoreError, Watch, WatchItem};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval};

use crate::body::{self, ResponseBody};
use crate::negotiate::{Form, Media};
use crate::query::Query;
use crate::registry::{self, Selection};
use crate::server::Api;
use crate::target::ResourcePath;
use crate::{collection, encode, present, table};

/// Clients that want bookmarks get one this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without `timeoutSeconds` ends after this time at the earliest, twice this at the latest.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1800);

/// GET of a collection with `watch=true`.
pub(crate) async fn serve(
    api: &Arc<Api>,
    kind: &'static Kind,
    target: &ResourcePath,
    (form, media): (Form, Media),
    query: &Query,
) -> Result<Response<ResponseBody>, Status> {
    let selection = Selection::read(kind, query, &target.name)?;
    let mut frames = VecDeque::new();
    let api = Arc::clone(api);
    let presenter = Presenter { api, kind, form, media, query: query.clone(), rows: false };
    let mut stream = Stream::open(presenter, selection, &target.namespace, &mut frames).await?;
    stream.waiting = frames;
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
    Ok(response)
}

struct Stream {
    presenter: Presenter,
    selection: Selection,
    /// `None` when only the frames that wait are left.
    watch: Option<Watch>,
    waiting: VecDeque<Bytes>,
    bookmarks: Option<Interval>,
    deadline: Instant,
}

impl Stream {
    async fn open(
        mut presenter: Presenter,
        selection: Selection,
        namespace: &str,
        frames: &mut VecDeque<Bytes>,
    ) -> Result<Self, Status> {
        let query = presenter.query.clone();
        let api = Arc::clone(&presenter.api);
        let store = &api.store;
        let prefix = match selection.name().and_then(|name| presenter.kind.key(namespace, name)) {
            // Objects whose keys only begin like this one are left out by the selection.
            Some(key) if !presenter.kind.namespaced || !namespace.is_empty() => key,
            _ => registry::prefix(presenter.kind, namespace)?,
        };
        let version: i64 = match query.get("resourceVersion") {
            "" => 0,
            text => text.parse().map_err(|_| {
                Status::bad_request(format!("Invalid value: {text:?}: resource version is not a number"))
            })?,
        };
        let initial = query.flag("sendInitialEvents");
        let wants_bookmarks = query.flag("allowWatchBookmarks");
        let after = if initial || (version == 0 && !query.has("sendInitialEvents")) {
            let listed = collection::select(store, presenter.kind, namespace, &selection, &Query::default())?;
            for entry in &listed.entries {
                frames.push_back(presenter.frame("ADDED", entry, None).await?);
            }
            if initial && wants_bookmarks {
                frames.push_back(presenter.bookmark(listed.revision, true)?);
            }
            listed.revision
        } else if version == 0 {
            store.revision()
        } else {
            Revision(version)
        };
        let watch = match store.watch(&prefix, Some(after)) {
            Ok(watch) => Some(watch),
            Err(StoreError::Compacted { compacted, .. }) => {
                let gone = Status::expired(format!("too old resource version: {after} ({compacted})"));
                frames.push_back(presenter.error(&gone));
                None
            }
            Err(error) => return Err(Status::internal(error)),
        };
        let bookmarks = wants_bookmarks
            .then(|| tokio::time::interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY));
        Ok(Self {
            presenter,
            selection,
            watch,
            waiting: VecDeque::new(),
            bookmarks,
            deadline: Instant::now() + timeout(&query)?,
        })
    }

    /// The next piece of the body; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.gather() {
                return Some(frame);
            }
            let watch = self.watch.as_mut()?;
            let bookmark = async {
                match &mut self.bookmarks {
                    Some(interval) => interval.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                item = watch.next() => match item {
                    Ok(item) => self.take(&item).await,
                    Err(_) => {
                        // The client was slower than the buffer; it lists again.
                        self.watch = None;
                        let late = Status::expired("the watch fell too far behind");
                        self.waiting.push_back(self.presenter.error(&late));
                    }
                },
                _ = bookmark => {
                    let revision = watch.progress();
                    let frame = self.presenter.bookmark(revision, false);
                    self.push(frame.map(Some));
                }
                () = tokio::time::sleep_until(self.deadline) => return None,
            }
        }
    }

    /// Frames that wait, as one piece.
    fn gather(&mut self) -> Option<Bytes> {
        if self.waiting.len() <= 1 {
            return self.waiting.pop_front();
        }
        let mut piece = BytesMut::new();
        while piece.len() < 64 * 1024 {
            let Some(frame) = self.waiting.pop_front() else { break };
            piece.extend_from_slice(&frame);
        }
        Some(piece.freeze())
    }

    async fn take(&mut self, item: &WatchItem) {
        let WatchItem::Event(event) = item;
        let frame = self.event(event).await;
        self.push(frame);
    }

    fn push(&mut self, frame: Result<Option<Bytes>, Status>) {
        match frame {
            Ok(Some(frame)) => self.waiting.push_back(frame),
            Ok(None) => {}
            Err(status) => {
                self.watch = None;
                self.waiting.push_back(self.presenter.error(&status));
            }
        }
    }

    /// What this client sees of a change: an object can come into and go out of its selection.
    async fn event(&mut self, event: &Arc<Event>) -> Result<Option<Bytes>, Status> {
        let kind = self.presenter.kind;
        let before = event.previous.as_ref().is_some_and(|previous| self.selection.matches(kind, previous));
        let after = event.kind == EventKind::Put && self.selection.matches(kind, &event.entry);
        let revision = event.entry.modified;
        match (before, after) {
            (false, false) => Ok(None),
            (false, true) => self.presenter.frame("ADDED", &event.entry, None).await.map(Some),
            (true, true) => self.presenter.frame("MODIFIED", &event.entry, None).await.map(Some),
            (true, false) => {
                // The last state that was selected, at the revision of its end.
                let last = if event.kind == EventKind::Put {
                    event.previous.as_ref().unwrap_or(&event.entry)
                } else {
                    &event.entry
                };
                self.presenter.frame("DELETED", last, Some(revision)).await.map(Some)
            }
        }
    }
}

/// How events look to this client.
struct Presenter {
    api: Arc<Api>,
    kind: &'static Kind,
    form: Form,
    media: Media,
    query: Query,
    /// The first row of a table carries the column definitions.
    rows: bool,
}

impl Presenter {
    async fn frame(
        &mut self,
        event: &str,
        entry: &Entry,
        revision: Option<Revision>,
    ) -> Result<Bytes, Status> {
        let stale = revision.is_some_and(|revision| revision != entry.modified);
        if self.form == Form::Object && self.media == Media::Json && !stale {
            return Ok(framed(event, &present::bytes(&self.api, self.kind, entry).await?));
        }
        let mut object = present::object(&self.api, self.kind, entry).await?;
        if let Some(revision) = revision {
            object["metadata"]["resourceVersion"] = json!(revision.to_string());
        }
        let object = self.present(object);
        self.framed(event, &object)
    }

    fn present(&mut self, object: Value) -> Value {
        match self.form {
            Form::Object => object,
            Form::Table => {
                let first = !std::mem::replace(&mut self.rows, true);
                table::of_event(self.kind, &object, &self.query, first)
            }
            Form::PartialMetadata => table::partial(object),
        }
    }

    fn bookmark(&mut self, revision: Revision, initial: bool) -> Result<Bytes, Status> {
        let mut object = json!({
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(),
            "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null},
        });
        if initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"], "columnDefinitions": null,
                "rows": [{"cells": [], "object": table::partial(object.clone())}],
            }),
            Form::PartialMetadata => table::partial(object),
            Form::Object => object,
        };
        self.framed("BOOKMARK", &object)
    }

    fn error(&self, status: &Status) -> Bytes {
        self.framed("ERROR", &status.to_value()).expect("a Status has either encoding")
    }

    fn framed(&self, event: &str, object: &Value) -> Result<Bytes, Status> {
        match self.media {
            Media::Json => Ok(framed(event, &encode::object(object))),
            Media::Protobuf => {
                let object = plimsoll_protobuf::encode(object).map_err(Status::internal)?;
                Ok(plimsoll_protobuf::watch_frame(event, &object).into())
            }
        }
    }
}

fn framed(event: &str, object: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(object.len() + event.len() + 24);
    frame.put_slice(b"{\"type\":\"");
    frame.put_slice(event.as_bytes());
    frame.put_slice(b"\",\"object\":");
    frame.put_slice(object);
    frame.put_slice(b"}\n");
    frame.freeze()
}

fn timeout(query: &Query) -> Result<Duration, Status> {
    Ok(match query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
        _ => LEAST_TIMEOUT.mul_f64(1.0 + rand::random::<f64>()),
    })
}
