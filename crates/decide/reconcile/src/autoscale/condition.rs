//! The conditions of an autoscaler.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Conditions that keep the time of their last change.
pub(super) struct Conditions {
    all: Vec<HorizontalPodAutoscalerCondition>,
    /// Those before; what changes to and fro within one look has not changed.
    before: Vec<HorizontalPodAutoscalerCondition>,
    now: Timestamp,
}

impl Conditions {
    pub(super) fn of(status: &HorizontalPodAutoscalerStatus, now: Timestamp) -> Self {
        let all = status.conditions.clone().unwrap_or_default();
        Self { before: all.clone(), all, now }
    }

    pub(super) fn set(&mut self, kind: &str, status: &str, reason: &str, message: impl Into<String>) {
        let known = self.before.iter().find(|one| one.type_ == kind);
        let unchanged = known.filter(|one| one.status == status);
        let since = unchanged.and_then(|one| one.last_transition_time.clone()).unwrap_or(Time(self.now));
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.into()),
            last_transition_time: Some(since),
            ..HorizontalPodAutoscalerCondition::default()
        };
        match self.all.iter_mut().find(|one| one.type_ == kind) {
            Some(place) => *place = condition,
            None => self.all.push(condition),
        }
    }

    pub(super) fn list(self) -> Vec<HorizontalPodAutoscalerCondition> {
        self.all
    }
}
