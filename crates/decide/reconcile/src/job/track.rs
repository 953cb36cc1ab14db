//! Counting ended pods, each once.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::UncountedTerminatedPods;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::{self, Verdict};
use super::{Sync, is_tracked, policy, uid, without_finalizer};
use crate::action::Severity;
use crate::pod;

/// Pods named in one status.
const MOST: usize = 500;

impl Sync<'_> {
    /// Names ended pods in the status, lets go of them, counts those that are let go, and ends the Job
    /// when nothing is left to count.
    pub(super) fn track(&mut self, verdict: Option<Verdict>) {
        self.count_released();
        self.name_ended(verdict.is_some());
        if self.is_indexed() {
            let completed = self.succeeded_indexes.text();
            self.status.completed_indexes = Some(completed).filter(|text| !text.is_empty());
            self.status.succeeded = count(self.succeeded_indexes.len());
            if self.spec.backoff_limit_per_index.is_some() {
                self.status.failed_indexes = Some(self.failed_indexes.text());
            }
        }
        let terminating = self.pods.iter().filter(|pod| pod::terminating(pod)).count();
        self.status.terminating = Some(i32::try_from(terminating).unwrap_or(i32::MAX));
        let list = |names: &BTreeSet<String>| (!names.is_empty()).then(|| names.iter().cloned().collect());
        let nothing_left = self.uncounted.succeeded.is_empty() && self.uncounted.failed.is_empty();
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(&self.uncounted.succeeded),
            failed: list(&self.uncounted.failed),
        });
        if let Some(verdict) = verdict {
            let kind = verdict.announcement();
            conditions::ensure(&mut self.status, kind, "True", &verdict.reason, &verdict.message, self.now);
            let quiet = self.active.is_empty() && terminating == 0 && self.releases.is_empty();
            if quiet && nothing_left {
                self.end(&verdict);
            }
        }
    }

    /// Counts pods that were named and whose finalizer is gone since.
    fn count_released(&mut self) {
        let held: BTreeSet<_> =
            self.pods.iter().filter(|pod| is_tracked(pod)).map(|pod| uid(pod).to_owned()).collect();
        let before = (self.uncounted.succeeded.len(), self.uncounted.failed.len());
        self.uncounted.succeeded.retain(|uid| held.contains(uid));
        self.uncounted.failed.retain(|uid| held.contains(uid));
        let add = |counter: Option<i32>, released: usize| {
            let total = counter.unwrap_or_default() + i32::try_from(released).unwrap_or(i32::MAX);
            Some(total).filter(|total| *total > 0)
        };
        self.status.succeeded = add(self.status.succeeded, before.0 - self.uncounted.succeeded.len());
        self.status.failed = add(self.status.failed, before.1 - self.uncounted.failed.len());
    }

    fn name_ended(&mut self, ends: bool) {
        let gone = self.job.metadata.deletion_timestamp.is_some();
        for pod in self.pods.clone() {
            if self.uncounted.succeeded.len() + self.uncounted.failed.len() >= MOST {
                break;
            }
            let succeeded = pod::phase(&pod) == "Succeeded";
            let failed = self.has_failed(&pod);
            let free = gone || ends || succeeded || (failed && !self.waits_for_replacement(&pod));
            // A pod that still ends may yet succeed: it is waited for.
            let undecided = ends && !succeeded && !failed && !pod::finished(&pod);
            if !is_tracked(&pod) || !free || (undecided && !gone) {
                continue;
            }
            let counts = !self.is_indexed() || self.index_of(&pod).is_some();
            let name = uid(&pod).to_owned();
            if succeeded && !self.uncounted.failed.contains(&name) {
                if !self.is_indexed() {
                    self.uncounted.succeeded.insert(name);
                }
            } else if (failed || ends) && counts && policy::counts(&self.spec, &pod) {
                self.uncounted.failed.insert(name);
            }
            self.releases.extend(without_finalizer(&pod));
        }
    }

    fn end(&mut self, verdict: &Verdict) {
        let now = self.now;
        conditions::ensure(&mut self.status, verdict.end(), "True", &verdict.reason, &verdict.message, now);
        if verdict.succeeds {
            self.status.completion_time = Some(Time(now));
            if self.completions().is_some_and(|completions| self.succeeded() > completions) {
                let message = "Too many succeeded pods running after completion count reached";
                self.event(Severity::Warning, "TooManySucceededPods", message);
            }
            self.event(Severity::Normal, "Completed", "Job completed");
        } else {
            let reason =
                REASONS.iter().find(|reason| **reason == verdict.reason).copied().unwrap_or("JobFailed");
            self.event(Severity::Warning, reason, &verdict.message);
        }
    }
}

/// Reasons that a failed Job's event can have.
const REASONS: [&str; 5] = [
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "PodFailurePolicy",
    "MaxFailedIndexesExceeded",
    "FailedIndexes",
];

fn count(number: usize) -> Option<i32> {
    Some(i32::try_from(number).unwrap_or(i32::MAX)).filter(|number| *number > 0)
}
