//! How a store behaves.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_mvcc::Limits;

use crate::Transform;

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How far history reaches back, and an eighth more: that often it is compacted. `None`: only when
    /// [`crate::Store::compact`] is called.
    pub compaction_interval: Option<Duration>,
    /// The recent events kept in memory for watchers.
    pub window: Limits,
    /// How many events may wait for one watcher; one that is further behind reads them from history.
    pub watch_queue: usize,
    /// How many bytes a file of the log has at least.
    pub volume: u64,
    /// What all rows may take, in bytes (etcd: `--quota-backend-bytes`).
    pub quota: u64,
    /// The form of values on disk; none: as they are.
    pub transform: Option<Arc<dyn Transform>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compaction_interval: Some(Duration::from_secs(5 * 60)),
            window: Limits::default(),
            watch_queue: 256,
            volume: 1 << 20,
            quota: 2 << 30,
            transform: None,
        }
    }
}
