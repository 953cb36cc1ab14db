//! Making and deleting a Job's pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodTemplateSpec,
};

use super::indexes::{self, INDEX, Indexes};
use super::{Sync, TRACKING, backoff, is_tracked, policy, without_finalizer};
use crate::action::{Action, Note, Severity, reference};
use crate::owner::controller_ref;
use crate::pod;
use crate::replicas::first_to_go;

/// Pods made or deleted in one decision.
const BURST: usize = 500;
/// How often an index has failed, and how often that did not count.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The variable that tells a container its index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

impl Sync<'_> {
    /// Brings the number of active pods to what the Job wants; gives the number that will be.
    pub(super) fn manage(&mut self) -> usize {
        let active = self.active.len();
        if self.is_suspended() {
            self.remove(&self.active.clone());
            return 0;
        }
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or_default();
        let wanted = match self.completions() {
            // After a success nothing is added, and what runs may end by itself.
            None if self.succeeded() > 0 => active,
            None => parallelism,
            Some(completions) => completions.saturating_sub(self.succeeded()).min(parallelism),
        };
        let victims = self.surplus(active.saturating_sub(wanted));
        if !victims.is_empty() {
            self.remove(&victims);
            return active - victims.len();
        }
        let ending = self.pods.iter().filter(|pod| pod::terminating(pod)).count();
        let ending = if self.replaces_only_failed() { ending } else { 0 };
        active + self.add(wanted.saturating_sub(active + ending).min(BURST))
    }

    /// Deletes all active pods: the Job ends.
    pub(super) fn delete_active(&mut self) {
        for pod in self.active.clone() {
            let deletion = self.deletion(&pod);
            self.actions.push(deletion);
        }
    }

    /// Deletes pods that count neither as failed nor as succeeded.
    fn remove(&mut self, pods: &[Arc<Pod>]) {
        self.actions.extend(pods.iter().filter_map(|pod| without_finalizer(pod)));
        let deletions: Vec<_> = pods.iter().map(|pod| self.deletion(pod)).collect();
        self.actions.extend(deletions);
    }

    fn deletion(&self, pod: &Pod) -> Action {
        let mut delete = Action::delete(pod);
        delete.done = Some(self.note(Severity::Normal, "SuccessfulDelete", "Deleted pod: "));
        delete.refused = Some(self.note(Severity::Warning, "FailedDelete", "Error deleting: "));
        delete.into()
    }

    fn note(&self, severity: Severity, reason: &'static str, message: &str) -> Note {
        Note { about: reference(self.job), severity, reason, message: message.to_owned() }
    }

    /// At least `count` pods to delete: doubles of an index and indexes out of range in any case.
    fn surplus(&self, count: usize) -> Vec<Arc<Pod>> {
        let (mut gone, mut rest) = (Vec::new(), self.active.clone());
        if self.is_indexed() {
            let mut by_index = BTreeMap::<Option<usize>, Vec<Arc<Pod>>>::new();
            rest.drain(..).for_each(|pod| by_index.entry(self.index_of(&pod)).or_default().push(pod));
            gone.extend(by_index.remove(&None).unwrap_or_default());
            for pods in by_index.into_values() {
                let doubles = first_to_go(&pods, &[], pods.len() - 1, 0, self.now);
                rest.extend(
                    pods.into_iter().filter(|pod| !doubles.iter().any(|double| Arc::ptr_eq(double, pod))),
                );
                gone.extend(doubles);
            }
        }
        let missing = count.saturating_sub(gone.len());
        gone.extend(first_to_go(&rest, &[], missing, 0, self.now));
        gone.truncate(BURST);
        gone
    }

    /// Makes up to `count` pods; gives how many.
    fn add(&mut self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        if self.spec.backoff_limit_per_index.is_none() {
            let failed: Vec<_> = self.pods.iter().filter(|pod| self.has_failed(pod)).collect();
            let succeeded: Vec<_> = self.pods.iter().filter(|pod| pod::phase(pod) == "Succeeded").collect();
            let wait = backoff::remaining(&failed, &succeeded, self.now);
            if !wait.is_zero() {
                self.look_again(wait);
                return 0;
            }
        }
        let creations: Vec<_> = if self.is_indexed() {
            self.pending_indexes(count).into_iter().filter_map(|index| self.indexed_pod(index)).collect()
        } else {
            (0..count).map(|_| self.pod(None, &BTreeMap::new())).collect()
        };
        let made = creations.len();
        self.actions.extend(creations);
        made
    }

    /// The lowest indexes that have no pod and need one.
    fn pending_indexes(&self, count: usize) -> Vec<usize> {
        let busy = self
            .pods
            .iter()
            .filter(|pod| pod::active(pod) || (self.replaces_only_failed() && pod::terminating(pod)));
        let busy: Indexes = busy.filter_map(|pod| indexes::of_pod(pod)).collect();
        let taken = |index: &usize| {
            busy.contains(*index)
                || self.succeeded_indexes.contains(*index)
                || self.failed_indexes.contains(*index)
        };
        (0..self.completions().unwrap_or_default()).filter(|index| !taken(index)).take(count).collect()
    }

    /// A pod for an index, unless the index must wait after a failure.
    fn indexed_pod(&mut self, index: usize) -> Option<Action> {
        let mut marks = BTreeMap::new();
        if self.spec.backoff_limit_per_index.is_some() {
            let replaced = self.last_failed(index);
            let (failures, ignored) = replaced.as_deref().map_or((0, 0), |pod| self.failures_with(pod));
            if let Some(end) = replaced.as_deref().and_then(backoff::finished_at) {
                let wait = backoff::after(failures + ignored, end, self.now);
                if !wait.is_zero() {
                    self.look_again(wait);
                    return None;
                }
            }
            marks.insert(FAILURES.to_owned(), failures.to_string());
            if ignored > 0 {
                marks.insert(IGNORED.to_owned(), ignored.to_string());
            }
        }
        Some(self.pod(Some(index), &marks))
    }

    /// The failures of an index, the last one included: those that count and those that do not.
    fn failures_with(&self, last: &Pod) -> (u32, u32) {
        let (failures, ignored) = (mark(last, FAILURES), mark(last, IGNORED));
        if policy::counts(&self.spec, last) { (failures + 1, ignored) } else { (failures, ignored + 1) }
    }

    /// The failed pod of an index that its next pod replaces.
    fn last_failed(&self, index: usize) -> Option<Arc<Pod>> {
        let failed = self.pods.iter().filter(|pod| self.index_of(pod) == Some(index) && self.has_failed(pod));
        failed
            .max_by_key(|pod| (mark(pod, FAILURES) + mark(pod, IGNORED), backoff::finished_at(pod)))
            .cloned()
    }

    /// Whether the failed pod of an index keeps its finalizer until its replacement knows its failures.
    pub(super) fn waits_for_replacement(&self, pod: &Pod) -> bool {
        let Some(index) = self.index_of(pod).filter(|_| self.spec.backoff_limit_per_index.is_some()) else {
            return false;
        };
        let settled = self.succeeded_indexes.contains(index) || self.failed_indexes.contains(index);
        let replaced = self.active.iter().any(|other| self.index_of(other) == Some(index));
        let last = self.last_failed(index).is_some_and(|last| last.metadata.uid == pod.metadata.uid);
        !settled && !replaced && last
    }

    /// Whether a failed pod was its index's last chance.
    pub(super) fn fails_index(&self, pod: &Pod) -> bool {
        let Some(limit) = self.spec.backoff_limit_per_index.filter(|_| self.has_failed(pod)) else {
            return false;
        };
        policy::fails_index(&self.spec, pod)
            || (policy::counts(&self.spec, pod) && i64::from(mark(pod, FAILURES)) >= i64::from(limit))
    }

    fn pod(&self, index: Option<usize>, marks: &BTreeMap<String, String>) -> Action {
        let mut template = self.spec.template.clone();
        let name = self.job.metadata.name.clone().unwrap_or_default();
        if let Some(index) = index {
            number(&mut template, &name, index);
        }
        let meta = template.metadata.get_or_insert_default();
        meta.annotations.get_or_insert_default().extend(marks.clone());
        let finalizers = meta.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
            finalizers.push(TRACKING.to_owned());
        }
        let namespace = self.job.metadata.namespace.as_deref().unwrap_or_default();
        let mut pod = pod::from_template(namespace, &controller_ref(self.job), &template);
        debug_assert!(is_tracked(&pod), "made above");
        if let Some(index) = index {
            pod.metadata.generate_name = Some(prefix(&name, index));
        }
        let mut create = Action::create(&pod);
        create.made = Some(self.note(Severity::Normal, "SuccessfulCreate", "Created pod: "));
        create.refused = Some(self.note(Severity::Warning, "FailedCreate", "Error creating: "));
        create.into()
    }
}

fn mark(pod: &Pod, name: &str) -> u32 {
    let text = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(name));
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Tells a pod and its containers their index.
fn number(template: &mut PodTemplateSpec, job: &str, index: usize) {
    let meta = template.metadata.get_or_insert_default();
    meta.annotations.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    meta.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let Some(spec) = &mut template.spec else { return };
    spec.hostname = Some(format!("{job}-{index}"));
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(tell_index);
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), api_version: None };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    variables.push(EnvVar { name: VARIABLE.to_owned(), value: None, value_from: Some(source) });
}

/// `job-3-`, short enough for the server to complete.
fn prefix(job: &str, index: usize) -> String {
    const LONGEST: usize = 58;
    let end = format!("-{index}-");
    let kept: String = job.chars().take(LONGEST - end.len()).collect();
    format!("{kept}{end}")
}
