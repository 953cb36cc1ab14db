//! Waiting longer after each failure.

use std::time::Duration;

/// Doubles a delay from `base` up to `cap`; a quarter of each delay is random, so that many clients
/// of one failed server do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// A back-off that starts at `base` and never exceeds `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// The delay before the next attempt; counts one failure.
    pub fn delay(&mut self) -> Duration {
        let delay = exponential(self.base, self.cap, self.failures);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(0.75 + 0.25 * rand::random::<f64>())
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `base` doubled `failures` times, at most `cap`.
pub(crate) fn exponential(base: Duration, cap: Duration, failures: u32) -> Duration {
    base.checked_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).unwrap_or(cap).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let (base, cap) = (Duration::from_millis(5), Duration::from_secs(1000));
        let cases =
            [(0, 5), (1, 10), (2, 20), (17, 655_360), (18, 1_000_000), (31, 1_000_000), (40, 1_000_000)];
        for (failures, millis) in cases {
            assert_eq!(exponential(base, cap, failures), Duration::from_millis(millis), "{failures}");
        }
    }

    #[test]
    fn jitter_takes_at_most_a_quarter_and_reset_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for expected in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.delay().as_millis();
            assert!(delay <= expected && delay >= expected * 3 / 4, "{delay} of {expected}");
        }
        backoff.reset();
        assert!(backoff.delay().as_millis() <= 100);
    }
}
