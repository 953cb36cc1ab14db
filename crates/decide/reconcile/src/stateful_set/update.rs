//! The rolling update of a StatefulSet: from the highest ordinal down to the partition.

use k8s_openapi::api::apps::v1::RollingUpdateStatefulSetStrategy;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::{Sync, revision_of};
use crate::pod::{self, Availability};
use crate::share::{self, Round};

impl Sync<'_> {
    pub(super) fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    fn rolling_update(&self) -> Option<&RollingUpdateStatefulSetStrategy> {
        self.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref())
    }

    /// Ordinals, counted from the first, below this stay as they are.
    pub(super) fn partition(&self) -> usize {
        let partition = self.rolling_update().and_then(|rolling| rolling.partition).unwrap_or_default();
        usize::try_from(partition).unwrap_or_default()
    }

    /// The revision from which a missing pod is made.
    pub(super) fn revision_for(&self, ordinal: i64) -> (&str, &PodTemplateSpec) {
        let first = self.slots.first().map_or(0, |(first, _)| *first);
        let place = usize::try_from(ordinal - first).unwrap_or_default();
        let untouched = match self.rolling_update() {
            Some(_) => place < self.partition(),
            None => {
                let current = self.set.status.as_ref().and_then(|status| status.current_replicas);
                place < usize::try_from(current.unwrap_or_default()).unwrap_or_default()
            }
        };
        let (name, template) = if self.is_rolling() && untouched { &self.current } else { &self.update };
        (name, template)
    }

    /// Deletes pods of older revisions while enough others are available.
    pub(super) fn roll(&mut self) {
        if !self.is_rolling() {
            return;
        }
        let replicas = i32::try_from(self.slots.len()).unwrap_or(i32::MAX);
        let given = self.rolling_update().and_then(|rolling| rolling.max_unavailable.clone());
        let allowed = given.map_or(1, |given| share::of(Some(&given), replicas, Round::Up)).max(1);
        let unavailable = |pod: &k8s_openapi::api::core::v1::Pod, sync: &Self| {
            pod::deleting(pod) || pod::phase(pod) != "Running" || sync.availability(pod) != Availability::Yes
        };
        let mut missing = self
            .slots
            .iter()
            .filter(|(_, pod)| pod.as_ref().is_none_or(|pod| unavailable(pod, self)))
            .count();
        let allowed = usize::try_from(allowed).unwrap_or(1);
        for at in (self.partition().min(self.slots.len())..self.slots.len()).rev() {
            let Some(one) = self.slots[at].1.clone() else { continue };
            let old = revision_of(&one) != Some(&self.update.0);
            if !old || pod::deleting(&one) {
                continue;
            }
            let sick = unavailable(&one, self);
            if missing >= allowed && !sick {
                return;
            }
            // The sick of an old revision cannot get well by waiting; it is counted as missing already.
            missing += usize::from(!sick);
            self.delete(&one);
            if missing >= allowed {
                return;
            }
        }
    }
}
