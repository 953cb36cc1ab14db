//! How often something may be done: a bucket that fills with time (client-go: util/flowcontrol).

use std::time::Duration;

/// Turns that are to be had.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    per_second: f64,
    most: f64,
    turns: f64,
    seen: Duration,
}

impl Bucket {
    /// A full one: `most` turns at once, and `per_second` new ones. Times are counted from the same start.
    #[must_use]
    pub fn new(per_second: u32, most: u32, now: Duration) -> Self {
        Self { per_second: f64::from(per_second), most: f64::from(most), turns: f64::from(most), seen: now }
    }

    /// Takes a turn if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.seen).as_secs_f64();
        self.seen = self.seen.max(now);
        self.turns = self.most.min(self.turns + passed * self.per_second);
        let has = self.turns >= 1.0;
        if has {
            self.turns -= 1.0;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_back_with_time() {
        let mut bucket = Bucket::new(5, 2, Duration::ZERO);
        let mut at = |millis| bucket.take(Duration::from_millis(millis));
        assert_eq!([at(0), at(0), at(0)], [true, true, false]);
        assert_eq!([at(199), at(200), at(201)], [false, true, false]);
        assert_eq!([at(9000), at(9000), at(9000)], [true, true, false], "no more than fit");
        assert!(!at(10), "a time that lies back gives nothing");
    }
}
