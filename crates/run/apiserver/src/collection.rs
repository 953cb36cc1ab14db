//! Reading: one object, or a list from a consistent snapshot.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{Response, StatusCode};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::{Page, Revision, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::body::{self, ResponseBody};
use crate::negotiate::Form;
use crate::query::Query;
use crate::registry::{self, Selection};
use crate::server::Api;
use crate::target::ResourcePath;
use crate::{encode, present, table};

/// How many objects one step of a selective list looks at.
const STEP: usize = 5000;
/// Pieces of a list's body are gathered to about this many bytes.
const PIECE: usize = 64 * 1024;

/// Where the next page of a list begins.
#[derive(Debug, Deserialize, Serialize)]
struct Continue {
    rv: i64,
    start: String,
}

/// GET of one object.
pub(crate) async fn get(
    api: &Api,
    kind: &'static Kind,
    target: &ResourcePath,
    form: Form,
    query: &Query,
) -> Result<Response<ResponseBody>, Status> {
    let missing = || Status::not_found(kind.group, kind.plural, &target.name);
    let key = kind.key(&target.namespace, &target.name).ok_or_else(missing)?;
    let entry = api.store.get(&key).ok_or_else(missing)?;
    let bytes = match form {
        Form::Object => present::bytes(api, kind, &entry).await?,
        Form::Table => {
            encode::object(&table::of_object(kind, &present::object(api, kind, &entry).await?, query))
        }
        Form::PartialMetadata => encode::object(&table::partial(present::object(api, kind, &entry).await?)),
    };
    Ok(body::encoded(StatusCode::OK, "application/json", bytes))
}

/// One page of matching entries.
pub(crate) struct Listed {
    pub(crate) entries: Vec<Arc<plimsoll_store::Entry>>,
    pub(crate) revision: Revision,
    next: Option<String>,
    remaining: Option<usize>,
}

/// GET of a collection.
pub(crate) async fn list(
    api: &Api,
    kind: &'static Kind,
    namespace: &str,
    form: Form,
    query: &Query,
) -> Result<Response<ResponseBody>, Status> {
    let selection = Selection::read(kind, query, "")?;
    let listed = select(&api.store, kind, namespace, &selection, query)?;
    let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
    if let Some(start) = &listed.next {
        metadata["continue"] = json!(token(listed.revision, start));
        if let Some(remaining) = listed.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    Ok(match form {
        Form::Object => objects(api, kind, &listed, &metadata).await?,
        Form::Table => {
            let objects = present::objects(api, kind, &listed.entries).await?;
            body::encoded(
                StatusCode::OK,
                "application/json",
                encode::object(&table::of_list(kind, &objects, metadata, query)),
            )
        }
        Form::PartialMetadata => {
            let objects = present::objects(api, kind, &listed.entries).await?;
            let items: Vec<Value> = objects.into_iter().map(table::partial).collect();
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items});
            body::json(StatusCode::OK, &list)
        }
    })
}

/// The stored bytes of all objects, one after the other.
async fn objects(
    api: &Api,
    kind: &'static Kind,
    listed: &Listed,
    metadata: &Value,
) -> Result<Response<ResponseBody>, Status> {
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut piece = BytesMut::from(&encode::list_head(&kind.api_version(), &kind.list_kind(), metadata)[..]);
    for (at, entry) in listed.entries.iter().enumerate() {
        if at > 0 {
            piece.extend_from_slice(b",");
        }
        piece.extend_from_slice(&present::bytes(api, kind, entry).await?);
        if piece.len() >= PIECE {
            pieces.push(piece.split().freeze());
        }
    }
    piece.extend_from_slice(b"]}\n");
    pieces.push(piece.freeze());
    let mut response = body::encoded(StatusCode::OK, "application/json", Bytes::new());
    *response.body_mut() = match pieces.len() {
        1 => body::full(pieces.remove(0)),
        _ => body::stream(stream::iter(pieces)),
    };
    Ok(response)
}

