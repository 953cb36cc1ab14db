//! No replicas at all: who asked for that, and who may end it.
//!
//! A user who scales a target to zero switches its autoscaler off. What the autoscaler itself scaled to zero it scales
//! up again; the condition `ScaledToZero` tells both apart.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;

use super::condition::Conditions;

/// What an autoscaler has to do with zero.
pub(super) struct Zero {
    /// Whether it was this autoscaler that scaled to zero.
    is_own: bool,
    /// Whether it goes by something that is there without pods.
    has_outer: bool,
    min: i32,
}

impl Zero {
    pub(super) fn of(hpa: &HorizontalPodAutoscaler) -> Self {
        let mut conditions = hpa.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut metrics = hpa.spec.metrics.iter().flatten();
        Self {
            is_own: conditions.any(|one| one.type_ == "ScaledToZero" && one.status == "True"),
            has_outer: metrics.any(|metric| matches!(metric.type_.as_str(), "Object" | "External")),
            min: hpa.spec.min_replicas.unwrap_or(1),
        }
    }

    /// Whether a target without replicas may get some.
    pub(super) fn may_grow(&self) -> bool {
        self.is_own && (self.min != 0 || self.has_outer)
    }

    /// Says after a change whose zero it is.
    pub(super) fn tell(&self, before: i32, after: i32, conditions: &mut Conditions) {
        let (status, reason, message) = if before > 0 && after == 0 && self.min == 0 && self.has_outer {
            ("True", "ScaledToZero", "the HPA controller scaled the workload to zero")
        } else {
            ("False", "NotScaledToZero", "the HPA controller did not scale the workload to zero")
        };
        conditions.set("ScaledToZero", status, reason, message);
    }
}
