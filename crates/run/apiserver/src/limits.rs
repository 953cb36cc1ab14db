//! How much a client may ask of the server.

use std::time::Duration;

/// Bounds of requests; the default is upstream's.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a request may take that does not run as long as its client likes.
    pub request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request_timeout: Duration::from_secs(60) }
    }
}
