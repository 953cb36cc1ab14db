//! Counts the requests of clients, for all workers.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_route::limits::{Entry, Ledger, Limits};

/// Clients are counted in so many parts, so that workers seldom meet.
const PARTS: usize = 16;

/// The counts of an Ingress.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) limits: Limits,
    hasher: RandomState,
    parts: [Mutex<Ledger>; PARTS],
}

/// A request that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    limiter: Arc<Limiter>,
    client: IpAddr,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, hasher: RandomState::new(), parts: Default::default() }
    }

    /// Counts a request, or says after what time to refuse it: it is one too many.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr, now: u64) -> Result<Counted, Duration> {
        match self.with(client, |ledger| ledger.enter(&self.limits, client, now)) {
            Entry::Passes => Ok(Counted { limiter: self.clone(), client }),
            Entry::Refused(millis) => Err(Duration::from_millis(millis)),
        }
    }

    fn with<T>(&self, client: IpAddr, act: impl FnOnce(&mut Ledger) -> T) -> T {
        let part = &self.parts[self.hasher.hash_one(client) as usize % PARTS];
        act(&mut part.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.limiter.with(self.client, |ledger| ledger.leave(self.client));
    }
}
