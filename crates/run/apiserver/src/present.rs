//! Stored objects in the version that a client asked for.
//!
//! Built-in kinds are converted in place; custom resources perhaps by a webhook, which takes time.

use bytes::Bytes;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::Entry;
use serde_json::Value;

use crate::server::Api;
use crate::{encode, registry};

/// One object.
pub(crate) async fn object(api: &Api, kind: &'static Kind, entry: &Entry) -> Result<Value, Status> {
    if !kind.is_custom() {
        return registry::served(kind, entry);
    }
    api.customs.convert(kind, registry::stored(entry)?).await
}

/// One object as bytes; the stored bytes themselves where they serve.
pub(crate) async fn bytes(api: &Api, kind: &'static Kind, entry: &Entry) -> Result<Bytes, Status> {
    if !kind.is_custom() {
        return registry::served_bytes(kind, entry);
    }
    if encode::is_of(&entry.value, kind) {
        return Ok(entry.value.clone());
    }
    Ok(encode::object(&object(api, kind, entry).await?))
}

/// The object in the version that is kept.
pub(crate) async fn stored(api: &Api, kind: &'static Kind, object: &Value) -> Result<Value, Status> {
    if kind.is_custom() {
        return api.customs.store(kind, object.clone()).await;
    }
    let storage = kind.storage_kind();
    Ok(match storage == kind {
        true => object.clone(),
        false => plimsoll_catalogue::convert(kind, storage, object.clone()),
    })
}
