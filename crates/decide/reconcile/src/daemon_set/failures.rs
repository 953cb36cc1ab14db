//! Nodes on which pods of a DaemonSet fail again and again.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// After the first failure, and at most.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(15 * 60);

/// When failed pods were deleted: the node agent may refuse the next one, too, and nobody should be busy with
/// that. Kept by the caller from decision to decision.
#[derive(Clone, Debug, Default)]
pub struct Failures(HashMap<(String, String), Deleted>);

#[derive(Clone, Debug)]
struct Deleted {
    at: Timestamp,
    wait: Duration,
}

impl Deleted {
    fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.at).max(SignedDuration::ZERO)).unwrap_or_default()
    }

    fn is_forgotten(&self, now: Timestamp) -> bool {
        self.age(now) > 2 * MOST
    }
}

impl Failures {
    /// How long the next failed pod of that set (its id) on that node must stay; nothing if it may go.
    pub fn wait(&self, set: &str, node: &str, now: Timestamp) -> Option<Duration> {
        let known =
            self.0.get(&(set.to_owned(), node.to_owned())).filter(|known| !known.is_forgotten(now))?;
        known.wait.checked_sub(known.age(now)).filter(|wait| !wait.is_zero())
    }

    /// A failed pod was deleted: the next one waits twice as long.
    pub fn note(&mut self, set: &str, node: &str, now: Timestamp) {
        self.0.retain(|_, known| !known.is_forgotten(now));
        let known = self.0.get(&(set.to_owned(), node.to_owned()));
        let wait = known.map_or(FIRST, |known| (2 * known.wait).min(MOST));
        self.0.insert((set.to_owned(), node.to_owned()), Deleted { at: now, wait });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn each_failure_waits_twice_as_long_up_to_a_quarter_of_an_hour() {
        let mut failures = Failures::default();
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..12 {
            failures.note("d", "n", at(now));
            let wait = failures.wait("d", "n", at(now)).unwrap_or_default().as_secs();
            waits.push(wait);
            now += i64::try_from(wait).unwrap_or_default();
            assert_eq!(failures.wait("d", "n", at(now)), None, "its time is over");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(failures.wait("d", "other", at(now)), None);
        failures.note("d", "n", at(now + 1801));
        assert_eq!(failures.wait("d", "n", at(now + 1801)), Some(FIRST), "it is forgotten after a while");
    }
}
