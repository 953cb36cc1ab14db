//! The time as the container runtime interface has it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The time as log files have it: nine digits of the second, in UTC.
pub(crate) fn log_time() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}
