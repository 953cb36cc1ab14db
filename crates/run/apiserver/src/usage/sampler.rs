//! Asks node agents what is used: every 15 seconds while anybody wants to know, never otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use plimsoll_catalogue::Kind;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sample::{ContainerId, Scrape, Usage};
use crate::object::meta;
use crate::server::Api;
use crate::{body, registry, tunnel};

/// How often agents are asked.
const PERIOD: Duration = Duration::from_secs(15);
/// How long after the first sample the second one is taken when somebody waits.
const FIRST: Duration = Duration::from_secs(1);
/// Nobody has wanted to know for so long: agents are left alone.
const INTEREST: Duration = Duration::from_secs(120);
/// How long an agent may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Agents that are asked at once.
const AT_ONCE: usize = 32;
/// The longest answer of an agent, in bytes.
const LONGEST: usize = 16 << 20;

/// What is used, by node and by container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used {
    pub(super) nodes: BTreeMap<String, Usage>,
    pub(super) containers: BTreeMap<ContainerId, Usage>,
}

/// The samples of now, and who wants them.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    used: Mutex<Option<Arc<Used>>>,
    wanted: Mutex<Option<Instant>>,
    asked: Notify,
    taken: Notify,
}

impl Sampler {
    /// What is used now. Who comes first after a while waits for two samples.
    pub(crate) async fn used(&self) -> Arc<Used> {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        loop {
            let taken = self.taken.notified();
            let mut taken = std::pin::pin!(taken);
            taken.as_mut().enable();
            let known = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(used) = known {
                return used;
            }
            self.asked.notify_one();
            taken.await;
        }
    }

    fn is_wanted(&self) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.is_some_and(|at| at.elapsed() < INTEREST)
    }

    fn keep(&self, used: Option<Used>) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = used.map(Arc::new);
        self.taken.notify_waiters();
    }
}

/// Samples until `stop`.
pub(crate) async fn run(api: Arc<Api>, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        loop {
            api.usage.asked.notified().await;
            let mut before = scrape_all(&api).await;
            let mut pause = FIRST;
            while api.usage.is_wanted() {
                tokio::time::sleep(pause).await;
                let after = scrape_all(&api).await;
                api.usage.keep(Some(compare(&before, &after)));
                before = after;
                pause = PERIOD;
            }
            // What was known is too old to be told.
            api.usage.keep(None);
        }
    })
    .await;
}

fn compare(before: &BTreeMap<String, Scrape>, after: &BTreeMap<String, Scrape>) -> Used {
    let mut used = Used::default();
    for (name, now) in after {
        let Some(then) = before.get(name) else { continue };
        used.nodes.extend(now.node.since(&then.node).map(|usage| (name.clone(), usage)));
        let containers = now.containers.iter();
        used.containers.extend(
            containers.filter_map(|(id, now)| Some((id.clone(), now.since(then.containers.get(id)?)?))),
        );
    }
    used
}

async fn scrape_all(api: &Api) -> BTreeMap<String, Scrape> {
    let nodes = all(api, "nodes", "");
    let scrapes = stream::iter(nodes).map(|node| async move {
        let name = meta(&node, "name").to_owned();
        let scrape = tokio::time::timeout(PATIENCE, scrape(api, &node)).await.ok().flatten();
        if scrape.is_none() {
            tracing::debug!(node = name, "the agent does not say what is used");
        }
        Some((name, scrape?))
    });
    scrapes.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

async fn scrape(api: &Api, node: &Value) -> Option<Scrape> {
    let destination = tunnel::agent(node, "/metrics/resource".to_owned()).ok()?;
    let request = Request::get("/").body(body::full("").map_err(|never| never).boxed_unsync()).ok()?;
    let response = tunnel::forward(&api.agents, destination, request).await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let bytes = Limited::new(response.into_body(), LONGEST).collect().await.ok()?.to_bytes();
    Some(Scrape::read(&String::from_utf8_lossy(&bytes), Timestamp::now().as_millisecond()))
}

/// All objects of a kind of the core group.
pub(super) fn all(api: &Api, plural: &str, namespace: &str) -> Vec<Value> {
    let Some(kind) = plimsoll_catalogue::find("", "v1", plural) else { return Vec::new() };
    objects(api, kind, namespace)
}

fn objects(api: &Api, kind: &'static Kind, namespace: &str) -> Vec<Value> {
    let Ok(prefix) = registry::prefix(kind, namespace) else { return Vec::new() };
    let page = api.store.range(&prefix, None, usize::MAX, None);
    let entries = page.map(|page| page.entries).unwrap_or_default();
    entries.iter().filter_map(|entry| registry::served(kind, entry).ok()).collect()
}
