//! Running probes at their times. What results mean is decided in podlife.

use std::sync::LazyLock;
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use plimsoll_podlife::Input;
use plimsoll_podlife::probe::{Counter, Outcome, ProbeKind, Target};
use tokio::time::{Instant, sleep_until};

use crate::handler::Place;
use crate::metrics::ProbeSeries;

/// How a probe presents itself.
pub(crate) const AGENT: &str = "kube-probe/1.37";
/// The first pause between early tries; each next one is twice as long.
const EARLY: Duration = Duration::from_millis(50);
/// A container gets this long to open its port before a failure counts. Upstream's agent takes about as
/// long to notice that it runs.
const NEWBORN: Duration = Duration::from_secs(1);

/// Tries after the first one begin at multiples of this time, those of all probes together: a processor that
/// wakes up for one does the others, too.
const BEAT: Duration = Duration::from_millis(20);
/// What beats are counted from.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Tries a probe again and again, and sends what comes out, until it is dropped.
///
/// One more success of a probe that succeeds all the time is no news and not sent. `late` holds the first try back: after a restart of the agent not all probes start at once.
pub(crate) async fn run(
    target: Target,
    place: Place,
    late: Duration,
    series: ProbeSeries,
    results: UnboundedSender<Input>,
) {
    let period = period(&target);
    let delay = seconds(target.probe.initial_delay_seconds, 0);
    let age = Timestamp::now().duration_since(target.started);
    let age = Duration::try_from(age).unwrap_or_default();
    let grown = Instant::now() + NEWBORN.saturating_sub(age);
    let mut next = Instant::now() + delay.saturating_sub(age).max(late);
    let mut succeeded = false;
    let mut counter = Counter::default();
    loop {
        sleep_until(next).await;
        next += period;
        let begun = Instant::now();
        let mut outcome = once(&target, &place).await;
        if outcome.verdict() != Some(true) && is_cheap(&target) && hurry(&target, &place, grown).await {
            outcome = Outcome::Success;
        }
        series.add(outcome.verdict(), begun.elapsed());
        succeeded |= outcome.verdict() == Some(true);
        let old = counter.is_steady() && outcome == Outcome::Success;
        if let Some(success) = outcome.verdict() {
            counter.count(&target.probe, success);
        }
        if !old && results.unbounded_send(input(&target, outcome)).is_err() {
            return;
        }
        if !succeeded && may_hurry(&target) && hurry(&target, &place, next).await {
            succeeded = true;
            if results.unbounded_send(input(&target, Outcome::Success)).is_err() {
                return;
            }
        }
        // A try that took longer than the period delays the next one, and none is made up for.
        next = on_beat(next.max(Instant::now()));
    }
}

/// The first beat that is not before `at`.
fn on_beat(at: Instant) -> Instant {
    let since = at.duration_since(*BEGINNING).as_nanos();
    let beat = BEAT.as_nanos();
    let ahead = (beat - since % beat) % beat;
    at + Duration::from_nanos(u64::try_from(ahead).unwrap_or_default())
}

/// How long to wait after a restart of the agent before a container is asked that ran all the while: a random
/// part of the period, unless the agent has been up for longer.
pub(crate) fn lateness(target: &Target, agent_started: Timestamp, now: Timestamp) -> Duration {
    let period = period(target);
    let up = Duration::try_from(now.duration_since(agent_started)).unwrap_or_default();
    if target.started >= agent_started || up >= period {
        return Duration::ZERO;
    }
    period.mul_f64(rand::random::<f64>())
}

fn period(target: &Target) -> Duration {
    seconds(target.probe.period_seconds.or(Some(10)), 1)
}

fn seconds(value: Option<i32>, least: i32) -> Duration {
    Duration::from_secs(u64::try_from(value.unwrap_or(least).max(least)).unwrap_or_default())
}

fn input(target: &Target, outcome: Outcome) -> Input {
    Input::Probed { id: target.id.clone(), kind: target.kind, outcome }
}

/// Whether a try costs next to nothing: no process is made for it.
fn is_cheap(target: &Target) -> bool {
    target.probe.exec.is_none()
}

/// A container that has just started is asked more often until it answers for the first time, so that
/// it is ready when it is and not up to a period later. These tries count only when they succeed.
fn may_hurry(target: &Target) -> bool {
    target.kind != ProbeKind::Liveness && is_cheap(target)
}

/// Tries until it succeeds or it is time.
async fn hurry(target: &Target, place: &Place, end: Instant) -> bool {
    let mut pause = EARLY;
    while Instant::now() + pause < end {
        tokio::time::sleep(pause).await;
        if once(target, place).await == Outcome::Success {
            return true;
        }
        pause *= 2;
    }
    false
}

async fn once(target: &Target, place: &Place) -> Outcome {
    let seconds = target.probe.timeout_seconds.unwrap_or(1).max(1);
    let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
    let probe = &target.probe;
    if let Some(action) = &probe.exec {
        return place.exec(action.command.as_deref().unwrap_or_default(), timeout).await;
    }
    if let Some(action) = &probe.http_get {
        return place.http(action, AGENT, timeout).await;
    }
    if let Some(action) = &probe.tcp_socket {
        return place.tcp(action, timeout).await;
    }
    match &probe.grpc {
        Some(action) => place.grpc(action, timeout).await,
        None => Outcome::Error("the probe names no action".into()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Probe;

    #[test]
    fn tries_come_together_and_keep_their_period() {
        let begun = *BEGINNING;
        let after = |nanos: u64| begun + Duration::from_nanos(nanos);
        let cases = [(0, 0), (1, 20_000_000), (20_000_000, 20_000_000), (20_000_001, 40_000_000)];
        for (at, expected) in cases {
            assert_eq!(on_beat(after(at)), after(expected), "{at}");
        }
        assert_eq!(on_beat(after(20_000_000) + Duration::from_secs(1)), after(1_020_000_000));
    }

    #[test]
    fn only_a_restart_of_the_agent_delays_probes() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let target = |started| Target {
            container: "c".into(),
            id: "c0".into(),
            kind: ProbeKind::Liveness,
            probe: Probe { period_seconds: Some(8), ..Probe::default() },
            started,
        };
        let late = |started: i64, now: i64| lateness(&target(at(started)), at(100), at(now));
        assert_eq!(late(101, 101), Duration::ZERO, "a new container is asked at once");
        assert_eq!(late(50, 108), Duration::ZERO, "the agent runs for a period");
        let spread: Vec<_> = (0..100).map(|_| late(50, 101)).collect();
        assert!(spread.iter().all(|late| *late < Duration::from_secs(8)));
        assert!(spread.iter().any(|late| *late > Duration::from_secs(4)), "{spread:?}");
        assert!(spread.iter().any(|late| *late < Duration::from_secs(4)), "{spread:?}");
    }
}
