//! Jobs that go some time after their end
//! (kube-controller-manager: pkg/controller/ttlafterfinished, v1.37).

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Propagation};

/// What to do about a Job.
pub fn decide(job: &Job, now: Timestamp) -> Vec<Action> {
    let ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let (Some(ttl), Some(end)) = (ttl, finished_at(job)) else { return Vec::new() };
    if job.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let due = end.checked_add(SignedDuration::from_secs(i64::from(ttl))).unwrap_or(Timestamp::MAX);
    if due > now {
        return vec![Action::RequeueAfter(Duration::try_from(due.duration_since(now)).unwrap_or_default())];
    }
    let mut delete = Action::delete(job);
    delete.propagation = Some(Propagation::Foreground);
    // Somebody may have given it more time since.
    delete.resource_version = job.metadata.resource_version.clone();
    vec![delete.into()]
}

fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let ends = |kind: &str| kind == "Complete" || kind == "Failed";
    let end = conditions.iter().find(|condition| ends(&condition.type_) && condition.status == "True")?;
    end.last_transition_time.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{at, object, summary};

    #[test]
    fn jobs_go_when_their_time_is_over() {
        let job = |ttl: Option<i32>, end: bool| -> Job {
            let ended =
                json!([{"type": "Complete", "status": "True", "lastTransitionTime": at(0).to_string()}]);
            object(
                json!({"metadata": {"name": "j"}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": if end { ended } else { json!([]) }}}),
            )
        };
        let cases = [
            (Some(10), true, 3, Some("again 7s")),
            (Some(10), true, 10, Some("delete Job j")),
            (Some(0), true, 0, Some("delete Job j")),
            (Some(10), false, 99, None),
            (None, true, 99, None),
        ];
        for (ttl, end, now, expected) in cases {
            let got = decide(&job(ttl, end), at(now));
            assert_eq!(got.first().map(summary).as_deref(), expected, "{ttl:?} {end} {now}");
        }
    }
}
