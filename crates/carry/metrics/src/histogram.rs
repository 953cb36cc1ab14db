//! A distribution that many threads add to without waiting for each other.
//!
//! An observation is two atomic additions. A reader may see one that is counted but not summed up yet; the next
//! reading has it.

use std::fmt::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Clones add to the same distribution.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: &'static [f64],
    /// One more than there are bounds.
    counts: Box<[AtomicU64]>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one with these upper bounds.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, counts, sum: AtomicU64::new(0) }))
    }

    /// Adds an observation.
    pub fn observe(&self, value: f64) {
        let inner = &*self.0;
        let place = inner.bounds.iter().position(|bound| value <= *bound).unwrap_or(inner.bounds.len());
        inner.counts[place].fetch_add(1, Ordering::Relaxed);
        let mut before = inner.sum.load(Ordering::Relaxed);
        loop {
            let after = (f64::from_bits(before) + value).to_bits();
            match inner.sum.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        let inner = &*self.0;
        let bounds = inner.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = inner.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = f64::from_bits(inner.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// How many observations there are by upper bound.
type Buckets = Vec<(f64, u64)>;

/// A distribution that was made elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<(f64, Buckets)>>);

impl Told {
    /// The sum of all observations, and how many there are by upper bound, each counted once.
    pub fn tell(&self, told: (f64, Buckets)) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

impl TypedMetric for Told {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Told {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = told.1.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(told.0, count, &told.1, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    #[test]
    fn observations_are_counted_from_all_threads() {
        let histogram = Histogram::new(&[1.0, 2.5]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|step| histogram.observe(f64::from(step % 4))));
            }
        });
        let mut registry = Registry::default();
        registry.register("h", "H", histogram);
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        for line in [
            "h_sum 6000",
            "h_count 4000",
            "h_bucket{le=\"1.0\"} 2000",
            "h_bucket{le=\"2.5\"} 3000",
            "h_bucket{le=\"+Inf\"} 4000",
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}\n{text}");
        }
    }
}
