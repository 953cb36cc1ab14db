//! Deployments: one ReplicaSet for each template they had, moved from old to new as the strategy says
//! (kube-controller-manager: pkg/controller/deployment, v1.37).

mod annotations;
mod conditions;
mod draft;
mod rollback;
mod rolling;
mod scaling;
mod status;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use plimsoll_meta::selector::Labels;
use serde_json::json;

use crate::action::{self, Action, Failure, Severity};
use crate::owner::{Claimant, controller_of};
use crate::pod;
use crate::share::{self, Round};
use draft::Draft;

/// What is known when deciding.
pub struct Observed<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// Its ReplicaSets, and those of its namespace that nobody controls.
    pub replica_sets: &'a [Arc<ReplicaSet>],
    /// The pods of its ReplicaSets.
    pub pods: &'a [Arc<Pod>],
}

/// A Deployment in the middle of a decision.
struct Rollout<'a> {
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    replicas: i32,
    /// The ReplicaSet of the present template.
    new: Option<Draft>,
    /// All others, oldest first.
    old: Vec<Draft>,
    pods: &'a [Arc<Pod>],
    /// The status as it would be without counting anew: conditions are collected here.
    status: DeploymentStatus,
    /// The revision annotation that the Deployment must have.
    revision: Option<String>,
    deletions: Vec<Action>,
    /// What puts an earlier revision in place of the present one.
    rolled_back: Vec<Action>,
    now: Timestamp,
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let deployment = observed.deployment;
    let spec = &deployment.spec;
    if spec.selector == LabelSelector::default() {
        return selects_everything(deployment);
    }
    let selector = Labels::from(&spec.selector);
    let claimant = Claimant::new(deployment, &selector);
    let (own, mut actions) = claimant.claim(observed.replica_sets, |_| true);
    let mut rollout = Rollout::new(observed, spec, own, now);
    rollout.run();
    actions.extend(rollout.actions());
    actions
}

/// What to do when an action was refused. `named` finds ReplicaSets by name, whoever controls them.
pub fn report(
    observed: &Observed<'_>,
    now: Timestamp,
    failure: &Failure,
    named: impl Fn(&str) -> Option<Arc<ReplicaSet>>,
) -> Vec<Action> {
    let deployment = observed.deployment;
    let Action::Create(create) = &failure.action else { return Vec::new() };
    if failure.namespace_ends() {
        return Vec::new();
    }
    let name = create.object["metadata"]["name"].as_str().unwrap_or_default();
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut actions = Vec::new();
    if failure.code == 409 {
        let foreign = named(name).is_some_and(|set| is_foreign(deployment, &set));
        // When the cache does not know the name yet, the next attempt will find what has it.
        status.collision_count = Some(old.collision_count.unwrap_or_default() + i32::from(foreign));
        if !foreign {
            return Vec::new();
        }
    } else {
        let message = format!("Failed to create new replica set \"{name}\": {}", failure.message);
        if has_progress_deadline(&deployment.spec) {
            conditions::set(
                &mut status,
                conditions::PROGRESSING,
                "False",
                "ReplicaSetCreateError",
                &message,
                now,
            );
        }
        actions.push(Action::event(deployment, Severity::Warning, "ReplicaSetCreateError", message));
    }
    actions.extend(Action::update_status(deployment, &old, &status));
    actions
}

/// Whether the ReplicaSet that has the name is not the one that was to be made.
fn is_foreign(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let owned = controller_of(&set.metadata)
        .is_some_and(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref());
    !(owned && draft::is_for(set, &deployment.spec.template))
}

fn selects_everything(deployment: &Deployment) -> Vec<Action> {
    let message = "This deployment is selecting all pods. A non-empty selector is required.";
    let old = deployment.status.clone().unwrap_or_default();
    let new = DeploymentStatus { observed_generation: deployment.metadata.generation, ..old.clone() };
    let event = Action::event(deployment, Severity::Warning, "SelectingAll", message);
    std::iter::once(event).chain(Action::update_status(deployment, &old, &new)).collect()
}

fn has_progress_deadline(spec: &DeploymentSpec) -> bool {
    spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
}

impl<'a> Rollout<'a> {
    fn new(
        observed: &Observed<'a>,
        spec: &'a DeploymentSpec,
        mut own: Vec<Arc<ReplicaSet>>,
        now: Timestamp,
    ) -> Self {
        own.sort_by_cached_key(draft::age);
        let new = own.iter().position(|set| draft::is_for(set, &spec.template));
        let new = new.map(|at| Draft::of(own.remove(at)));
        let deployment = observed.deployment;
        Self {
            deployment,
            spec,
            replicas: spec.replicas.unwrap_or(1),
            new,
            old: own.into_iter().map(Draft::of).collect(),
            pods: observed.pods,
            status: deployment.status.clone().unwrap_or_default(),
            revision: None,
            deletions: Vec::new(),
            rolled_back: Vec::new(),
            now,
        }
    }

    fn run(&mut self) {
        if self.deployment.metadata.deletion_timestamp.is_some() {
            self.sync_revision(false);
            return self.count();
        }
        self.note_pause();
        if self.spec.paused == Some(true) {
            self.sync_revision(false);
            self.scale();
            self.clean_up();
            return self.count();
        }
        if let Some(asked) = rollback::asked(self.deployment) {
            return self.roll_back(asked);
        }
        if self.was_scaled() {
            self.sync_revision(false);
            self.scale();
            return self.count();
        }
        if self.is_rolling() {
            self.roll()
        } else {
            self.recreate()
        }
        self.count_rollout();
    }

