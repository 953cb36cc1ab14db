//! What extension servers publish about their kinds.
//!
//! Rules: kube-aggregator, pkg/controllers/openapi and openapiv3, v1.37. Their documents of version 3 are asked
//! for when a client asks for them; here is only where they are. Of version 2 there is one document for all, so
//! their part of it is kept. Servers of old publish only that, and it is turned into version 3 for them.
//! What a server said last holds while it does not answer. Without extension servers this waits.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::header::{ETAG, HeaderValue};
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Aggregator, Extension, inquiry};
use crate::openapi::{Packed, Style, convert, filtered};
use crate::server::Api;
use crate::user::User;

/// How long what was read holds.
const GOOD: Duration = Duration::from_secs(60);
/// How soon a server that did not tell is asked again.
const BAD: Duration = Duration::from_secs(5);

/// What a server said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    /// Where its documents of version 3 are, by place.
    places: BTreeMap<String, String>,
    places_tag: Option<HeaderValue>,
    /// Its part of the document of version 2.
    whole: Option<Arc<Packed>>,
    whole_tag: Option<HeaderValue>,
    /// That in version 3, if the server has no other.
    converted: Option<Arc<Packed>>,
}

/// Reads what extension servers publish, when one comes and now and then, until shutdown.
pub(crate) async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    loop {
        let aggregator = &api.aggregator;
        let extensions = aggregator.extensions();
        let asked = extensions.values().filter(|one| one.available).map(|one| read(aggregator, one));
        let failures = join_all(asked).await.into_iter().filter_map(Result::err);
        let failed = failures.inspect(|cause| tracing::debug!(cause, "OpenAPI not read")).count() > 0;
        let again = async {
            match extensions.values().any(|one| one.available) {
                false => std::future::pending().await,
                true => tokio::time::sleep(if failed { BAD } else { GOOD }).await,
            }
        };
        tokio::select! {
            () = aggregator.came.notified() => {}
            () = again => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn read(aggregator: &Aggregator, extension: &Extension) -> Result<(), String> {
    let user = User::authenticated("system:aggregator", &[plimsoll_admission::MASTERS]);
    let mut published = aggregator.published(&extension.name).unwrap_or_default();
    let index = inquiry::get(extension, "/openapi/v3", &user, published.places_tag.as_ref()).await?;
    let is_old = match index.status() {
        StatusCode::OK => {
            published.places = places(extension, index.body())?;
            published.places_tag = index.headers().get(ETAG).cloned();
            false
        }
        StatusCode::NOT_MODIFIED => false,
        StatusCode::NOT_FOUND => true,
        code => return Err(format!("{}: /openapi/v3 answered {code}", extension.name)),
    };
    let whole = inquiry::get(extension, "/openapi/v2", &user, published.whole_tag.as_ref()).await;
    published.learn(extension, is_old, whole);
    aggregator.publish(extension, published);
    Ok(())
}

impl Published {
    /// Takes in the answer about version 2; one that cannot be used changes nothing.
    fn learn(&mut self, extension: &Extension, is_old: bool, answer: Result<Response<Bytes>, String>) {
        let Ok(answer) = answer else { return };
        if answer.status() == StatusCode::OK
            && let Ok(document) = serde_json::from_slice::<Value>(answer.body())
        {
            let document = filtered(document, &format!("/apis/{}/", extension.group));
            let now = Timestamp::now();
            let packed = |style, document: &Value| {
                Some(Arc::new(Packed::new(style, document.to_string().as_bytes(), now)))
            };
            let part = packed(Style::V2, &document);
            // Without a tag of the server's own, the same answer is the same document.
            if part.as_ref().map(|part| &part.tag) != self.whole.as_ref().map(|whole| &whole.tag) {
                self.whole = part;
                self.converted = if is_old { packed(Style::V3, &convert(document)) } else { None };
            }
            self.whole_tag = answer.headers().get(ETAG).cloned();
        }
    }
}

/// Where the documents of the extension's group are.
fn places(extension: &Extension, index: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let index: Value = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    let group = format!("apis/{}", extension.group);
    let of_group =
        |place: &str| place.strip_prefix(&group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let paths = index["paths"].as_object().into_iter().flatten();
    let known = paths
        .filter(|(place, _)| of_group(place))
        .filter_map(|(place, value)| Some((place.clone(), value["serverRelativeURL"].as_str()?.to_owned())));
    Ok(known.collect())
}

impl Aggregator {
    fn published(&self, name: &str) -> Option<Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Keeps what an extension said, unless it is gone by now.
    fn publish(&self, extension: &Extension, published: Published) {
        let mut all = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(&extension.group, &extension.version).is_some() {
            all.insert(extension.name.clone(), published);
        }
    }

    /// Where the documents of version 3 of extension servers are, as the index says it.
    pub(crate) fn places(&self) -> BTreeMap<String, Value> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let all = published.values().flat_map(|one| &one.places);
        all.map(|(place, address)| (place.clone(), json!({"serverRelativeURL": address}))).collect()
    }

    /// The extension server that has the document of a place.
    pub(crate) fn publisher(&self, place: &str) -> Option<Arc<Extension>> {
        let extensions = self.extensions();
        if extensions.is_empty() {
            return None;
        }
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, _) = published.iter().find(|(_, one)| one.places.contains_key(place))?;
        extensions.get(name).cloned()
    }

    /// Documents of version 3 that were made of older ones, by place.
    pub(crate) fn converted(&self) -> BTreeMap<String, Arc<Packed>> {
        let extensions = self.extensions();
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let all = published.iter().filter_map(|(name, one)| Some((extensions.get(name)?, one)));
        all.filter_map(|(extension, one)| {
            let place = format!("apis/{}/{}", extension.group, extension.version);
            Some((place, Arc::clone(one.converted.as_ref()?)))
        })
        .collect()
    }

    /// The parts of extension servers in the document of version 2, the most important first.
    pub(crate) fn wholes(&self) -> Vec<Arc<Packed>> {
        let extensions = self.extensions();
        if extensions.is_empty() {
            return Vec::new();
        }
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<&Arc<Extension>> = extensions.values().collect();
        sorted.sort_by_key(|one| std::cmp::Reverse((one.group_priority, one.version_priority)));
        let parts = sorted.into_iter().filter_map(|one| published.get(&one.name)?.whole.clone());
        parts.collect()
    }
}
