//! Many clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::connection::{Call, Endpoint};
use super::server::ApiServer;
use crate::report;

/// What some requests cost.
pub(crate) struct Load {
    requests: usize,
    elapsed: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
    /// Seconds of the server's processor time.
    processor: f64,
}

/// Aims for one load.
pub(crate) struct Aims {
    pub(crate) rate: &'static str,
    pub(crate) processor: &'static str,
    pub(crate) tail: &'static str,
}

/// `clients` connections send `count` requests, each the next one as soon as its last is answered.
pub(crate) async fn spread(
    server: &ApiServer,
    endpoint: &Endpoint,
    clients: usize,
    numbers: std::ops::Range<usize>,
    call: fn(usize) -> Call,
) -> anyhow::Result<Load> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(endpoint.connect().await?);
    }
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let (before, started) = (server.processor_time(), Instant::now());
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let (next, end) = (Arc::clone(&next), numbers.end);
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return anyhow::Ok(latencies);
                }
                let sent = Instant::now();
                connection.call(&call(number)).await?;
                latencies.push(sent.elapsed());
            }
        });
    }
    let mut latencies = Vec::new();
    while let Some(task) = tasks.join_next().await {
        latencies.extend(task??);
    }
    let (elapsed, processor) = (started.elapsed(), server.processor_time() - before);
    latencies.sort_unstable();
    Ok(Load { requests: latencies.len(), elapsed, latencies, processor })
}

impl Load {
    /// Prints the rate, the processor time each, and how long they took.
    pub(crate) fn report(&self, what: &str, aims: &Aims) {
        let rate = self.requests as f64 / self.elapsed.as_secs_f64();
        report(what, &format!("{rate:.0} /s"), aims.rate);
        let each = self.processor * 1000.0 / self.requests as f64;
        report("  processor time each", &format!("{each:.3} ms"), aims.processor);
        let half = milliseconds(percentile(&self.latencies, 50));
        report("  latency, half of them within", &format!("{half:.2} ms"), "none");
        let tail = milliseconds(percentile(&self.latencies, 99));
        report("  latency, 99 % within", &format!("{tail:.2} ms"), aims.tail);
    }
}

/// The time within which so many percent are.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or_default()
}

/// For printing.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