/// The entries of one page, by `limit`, `continue`, `resourceVersion` and `resourceVersionMatch`.
pub(crate) fn select(
    store: &Store,
    kind: &'static Kind,
    namespace: &str,
    selection: &Selection,
    query: &Query,
) -> Result<Listed, Status> {
    let prefix = registry::prefix(kind, namespace)?;
    let limit = usize::try_from(query.number("limit")?.unwrap_or(0)).unwrap_or(0);
    let (mut after, at) = start(query, store.revision())?;
    let wanted = if limit == 0 { usize::MAX } else { limit };
    let step = if selection.is_everything() { wanted } else { STEP.max(limit) };
    let mut found = Vec::new();
    loop {
        let page = store
            .range(&prefix, after.as_deref(), step, at)
            .map_err(|error| unreadable(&error, &prefix, after.as_deref()))?;
        let Page { entries, revision, more, remaining } = page;
        let last = entries.last().map(|entry| entry.key.to_string());
        for entry in entries {
            if !selection.matches(kind, &entry) {
                continue;
            }
            if found.len() == wanted {
                // One more match proves that there is a next page; it begins behind the last one taken.
                let next = found.last().map(|entry: &Arc<plimsoll_store::Entry>| entry.key.to_string());
                return Ok(Listed { entries: found, revision, next, remaining: None });
            }
            found.push(entry);
        }
        if !more {
            return Ok(Listed { entries: found, revision, next: None, remaining: None });
        }
        if selection.is_everything() {
            return Ok(Listed { entries: found, revision, next: last, remaining: Some(remaining) });
        }
        after = last;
    }
}

/// Where a list begins, and at which revision it reads.
fn start(query: &Query, current: Revision) -> Result<(Option<String>, Option<Revision>), Status> {
    let version = query.get("resourceVersion");
    let exact = query.get("resourceVersionMatch");
    let token = query.get("continue");
    if !token.is_empty() {
        if !version.is_empty() && version != "0" {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let broken = || Status::bad_request("continue key is not valid: encoded start key could not be read");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| broken())?;
        let token: Continue = serde_json::from_slice(&bytes).map_err(|_| broken())?;
        let at = (token.rv > 0).then_some(Revision(token.rv));
        return Ok((Some(token.start), at));
    }
    if version.is_empty() {
        return match exact {
            "" => Ok((None, None)),
            _ => Err(invalid_match("resourceVersionMatch is forbidden unless resourceVersion is provided")),
        };
    }
    let wanted: i64 = version.parse().map_err(|_| {
        Status::bad_request(format!(
            "Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
        ))
    })?;
    match exact {
        "Exact" if wanted == 0 => {
            Err(invalid_match("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
        }
        "Exact" => Ok((None, Some(Revision(wanted)))),
        "" | "NotOlderThan" if wanted > current.0 => Err(Status {
            details: json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1}),
            ..Status::timeout(format!("Too large resource version: {wanted}, current: {current}"))
        }),
        "" | "NotOlderThan" => Ok((None, None)),
        other => Err(Status::bad_request(format!("resourceVersionMatch: Unsupported value: {other:?}"))),
    }
}

fn invalid_match(message: &str) -> Status {
    Status::bad_request(format!("resourceVersionMatch: Forbidden: {message}"))
}

fn token(revision: Revision, start: &str) -> String {
    let token = Continue { rv: revision.0, start: start.to_owned() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("two plain fields"))
}

fn unreadable(error: &StoreError, prefix: &str, after: Option<&str>) -> Status {
    match (error, after) {
        (StoreError::Compacted { .. }, Some(start)) if start.starts_with(prefix) => Status {
            details: json!({}),
            ..Status::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list \
                 without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
                 results. Continuing with the provided token results in an inconsistent list - objects that were created, \
                 modified, or deleted between the time the first chunk was returned and now may show up in the list.",
            )
        },
        (StoreError::Compacted { .. }, _) => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        _ => Status::internal(error),
    }
}

/// A 410 answer's Status with the token to go on inconsistently, if the request had one.
pub(crate) fn with_fresh_token(status: &Status, query: &Query) -> Value {
    let mut value = status.to_value();
    let old = URL_SAFE_NO_PAD.decode(query.get("continue")).ok();
    if let (410, Some(old)) =
        (status.code, old.and_then(|bytes| serde_json::from_slice::<Continue>(&bytes).ok()))
    {
        value["metadata"]["continue"] = json!(token(Revision(-1), &old.start));
    }
    value
}
