//! Jobs: pods until enough have succeeded, each counted once
//! (kube-controller-manager: pkg/controller/job, v1.37).
//!
//! A finished pod keeps a finalizer until the Job's status names it: first among those not yet
//! counted, then, when the finalizer is gone, in the counters. So no pod is missed or counted twice,
//! wherever a controller stops in between.

mod backoff;
mod conditions;
mod indexes;
mod manage;
mod policy;
mod track;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use plimsoll_meta::selector::Labels;
use serde_json::json;

use crate::action::{Action, Failure, Severity};
use crate::owner::{Claimant, controller_of};
use crate::pod;
use conditions::Verdict;
use indexes::Indexes;

/// The finalizer of pods that are not counted yet.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// What is known when deciding.
pub struct Observed<'a> {
    /// The Job.
    pub job: &'a Job,
    /// Its pods, and those of its namespace that nobody controls.
    pub pods: &'a [Arc<Pod>],
}

/// A Job in the middle of a decision.
struct Sync<'a> {
    job: &'a Job,
    spec: JobSpec,
    status: JobStatus,
    pods: Vec<Arc<Pod>>,
    active: Vec<Arc<Pod>>,
    uncounted: Uncounted,
    /// Indexes that succeeded, the status' and the new ones.
    succeeded_indexes: Indexes,
    /// Indexes that failed for good.
    failed_indexes: Indexes,
    now: Timestamp,
    actions: Vec<Action>,
    releases: Vec<Action>,
    events: Vec<Action>,
    again: Option<std::time::Duration>,
}

/// Pods that the status names but does not count yet, by id.
#[derive(Default)]
struct Uncounted {
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    run(observed, now, true)
}

/// What to do when an action was refused: tell how things stand, without trying anew.
pub fn report(observed: &Observed<'_>, now: Timestamp, failure: &Failure) -> Vec<Action> {
    if failure.namespace_ends() {
        // A failed pod may be held for the sake of one that replaces it, which will never be.
        let mut ended = observed.pods.to_vec();
        let own = |pod: &Pod| {
            controller_of(&pod.metadata).map(|owner| &owner.uid) == observed.job.metadata.uid.as_ref()
        };
        ended.retain(|pod| own(pod) && !pod::active(pod));
        return release(&ended);
    }
    let relevant = matches!(failure.action, Action::Create(_) | Action::Delete(_));
    if relevant { run(observed, now, false) } else { Vec::new() }
}

/// Lets go of pods whose Job is gone.
pub fn release(pods: &[Arc<Pod>]) -> Vec<Action> {
    pods.iter().filter_map(|pod| without_finalizer(pod)).collect()
}

/// Lets go of a pod that nobody controls and that none of the namespace's Jobs will take in.
pub fn release_orphan(orphan: &Pod, jobs: &[Arc<Job>]) -> Vec<Action> {
    let adopts = |job: &Job| {
        let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let finished = job.status.as_ref().is_some_and(conditions::is_finished);
        job.metadata.deletion_timestamp.is_none()
            && !finished
            && selector.is_some_and(|one| Labels::from(one).matches_map(orphan.metadata.labels.as_ref()))
    };
    let stays = controller_of(&orphan.metadata).is_some()
        || (!pod::deleting(orphan) && jobs.iter().any(|job| adopts(job)));
    if stays { Vec::new() } else { without_finalizer(orphan).into_iter().collect() }
}

fn run(observed: &Observed<'_>, now: Timestamp, manage: bool) -> Vec<Action> {
    let job = observed.job;
    let Some(spec) = &job.spec else { return Vec::new() };
    let foreign = spec.managed_by.as_deref().is_some_and(|manager| manager != "kubernetes.io/job-controller");
    if foreign {
        return Vec::new();
    }
    let mut sync = Sync::new(observed, spec.clone(), now);
    if conditions::is_finished(&sync.status) {
        // It takes in nothing any more.
        return release(&sync.pods);
    }
    let verdict = sync.judge();
    let verdict = sync.act(verdict, manage);
    sync.track(verdict);
    sync.finish()
}

impl<'a> Sync<'a> {
    fn new(observed: &Observed<'a>, spec: JobSpec, now: Timestamp) -> Self {
        let job = observed.job;
        let selector = spec.selector.as_ref().map(Labels::from).unwrap_or_default();
        let (pods, claims) = Claimant::new(job, &selector).claim(observed.pods, |_| spec.selector.is_some());
        let actions = claims.into_iter().map(|claim| held(claim, observed.pods)).collect();
        let mut status = job.status.clone().unwrap_or_default();
        if status.start_time.is_none() && spec.suspend != Some(true) {
            status.start_time = Some(Time(now));
        }
        let named = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let set = |names: Option<Vec<String>>| names.unwrap_or_default().into_iter().collect();
        let uncounted = Uncounted { succeeded: set(named.succeeded), failed: set(named.failed) };
        let active = pods.iter().filter(|pod| pod::active(pod)).cloned().collect();
        let mut sync = Self {
            job,
            spec,
            status,
            pods,
            active,
            uncounted,
            succeeded_indexes: Indexes::default(),
            failed_indexes: Indexes::default(),
            now,
            actions,
            releases: Vec::new(),
            events: Vec::new(),
            again: None,
        };
        sync.read_indexes();
        sync
    }

