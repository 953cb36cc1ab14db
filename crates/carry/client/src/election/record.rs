//! What stands in a Lease, and what somebody who wants it may write: no I/O, times are arguments
//! (client-go: tools/leaderelection, v1.37).

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// What was seen in a Lease, and since when by this process' own clock: clocks of machines differ.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    spec: Option<(LeaseSpec, Instant)>,
}

impl Seen {
    /// Takes in what stands there now.
    pub(super) fn see(&mut self, spec: &LeaseSpec, now: Instant) {
        if self.spec.as_ref().is_none_or(|(known, _)| known != spec) {
            self.spec = Some((spec.clone(), now));
        }
    }

    /// Whether somebody else holds it still.
    pub(super) fn is_taken(&self, me: &str, now: Instant) -> bool {
        let Some((spec, since)) = &self.spec else { return false };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        !holder.is_empty() && holder != me && *since + Duration::from_secs(seconds.unwrap_or_default()) > now
    }
}

/// What `me` writes to take it or to keep it.
pub(super) fn held(before: Option<&LeaseSpec>, me: &str, duration: Duration, now: Timestamp) -> LeaseSpec {
    let before =
        before.cloned().unwrap_or_else(|| LeaseSpec { lease_transitions: Some(-1), ..LeaseSpec::default() });
    let mine = before.holder_identity.as_deref() == Some(me);
    let transitions = before.lease_transitions.unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: before.acquire_time.clone().filter(|_| mine).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if mine { transitions } else { transitions + 1 }),
        ..before
    }
}

/// What the holder leaves behind so that others need not wait.
pub(super) fn released(before: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..before.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(15);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn holders_keep_it_and_others_take_it() {
        let first = held(None, "a", TERM, at(0));
        let kept = held(Some(&first), "a", TERM, at(2));
        let taken = held(Some(&kept), "b", TERM, at(30));
        let back = held(Some(&released(&taken, at(40))), "a", TERM, at(41));
        let told = |spec: &LeaseSpec| {
            let second = |time: &Option<MicroTime>| time.as_ref().map(|time| time.0.as_second());
            let seconds = (second(&spec.acquire_time), second(&spec.renew_time));
            (spec.holder_identity.clone().unwrap_or_default(), spec.lease_transitions, seconds)
        };
        assert_eq!(told(&first), ("a".to_owned(), Some(0), (Some(0), Some(0))));
        assert_eq!(told(&kept), ("a".to_owned(), Some(0), (Some(0), Some(2))));
        assert_eq!(told(&taken), ("b".to_owned(), Some(1), (Some(30), Some(30))));
        assert_eq!(told(&back), ("a".to_owned(), Some(2), (Some(41), Some(41))));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_free_when_nothing_was_heard_for_its_duration() {
        let start = Instant::now();
        let mut seen = Seen::default();
        assert!(!seen.is_taken("b", start));
        let first = held(None, "a", TERM, at(0));
        seen.see(&first, start);
        let after = |seconds| start + Duration::from_secs(seconds);
        seen.see(&first, after(10));
        let cases = [("b", 14, true), ("b", 15, false), ("a", 1, false)];
        for (me, seconds, taken) in cases {
            assert_eq!(seen.is_taken(me, after(seconds)), taken, "{me} after {seconds} s");
        }
        seen.see(&held(Some(&first), "a", TERM, at(2)), after(14));
        assert!(seen.is_taken("b", after(28)), "a renewal begins the wait anew");
        seen.see(&released(&first, at(15)), after(15));
        assert!(!seen.is_taken("b", after(15)));
    }
}
