//! A Job's conditions, and the verdict that leads to the last of them.

use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// How a Job ends, decided before its last pods have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) succeeds: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn failed(reason: &str, message: &str) -> Self {
        Self { succeeds: false, reason: reason.to_owned(), message: message.to_owned() }
    }

    pub(super) fn complete(reason: &str, message: &str) -> Self {
        Self { succeeds: true, reason: reason.to_owned(), message: message.to_owned() }
    }

    /// The condition that announces it while pods still end.
    pub(super) fn announcement(&self) -> &'static str {
        if self.succeeds { "SuccessCriteriaMet" } else { "FailureTarget" }
    }

    /// The condition that ends the Job.
    pub(super) fn end(&self) -> &'static str {
        if self.succeeds { "Complete" } else { "Failed" }
    }
}

/// Whether the Job has ended.
pub(super) fn is_finished(status: &JobStatus) -> bool {
    holds(status, "Complete") || holds(status, "Failed")
}

pub(super) fn holds(status: &JobStatus, kind: &str) -> bool {
    get(status, kind).is_some_and(|condition| condition.status == "True")
}

fn get<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// The verdict that the status announces already.
pub(super) fn target(status: &JobStatus) -> Option<Verdict> {
    let announced = |kind| get(status, kind).filter(|condition| condition.status == "True");
    let (condition, succeeds) = match announced("FailureTarget") {
        Some(condition) => (condition, false),
        None => (announced("SuccessCriteriaMet")?, true),
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(Verdict { succeeds, reason: text(&condition.reason), message: text(&condition.message) })
}

/// Sets a condition; tells whether that changed anything. One that is false from the start is left out.
pub(super) fn ensure(
    status: &mut JobStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let new = JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()).filter(|text| !text.is_empty()),
        message: Some(message.to_owned()).filter(|text| !text.is_empty()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let known = status.conditions.iter_mut().flatten().find(|condition| condition.type_ == kind);
    match known {
        Some(known)
            if known.status == new.status && known.reason == new.reason && known.message == new.message =>
        {
            false
        }
        Some(known) => {
            *known = new;
            true
        }
        None if value == "False" => false,
        None => {
            status.conditions.get_or_insert_default().push(new);
            true
        }
    }
}
