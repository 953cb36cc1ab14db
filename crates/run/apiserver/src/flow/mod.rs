//! API priority and fairness: which requests run now, and which wait for others.
//!
//! What enters are requests whose sender is known; what leaves are permits that end with the answer, or a 429.
//! The decisions are those of `plimsoll-flow`; here are the locks, the clock and those who wait. A request
//! that needs not wait costs a look at the schemas and one short lock.

pub(crate) mod dump;
pub(crate) mod keep;
mod permit;
mod plan;
mod runs;
pub(crate) mod tell;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use plimsoll_catalogue::Kind;
use plimsoll_flow::width::{self, Reading, Width};
use plimsoll_flow::{Digest, hash};
use plimsoll_store::Store;
use serde_json::Value;
use tokio::sync::Notify;

use crate::body::{self, ResponseBody};
use crate::features::Gate;
use crate::follow::{Follower, follow};
use crate::limits::Limits;
use crate::metrics::FlowMetrics;
use crate::object::meta;
use crate::registry;
use crate::server::Api;
use crate::stages::Asked;
use crate::target::{ResourcePath, Target};

pub(crate) use permit::Permit;
use permit::{Refused, Stretch, Ticket};
use plan::{Matched, Plan};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const KINDS: [&str; 2] = ["prioritylevelconfigurations", "flowschemas"];
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// The levels as they are now, and what is known of the objects that describe them.
pub(crate) struct Flow {
    limits: Limits,
    start: Instant,
    known: Mutex<Known>,
    plan: ArcSwap<Plan>,
    metrics: FlowMetrics,
    /// Somebody changed an object.
    changed: Notify,
    /// Nobody has asked for a seat for a while, so nobody looks after lending.
    asleep: AtomicBool,
    /// Somebody asks for a seat again.
    woken: Notify,
    /// How many watch a kind.
    watchers: Mutex<HashMap<(&'static str, &'static str), Arc<AtomicUsize>>>,
    /// Requests that read and that write, where fairness is off.
    plain: [Arc<AtomicUsize>; 2],
}

/// The objects by name.
#[derive(Default)]
struct Known {
    levels: HashMap<String, Value>,
    schemas: HashMap<String, Value>,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flow")
    }
}

/// What an answer tells about its level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Arc<OnceLock<(HeaderValue, HeaderValue)>>);

impl Marks {
    /// Writes them into the head of the answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if let Some((schema, level)) = self.0.get() {
            headers.insert(SCHEMA_UID, schema.clone());
            headers.insert(LEVEL_UID, level.clone());
        }
    }
}

impl Flow {
    /// Reads both kinds and follows their changes.
    pub(crate) fn follow(store: &Store, limits: Limits, metrics: &FlowMetrics) -> Arc<Self> {
        let total = limits.concurrency();
        let plan = Plan::make(&Known::default(), None, metrics, total, Duration::ZERO);
        let this = Arc::new(Self {
            limits,
            start: Instant::now(),
            known: Mutex::default(),
            plan: ArcSwap::from_pointee(plan),
            metrics: metrics.clone(),
            changed: Notify::new(),
            asleep: AtomicBool::new(true),
            woken: Notify::new(),
            watchers: Mutex::default(),
            plain: Default::default(),
        });
        for kind in KINDS.iter().filter_map(|plural| plimsoll_catalogue::find(GROUP, "v1", plural)) {
            follow(store, kind, Arc::new(Followed(Arc::clone(&this))));
        }
        this
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// How long a request waits in a queue at most.
    fn patience(&self) -> Duration {
        self.limits.request_timeout / 4
    }

    /// Somebody asks for a seat.
    fn wake(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.woken.notify_one();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        change(&mut known);
        let (before, total) = (self.plan(), self.limits.concurrency());
        self.plan.store(Arc::new(Plan::make(&known, Some(&before), &self.metrics, total, self.now())));
        drop(known);
        self.changed.notify_one();
    }

    /// How many watch a kind; the number is shared.
    fn watchers(&self, kind: &Kind) -> Arc<AtomicUsize> {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(watchers.entry((kind.group, kind.plural)).or_default())
    }
}

struct Followed(Arc<Flow>);

impl Followed {
    fn map<'k>(kind: &Kind, known: &'k mut Known) -> &'k mut HashMap<String, Value> {
        if kind.kind == "FlowSchema" { &mut known.schemas } else { &mut known.levels }
    }
}

impl Follower for Followed {
    fn reset(&self, kind: &'static Kind, objects: Vec<Value>) {
        let named = objects.into_iter().map(|object| (meta(&object, "name").to_owned(), object)).collect();
        self.0.change(|known| *Self::map(kind, known) = named);
    }

    fn put(&self, kind: &'static Kind, object: &Value) {
        let name = meta(object, "name").to_owned();
        self.0.change(|known| drop(Self::map(kind, known).insert(name, object.clone())));
    }

    fn remove(&self, kind: &'static Kind, object: &Value) {
        self.0.change(|known| drop(Self::map(kind, known).remove(meta(object, "name"))));
    }
}

/// How a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// Until its answer has ended.
    Answer,
    /// It is a watch: until it has begun.
    Beginning,
    /// It is a connection: not at all.
    Connection,
}

