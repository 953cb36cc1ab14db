//! What a store tells of itself to those who measure, under etcd's names.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::{Alarm, Store};

impl Store {
    /// Adds the figures of this moment.
    pub fn register(&self, registry: &mut Registry) {
        let timings = self.timings();
        registry.register(
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL.",
            timings.sync.clone(),
        );
        registry.register(
            "etcd_disk_backend_commit_duration_seconds",
            "The latency distributions of commit called by backend.",
            timings.commit.clone(),
        );
        let Ok(stats) = self.stats() else { return };
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (total, in_use) = (number(stats.total), number(stats.bytes.kept()));
        let keys = i64::try_from(stats.keys).unwrap_or(i64::MAX);
        let slow = i64::try_from(stats.slow_watchers).unwrap_or(i64::MAX);
        let allocated = "Total size of the underlying database physically allocated in bytes.";
        for (name, help, value) in [
            ("etcd_mvcc_db_total_size_in_bytes", allocated, total),
            ("etcd_debugging_mvcc_db_total_size_in_bytes", allocated, total),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Total size of the underlying database logically in use in bytes.",
                in_use,
            ),
            ("etcd_debugging_mvcc_keys_total", "Total number of keys.", keys),
            ("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.", slow),
            (
                "etcd_server_quota_backend_bytes",
                "Current backend storage quota size in bytes.",
                number(stats.quota),
            ),
            (
                "plimsoll_store_expiring_bytes",
                "What keys take that delete themselves; the oldest go when it is an eighth of the quota.",
                number(stats.bytes.mortal),
            ),
            (
                "plimsoll_store_no_space",
                "Whether writes are refused because the quota is used up.",
                i64::from(stats.alarm == Alarm::NoSpace),
            ),
        ] {
            let gauge: Gauge = Gauge::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
        let recoveries: Counter = Counter::default();
        recoveries.inc_by(stats.recoveries);
        registry.register(
            "plimsoll_store_recoveries",
            "How often the store found room again by itself after its quota was used up.",
            recoveries,
        );
    }
}
