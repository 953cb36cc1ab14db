//! When the change happened that endpoints are written for: those who measure how long traffic takes to
//! follow read it from an annotation (endpointslice: util/trigger_time_tracker.go, v1.37).
//!
//! What enters is a Service and its pods, time after time; what leaves is the earliest change among them
//! since the last time.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;

use crate::pod;

/// The annotation that tells it.
pub const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was seen of one Service before.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    known: bool,
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

impl Triggers {
    /// Takes in the present state; gives the time of the earliest change since the last call. A Service that
    /// is new is itself the change. Pods that are gone tell no time.
    pub fn observe(&mut self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let times = pods.iter().filter_map(|pod| {
            let ready = pod::condition(pod, "Ready")?.last_transition_time.as_ref()?;
            Some((pod.metadata.name.clone()?, ready.0))
        });
        let times: HashMap<_, _> = times.collect();
        let later = times.iter().filter(|(name, time)| self.pods.get(*name).is_none_or(|last| *time > last));
        let changed = later.map(|(_, time)| *time).chain(created.filter(|time| Some(*time) > self.service));
        let changed = if self.known { changed.min() } else { created };
        *self = Self { known: true, service: created, pods: times };
        changed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{at, object};

    #[test]
    fn the_earliest_new_change_is_told_once() {
        let service: Service =
            object(json!({"metadata": {"name": "web", "creationTimestamp": at(0).to_string()}}));
        let pod = |name: &str, second: i64| -> Arc<Pod> {
            let ready =
                json!([{"type": "Ready", "status": "True", "lastTransitionTime": at(second).to_string()}]);
            Arc::new(object(json!({"metadata": {"name": name}, "status": {"conditions": ready}})))
        };
        let mut triggers = Triggers::default();
        let steps = [
            (vec![pod("a", 5)], Some(at(0))),
            (vec![pod("a", 5)], None),
            (vec![pod("a", 9), pod("b", 7)], Some(at(7))),
            (vec![pod("b", 7)], None),
            (vec![pod("b", 8)], Some(at(8))),
        ];
        for (number, (pods, expected)) in steps.into_iter().enumerate() {
            assert_eq!(triggers.observe(&service, &pods), expected, "step {number}");
        }
    }
}
