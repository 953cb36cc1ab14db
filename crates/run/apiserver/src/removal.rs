//! Requests that delete: one object, or all that a request selects.
//!
//! What enters is the request; what leaves is the answer. What a deletion does to an object is the business of
//! `delete.rs`.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use serde_json::json;

use crate::body::{self, RequestBody, ResponseBody};
use crate::delete::{self, Deleted, Options};
use crate::list_options::ListOptions;
use crate::negotiate::Form;
use crate::registry::{self, Selection};
use crate::server::Api;
use crate::stages::{Asked, write, written_answer};
use crate::target::ResourcePath;
use crate::{collection, decode, encode};

/// Objects of a collection that are deleted at the same time.
const REMOVED_AT_ONCE: usize = 32;

/// DELETE of one object.
pub(crate) async fn remove(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    request: Request<RequestBody>,
    form: Form,
) -> Result<Response<ResponseBody>, Status> {
    let options = options(asked, request).await?;
    let mut write = write(api, asked, kind, target, None)?;
    write.dry_run |= options.is_dry_run();
    match write.delete(&options).await? {
        Deleted::Gone(object) => Ok(body::json(StatusCode::OK, &delete::success(&write, &object))),
        Deleted::Pending(written) => written_answer(api, kind, written, form, asked),
    }
}

async fn options(asked: &Asked, request: Request<RequestBody>) -> Result<Options, Status> {
    let bytes = body::read(request.into_body()).await?;
    if bytes.is_empty() {
        return Options::read(&json!({}), &asked.query);
    }
    let value =
        decode::value(&asked.headers, &bytes).and_then(|document| decode::delete_options(document.value));
    // Upstream has no name for what is wrong with these bodies.
    let value = value.map_err(|status| match status.code {
        400 => Status::unnamed(status.message),
        _ => status,
    })?;
    Options::read(&value, &asked.query)
}

/// DELETE of a collection.
pub(crate) async fn remove_all(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let options = options(asked, request).await?;
    let prefix = registry::prefix(kind, &target.namespace)?;
    let page = ListOptions::read(&asked.query, &prefix, api.store.revision())?;
    let selection = Selection::read(api, kind, &asked.query, "")?;
    let listed = collection::select(&api.store, kind, &target.namespace, &selection, &page)?;
    // Side by side, so that one sync of the disk serves many of them.
    let mut items: Vec<Bytes> = Vec::with_capacity(listed.entries.len());
    for some in listed.entries.chunks(REMOVED_AT_ONCE) {
        let removals = some.iter().map(|entry| remove_one(api, asked, kind, target, &entry.key, &options));
        for removed in futures::future::join_all(removals).await {
            items.extend(removed?);
        }
    }
    let metadata = json!({"resourceVersion": api.store.revision().to_string()});
    let mut list = Vec::from(encode::list_head(&kind.api_version(), &kind.list_kind(), &metadata));
    list.extend(items.join(&b","[..]));
    list.extend(b"]}");
    Ok(body::encoded(StatusCode::OK, "application/json", list))
}

/// Deletes an object of a collection; gives its last state, unless somebody else was quicker.
async fn remove_one(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    key: &str,
    options: &Options,
) -> Result<Option<Bytes>, Status> {
    let (namespace, name) = registry::key_parts(kind, key);
    let one = ResourcePath { namespace: namespace.to_owned(), name: name.to_owned(), ..target.clone() };
    let mut write = write(api, asked, kind, &one, None)?;
    write.dry_run |= options.is_dry_run();
    match write.delete(options).await {
        Ok(Deleted::Gone(object)) => Ok(Some(encode::object(&object))),
        Ok(Deleted::Pending(written)) => Ok(Some(written.bytes)),
        Err(status) if status.code == 404 => Ok(None),
        Err(status) => Err(status),
    }
}
