//! Which servers answer.
//!
//! A server that fails several times in a row is asked only when no other works,
//! and is tried in the background until it answers again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::exchange::{Target, exchange};
use crate::metrics::Metrics;

/// How long a server may take to be told to work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks for the name servers of the root, which every resolver knows.
const TRIAL: [u8; 17] = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

const POISON: &str = "no code under the lock panics";

/// What is known of the servers; trials end when it is dropped.
pub(crate) struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    /// Failures in a row; servers that are not listed answered last.
    failing: Mutex<HashMap<SocketAddr, Failing>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Failing {
    times: u32,
    /// Whether it counts as broken and is tried.
    broken: bool,
}

impl Health {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { inner: Arc::new(Inner { failing: Mutex::default(), metrics }) }
    }

    pub(crate) fn works(&self, server: SocketAddr) -> bool {
        !self.inner.failing.lock().expect(POISON).get(&server).is_some_and(|failing| failing.broken)
    }

    pub(crate) fn answered(&self, server: SocketAddr) {
        self.inner.failing.lock().expect(POISON).remove(&server);
    }

    /// Counts a failure; the one that reaches `most` starts the trials, unless `most` is 0.
    pub(crate) fn failed(&self, target: &Target, most: u32, every: Duration) {
        let server = target.address;
        let mut all = self.inner.failing.lock().expect(POISON);
        let failing = all.entry(server).or_default();
        failing.times = failing.times.saturating_add(1);
        if most == 0 || failing.times < most || failing.broken {
            return;
        }
        failing.broken = true;
        tracing::warn!(%server, "resolver does not answer, others are asked first");
        tokio::spawn(try_until_it_works(
            Arc::downgrade(&self.inner),
            target.clone(),
            every.max(Duration::from_millis(50)),
        ));
    }
}

async fn try_until_it_works(health: Weak<Inner>, target: Target, every: Duration) {
    let server = target.address;
    loop {
        tokio::time::sleep(every).await;
        let broken = |inner: &Inner| inner.failing.lock().expect(POISON).contains_key(&server);
        if !health.upgrade().is_some_and(|inner| broken(&inner)) {
            return;
        }
        let answers = exchange(&target, &TRIAL, PATIENCE).await.is_ok();
        let Some(inner) = health.upgrade() else { return };
        if answers {
            tracing::info!(%server, "resolver answers again");
            inner.failing.lock().expect(POISON).remove(&server);
            return;
        }
        inner.metrics.check_failed(&server.to_string());
    }
}
