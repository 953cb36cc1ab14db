//! Changes of a Deployment's size, also in the middle of a rollout.

use super::draft::Draft;
use super::{Rollout, annotations};

impl Rollout<'_> {
    /// Whether the Deployment's size changed since its ReplicaSets were last sized.
    pub(super) fn was_scaled(&self) -> bool {
        let active = self.all().filter(|set| set.replicas > 0);
        active.filter_map(|set| set.noted(annotations::DESIRED)).any(|desired| desired != self.replicas)
    }

    /// Sizes the ReplicaSets to the Deployment without moving between them.
    pub(super) fn scale(&mut self) {
        let replicas = self.replicas;
        if let Some(only) = self.active_or_latest() {
            only.replicas = replicas;
        } else if self.is_saturated() {
            self.old.iter_mut().for_each(|old| old.replicas = 0);
        } else if self.is_rolling() {
            self.scale_in_proportion();
            return self.annotate_active();
        }
        self.annotate_scaled();
    }

    /// The only ReplicaSet with replicas, or, when none has any, the newest.
    fn active_or_latest(&mut self) -> Option<&mut Draft> {
        match self.all().filter(|set| set.replicas > 0).count() {
            0 if self.new.is_some() => self.new.as_mut(),
            0 => self.old.last_mut(),
            1 => self.old.iter_mut().chain(&mut self.new).find(|set| set.replicas > 0),
            _ => None,
        }
    }

    fn is_saturated(&self) -> bool {
        self.new.as_ref().is_some_and(|new| {
            new.replicas == self.replicas
                && new.noted(annotations::DESIRED) == Some(self.replicas)
                && new.available() == self.replicas
        })
    }

    /// Each active ReplicaSet gets its share of the change; the rounding goes to the largest.
    fn scale_in_proportion(&mut self) {
        let allowed = if self.replicas > 0 { self.replicas + self.max_surge() } else { 0 };
        let (replicas, surge) = (self.replicas, self.max_surge());
        let reported = self.status.replicas.unwrap_or_default();
        let mut active: Vec<_> =
            self.old.iter_mut().chain(&mut self.new).filter(|set| set.replicas > 0).collect();
        let change = allowed - active.iter().map(|set| set.replicas).sum::<i32>();
        if change == 0 || active.is_empty() {
            return;
        }
        // Of sets of one size the newer ones grow first, the older ones shrink first.
        active.sort_by_cached_key(|set| set.age());
        if change > 0 {
            active.reverse();
        }
        active.sort_by_key(|set| std::cmp::Reverse(set.replicas));
        let mut left = change;
        for set in &mut active {
            let part = share_of(set, replicas, surge, reported);
            let part = if change > 0 { part.min(left) } else { part.max(left) };
            set.replicas += part;
            left -= part;
        }
        active[0].replicas = (active[0].replicas + left).max(0);
    }

    /// Notes the size in each ReplicaSet whose replicas change.
    pub(super) fn annotate_scaled(&mut self) {
        self.annotate(|set| set.replicas != set.told());
    }

    fn annotate_active(&mut self) {
        self.annotate(|set| set.replicas > 0 || set.told() > 0);
    }

    fn annotate(&mut self, which: impl Fn(&Draft) -> bool) {
        let (desired, max) = (self.replicas, self.replicas + self.max_surge());
        let only = self.all().filter(|set| set.replicas > 0).count() <= 1;
        for set in self.old.iter_mut().chain(&mut self.new) {
            // A lone ReplicaSet of the right size must not look scaled for ever.
            let stale = only
                && set.replicas > 0
                && set.noted(annotations::DESIRED).is_some_and(|known| known != desired);
            if which(set) || stale {
                annotations::set_sizes(&mut set.annotations, desired, max);
            }
        }
    }
}

/// What a ReplicaSet gains or loses when the Deployment becomes `replicas` (and `surge`) large.
fn share_of(set: &Draft, replicas: i32, surge: i32, reported: i32) -> i32 {
    if replicas == 0 {
        return -set.replicas;
    }
    let base = set.noted(annotations::MAX).filter(|max| *max != 0).unwrap_or(reported);
    if base <= 0 {
        return 0;
    }
    let size = f64::from(set.replicas) * f64::from(replicas + surge) / f64::from(base);
    size.round() as i32 - set.replicas
}
