//! What a group may use, in the units of the container runtime interface.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DeviceRule;

/// Limits of a group; `None` leaves a value alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Relative weight, 2 to 262144 (1024 is one whole request).
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// Length of a period in microseconds.
    pub cpu_period: Option<u64>,
    /// Processors that may be used, `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used.
    pub cpuset_mems: Option<String>,
    /// Bytes of memory; -1 is no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is no limit.
    pub memory_swap: Option<i64>,
    /// Number of processes; -1 is no limit.
    pub pids: Option<i64>,
    /// Bytes for each size of huge page (`2MB`, `1GB`).
    pub hugepages: BTreeMap<String, u64>,
    /// Devices that may be used; `None` leaves the parent's rules.
    pub devices: Option<Vec<DeviceRule>>,
    /// Files of version 2 by name (`memory.high`), written last.
    pub unified: BTreeMap<String, String>,
}

/// The weight of version 2 for shares of version 1.
///
/// The curve through (2, 1), (1024, 100) and (262144, 10000), as runc has it since 1.3.2, so that one
/// whole processor gets the kernel's default weight.
///
/// ```
/// assert_eq!(plimsoll_kernel::cgroup::cpu_weight(1024), 100);
/// ```
#[must_use]
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}
