//! What a Deployment says about its rollout.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::draft::Draft;
use super::{Rollout, conditions, has_progress_deadline};

impl Rollout<'_> {
    /// Counts replicas and tells whether enough are available.
    pub(super) fn count(&mut self) {
        let sum = |of: &dyn Fn(&Draft) -> i32| Some(self.all().map(of).sum::<i32>());
        let available = sum(&Draft::available);
        let total: i32 = self.all().map(|set| set.replicas).sum();
        let unavailable = (total - available.unwrap_or_default()).max(0);
        let some = |count: Option<i32>| count.filter(|count| *count != 0);
        let counted = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: some(sum(&|set| set.status().replicas)),
            updated_replicas: some(self.new.as_ref().map(|new| new.status().replicas)),
            ready_replicas: some(sum(&|set| set.status().ready_replicas.unwrap_or_default())),
            available_replicas: some(available),
            unavailable_replicas: some(Some(unavailable)),
            // Unknown as long as one of them is unknown.
            terminating_replicas: self.all().map(Draft::terminating).sum(),
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.take(),
        };
        self.status = counted;
        if available.unwrap_or_default() >= self.replicas - self.max_unavailable() {
            let message = "Deployment has minimum availability.";
            self.set(conditions::AVAILABLE, "True", "MinimumReplicasAvailable", message);
        } else {
            let message = "Deployment does not have minimum availability.";
            self.set(conditions::AVAILABLE, "False", "MinimumReplicasUnavailable", message);
        }
    }

    /// [`Self::count`], and how the rollout goes.
    pub(super) fn count_rollout(&mut self) {
        let before = self.status.clone();
        self.count();
        if !has_progress_deadline(self.spec) {
            conditions::remove(&mut self.status, conditions::PROGRESSING);
        }
        let known = conditions::get(&before, conditions::PROGRESSING).cloned();
        let done =
            known.as_ref().is_some_and(|known| known.reason.as_deref() == Some("NewReplicaSetAvailable"))
                && self.status.replicas == self.status.updated_replicas;
        if has_progress_deadline(self.spec) && !done {
            self.tell_progress(&before, known);
        }
        self.tell_failures();
    }

    fn tell_progress(&mut self, before: &DeploymentStatus, known: Option<DeploymentCondition>) {
        let subject = match &self.new {
            Some(new) => format!("ReplicaSet \"{}\"", new.name()),
            None => {
                format!("Deployment \"{}\"", self.deployment.metadata.name.as_deref().unwrap_or_default())
            }
        };
        if self.is_complete(&self.status) {
            let message = format!("{subject} has successfully progressed.");
            self.set(conditions::PROGRESSING, "True", "NewReplicaSetAvailable", &message);
        } else if progressed(before, &self.status) {
            let message = format!("{subject} is progressing.");
            conditions::remove(&mut self.status, conditions::PROGRESSING);
            self.set(conditions::PROGRESSING, "True", "ReplicaSetUpdated", &message);
            // The update time moves with each step, the transition time only with the status.
            let since = known.filter(|known| known.status.as_deref() == Some("True"));
            let since = since.and_then(|known| known.last_transition_time);
            if let (Some(since), Some(set)) = (since, self.status.conditions.iter_mut().flatten().last()) {
                set.last_transition_time = Some(since);
            }
        } else if self.timed_out() {
            let message = format!("{subject} has timed out progressing.");
            self.set(conditions::PROGRESSING, "False", "ProgressDeadlineExceeded", &message);
        }
    }

    fn tell_failures(&mut self) {
        let failure = |set: &Draft| {
            let conditions = set.status().conditions.unwrap_or_default();
            conditions.into_iter().find(|one| one.type_.as_deref() == Some(conditions::FAILURE))
        };
        let first = self.new.iter().chain(&self.old).find_map(failure);
        match first {
            None => conditions::remove(&mut self.status, conditions::FAILURE),
            Some(cause) => conditions::put(
                &mut self.status,
                DeploymentCondition {
                    type_: cause.type_,
                    status: cause.status,
                    reason: cause.reason,
                    message: cause.message,
                    last_update_time: cause.last_transition_time.clone(),
                    last_transition_time: cause.last_transition_time,
                },
            ),
        }
    }

    /// Whether all replicas are new and available, and nothing else is left.
    pub(super) fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let all = |count: Option<i32>| count.unwrap_or_default() == self.replicas;
        all(status.updated_replicas)
            && all(status.replicas)
            && all(status.available_replicas)
            && status.observed_generation >= self.deployment.metadata.generation
    }

    fn timed_out(&self) -> bool {
        let Some(known) = conditions::get(&self.status, conditions::PROGRESSING) else { return false };
        match known.reason.as_deref() {
            Some("NewReplicaSetAvailable") => false,
            Some("ProgressDeadlineExceeded") => true,
            _ => self.deadline(known).is_some_and(|deadline| deadline < self.now),
        }
    }

    fn deadline(&self, progressing: &DeploymentCondition) -> Option<Timestamp> {
        let seconds = self.spec.progress_deadline_seconds.map(i64::from)?;
        let from = progressing.last_update_time.as_ref()?.0;
        from.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// When to look again whether the rollout is late, though nothing changes.
    pub(super) fn progress_check(&self) -> Option<Duration> {
        let known = conditions::get(&self.status, conditions::PROGRESSING)?;
        // None of these becomes late.
        let over = matches!(
            known.reason.as_deref(),
            Some("ProgressDeadlineExceeded" | "DeploymentPaused" | "NewReplicaSetAvailable")
        );
        if over || self.is_complete(&self.status) || !has_progress_deadline(self.spec) {
            return None;
        }
        let wait = self.deadline(known)?.duration_since(self.now);
        Some(Duration::try_from(wait).unwrap_or_default() + Duration::from_secs(1))
    }
}

fn progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| {
        status.replicas.unwrap_or_default() - status.updated_replicas.unwrap_or_default()
    };
    after.updated_replicas > before.updated_replicas
        || old(after) < old(before)
        || after.ready_replicas > before.ready_replicas
        || after.available_replicas > before.available_replicas
}
