//! What can be told about a store.

use plimsoll_metrics::Histogram;
use plimsoll_mvcc::Bytes;

use crate::Alarm;

/// etcd's buckets of its disk metrics: 1 ms doubled, up to 8 s.
const SECONDS: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192];

/// A store at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Bytes on disk that the file system gave, zeros made ahead included.
    pub total: u64,
    /// What the rows take.
    pub bytes: Bytes,
    /// What they may take.
    pub quota: u64,
    /// Keys that exist.
    pub keys: usize,
    /// Watchers that are further behind than their queue is long, and read history.
    pub slow_watchers: usize,
    /// What is the matter.
    pub alarm: Alarm,
    /// How often the store found room again by itself.
    pub recoveries: u64,
}

/// How long writes take. Clones count the same ones.
#[derive(Clone, Debug)]
pub struct Timings {
    /// One sync of the log.
    pub sync: Histogram,
    /// One group of writes: put together, written and synced.
    pub commit: Histogram,
}

impl Default for Timings {
    fn default() -> Self {
        Self { sync: Histogram::new(SECONDS), commit: Histogram::new(SECONDS) }
    }
}
