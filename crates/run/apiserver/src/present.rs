//! Stored objects in the version that a client asked for.
//!
//! Built-in kinds are converted in place; custom resources perhaps by a webhook, which takes time.

use std::sync::Arc;

use bytes::Bytes;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::Entry;
use serde_json::Value;

use crate::custom::{self, Definition};
use crate::server::Api;
use crate::{encode, registry};

/// One object.
pub(crate) async fn object(api: &Api, kind: &'static Kind, entry: &Entry) -> Result<Value, Status> {
    if !kind.is_custom() {
        return registry::served(kind, entry);
    }
    let definition = api.customs.require(kind)?;
    let mut objects = custom::presented(&definition, kind, vec![registry::stored(entry)?]).await?;
    objects.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
}

/// One object as bytes; the stored bytes themselves where they serve.
pub(crate) async fn bytes(api: &Api, kind: &'static Kind, entry: &Entry) -> Result<Bytes, Status> {
    if !kind.is_custom() {
        return registry::served_bytes(kind, entry);
    }
    let definition = api.customs.require(kind)?;
    if is_as_wanted(&definition, kind, entry) {
        return Ok(entry.value.clone());
    }
    Ok(encode::object(&object(api, kind, entry).await?))
}

/// Many objects as bytes; those that are converted are converted together.
pub(crate) async fn many(
    api: &Api,
    kind: &'static Kind,
    entries: &[Arc<Entry>],
) -> Result<Vec<Bytes>, Status> {
    if !kind.is_custom() {
        return entries.iter().map(|entry| registry::served_bytes(kind, entry)).collect();
    }
    let definition = api.customs.require(kind)?;
    let others: Vec<&Arc<Entry>> =
        entries.iter().filter(|entry| !is_as_wanted(&definition, kind, entry)).collect();
    let objects = others.iter().map(|entry| registry::stored(entry)).collect::<Result<_, _>>()?;
    let mut made = custom::presented(&definition, kind, objects).await?.into_iter();
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        all.push(match is_as_wanted(&definition, kind, entry) {
            true => entry.value.clone(),
            false => encode::object(&made.next().unwrap_or_default()),
        });
    }
    Ok(all)
}

/// Whether the stored bytes are the object as this version shows it.
fn is_as_wanted(definition: &Definition, kind: &Kind, entry: &Entry) -> bool {
    definition.family.wrote(entry) && encode::is_of(&entry.value, kind)
}

/// Whether a custom resource is kept in a version that its definition stored before.
pub(crate) fn is_outdated(api: &Api, kind: &'static Kind, entry: &Entry) -> Result<bool, Status> {
    if !kind.is_custom() {
        return Ok(false);
    }
    let definition = api.customs.require(kind)?;
    Ok(custom::is_outdated(&definition, kind, &registry::stored(entry)?))
}

/// The object in the version that is kept.
pub(crate) async fn stored(api: &Api, kind: &'static Kind, object: &Value) -> Result<Value, Status> {
    if kind.is_custom() {
        let definition = api.customs.require(kind)?;
        return custom::stored(&definition, kind, object.clone()).await;
    }
    let storage = kind.storage_kind();
    Ok(match storage == kind {
        true => object.clone(),
        false => plimsoll_catalogue::convert(kind, storage, object.clone()),
    })
}