    fn read_indexes(&mut self) {
        let Some(completions) = self.completions().filter(|_| self.is_indexed()) else { return };
        self.succeeded_indexes =
            Indexes::parse(self.status.completed_indexes.as_deref().unwrap_or_default(), completions);
        self.failed_indexes =
            Indexes::parse(self.status.failed_indexes.as_deref().unwrap_or_default(), completions);
        for pod in self.pods.iter().filter(|pod| is_tracked(pod)) {
            let Some(index) = self.index_of(pod) else { continue };
            if pod::phase(pod) == "Succeeded" && !self.uncounted.failed.contains(uid(pod)) {
                self.succeeded_indexes.insert(index);
            } else if self.fails_index(pod) {
                self.failed_indexes.insert(index);
            }
        }
    }

    /// Whether the Job is to end, and why.
    fn judge(&mut self) -> Option<Verdict> {
        // What fails the Job comes before what makes it a success early.
        conditions::target(&self.status)
            .or_else(|| policy::failure(self))
            .or_else(|| self.past_limits())
            .or_else(|| policy::success(&self.spec, &self.succeeded_indexes))
    }

    fn past_limits(&mut self) -> Option<Verdict> {
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.failed() > limit || self.restarted_too_often(limit) {
            return Some(Verdict::failed(
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            ));
        }
        if let Some(left) = self.time_left() {
            if left.is_zero() {
                return Some(Verdict::failed(
                    "DeadlineExceeded",
                    "Job was active longer than specified deadline",
                ));
            }
            self.look_again(left);
        }
        let failed = self.failed_indexes.len();
        if self.spec.max_failed_indexes.is_some_and(|max| failed > usize::try_from(max).unwrap_or_default()) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Verdict::failed("MaxFailedIndexesExceeded", message));
        }
        let all = self.completions().is_some_and(|all| failed + self.succeeded_indexes.len() >= all);
        (failed > 0 && all && self.spec.backoff_limit_per_index.is_some())
            .then(|| Verdict::failed("FailedIndexes", "Job has failed indexes"))
    }

    /// Restarts inside pods count as failures where pods restart their containers themselves.
    fn restarted_too_often(&self, limit: i32) -> bool {
        let template = self.spec.template.spec.as_ref();
        if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let restarts = |pod: &Pod| {
            let status = pod.status.as_ref();
            let main = status.and_then(|status| status.container_statuses.as_ref());
            let init = status.and_then(|status| status.init_container_statuses.as_ref());
            main.into_iter().chain(init).flatten().map(|one| one.restart_count).sum::<i32>()
        };
        let alive = self.pods.iter().filter(|pod| matches!(pod::phase(pod), "Running" | "Pending"));
        let total: i32 = alive.map(|pod| restarts(pod)).sum();
        if limit == 0 { total > 0 } else { total >= limit }
    }

    /// What is left of the Job's deadline.
    fn time_left(&self) -> Option<std::time::Duration> {
        let seconds = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended())?;
        let start = self.status.start_time.as_ref()?.0;
        let passed = self.now.duration_since(start).as_millis();
        let left = i128::from(seconds) * 1000 - passed;
        Some(std::time::Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }

    /// Makes and deletes pods; tells whether the Job is complete by that.
    fn act(&mut self, verdict: Option<Verdict>, manage: bool) -> Option<Verdict> {
        if verdict.is_some() {
            if manage {
                self.delete_active();
            }
            self.status.active = None;
            self.status.ready = Some(0);
            return verdict;
        }
        let active = if manage && self.job.metadata.deletion_timestamp.is_none() {
            self.manage()
        } else {
            self.active.len()
        };
        self.status.active = Some(i32::try_from(active).unwrap_or(i32::MAX)).filter(|active| *active > 0);
        let ready = self.active.iter().filter(|pod| pod::ready(pod)).count();
        self.status.ready = Some(i32::try_from(ready).unwrap_or(i32::MAX));
        let succeeded = self.succeeded();
        let complete = match self.completions() {
            None => succeeded > 0 && active == 0,
            Some(completions) => succeeded >= completions && active == 0,
        };
        if complete && !self.is_suspended() {
            return Some(Verdict::complete(
                "CompletionsReached",
                "Reached expected number of succeeded pods",
            ));
        }
        if manage {
            self.tell_suspension();
        }
        None
    }

    fn tell_suspension(&mut self) {
        if self.is_suspended() {
            if conditions::ensure(
                &mut self.status,
                "Suspended",
                "True",
                "JobSuspended",
                "Job suspended",
                self.now,
            ) {
                self.event(Severity::Normal, "Suspended", "Job suspended");
            }
            // What is held has not begun: where it is to run may be changed, and its deadline waits.
            self.status.start_time = None;
        } else if conditions::ensure(
            &mut self.status,
            "Suspended",
            "False",
            "JobResumed",
            "Job resumed",
            self.now,
        ) {
            self.event(Severity::Normal, "Resumed", "Job resumed");
            self.status.start_time = Some(Time(self.now));
        }
    }

    fn event(&mut self, severity: Severity, reason: &'static str, message: &str) {
        self.events.push(Action::event(self.job, severity, reason, message));
    }

    fn look_again(&mut self, wait: std::time::Duration) {
        self.again = Some(self.again.map_or(wait, |known| known.min(wait)));
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn completions(&self) -> Option<usize> {
        self.spec.completions.map(|count| usize::try_from(count).unwrap_or_default())
    }

    /// Whether a pod is replaced only when it has failed, not already when it is being deleted.
    fn replaces_only_failed(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
            || self.spec.pod_failure_policy.is_some()
    }

    fn has_failed(&self, pod: &Pod) -> bool {
        let gone = pod::deleting(pod) && pod::phase(pod) != "Succeeded";
        pod::phase(pod) == "Failed" || (gone && !self.replaces_only_failed())
    }

    /// The index of a pod, if it is one of the Job's.
    fn index_of(&self, pod: &Pod) -> Option<usize> {
        indexes::of_pod(pod).filter(|index| self.completions().is_some_and(|all| *index < all))
    }

    /// Pods that ended and that the status does not know of yet.
    fn news<'b>(&'b self, ended: impl Fn(&Pod) -> bool + 'b) -> impl Iterator<Item = &'b Arc<Pod>> + 'b {
        self.pods.iter().filter(move |pod| {
            let known =
                self.uncounted.succeeded.contains(uid(pod)) || self.uncounted.failed.contains(uid(pod));
            let counts = !self.is_indexed() || self.index_of(pod).is_some();
            is_tracked(pod) && !known && counts && ended(pod)
        })
    }

    fn succeeded(&self) -> usize {
        if self.is_indexed() {
            return self.succeeded_indexes.len();
        }
        let counted = usize::try_from(self.status.succeeded.unwrap_or_default()).unwrap_or_default();
        counted + self.uncounted.succeeded.len() + self.news(|pod| pod::phase(pod) == "Succeeded").count()
    }

    fn failed(&self) -> i32 {
        let new = self.news(|pod| self.has_failed(pod)).filter(|pod| policy::counts(&self.spec, pod)).count();
        let uncounted = self.uncounted.failed.len();
        self.status.failed.unwrap_or_default() + i32::try_from(new + uncounted).unwrap_or(i32::MAX)
    }

    fn finish(mut self) -> Vec<Action> {
        let old = self.job.status.clone().unwrap_or_default();
        let write = Action::update_status(self.job, &old, &self.status);
        let mut actions = self.actions;
        actions.extend(write);
        // Finalizers go after the status that names their pods.
        actions.append(&mut self.releases);
        actions.append(&mut self.events);
        actions.extend(self.again.map(Action::RequeueAfter));
        actions
    }
}

