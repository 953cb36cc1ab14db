//! What a StatefulSet says about its pods.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSetStatus;

use super::{Sync, revision_of};
use crate::pod::{self, Availability};

impl Sync<'_> {
    /// The counts, and when the next pod will be available.
    pub(super) fn status(&self) -> (StatefulSetStatus, Option<Duration>) {
        let old = self.set.status.clone().unwrap_or_default();
        let kept = self.slots.iter().filter_map(|(_, pod)| pod.as_ref());
        let all: Vec<_> = kept.chain(self.condemned.iter().map(|(_, pod)| pod)).collect();
        let count = |holds: &dyn Fn(&k8s_openapi::api::core::v1::Pod) -> bool| {
            i32::try_from(all.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX)
        };
        let running = |pod: &k8s_openapi::api::core::v1::Pod| pod::phase(pod) == "Running" && pod::ready(pod);
        let of = |name: &str| {
            let name = name.to_owned();
            move |pod: &k8s_openapi::api::core::v1::Pod| {
                !pod::deleting(pod) && revision_of(pod) == Some(&name)
            }
        };
        let replicas = count(&|_| true);
        let ready = count(&running);
        let updated = count(&of(&self.update.0));
        let available = count(&|pod| running(pod) && self.availability(pod) == Availability::Yes);
        let wanted = self.set.spec.replicas.unwrap_or(1);
        let done = self.is_rolling() && updated == wanted && ready == wanted && replicas == wanted;
        let (revision, current) = match done {
            true => (self.update.0.clone(), updated),
            false => (self.current.0.clone(), count(&of(&self.current.0))),
        };
        let some = |count: i32| Some(count).filter(|count| *count > 0);
        let status = StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas,
            ready_replicas: some(ready),
            available_replicas: Some(available),
            current_replicas: some(current),
            updated_replicas: some(updated),
            current_revision: Some(revision),
            update_revision: Some(self.update.0.clone()),
            collision_count: Some(old.collision_count.unwrap_or_default()),
            conditions: old.conditions,
        };
        let waits = all.iter().filter_map(|pod| match self.availability(pod) {
            Availability::After(wait) => Some(wait),
            _ => None,
        });
        (status, waits.min())
    }
}
