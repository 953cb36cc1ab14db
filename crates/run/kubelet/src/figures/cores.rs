//! How many processors a group uses, from what it had used when it was last looked at.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// Looks that are closer together than this say too little.
const LEAST_NANOS: i128 = 1_000_000_000;
/// Groups that were not looked at for so long are forgotten.
const FORGOTTEN_NANOS: i128 = 600_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: i128,
    usage: u64,
    rate: u64,
}

/// The last look at each group, by path.
#[derive(Debug, Default)]
pub(super) struct Cores(Mutex<HashMap<String, Seen>>);

impl Cores {
    /// Billionths of a processor in use since the last look, or since the group was made.
    pub(super) fn rate(&self, path: &str, started: Timestamp, at: Timestamp, usage: u64) -> u64 {
        let at = at.as_nanosecond();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.get(path).copied().filter(|before| before.usage <= usage);
        if let Some(before) = before.filter(|before| at - before.at < LEAST_NANOS) {
            return before.rate;
        }
        let (since, had) = before.map_or((started.as_nanosecond(), 0), |before| (before.at, before.usage));
        let rate = u128::from(usage - had) * 1_000_000_000 / (at - since).max(LEAST_NANOS).unsigned_abs();
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        seen.insert(path.to_owned(), Seen { at, usage, rate });
        rate
    }

    /// Forgets groups that nobody looks at any more.
    pub(super) fn forget(&self, now: Timestamp) {
        let now = now.as_nanosecond();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, seen| now - seen.at < FORGOTTEN_NANOS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_seems_newer_than_it_is_has_no_more_processors_than_it_used_in_a_second() {
        let at = Timestamp::from_millisecond(1000).expect("a time");
        assert_eq!(Cores::default().rate("/a", at, at, 500_000_000), 500_000_000);
    }

    #[test]
    fn rates_are_taken_between_looks_and_at_first_since_the_start() {
        let cores = Cores::default();
        let at = |millis: i64| Timestamp::from_millisecond(millis).expect("a time");
        let rate = |millis, usage| cores.rate("/a", at(0), at(millis), usage);
        assert_eq!(rate(10_000, 5_000_000_000), 500_000_000);
        assert_eq!(rate(10_500, 5_400_000_000), 500_000_000, "too soon");
        assert_eq!(rate(12_000, 7_000_000_000), 1_000_000_000);
        assert_eq!(rate(14_000, 1_000_000), 71_428, "the group is another one");
        cores.forget(at(14_001));
        assert_eq!(rate(14_002, 1_000_000), 71_428);
        cores.forget(at(700_000));
        assert_eq!(rate(1_000_000, 1_000_000_000), 1_000_000);
    }
}
