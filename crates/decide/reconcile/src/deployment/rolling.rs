//! The rolling update: up by what may surge, down by what may be missing.

use super::Rollout;
use super::draft::Draft;

impl Rollout<'_> {
    /// One step from old to new.
    pub(super) fn roll(&mut self) {
        self.sync_revision(true);
        let size = self.size_of_new();
        let Some(new) = &mut self.new else { return };
        let scaled_up = new.replicas != size || new.told() != size;
        new.replicas = size;
        if scaled_up {
            return self.annotate_scaled();
        }
        if self.scale_old_down() {
            return self.annotate_scaled();
        }
        if self.is_complete(&self.deployment.status.clone().unwrap_or_default()) {
            self.clean_up();
        }
    }

    /// The replicas that the new ReplicaSet may have by now.
    pub(super) fn size_of_new(&self) -> i32 {
        let present = self.new.as_ref().map_or(0, |new| new.replicas);
        if !self.is_rolling() || present >= self.replicas {
            return self.replicas;
        }
        let total: i32 = self.all().map(|set| set.replicas).sum();
        let room = (self.replicas + self.max_surge() - total).max(0);
        present + room.min(self.replicas - present)
    }

    /// Takes away old replicas: the unavailable first, then as many as may be missing.
    fn scale_old_down(&mut self) -> bool {
        let Some(new) = &self.new else { return false };
        let old_total: i32 = self.old.iter().map(|old| old.replicas).sum();
        if old_total == 0 {
            return false;
        }
        let min_available = self.replicas - self.max_unavailable();
        let new_unavailable = new.replicas - new.lasting();
        let mut spare = old_total + new.replicas - min_available - new_unavailable;
        if spare <= 0 {
            return false;
        }
        let mut down = 0;
        for old in &mut self.old {
            let unavailable = (old.replicas - old.lasting()).min(spare);
            old.replicas -= unavailable;
            spare -= unavailable;
            down += unavailable;
        }
        let available: i32 = self.all().map(Draft::lasting).sum();
        let mut surplus = (available - min_available).max(0);
        for old in &mut self.old {
            let gone = old.replicas.min(surplus);
            old.replicas -= gone;
            surplus -= gone;
            down += gone;
        }
        down > 0
    }
}
