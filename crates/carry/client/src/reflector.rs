//! Keeps one cache equal to the server's content: list, then watch from there.
//!
//! Lists come in pages, so that a large cluster is never in memory twice. A watch that ends is taken
//! up again at the last version seen; only when the server has forgotten that version is everything
//! listed anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use http::Request;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::client::Body;
use kube::core::Status;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::backoff::Backoff;
use crate::cache::{Cache, key};
use crate::lines::Lines;
use crate::object::Object;

/// Objects in a page of a list.
const PAGE: usize = 500;

/// Seconds after which the server ends a watch; up to as many more are added at random.
const WATCH_SECONDS: u64 = 300;

/// How much longer than asked a watch may last before its connection counts as dead.
const GRACE: Duration = Duration::from_secs(15);

/// What to list and watch.
pub(crate) struct Source {
    /// Path and query, which ends in `?` or `&`.
    pub(crate) path: String,
    pub(crate) representation: Representation,
}

/// How much of each object to ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Representation {
    Full,
    Metadata,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("undecodable answer: {0}")]
    Decode(#[from] serde_json::Error),
    #[error("the server no longer knows the version to go on from")]
    Expired,
    #[error("{0}")]
    Status(Box<Status>),
    #[error("cannot build request: {0}")]
    Request(#[from] http::Error),
}

/// Follows `source` into `cache` for ever.
pub(crate) async fn reflect<K: Object>(client: kube::Client, source: Source, cache: Arc<Cache<K>>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    let mut version = None;
    loop {
        let outcome = match version.take() {
            None => list(&client, &source, &cache).await.map(|listed| version = Some(listed)),
            Some(from) => {
                let mut at = from;
                let watched = watch(&client, &source, &cache, &mut at, &mut backoff).await;
                if !matches!(watched, Err(Error::Expired)) {
                    version = Some(at);
                }
                watched
            }
        };
        match outcome {
            Ok(()) => {}
            Err(Error::Expired) => tracing::debug!(path = source.path, "listing again: version expired"),
            Err(error) => {
                let delay = backoff.delay();
                tracing::debug!(path = source.path, %error, ?delay, "list or watch failed");
                tokio::time::sleep(delay).await;
            }
        }
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// Reads everything; gives the version of the list.
async fn list<K: Object>(client: &kube::Client, source: &Source, cache: &Cache<K>) -> Result<String, Error> {
    // What is listed first can miss nothing.
    let mut seen = (cache.len() > 0).then(HashSet::new);
    let mut token: Option<String> = None;
    loop {
        let mut uri = format!("{}limit={PAGE}", source.path);
        if let Some(token) = &token {
            uri += &format!("&continue={}", utf8_percent_encode(token, NON_ALPHANUMERIC));
        }
        let body = send(client, uri, source.list_accept()).await?.collect_bytes().await?;
        let page: Page<'_> = serde_json::from_slice(&body)?;
        for item in page.items.unwrap_or_default() {
            if let Some(object) = decode::<K>(item.get(), source) {
                if let Some(seen) = &mut seen {
                    seen.insert(key(&object));
                }
                cache.apply(object, None);
            }
        }
        token = page.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            let version = page.metadata.resource_version.unwrap_or_default();
            cache.finish_list(seen.as_ref(), &version);
            return Ok(version);
        }
    }
}

/// An object that cannot be decoded is left out with a warning: it must not stop all others.
fn decode<K: Object>(text: &str, source: &Source) -> Option<K> {
    match serde_json::from_str(text) {
        Ok(object) => Some(object),
        Err(error) => {
            let start: String = text.chars().take(200).collect();
            tracing::warn!(path = source.path, %error, start, "leaving out an object that cannot be decoded");
            None
        }
    }
}

#[derive(Deserialize)]
struct WatchLine<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
}

/// Watches until the server ends the stream. `version` follows what has been seen.
async fn watch<K: Object>(
    client: &kube::Client,
    source: &Source,
    cache: &Cache<K>,
    version: &mut String,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let seconds = WATCH_SECONDS + rand::random_range(0..WATCH_SECONDS);
    let uri = format!(
        "{}watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}",
        source.path
    );
    let started = Instant::now();
    let deadline = started + Duration::from_secs(seconds) + GRACE;
    let mut chunks = send(client, uri, source.object_accept()).await?.into_data_stream();
    let mut lines = Lines::default();
    let mut events = 0usize;
    while let Ok(chunk) = timeout_at(deadline, chunks.try_next()).await {
        let Some(chunk) = chunk? else { break };
        lines.push(chunk);
        while let Some(line) = lines.next() {
            take_in(&line, source, cache, version)?;
            events += 1;
        }
        backoff.reset();
    }
    // A server that ends watches at once without a word must not be asked in a tight loop.
    if events == 0 && started.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(backoff.delay()).await;
    }
    Ok(())
}

/// Brings one line of a watch into the cache.
fn take_in<K: Object>(
    line: &[u8],
    source: &Source,
    cache: &Cache<K>,
    version: &mut String,
) -> Result<(), Error> {
    if line.is_empty() {
        return Ok(());
    }
    let line: WatchLine<'_> = serde_json::from_slice(line)?;
    match line.r#type {
        "ADDED" | "MODIFIED" => {
            *version = at(&line)?;
            decode(line.object.get(), source)
                .into_iter()
                .for_each(|object| cache.apply(object, Some(&*version)));
        }
        "DELETED" => {
            *version = at(&line)?;
            decode(line.object.get(), source).into_iter().for_each(|object| cache.delete(object, version));
        }
        "BOOKMARK" => {
            *version = at(&line)?;
            cache.reached(version);
        }
        "ERROR" => return Err(refused(serde_json::from_str(line.object.get())?)),
        other => tracing::warn!(path = source.path, other, "unknown watch event"),
    }
    Ok(())
}

fn at(line: &WatchLine<'_>) -> Result<String, Error> {
    Ok(serde_json::from_str::<Bookmark>(line.object.get())?.metadata.resource_version)
}

fn refused(status: Status) -> Error {
    let expired = status.code == 410 || status.reason == "Expired" || status.reason == "Gone";
    if expired { Error::Expired } else { Error::Status(Box::new(status)) }
}

async fn send(client: &kube::Client, uri: String, accept: &str) -> Result<Body, Error> {
    // Watches are read as they come: a compressing server would hold lines back.
    let request =
        Request::get(uri).header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity").body(Body::empty())?;
    let response = client.send(request).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let body = response.into_body().collect_bytes().await?;
    let unknown =
        || Status::failure(&String::from_utf8_lossy(&body), status.as_str()).with_code(status.as_u16());
    Err(refused(serde_json::from_slice(&body).unwrap_or_else(|_| unknown())))
}

impl Source {
    fn list_accept(&self) -> &'static str {
        match self.representation {
            Representation::Full => "application/json",
            Representation::Metadata => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
            }
        }
    }

    fn object_accept(&self) -> &'static str {
        match self.representation {
            Representation::Full => "application/json",
            Representation::Metadata => {
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
            }
        }
    }
}