impl Lasting {
    /// Of a request with this verb.
    pub(crate) fn of(verb: &str, target: &Target) -> Self {
        match target {
            _ if verb == "watch" => Self::Beginning,
            Target::Resource(path) => match path.subresource.as_str() {
                "exec" | "attach" | "portforward" | "proxy" | "log" => Self::Connection,
                _ => Self::Answer,
            },
            Target::Other => Self::Answer,
        }
    }
}

/// Lets a request pass, perhaps after some time; or has the answer that turns it away.
pub(crate) async fn enter(
    api: &Api,
    asked: &Asked,
    verb: &str,
    target: &Target,
    marks: &Marks,
) -> Result<Permit, Response<ResponseBody>> {
    let flow = &api.flow;
    if Lasting::of(verb, target) == Lasting::Connection {
        return Ok(Permit::free());
    }
    if flow.limits.priority_and_fairness == Gate::Off {
        return plain(flow, asked, verb).ok_or_else(turned_away);
    }
    let none = ResourcePath::default();
    let path = match target {
        Target::Resource(path) => path,
        Target::Other => &none,
    };
    let digest = Digest {
        user: &asked.user.name,
        groups: &asked.user.groups,
        verb,
        group: &path.group,
        resource: &path.resource,
        subresource: &path.subresource,
        namespace: &path.namespace,
        path: &asked.path,
    };
    // The plan may change while the request waits.
    let matched = Arc::clone(flow.plan.load().find(&digest));
    if !matched.schema.uid.is_empty() {
        let _ = marks.0.set((matched.schema_uid.clone(), matched.level_uid.clone()));
    }
    let stretch = match Lasting::of(verb, target) {
        Lasting::Beginning => Stretch::Beginning,
        Lasting::Answer | Lasting::Connection => Stretch::Whole,
    };
    if matched.is_exempt() {
        return Ok(Permit::exempt(&matched, matched.schema.flow(&digest), stretch));
    }
    flow.wake();
    let width = wide(api, asked, verb, path, &matched);
    let distinguisher = matched.schema.flow(&digest);
    let ticket = |wake| Ticket {
        wake,
        schema: matched.schema.name.clone(),
        flow: distinguisher.to_owned(),
        arrived: jiff::Timestamp::now(),
        width,
    };
    let key = hash(&matched.schema.name, distinguisher);
    permit::wait(flow, &matched, (key, distinguisher), (width, stretch), (flow.metrics.queued(verb), ticket))
        .await
        .map_err(|Refused| turned_away())
}

/// How many seats a request takes.
fn wide(api: &Api, asked: &Asked, verb: &str, path: &ResourcePath, matched: &Matched) -> Width {
    let most = matched.most;
    if path.resource.is_empty() {
        return Width::ONE;
    }
    let begins = verb == "list" || (verb == "watch" && asked.query.flag("sendInitialEvents"));
    if begins && path.name.is_empty() && registry::selected_name(&asked.query).is_none() {
        let Ok(kind) = registry::kind(api, path) else { return Width::ONE };
        let Ok(prefix) = registry::prefix(kind, "") else { return Width::ONE };
        let limit = asked.query.get("limit").parse().unwrap_or(0);
        let fresh = asked.query.get("resourceVersion") != "0";
        let selects = asked.query.has("labelSelector") || asked.query.has("fieldSelector");
        let continues = !asked.query.get("continue").is_empty();
        let reading = match verb == "list" && (continues || (limit > 0 && fresh)) {
            false => Reading::Whole,
            true if selects => Reading::Selected(limit),
            true => Reading::Page(limit),
        };
        return width::list(api.store.count(&prefix) as u64, reading, most);
    }
    let changes = matches!(verb, "create" | "update" | "patch" | "delete");
    if !changes || (path.resource == "serviceaccounts" && path.subresource == "token") {
        return Width::ONE;
    }
    let Ok(kind) = registry::kind(api, path) else { return Width::ONE };
    let watchers = api.flow.watchers(kind).load(Ordering::Relaxed) as u64;
    matched.metrics.watchers.observe(watchers as f64);
    width::change(watchers, most)
}

/// Two limits for everybody but administrators. Watches run as long as their clients like and count for neither.
fn plain(flow: &Flow, asked: &Asked, verb: &str) -> Option<Permit> {
    let (count, limit) = match verb {
        "watch" => return Some(Permit::free()),
        "get" | "list" => (&flow.plain[0], flow.limits.max_requests_inflight),
        _ => (&flow.plain[1], flow.limits.max_mutating_requests_inflight),
    };
    let is_master = || asked.user.groups.iter().any(|group| group == plimsoll_admission::MASTERS);
    let unbounded = limit == 0 || is_master();
    let one_more = |running| (unbounded || running < limit as usize).then_some(running + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
    Some(Permit::counted(Arc::clone(count)))
}

/// Counts a watch of a kind until its stream ends.
pub(crate) fn watched(flow: &Flow, kind: &Kind) -> Permit {
    let count = flow.watchers(kind);
    count.fetch_add(1, Ordering::Relaxed);
    Permit::counted(count)
}

fn turned_away() -> Response<ResponseBody> {
    let mut response = Response::new(body::full("Too many requests, please try again later.\n"));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
