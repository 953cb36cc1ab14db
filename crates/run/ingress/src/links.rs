//! What names in a table mean: backends and counters, which outlive the tables.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use plimsoll_route::limits::Limits;
use plimsoll_route::{BackendKey, Links, Owner};

use crate::limiter::Limiter;
use crate::pool::Pool;

/// All backends and counters that the present table uses.
#[derive(Default)]
pub(crate) struct Linker {
    pools: HashMap<BackendKey, Arc<Pool>>,
    limiters: HashMap<Owner, Arc<Limiter>>,
    used: HashSet<BackendKey>,
    counted: HashSet<Owner>,
    /// Backends that are new and have no endpoints yet.
    fresh: Vec<Arc<Pool>>,
}

impl Linker {
    /// Forgets what the table that was just built does not use, and gives the new backends.
    pub(crate) fn settle(&mut self) -> Vec<Arc<Pool>> {
        let (used, counted) = (std::mem::take(&mut self.used), std::mem::take(&mut self.counted));
        self.pools.retain(|key, _| used.contains(key));
        self.limiters.retain(|owner, _| counted.contains(owner));
        std::mem::take(&mut self.fresh)
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

    fn backend(&mut self, key: &BackendKey) -> Arc<Pool> {
        self.used.insert(key.clone());
        if let Some(known) = self.pools.get(key) {
            return known.clone();
        }
        let pool = Arc::new(Pool::new(key.clone()));
        self.pools.insert(key.clone(), pool.clone());
        self.fresh.push(pool.clone());
        pool
    }

    fn limiter(&mut self, owner: &Owner, limits: &Limits) -> Arc<Limiter> {
        self.counted.insert(owner.clone());
        let known = self.limiters.get(owner).filter(|limiter| limiter.limits == *limits);
        let limiter = known.cloned().unwrap_or_else(|| Arc::new(Limiter::new(limits.clone())));
        self.limiters.insert(owner.clone(), limiter.clone());
        limiter
    }
}
