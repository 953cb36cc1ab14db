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

/// What requests are compared with.
#[derive(Default)]
pub(super) struct Plan {
    matches: Vec<Matched>,
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
}

impl Running {
    pub(super) fn lock(&self) -> MutexGuard<'_, Queues<Ticket>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// Of these objects and, where they are missing, the mandatory ones. Levels go on with what they do.
    pub(super) fn make(known: &Known, before: &Self, total: u32, now: Duration) -> Self {
        let all = complete(&known.levels, levels());
        let parsed: Vec<Level> = all.iter().map(Level::read).collect();
        let nominal = seats::nominal(total, &parsed.iter().collect::<Vec<_>>());
        let levels: Vec<(Level, Seats, Arc<Running>)> = parsed
            .into_iter()
            .zip(nominal)
            .map(|(level, seats)| {
                let running = before.running(&level, seats, now);
                (level, seats, running)
            })
            .collect();
        let mut found: Vec<Schema> = complete(&known.schemas, schemas()).iter().map(Schema::read).collect();
        found.sort_by(Schema::order);
        let value = |uid: &str| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""));
        let matches = found
            .into_iter()
            .filter_map(|schema| {
                let (level, seats, running) = levels.iter().find(|(level, ..)| level.name == schema.level)?;
                Some(Matched {
                    schema_uid: value(&schema.uid),
                    level_uid: value(&level.uid),
                    level: Arc::clone(running),
                    most: width::most(seats.nominal, level.hand()),
                    kind: level.kind,
                    schema,
                })
            })
            .collect();
        Self { matches, levels }
    }

    /// The first schema that a request belongs to.
    pub(super) fn find(&self, digest: &Digest<'_>) -> Option<&Matched> {
        self.matches.iter().find(|matched| matched.schema.matches(digest))
    }

    fn running(&self, level: &Level, seats: Seats, now: Duration) -> Arc<Running> {
        let response = match level.kind {
            LevelKind::Limited { response, .. } => response,
            LevelKind::Exempt => Response::Reject,
        };
        let Some((_, old, running)) = self.levels.iter().find(|(old, ..)| old.name == level.name) else {
            return Arc::new(Running {
                queues: Mutex::new(Queues::new(response, seats.nominal, now)),
                exempt: AtomicUsize::new(0),
                dispatched: AtomicU64::new(0),
            });
        };
        let mut queues = running.lock();
        queues.reshape(response);
        if *old != seats {
            queues.set_limit(now, seats.nominal);
            drain(&mut queues, now);
        }
        drop(queues);
        Arc::clone(running)
    }
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
