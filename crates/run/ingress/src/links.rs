//! What names in a table mean: backends and counters, which outlive the tables.

use std::collections::HashMap;
use std::sync::Arc;

use plimsoll_route::limits::Limits;
use plimsoll_route::{BackendKey, Links, Owner};

use crate::limiter::Limiter;
use crate::metrics::{Meter, Metrics, Place};
use crate::pool::Pool;

/// All backends and counters that tables use.
pub(crate) struct Linker {
    metrics: Arc<Metrics>,
    pools: HashMap<BackendKey, Arc<Pool>>,
    limiters: HashMap<Owner, Arc<Limiter>>,
    meters: HashMap<Place, Arc<Meter>>,
    /// Backends that are new and have no endpoints yet.
    fresh: Vec<Arc<Pool>>,
}

impl Linker {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            pools: HashMap::new(),
            limiters: HashMap::new(),
            meters: HashMap::new(),
            fresh: Vec::new(),
        }
    }

    /// The backends that are new.
    pub(crate) fn fresh(&mut self) -> Vec<Arc<Pool>> {
        std::mem::take(&mut self.fresh)
    }

    /// Forgets what nobody uses any more.
    pub(crate) fn settle(&mut self) {
        self.pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        self.limiters.retain(|_, limiter| Arc::strong_count(limiter) > 1);
        self.meters.retain(|_, meter| Arc::strong_count(meter) > 1);
    }

    /// Whether a table uses a backend.
    pub(crate) fn knows(&self, key: &BackendKey) -> bool {
        self.pools.contains_key(key)
    }

    /// The backends of a Service.
    pub(crate) fn of_service<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Pool>> {
        let pools = self.pools.values();
        pools.filter(move |pool| pool.key().namespace == namespace && pool.key().service == name)
    }
}

impl Links for Linker {
    type Backend = Arc<Pool>;
    type Limiter = Arc<Limiter>;
    type Meter = Arc<Meter>;

    fn backend(&mut self, key: &BackendKey) -> Arc<Pool> {
        if let Some(known) = self.pools.get(key) {
            return known.clone();
        }
        let pool = Arc::new(Pool::new(key.clone()));
        self.pools.insert(key.clone(), pool.clone());
        self.fresh.push(pool.clone());
        pool
    }

    fn limiter(&mut self, owner: &Owner, limits: &Limits) -> Arc<Limiter> {
        let known = self.limiters.get(owner).filter(|limiter| limiter.limits == *limits);
        let limiter = known.cloned().unwrap_or_else(|| Arc::new(Limiter::new(limits.clone())));
        self.limiters.insert(owner.clone(), limiter.clone());
        limiter
    }

    fn meter(&mut self, owner: &Owner, host: &str, path: &str, service: &str) -> Arc<Meter> {
        let place = Place {
            owner: owner.clone(),
            service: service.to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
        };
        let meter = self.meters.entry(place.clone());
        meter.or_insert_with(|| Arc::new(Meter::new(self.metrics.clone(), place))).clone()
    }
}
