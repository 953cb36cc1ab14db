//! For how long a ratio was how large, as upstream's timing histograms tell it: each nanosecond is an
//! observation of the ratio that held in it.

use std::time::Duration;

/// Upper bounds of the share of seats in use.
const SEATS: &[f64] = &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
/// Upper bounds of the number of requests as a share of the most there can be.
const REQUESTS: &[f64] = &[0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0];
/// Upper bounds of the seats wanted as a share of the nominal ones.
const DEMAND: &[f64] = &[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0];

/// Nanoseconds by the ratio that held.
#[derive(Clone, Debug, PartialEq)]
pub struct Occupancy {
    bounds: &'static [f64],
    nanos: Vec<u64>,
    sum: f64,
    ratio: f64,
    bucket: usize,
    since: Duration,
}

impl Occupancy {
    fn new(bounds: &'static [f64], now: Duration) -> Self {
        let nanos = vec![0; bounds.len() + 1];
        Self { bounds, nanos, sum: 0.0, ratio: 0.0, bucket: 0, since: now }
    }

    /// From now on the ratio is this.
    fn set(&mut self, now: Duration, ratio: f64) {
        self.advance(now);
        if ratio != self.ratio {
            self.ratio = ratio;
            let place = self.bounds.iter().position(|bound| ratio <= *bound);
            self.bucket = place.unwrap_or(self.bounds.len());
        }
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        let nanos = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.nanos[self.bucket] = self.nanos[self.bucket].saturating_add(nanos);
        self.sum += self.ratio * nanos as f64;
        self.since = now.max(self.since);
    }

    /// The sum of the ratio over all nanoseconds, and the nanoseconds by upper bound; the last bound is
    /// infinite.
    pub fn told(&self) -> (f64, Vec<(f64, u64)>) {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        (self.sum, bounds.zip(self.nanos.iter().copied()).collect())
    }
}

/// What a level is occupied with.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// Seats in use, of those that the level has now.
    pub seats: Occupancy,
    /// Requests that run, of as many as the level has seats.
    pub executing: Occupancy,
    /// Requests that wait, of as many as its queues take.
    pub waiting: Occupancy,
    /// Seats that are wanted, of the nominal ones.
    pub demand: Occupancy,
}

/// What a level has to do at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) seats: u32,
    pub(crate) executing: usize,
    pub(crate) waiting: usize,
    pub(crate) wanted: u32,
    pub(crate) limit: u32,
    pub(crate) nominal: u32,
    pub(crate) places: usize,
}

impl Usage {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            seats: Occupancy::new(SEATS, now),
            executing: Occupancy::new(REQUESTS, now),
            waiting: Occupancy::new(REQUESTS, now),
            demand: Occupancy::new(DEMAND, now),
        }
    }

    pub(crate) fn set(&mut self, now: Duration, load: Load) {
        let share = |part: f64, whole: f64| part / whole.max(1.0);
        let limit = f64::from(load.limit);
        self.seats.set(now, share(f64::from(load.seats), limit));
        self.executing.set(now, share(load.executing as f64, limit));
        self.waiting.set(now, share(load.waiting as f64, load.places as f64));
        self.demand.set(now, share(f64::from(load.wanted), f64::from(load.nominal)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nanosecond_counts_for_the_ratio_that_held() {
        let at = Duration::from_nanos;
        let mut seats = Occupancy::new(SEATS, at(0));
        seats.set(at(100), 0.5);
        seats.set(at(160), 1.2);
        seats.set(at(170), 0.0);
        let (sum, buckets) = seats.told();
        let filled: Vec<(f64, u64)> = buckets.into_iter().filter(|(_, nanos)| *nanos > 0).collect();
        assert_eq!(filled, [(0.0, 100), (0.5, 60), (f64::INFINITY, 10)]);
        assert!((sum - 42.0).abs() < 1e-9, "{sum}");
    }
}
