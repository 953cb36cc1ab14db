//! The state store, as flags.

use std::time::Duration;

use clap::Args;

/// What the state store keeps, and for how long
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArgs {
    /// How often history that nobody needs is dropped; 0: never by the clock
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = plimsoll_meta::duration::parse)]
    pub(crate) etcd_compaction_interval: Duration,
    /// How many bytes the state may take; beyond it, writes that add something are refused. 0: 2 GiB
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) quota_backend_bytes: u64,
}

impl StoreArgs {
    pub(crate) fn compaction_interval(&self) -> Option<Duration> {
        Some(self.etcd_compaction_interval).filter(|interval| !interval.is_zero())
    }

    /// etcd's default stands behind 0.
    pub(crate) fn quota(&self) -> u64 {
        const DEFAULT: u64 = 2 << 30;
        if self.quota_backend_bytes == 0 { DEFAULT } else { self.quota_backend_bytes }
    }
}