    /// Ends all old pods, waits for their end, then starts new ones.
    fn recreate(&mut self) {
        self.sync_revision(false);
        if self.old.iter().any(|old| old.replicas > 0) {
            self.old.iter_mut().for_each(|old| old.replicas = 0);
            return self.annotate_scaled();
        }
        if self.old_pods_run() {
            return;
        }
        self.sync_revision(true);
        if let Some(new) = &mut self.new {
            new.replicas = self.replicas;
        }
        self.annotate_scaled();
        if self.is_complete(&self.deployment.status.clone().unwrap_or_default()) {
            self.clean_up();
        }
    }

    fn old_pods_run(&self) -> bool {
        let of_old = |pod: &Pod| {
            let owner = controller_of(&pod.metadata).map(|owner| owner.uid.as_str());
            owner.is_some() && self.old.iter().any(|old| old.uid() == owner)
        };
        self.old.iter().any(|old| old.status().replicas > 0)
            || self.pods.iter().any(|pod| of_old(pod) && !pod::finished(pod))
    }

    /// Gives the new ReplicaSet the next revision, and makes it if it is not there and `create`.
    fn sync_revision(&mut self, create: bool) {
        let next = self.old.iter().map(Draft::revision).max().unwrap_or_default() + 1;
        if let Some(new) = &mut self.new {
            new.min_ready_seconds = self.spec.min_ready_seconds.unwrap_or_default();
            annotations::of_replica_set(self.deployment, &mut new.annotations, next);
            self.revision = new.annotations.get(annotations::REVISION).cloned();
            if has_progress_deadline(self.spec)
                && conditions::get(&self.status, conditions::PROGRESSING).is_none()
            {
                let message = format!("Found new replica set \"{}\"", new.name());
                self.set(conditions::PROGRESSING, "True", "FoundNewReplicaSet", &message);
            }
            return;
        }
        if !create {
            return;
        }
        let mut new = Draft::create(self.deployment, self.spec);
        annotations::of_replica_set(self.deployment, &mut new.annotations, next);
        annotations::set_sizes(&mut new.annotations, self.replicas, self.replicas + self.max_surge());
        if has_progress_deadline(self.spec) {
            let message = format!("Created new replica set \"{}\"", new.name());
            self.set(conditions::PROGRESSING, "True", "NewReplicaSetCreated", &message);
        }
        self.revision = Some(next.to_string());
        self.new = Some(new);
        let size = self.size_of_new();
        self.new.iter_mut().for_each(|new| new.replicas = size);
    }

    fn note_pause(&mut self) {
        if !has_progress_deadline(self.spec) {
            return;
        }
        let reason =
            conditions::get(&self.status, conditions::PROGRESSING).and_then(|known| known.reason.clone());
        let paused = self.spec.paused == Some(true);
        match reason.as_deref() {
            Some("ProgressDeadlineExceeded") => {}
            Some("DeploymentPaused") if !paused => {
                self.set(conditions::PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed");
            }
            Some("DeploymentPaused") => {}
            _ if paused => {
                self.set(conditions::PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused")
            }
            _ => {}
        }
    }

    /// Deletes old ReplicaSets beyond the history limit, oldest revision first.
    fn clean_up(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else { return };
        let mut alive: Vec<_> = self.old.iter().filter(|old| !old.is_deleting()).collect();
        alive.sort_by_key(|old| old.revision());
        let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        let idle = alive.into_iter().take(surplus).filter(|old| old.is_idle());
        self.deletions = idle.filter_map(Draft::deletion).collect();
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        conditions::set(&mut self.status, kind, status, reason, message, self.now);
    }

    fn is_rolling(&self) -> bool {
        let kind = self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        kind != Some("Recreate")
    }

    fn rolling_update(&self) -> Option<&RollingUpdateDeployment> {
        self.spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.as_ref())
            .filter(|_| self.is_rolling())
    }

    /// How many pods may be made above the wanted number.
    fn max_surge(&self) -> i32 {
        let surge = self.rolling_update().and_then(|update| update.max_surge.as_ref());
        share::of(surge, self.replicas, Round::Up)
    }

    /// How many of the wanted pods may be missing.
    fn max_unavailable(&self) -> i32 {
        let Some(update) = self.rolling_update().filter(|_| self.replicas > 0) else { return 0 };
        let unavailable = share::of(update.max_unavailable.as_ref(), self.replicas, Round::Down);
        // Without any room nothing could ever move.
        let unavailable = if unavailable == 0 && self.max_surge() == 0 { 1 } else { unavailable };
        unavailable.min(self.replicas)
    }

    fn all(&self) -> impl Iterator<Item = &Draft> {
        self.old.iter().chain(&self.new)
    }

    /// All steps, in order: ReplicaSets, then the Deployment itself, then old ReplicaSets' end.
    fn actions(mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for draft in self.new.iter().chain(&self.old) {
            actions.extend(draft.write(self.deployment));
        }
        for draft in self.new.iter().chain(&self.old) {
            actions.extend(draft.event(self.deployment));
        }
        actions.append(&mut self.rolled_back);
        let update = self.status_update();
        let wait = if update.is_none() { self.progress_check() } else { None };
        actions.extend(update);
        actions.append(&mut self.deletions);
        actions.extend(wait.map(Action::RequeueAfter));
        actions
    }

    /// Writes the status, and the revision with it: through this door an annotation is no new generation.
    fn status_update(&self) -> Option<Action> {
        let old = self.deployment.status.clone().unwrap_or_default();
        let mut body = action::status_change(&old, &self.status).unwrap_or_else(|| json!({}));
        let present =
            self.deployment.metadata.annotations.as_ref().and_then(|all| all.get(annotations::REVISION));
        if let Some(revision) = self.revision.as_ref().filter(|revision| Some(*revision) != present) {
            body["metadata"]["annotations"] = json!({annotations::REVISION: revision});
        }
        (body != json!({})).then(|| draft::unversioned(Action::patch_status(self.deployment, body)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
