//! The frames of a watch, as each client wants to see them.
//!
//! Stored bytes are framed as they are. Whatever must be made of them first (tables, metadata alone,
//! protobuf, another version) is made once for each event and shared by all watchers of that form.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::{Entry, Event, EventKind, Revision};
use serde_json::{Value, json};

use crate::negotiate::{Form, Media};
use crate::query::Query;
use crate::server::Api;
use crate::table::{self, Columns, Include};
use crate::{encode, present};

/// What an object becomes for a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Added,
    Modified,
    Deleted,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// How events look to one client.
pub(crate) struct Presenter {
    api: Arc<Api>,
    kind: &'static Kind,
    form: Form,
    media: Media,
    include: Include,
    columns: Columns,
    /// The first row of a table carries the column definitions.
    first: bool,
}

impl Presenter {
    pub(crate) fn new(
        api: Arc<Api>,
        kind: &'static Kind,
        (form, media): (Form, Media),
        query: &Query,
    ) -> Result<Self, Status> {
        let columns = Columns::of(&api, kind)?;
        Ok(Self { api, kind, form, media, include: Include::of(query), columns, first: form == Form::Table })
    }

    pub(crate) fn kind(&self) -> &'static Kind {
        self.kind
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// Writes an object as it is.
    pub(crate) async fn object(
        &mut self,
        stage: Stage,
        entry: &Entry,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let bytes = present::bytes(&self.api, self.kind, entry).await?;
        if self.is_plain() {
            frame(stage.name(), &bytes, out);
        } else {
            out.extend_from_slice(&self.made(stage, bytes)?);
        }
        Ok(())
    }

    /// Writes an event of an object.
    pub(crate) async fn event(
        &mut self,
        stage: Stage,
        event: &Arc<Event>,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let shape =
            Shape { kind: self.kind, stage, form: self.form, media: self.media, include: self.include };
        let frames = event.memo.get_or(Frames::default);
        if let Some(known) = frames.as_ref().filter(|_| !self.first).and_then(|frames| frames.get(&shape)) {
            out.extend_from_slice(&known);
            return Ok(());
        }
        let (bytes, is_stored) = self.subject(stage, event).await?;
        if self.is_plain() && is_stored {
            frame(stage.name(), &bytes, out);
            return Ok(());
        }
        let first = self.first;
        let made = if self.is_plain() { framed(stage.name(), &bytes) } else { self.made(stage, bytes)? };
        out.extend_from_slice(&made);
        if let Some(frames) = frames.filter(|_| !first) {
            frames.put(shape, made);
        }
        Ok(())
    }

    fn is_plain(&self) -> bool {
        self.form == Form::Object && self.media == Media::Json
    }

    /// The object that an event shows, and whether these are the bytes that are stored anyway.
    async fn subject(&self, stage: Stage, event: &Event) -> Result<(Bytes, bool), Status> {
        let (api, kind) = (&self.api, self.kind);
        // What left the selection is shown as it was last selected, at the revision of its end.
        if let (Stage::Deleted, EventKind::Put, Some(last)) = (stage, event.kind, &event.previous) {
            let mut object = present::object(api, kind, last).await?;
            object["metadata"]["resourceVersion"] = json!(event.revision().to_string());
            return Ok((encode::object(&object), false));
        }
        let bytes = present::bytes(api, kind, &event.entry).await?;
        let is_stored = bytes.as_ptr() == event.entry.value.as_ptr();
        Ok((bytes, is_stored))
    }

    /// The frame of an object in any form.
    fn made(&mut self, stage: Stage, bytes: Bytes) -> Result<Bytes, Status> {
        let object = match self.form {
            Form::Object => bytes,
            Form::Table => {
                table::of_bytes(&self.columns, &bytes, self.include, std::mem::take(&mut self.first))
            }
            Form::PartialMetadata => {
                let mut partial = Vec::new();
                table::write_partial(&bytes, &mut partial);
                partial.into()
            }
        };
        match self.media {
            Media::Json => Ok(framed(stage.name(), &object)),
            Media::Protobuf => {
                let object: Value = serde_json::from_slice(&object).map_err(Status::internal)?;
                self.binary(stage.name(), &object)
            }
        }
    }

    /// Writes how far the watch has come.
    pub(crate) fn bookmark(
        &self,
        revision: Revision,
        initial: bool,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let partial =
            || json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
        let object = match self.form {
            Form::Object => {
                json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata})
            }
            Form::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": null,
                "rows": [{"cells": [], "object": partial()}],
            }),
            Form::PartialMetadata => partial(),
        };
        out.extend_from_slice(&self.encoded("BOOKMARK", &object)?);
        Ok(())
    }

    /// Writes why there will be nothing more.
    pub(crate) fn error(&self, status: &Status, out: &mut BytesMut) {
        let frame = self.encoded("ERROR", &status.to_value()).expect("a Status has either encoding");
        out.extend_from_slice(&frame);
    }

    fn encoded(&self, event: &str, object: &Value) -> Result<Bytes, Status> {
        match self.media {
            Media::Json => Ok(framed(event, &encode::object(object))),
            Media::Protobuf => self.binary(event, object),
        }
    }

    fn binary(&self, event: &str, object: &Value) -> Result<Bytes, Status> {
        let object = plimsoll_protobuf::encode(object).map_err(Status::internal)?;
        Ok(plimsoll_protobuf::watch_frame(event, &object).into())
    }
}

/// The frames that were made of one event.
#[derive(Debug, Default)]
struct Frames(Mutex<Vec<(Shape, Bytes)>>);

/// What tells frames of one event apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: &'static Kind,
    stage: Stage,
    form: Form,
    media: Media,
    include: Include,
}

impl Frames {
    fn get(&self, shape: &Shape) -> Option<Bytes> {
        let frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frames.iter().find(|(known, _)| known == shape).map(|(_, frame)| frame.clone())
    }

    fn put(&self, shape: Shape, frame: Bytes) {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.iter().all(|(known, _)| *known != shape) {
            frames.push((shape, frame));
        }
    }
}

fn framed(event: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + event.len() + 24);
    frame(event, object, &mut out);
    out.freeze()
}

fn frame(event: &str, object: &[u8], out: &mut BytesMut) {
    out.reserve(object.len() + event.len() + 24);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}
