//! How many images are pulled at once, and how often (kubelet: serializeImagePulls, maxParallelImagePulls,
//! registryPullQPS, registryBurst).

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use plimsoll_podlife::rate::Bucket;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Config;

/// Turns for pulling.
pub(crate) struct Pulls {
    turns: Semaphore,
    rate: Option<Mutex<Bucket>>,
    start: Instant,
}

impl Pulls {
    pub(crate) fn new(config: &Config) -> Self {
        let start = Instant::now();
        let bucket = |(rate, burst)| Mutex::new(Bucket::new(rate, burst, start.elapsed()));
        Self {
            turns: Semaphore::new(config.parallel_pulls.unwrap_or(Semaphore::MAX_PERMITS)),
            rate: config.pull_rate.map(bucket),
            start,
        }
    }

    /// Waits for one's turn; it ends when what is returned is dropped.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// Whether the registries may be asked once more now.
    pub(crate) fn may(&self) -> bool {
        let Some(bucket) = &self.rate else { return true };
        bucket.lock().unwrap_or_else(PoisonError::into_inner).take(self.start.elapsed())
    }
}
