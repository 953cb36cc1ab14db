//! Whether an ended container starts again, and when.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::spec::{Role, Spec, pod_spec};

/// The first delay of a crash loop or a failed pull.
pub const FIRST: SignedDuration = SignedDuration::from_secs(10);
/// The longest delay.
pub const LONGEST: SignedDuration = SignedDuration::from_mins(5);

/// Whether one has to wait at `now` for what is due at `until`. The clock may have been set back meanwhile: no
/// wait is longer than the longest delay.
#[must_use]
pub fn is_pending(until: Timestamp, now: Timestamp) -> bool {
    until > now && until <= now + LONGEST
}

/// How long what fails waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// The first time.
    pub first: SignedDuration,
    /// The longest.
    pub longest: SignedDuration,
}

impl Default for Delays {
    fn default() -> Self {
        Self { first: FIRST, longest: LONGEST }
    }
}

impl Delays {
    /// Those of containers whose longest delay is said (`crashLoopBackOff.maxContainerRestartPeriod`).
    #[must_use]
    pub fn up_to(longest: SignedDuration) -> Self {
        Self { first: FIRST.min(longest), longest }
    }
}

/// A delay that doubles from 10 s to 5 min, or as is said, and starts over after 10 min of peace
/// (client-go: util/flowcontrol/backoff.go; kubelet: newCrashLoopBackOff).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backoff {
    entry: Option<(SignedDuration, Timestamp)>,
}

impl Backoff {
    /// Counts a failure that happened at `event`, noticed at `now`.
    pub fn next(&mut self, event: Timestamp, now: Timestamp, delays: Delays) {
        let delay = match self.entry {
            Some((delay, updated)) if !expired(event, updated) => (delay * 2).min(delays.longest),
            _ => delays.first,
        };
        self.entry = Some((delay, now));
    }

    /// The end of the wait for a container that ended at `event`; none when it need not wait.
    #[must_use]
    pub fn since_event(&self, event: Timestamp) -> Option<Timestamp> {
        let (delay, updated) = self.entry?;
        (!expired(event, updated)).then(|| event + delay)
    }

    /// The end of the wait counted from the last failure.
    #[must_use]
    pub fn since_update(&self) -> Option<Timestamp> {
        self.entry.map(|(delay, updated)| updated + delay)
    }

    /// The present delay.
    #[must_use]
    pub fn delay(&self) -> SignedDuration {
        self.entry.map_or(SignedDuration::ZERO, |(delay, _)| delay)
    }

    /// Forgets all failures.
    pub fn reset(&mut self) {
        self.entry = None;
    }
}

fn expired(event: Timestamp, updated: Timestamp) -> bool {
    event.duration_since(updated) > LONGEST * 2
}

/// Whether a container that ended with `code` runs again.
///
/// The first of the container's own rules that matches decides, then its own policy, then the pod's.
#[must_use]
pub fn should_restart(pod: &Pod, spec: &Spec, code: i32) -> bool {
    match spec.role {
        Role::Ephemeral => return false,
        Role::Sidecar => return true,
        Role::Init if code == 0 => return false,
        Role::Init | Role::Main => {}
    }
    if rule_matches(&spec.container, code) {
        return true;
    }
    let policy = spec.container.restart_policy.as_deref();
    match policy.or(pod_spec(pod).restart_policy.as_deref()) {
        Some("Never") => false,
        Some("OnFailure") => code != 0,
        // An init container that failed is tried again under both other policies.
        _ => true,
    }
}

/// Whether a container that is stopped for its health is meant to run again.
#[must_use]
pub fn may_restart(pod: &Pod, spec: &Spec) -> bool {
    let policy = spec.container.restart_policy.as_deref();
    policy.or(pod_spec(pod).restart_policy.as_deref()) != Some("Never")
}

fn rule_matches(container: &Container, code: i32) -> bool {
    container.restart_policy_rules.iter().flatten().any(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.iter().flatten().any(|value| *value == code);
        rule.action == "Restart" && listed == (codes.operator == "In")
    })
}

/// A duration in Go's notation: `10s`, `1m20s`, `5m0s`.
#[must_use]
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn delays_double_to_five_minutes_and_start_over_after_ten_quiet_minutes() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.since_event(at(0)), None);
        let mut now = 0;
        for (delay, text) in [
            (10, "10s"),
            (20, "20s"),
            (40, "40s"),
            (80, "1m20s"),
            (160, "2m40s"),
            (300, "5m0s"),
            (300, "5m0s"),
        ] {
            backoff.next(at(now), at(now), Delays::default());
            assert_eq!(backoff.delay().as_secs(), delay);
            assert_eq!(go_duration(backoff.delay()), text);
            assert_eq!(backoff.since_event(at(now + 1)), Some(at(now + 1 + delay)));
            now += delay;
        }
        let quiet = now - 300 + 601;
        assert_eq!(backoff.since_event(at(quiet)), None);
        backoff.next(at(quiet), at(quiet), Delays::default());
        assert_eq!(backoff.delay().as_secs(), 10);
    }

    #[test]
    fn delays_end_where_it_is_said() {
        for (longest, expected) in [(15, [10, 15, 15]), (4, [4, 4, 4]), (300, [10, 20, 40])] {
            let mut backoff = Backoff::default();
            let delays = Delays::up_to(SignedDuration::from_secs(longest));
            let found = expected.map(|_| {
                backoff.next(at(0), at(0), delays);
                backoff.delay().as_secs()
            });
            assert_eq!(found, expected, "{longest}");
        }
    }

    #[test]
    fn policies_and_rules() {
        let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
        let not_in = json!([{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0, 1]}}]);
        let none = json!(null);
        let cases = [
            (Role::Main, "Always", None, &none, 0, true),
            (Role::Main, "OnFailure", None, &none, 0, false),
            (Role::Main, "OnFailure", None, &none, 1, true),
            (Role::Main, "Never", None, &none, 1, false),
            (Role::Main, "Never", None, &rules, 42, true),
            (Role::Main, "Never", None, &rules, 1, false),
            (Role::Main, "Never", None, &not_in, 2, true),
            (Role::Main, "Never", None, &not_in, 1, false),
            (Role::Main, "Always", Some("Never"), &none, 1, false),
            (Role::Main, "Never", Some("OnFailure"), &none, 1, true),
            (Role::Init, "Always", None, &none, 0, false),
            (Role::Init, "Always", None, &none, 1, true),
            (Role::Init, "Never", None, &none, 1, false),
            (Role::Sidecar, "Never", Some("Always"), &none, 0, true),
            (Role::Ephemeral, "Always", None, &none, 1, false),
        ];
        for (role, pod_policy, own, rules, code, expected) in cases {
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"restartPolicy": pod_policy, "containers": []}}))
                    .unwrap();
            let container = serde_json::from_value(
                json!({"name": "c", "restartPolicy": own, "restartPolicyRules": rules}),
            )
            .unwrap();
            let spec = Spec { role, container, target: None };
            assert_eq!(should_restart(&pod, &spec, code), expected, "{role:?} {pod_policy} {own:?} {code}");
        }
    }
}