/// Whether a pod is held until it is counted.
pub fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING)
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// A claim that also holds the pod that it takes in, and lets go of the one that it releases. One that has
/// ended and is not held may have been counted before: it stays so.
fn held(claim: Action, pods: &[Arc<Pod>]) -> Action {
    let Action::Patch(mut patch) = claim else { return claim };
    let claimed = pods.iter().find(|pod| pod.metadata.name.as_ref() == Some(&patch.target.name));
    let mut finalizers = claimed.and_then(|pod| pod.metadata.finalizers.clone()).unwrap_or_default();
    let holds = claimed.is_some_and(|pod| is_tracked(pod) || !pod::finished(pod));
    finalizers.retain(|finalizer| finalizer != TRACKING);
    // Only what is taken in is guarded by its owner's life.
    if patch.guard.is_some() && holds {
        finalizers.push(TRACKING.to_owned());
    }
    patch.body["metadata"]["finalizers"] = json!(finalizers);
    Action::Patch(patch)
}

/// Takes away the tracking finalizer.
fn without_finalizer(pod: &Pod) -> Option<Action> {
    let finalizers = pod.metadata.finalizers.as_ref().filter(|_| is_tracked(pod))?;
    let rest: Vec<_> = finalizers.iter().filter(|finalizer| *finalizer != TRACKING).collect();
    Some(Action::patch(pod, json!({"metadata": {"uid": pod.metadata.uid, "finalizers": rest}})))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
