//! What the store does for each kind, under the names that upstream's store has.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use plimsoll_catalogue::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use plimsoll_metrics::Histogram;

const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

/// What the store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Get,
    List,
    Create,
    Update,
    Delete,
}

const ALL: [(Access, &str); 5] = [
    (Access::Get, "get"),
    (Access::List, "list"),
    (Access::Create, "create"),
    (Access::Update, "update"),
    (Access::Delete, "delete"),
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    group: &'static str,
    operation: &'static str,
    resource: &'static str,
}

#[derive(Debug)]
struct Counted {
    count: Counter,
    seconds: Histogram,
}

/// What accesses to the store move.
#[derive(Debug)]
pub(crate) struct Storage {
    counts: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    /// By the place of the kind's row in memory, of which there is one as long as the process runs.
    known: ArcSwap<HashMap<usize, Arc<[Counted; ALL.len()]>>>,
}

impl Storage {
    /// Adds the families to what the server tells.
    pub(super) fn register(all: &mut Registry) -> Self {
        let this = Self {
            counts: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            known: ArcSwap::default(),
        };
        all.register(
            "etcd_requests",
            "[ALPHA] Etcd request counts for each operation and object type.",
            this.counts.clone(),
        );
        all.register(
            "etcd_request_duration_seconds",
            "[ALPHA] Etcd request latency in seconds for each operation and object type.",
            this.seconds.clone(),
        );
        this
    }

    /// The store has done something for a kind.
    pub(crate) fn done(&self, kind: &'static Kind, access: Access, since: Instant) {
        let took = since.elapsed().as_secs_f64();
        let key = std::ptr::from_ref(kind) as usize;
        if let Some(known) = self.known.load().get(&key) {
            return known[access as usize].add(took);
        }
        let new = Arc::new(ALL.map(|(_, operation)| {
            let labels = Labels { group: kind.group, operation, resource: kind.plural };
            Counted {
                count: self.counts.get_or_create_owned(&labels),
                seconds: self.seconds.get_or_create_owned(&labels),
            }
        }));
        new[access as usize].add(took);
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.insert(key, Arc::clone(&new));
            known
        });
    }
}

impl Counted {
    fn add(&self, took: f64) {
        self.count.inc();
        self.seconds.observe(took);
    }
}
