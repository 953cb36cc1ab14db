//! How long to wait after failures: 10 s, doubled with each, 10 min at most.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::pod;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// When a pod ended, as exactly as is known.
pub(super) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let containers =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let ends = containers.iter().map(|one| {
        let ended = one.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?;
        Some(ended.0)
    });
    let ends: Option<Vec<_>> = ends.collect();
    let last = ends.and_then(|ends| ends.into_iter().max());
    let not_ready = pod::condition(pod, "Ready").filter(|condition| condition.status == "False");
    let not_ready =
        not_ready.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
    last.or(not_ready).or_else(|| deletion_asked(pod)).or_else(|| pod::created(pod))
}

fn deletion_asked(pod: &Pod) -> Option<Timestamp> {
    let end = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
    end.checked_sub(SignedDuration::from_secs(grace)).ok()
}

/// What is left to wait after the failures since the last success.
pub(super) fn remaining(failed: &[&Arc<Pod>], succeeded: &[&Arc<Pod>], now: Timestamp) -> Duration {
    let last_success = succeeded.iter().filter_map(|pod| finished_at(pod)).max();
    let since = failed.iter().filter_map(|pod| finished_at(pod));
    let since: Vec<_> = since.filter(|end| last_success.is_none_or(|success| *end > success)).collect();
    let count = u32::try_from(since.len()).unwrap_or(u32::MAX);
    since.into_iter().max().map_or(Duration::ZERO, |last| after(count, last, now))
}

/// What is left to wait when the last of `failures` was at `last`.
pub(super) fn after(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let delay = FIRST.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(LONGEST);
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    delay.saturating_sub(passed)
}
