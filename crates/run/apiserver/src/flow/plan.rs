//! The schemas in their order, each with its level.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use plimsoll_flow::seats::{self, Seats};
use plimsoll_flow::{Digest, Level, LevelKind, Queues, Response, Schema, levels, mandatory, schemas, width};
use serde_json::Value;

use super::Known;
use super::permit::{Ticket, drain};
use super::runs::Runs;
use crate::metrics::{FlowMetrics, SchemaMetrics};

/// The mandatory schema that comes last.
const CATCH_ALL: &str = "catch-all";

/// What requests are compared with.
pub(super) struct Plan {
    matches: Vec<Arc<Matched>>,
    /// Where requests belong that nothing else fits.
    catch_all: Arc<Matched>,
    pub(super) levels: Vec<(Level, Seats, Arc<Running>)>,
}

/// A schema and its level.
pub(super) struct Matched {
    pub(super) schema: Schema,
    pub(super) schema_uid: HeaderValue,
    pub(super) level_uid: HeaderValue,
    pub(super) level: Arc<Running>,
    /// The most seats of one request.
    pub(super) most: u32,
    pub(super) metrics: SchemaMetrics,
    kind: LevelKind,
}

impl Matched {
    pub(super) fn is_exempt(&self) -> bool {
        self.kind == LevelKind::Exempt
    }
}

/// What a level is doing; it lives as long as somebody runs or waits in it.
pub(super) struct Running {
    queues: Mutex<Queues<Ticket>>,
    /// Requests of an exempt level.
    pub(super) exempt: AtomicUsize,
    pub(super) dispatched: AtomicU64,
    /// Those that run, for people who want to look at them.
    pub(super) runs: Runs,
}

impl Running {
    pub(super) fn lock(&self) -> MutexGuard<'_, Queues<Ticket>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// Of these objects and, where they are missing, the mandatory ones. Levels go on with what they do.
    pub(super) fn make(
        known: &Known,
        before: Option<&Self>,
        metrics: &FlowMetrics,
        total: u32,
        now: Duration,
    ) -> Self {
        let all = complete(&known.levels, levels());
        let parsed: Vec<Level> = all.iter().map(Level::read).collect();
        let nominal = seats::nominal(total, &parsed.iter().collect::<Vec<_>>());
        let levels: Vec<(Level, Seats, Arc<Running>)> = parsed
            .into_iter()
            .zip(nominal)
            .map(|(level, seats)| {
                let running = running(before, &level, seats, now);
                (level, seats, running)
            })
            .collect();
        let mut found: Vec<Schema> = complete(&known.schemas, schemas()).iter().map(Schema::read).collect();
        found.sort_by(Schema::order);
        let matched = |schema: Schema| {
            let (level, seats, running) = levels.iter().find(|(level, ..)| level.name == schema.level)?;
            Some(Arc::new(Matched {
                schema_uid: value(&schema.uid),
                level_uid: value(&level.uid),
                level: Arc::clone(running),
                most: width::most(seats.nominal, level.hand()),
                metrics: metrics.schema(&schema.name, &level.name),
                kind: level.kind,
                schema,
            }))
        };
        let matches: Vec<Arc<Matched>> = found.into_iter().filter_map(matched).collect();
        let is_last = |one: &&Arc<Matched>| one.schema.name == CATCH_ALL;
        let default = || schemas().iter().map(Schema::read).find(|one| one.name == CATCH_ALL);
        let catch_all = matches.iter().find(is_last).cloned().or_else(|| default().and_then(matched));
        Self { matches, catch_all: catch_all.expect("the mandatory level is always there"), levels }
    }

    /// The first schema that a request belongs to. Nobody is without one: who is in neither of the groups that
    /// the catch-all schema names belongs to it all the same.
    pub(super) fn find(&self, digest: &Digest<'_>) -> &Arc<Matched> {
        self.matches.iter().find(|matched| matched.schema.matches(digest)).unwrap_or(&self.catch_all)
    }
}

fn value(uid: &str) -> HeaderValue {
    HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""))
}

/// What a level does already, or the beginning of it.
fn running(before: Option<&Plan>, level: &Level, seats: Seats, now: Duration) -> Arc<Running> {
    let response = match level.kind {
        LevelKind::Limited { response, .. } => response,
        LevelKind::Exempt => Response::Reject,
    };
    let old = before.and_then(|plan| plan.levels.iter().find(|(old, ..)| old.name == level.name));
    let Some((_, old, running)) = old else {
        return Arc::new(Running {
            queues: Mutex::new(Queues::new(response, seats.nominal, now)),
            exempt: AtomicUsize::new(0),
            dispatched: AtomicU64::new(0),
            runs: Runs::default(),
        });
    };
    let mut queues = running.lock();
    queues.reshape(response, seats.nominal);
    if *old != seats {
        queues.set_limit(now, seats.nominal);
        drain(&mut queues, now);
    }
    drop(queues);
    Arc::clone(running)
}

fn complete(known: &HashMap<String, Value>, defaults: Vec<Value>) -> Vec<Value> {
    let missing = |object: &Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        mandatory(name) && !known.contains_key(name)
    };
    let mut all: Vec<Value> = known.values().cloned().collect();
    all.extend(defaults.into_iter().filter(missing));
    all
}
