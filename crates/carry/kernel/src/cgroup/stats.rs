//! What a group has used, the same for both versions.

/// Usage of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidStats,
    /// Block devices.
    pub io: IoStats,
}

/// Processor time since the group was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All of it, in nanoseconds.
    pub usage_nanos: u64,
    /// In user mode, in nanoseconds.
    pub user_nanos: u64,
    /// In the kernel, in nanoseconds.
    pub system_nanos: u64,
    /// Scheduling periods that passed.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// How long processes had to wait for quota, in nanoseconds.
    pub throttled_nanos: u64,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// What counts towards the limit.
    pub usage: u64,
    /// Usage without the page cache that can go at once (kubelet: the figure of eviction).
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// Mapped files.
    pub mapped_file: u64,
    /// Swapped out.
    pub swap: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// Page faults since creation.
    pub page_faults: u64,
    /// Page faults that needed a device.
    pub major_page_faults: u64,
    /// Page faults without those of groups below; the same as all on version 2.
    pub own_page_faults: u64,
    /// Of these, such that needed a device.
    pub own_major_page_faults: u64,
    /// Page cache that was used lately.
    pub active_file: u64,
    /// Page cache that can go at once.
    pub inactive_file: u64,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidStats {
    /// Present number.
    pub current: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

/// Block device traffic since creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// The value of a line `name value`.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok()).flatten()
    })
}

/// Version 1 writes "no limit" as the largest number of whole pages.
pub(super) fn bounded(limit: u64) -> Option<u64> {
    (limit < 0x7fff_ffff_ffff_0000).then_some(limit)
}
