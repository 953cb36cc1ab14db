//! Nodes that are objects only, and the life that their pods are said to have.
//!
//! What enters are a pod as the API shows it, how such pods behave ([`Manner`]) and the time; what leaves is
//! what becomes of the pod next ([`next`]) and the patch that tells of it ([`status`]). [`node`] makes the nodes
//! themselves, [`address`] the addresses of their pods. The same pod with the same seed has the same life.

pub mod address;
pub mod node;
pub mod status;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// How simulated pods and nodes behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manner {
    /// From the binding of a pod to Running.
    pub start: Duration,
    /// How long a pod runs that is not restarted for ever, and one that fails.
    pub run: Duration,
    /// From the request to delete a pod to its end.
    pub stop: Duration,
    /// How many of the runs fail, 0 to 1.
    pub failures: f64,
    /// How many of the nodes are silent at a time, 0 to 1.
    pub silences: f64,
    /// Chooses which.
    pub seed: u64,
}

impl Default for Manner {
    fn default() -> Self {
        let run = Duration::from_secs(10);
        Self { start: Duration::ZERO, run, stop: Duration::ZERO, failures: 0.0, silences: 0.0, seed: 0 }
    }
}

/// What becomes of a simulated pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It runs and is ready.
    Start,
    /// A run has failed, the one after so many restarts, and the next begins.
    Restart(i32),
    /// It has ended for good.
    End(Ending),
    /// It ends because it is deleted, and nothing of it is left.
    Remove,
}

/// How a pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All of its containers did what they were to do.
    Succeeded,
    /// One of them did not.
    Failed,
}

/// What becomes of a bound pod next, and when, if nobody does anything. `seen` is when it was first seen as it is.
pub fn next(pod: &Pod, manner: &Manner, seen: Timestamp) -> Option<(Timestamp, Step)> {
    let phase = phase(pod);
    let ended = matches!(phase, "Succeeded" | "Failed");
    if pod.metadata.deletion_timestamp.is_some() {
        // Without a grace period only the pod's finalizers hold it.
        let gone = ended && pod.metadata.deletion_grace_period_seconds == Some(0);
        return (!gone).then(|| (after(seen, manner.stop), Step::Remove));
    }
    match phase {
        _ if ended => None,
        "Running" => run(pod, manner, seen),
        _ => Some((after(seen, manner.start), Step::Start)),
    }
}

/// What ends the present run of a pod, if anything does.
fn run(pod: &Pod, manner: &Manner, seen: Timestamp) -> Option<(Timestamp, Step)> {
    let restarts = main_statuses(pod).iter().map(|status| status.restart_count).max().unwrap_or_default();
    let fails = share(manner.seed, uid(pod), restarts) < manner.failures;
    let at = after(started(pod).unwrap_or(seen), manner.run);
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    match (policy, fails) {
        ("Always", false) => None,
        ("Never", true) => Some((at, Step::End(Ending::Failed))),
        (_, true) => Some((at, Step::Restart(restarts))),
        (_, false) => Some((at, Step::End(Ending::Succeeded))),
    }
}

fn started(pod: &Pod) -> Option<Timestamp> {
    let starts = main_statuses(pod).iter().filter_map(|status| {
        let running = status.state.as_ref()?.running.as_ref()?;
        Some(running.started_at.as_ref()?.0)
    });
    starts.max()
}

fn main_statuses(pod: &Pod) -> &[ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// A number from 0 up to 1 that looks like chance and is always the same for the same thing.
fn share(seed: u64, thing: &str, number: i32) -> f64 {
    // FNV-1a and the last mix of SplitMix64.
    let bytes = thing.bytes().chain(number.to_le_bytes());
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325 ^ seed, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((sum ^ (sum >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: Value, policy: &str, status: Value) -> Pod {
        let spec = json!({"nodeName": "sim-0", "restartPolicy": policy,
            "containers": [{"name": "main", "image": "app:1"}]});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    fn running(restarts: i32) -> Value {
        json!({"phase": "Running", "containerStatuses": [{
            "name": "main", "image": "app:1", "imageID": "", "ready": true, "restartCount": restarts,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }]})
    }

    #[test]
    fn what_becomes_of_pods() {
        let seen: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let manner = Manner {
            start: Duration::from_secs(1),
            run: Duration::from_secs(20),
            stop: Duration::from_secs(3),
            ..Manner::default()
        };
        let failing = Manner { failures: 1.0, ..manner };
        let live = || json!({"uid": "u"});
        let leaving = |grace: i64| json!({"uid": "u", "deletionTimestamp": "2026-01-01T00:01:30Z", "deletionGracePeriodSeconds": grace});
        let pending = || json!({"phase": "Pending"});
        let over = |phase: &str| json!({"phase": phase});
        let cases = [
            (pod(live(), "Always", pending()), manner, Some(("00:01:01", Step::Start))),
            (pod(live(), "Never", Value::Null), manner, Some(("00:01:01", Step::Start))),
            (pod(live(), "Always", running(0)), manner, None),
            (pod(live(), "Always", running(2)), failing, Some(("00:00:20", Step::Restart(2)))),
            (pod(live(), "OnFailure", running(1)), failing, Some(("00:00:20", Step::Restart(1)))),
            (pod(live(), "OnFailure", running(0)), manner, Some(("00:00:20", Step::End(Ending::Succeeded)))),
            (pod(live(), "Never", running(0)), manner, Some(("00:00:20", Step::End(Ending::Succeeded)))),
            (pod(live(), "Never", running(0)), failing, Some(("00:00:20", Step::End(Ending::Failed)))),
            (pod(live(), "Never", over("Failed")), manner, None),
            (pod(leaving(30), "Always", running(0)), manner, Some(("00:01:03", Step::Remove))),
            (pod(leaving(30), "Always", pending()), manner, Some(("00:01:03", Step::Remove))),
            (pod(leaving(30), "Never", over("Succeeded")), manner, Some(("00:01:03", Step::Remove))),
            (pod(leaving(0), "Never", over("Succeeded")), manner, None),
            (pod(leaving(0), "Never", running(0)), manner, Some(("00:01:03", Step::Remove))),
        ];
        for (pod, manner, expected) in cases {
            let expected =
                expected.map(|(at, step)| (format!("2026-01-01T{at}Z").parse::<Timestamp>().unwrap(), step));
            assert_eq!(next(&pod, &manner, seen), expected, "{pod:?}");
        }
    }

    #[test]
    fn chance_is_spread_evenly_and_repeats() {
        let below = (0..10_000).filter(|number| share(7, "uid", *number) < 0.2).count();
        assert!((1_900..2_100).contains(&below), "{below}");
        assert_eq!(share(7, "uid", 3).to_bits(), share(7, "uid", 3).to_bits());
        assert_ne!(share(7, "uid", 3).to_bits(), share(8, "uid", 3).to_bits());
    }
}
