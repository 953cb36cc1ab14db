//! What a DaemonSet says about its pods.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSetStatus;

use super::Sync;
use crate::node;
use crate::pod::{self, Availability};

impl Sync<'_> {
    /// The counts, of each node's oldest pod, and when the next pod will be available.
    pub(super) fn status(&self) -> (DaemonSetStatus, Option<Duration>) {
        let mut status = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: self.set.status.as_ref().and_then(|status| status.collision_count),
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for (on, fit) in &self.nodes {
            let oldest = self.on(node::name(on)).first();
            if !fit.runs {
                status.number_misscheduled += i32::from(oldest.is_some());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(oldest) = oldest else { continue };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pod::ready(oldest));
            available += i32::from(self.is_available(oldest));
            updated += i32::from(self.is_current(oldest));
        }
        let some = |count: i32| Some(count).filter(|count| *count > 0);
        status.updated_number_scheduled = some(updated);
        status.number_available = some(available);
        status.number_unavailable = some(status.desired_number_scheduled - available);
        let waits = self.pods.values().flatten().filter_map(|pod| match self.availability(pod) {
            Availability::After(wait) => Some(wait),
            _ => None,
        });
        (status, waits.min())
    }
}
