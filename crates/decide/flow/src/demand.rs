//! How many seats a level would have used.

use std::time::Duration;

/// How much of the old figure is kept when demand falls, for each period.
const KEPT: f64 = 0.977;
/// How long a period is, in seconds. One that nobody ended in time, because nobody asked for anything, counts
/// as several.
const PERIOD: f64 = 10.0;

/// What is known of the demand for seats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    current: f64,
    since: Duration,
    start: Duration,
    sum: f64,
    squares: f64,
    peak: f64,
    /// The most seats wanted in the last period.
    pub high: f64,
    /// Seats wanted on average in the last period.
    pub average: f64,
    /// How far the wanted seats were from that, as a standard deviation.
    pub deviation: f64,
    /// What borrowing goes by.
    pub smoothed: f64,
}

impl Demand {
    /// From now on this many seats are wanted.
    pub fn set(&mut self, now: Duration, seats: u32) {
        self.advance(now);
        self.current = f64::from(seats);
        self.peak = self.peak.max(self.current);
    }

    /// Ends a period, and takes its figures in.
    pub fn close(&mut self, now: Duration) {
        self.advance(now);
        let length = now.saturating_sub(self.start).as_secs_f64();
        let (average, deviation) = match length > 0.0 {
            true => {
                let average = self.sum / length;
                (average, (self.squares / length - average * average).max(0.0).sqrt())
            }
            false => (self.current, 0.0),
        };
        self.high = self.peak;
        let envelope = self.peak.min(average + deviation);
        (self.average, self.deviation) = (average, deviation);
        let kept = KEPT.powf((length / PERIOD).max(1.0));
        self.smoothed = envelope.max(kept * self.smoothed + (1.0 - kept) * envelope);
        (self.start, self.sum, self.squares, self.peak) = (now, 0.0, 0.0, self.current);
    }

    fn advance(&mut self, now: Duration) {
        let time = now.saturating_sub(self.since).as_secs_f64();
        self.sum += self.current * time;
        self.squares += self.current * self.current * time;
        self.since = now.max(self.since);
    }
}
