//! The rolling update of a StatefulSet: from the highest ordinal down to the partition.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::RollingUpdateStatefulSetStrategy;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};

use super::{Sync, revision_of};
use crate::pod;
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
        let is_missing = |pod: &Option<Arc<Pod>>| pod.as_ref().is_none_or(|pod| self.is_unavailable(pod));
        let missing = self.slots.iter().filter(|(_, pod)| is_missing(pod)).count();
        let room = usize::try_from(allowed).unwrap_or(1).saturating_sub(missing);
        let first = self.partition().min(self.slots.len());
        let candidates = self.slots[first..].iter().rev().filter_map(|(_, pod)| pod.clone());
        let old = candidates.filter(|pod| revision_of(pod) != Some(&self.update.0) && !self.goes(pod));
        let (sick, well): (Vec<_>, Vec<_>) = old.partition(|pod| self.is_unavailable(pod));
        // In order nothing is sick here. In parallel the sick of an old revision cannot get well by waiting,
        // and are counted as missing already.
        let sick = sick.into_iter().filter(|_| !self.is_ordered());
        for pod in sick.chain(well.into_iter().take(room)).collect::<Vec<_>>() {
            self.delete(&pod);
        }
    }

    fn goes(&self, pod: &Pod) -> bool {
        pod::deleting(pod) || self.gone.iter().any(|name| Some(name) == pod.metadata.name.as_ref())
    }
}
