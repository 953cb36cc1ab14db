//! How long pods take to start.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The times of one pod's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Since the agent saw it.
    pub(crate) seen: Duration,
    /// Since the API had it, by the node's clock.
    pub(crate) created: Option<Duration>,
    /// Of this the time for images.
    pub(crate) pulling: Duration,
}

/// A pod that starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Starting {
    seen: Instant,
    created: Option<Timestamp>,
    first_pull: Option<Instant>,
    last_pull: Option<Instant>,
}

impl Starting {
    /// The agent sees the pod for the first time.
    pub(crate) fn new(created: Option<Timestamp>) -> Self {
        Self { seen: Instant::now(), created, first_pull: None, last_pull: None }
    }

    /// An image is asked for.
    pub(crate) fn pulls(&mut self) {
        self.first_pull.get_or_insert_with(Instant::now);
    }

    /// An image is there.
    pub(crate) fn pulled(&mut self) {
        self.last_pull = Some(Instant::now());
    }

    /// All its containers run.
    pub(crate) fn runs(self, now: Timestamp) -> Start {
        let pulls = self.first_pull.zip(self.last_pull);
        let created = self.created.and_then(|created| Duration::try_from(now.duration_since(created)).ok());
        Start {
            seen: self.seen.elapsed(),
            created,
            pulling: pulls.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first)),
        }
    }
}
