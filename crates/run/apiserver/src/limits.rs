//! How much a client may ask of the server.

use std::time::Duration;

use crate::features::Gate;

/// Bounds of requests; the default is upstream's.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a request may take that does not run as long as its client likes.
    pub request_timeout: Duration,
    /// How long a client may take for its handshake, for the head of a request, and for each piece of what
    /// it is sent.
    pub patience: Duration,
    /// How many requests that read are served at once. With priority and fairness, the sum of this and the
    /// next is divided among the priority levels.
    pub max_requests_inflight: u32,
    /// How many requests that write are served at once.
    pub max_mutating_requests_inflight: u32,
    /// Whether requests are sorted into priority levels, and queue fairly there.
    pub priority_and_fairness: Gate,
    /// How likely it is that a request over HTTP/2 ends its connection, so that clients spread over servers.
    pub goaway_chance: f64,
    /// How long requests are still served after the end has begun.
    pub shutdown_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(60),
            patience: Duration::from_secs(30),
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            priority_and_fairness: Gate::On,
            goaway_chance: 0.0,
            shutdown_delay: Duration::ZERO,
        }
    }
}

impl Limits {
    /// How many requests are served at once.
    pub(crate) fn concurrency(&self) -> u32 {
        self.max_requests_inflight.saturating_add(self.max_mutating_requests_inflight)
    }
}
