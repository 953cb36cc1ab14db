//! How far a pod's granted resources are in effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, ResourceRequirements};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::allocation::same;
use super::{Allocation, IN_PROGRESS, PENDING, Pending, condition, told};
use crate::effect::{Effect, Event};
use crate::few::Few;
use crate::life::{Life, Step};
use crate::observed::Container;
use crate::spec::{Role, Spec};

/// How long after a failure it is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// What the kernel has of a pod's resources.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) pending: Option<Pending>,
    /// The pod by which its own group was made last.
    actuated: Arc<Pod>,
    /// What each run was made with or changed to, by its id.
    applied: Few<String, ResourceRequirements>,
    /// What the runs that are being started are made with, by container.
    starting: Few<String, ResourceRequirements>,
    step: Step,
    /// Since when something is in progress.
    since: Option<Timestamp>,
    error: Option<String>,
}

impl Progress {
    /// Of a pod that this agent sees for the first time: the status tells what its containers have.
    pub(crate) fn new(pod: &Arc<Pod>) -> Self {
        let known = Allocation::of_status(pod);
        let lists = pod.status.as_ref().map(|it| [&it.container_statuses, &it.init_container_statuses]);
        let statuses = lists.into_iter().flatten().flatten().flatten();
        let applied = statuses.filter_map(|status| {
            let (_, id) = status.container_id.as_deref()?.split_once("://")?;
            Some((id.to_owned(), known.containers.get(&status.name)?.clone()))
        });
        Self {
            pending: None,
            applied: applied.collect(),
            actuated: known.apply(pod),
            starting: Few::default(),
            step: Step::Idle,
            since: None,
            error: None,
        }
    }

    /// The pod's group is made anew from this version.
    pub(crate) fn made(&mut self, pod: &Arc<Pod>) {
        self.actuated = pod.clone();
    }

    /// A newer version of the pod that asks for no more and no less takes the place of the one that its group was
    /// made by: no old version is kept for that alone.
    pub(crate) fn renew(&mut self, pod: &Arc<Pod>) {
        if Allocation::of(&self.actuated).agrees(pod) {
            self.actuated = pod.clone();
        }
    }

    /// What the pod's own group has, if the pod has resources as a whole.
    pub(crate) fn of_pod(&self) -> Option<ResourceRequirements> {
        let own = self.actuated.spec.as_ref()?.resources.clone()?;
        let own = ResourceRequirements { claims: None, ..own };
        (own.requests.is_some() || own.limits.is_some()).then_some(own)
    }

    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.step, Step::Busy(_))
    }

    pub(crate) fn starting(&mut self, spec: &Spec) {
        let resources = spec.container.resources.clone().unwrap_or_default();
        self.starting.insert(spec.container.name.clone(), resources);
    }

    pub(crate) fn started(&mut self, name: &str, id: &str) {
        if let Some(resources) = self.starting.remove(name) {
            self.applied.insert(id.to_owned(), resources);
        }
    }

    /// What the pod was given changed: failures of before count no more.
    pub(crate) fn granted(&mut self) {
        (self.step, self.error) = (Step::Idle, None);
    }

    /// What a run has.
    pub(crate) fn applied<'a>(&'a self, spec: &'a Spec, run: &Container) -> Option<&'a ResourceRequirements> {
        self.applied.get(&run.id).or(spec.container.resources.as_ref())
    }
}

impl Life {
    /// Brings control groups of what runs in line with what was granted.
    pub(crate) fn resize(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.sandbox().is_none() {
            return;
        }
        let behind = self.is_behind();
        match (behind, self.resize.since) {
            (true, None) => self.resize.since = Some(now),
            (false, Some(_)) => {
                (self.resize.since, self.resize.error) = (None, None);
                let text = told("Pod resize completed", &self.pod, None);
                out.push(Effect::Event(Event::normal("ResizeCompleted", text, None)));
            }
            _ => {}
        }
        if !behind {
            return;
        }
        let kept = self.kept_runs();
        let (change, before) = (self.has_change(&kept), self.present(&kept));
        let named = |(spec, run): (&Spec, &Container)| (spec.container.name.clone(), run.id.clone());
        let runs = kept.into_iter().map(named).collect();
        if !change || !self.resize.step.begin(now, &mut self.alarm) {
            return;
        }
        out.push(Effect::Resize { before, after: self.pod.clone(), runs });
    }

    /// [`Effect::Resize`] ended.
    pub(crate) fn resized(
        &mut self,
        after: &Arc<Pod>,
        runs: &[(String, String)],
        result: Result<(), String>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        match result {
            Ok(()) => {
                let given = Allocation::of(after);
                for (name, id) in runs {
                    let resources = given.containers.get(name).cloned().unwrap_or_default();
                    self.resize.applied.insert(id.clone(), resources);
                }
                self.resize.actuated = after.clone();
                (self.resize.step, self.resize.error) = (Step::Idle, None);
            }
            Err(message) => {
                if self.resize.error.as_ref() != Some(&message) {
                    let text = told("Pod resize error", after, Some(&message));
                    out.push(Effect::Event(Event::warning("ResizeError", text, None)));
                }
                self.resize.error = Some(message);
                self.resize.step = Step::Failed { retry: now + RETRY, tries: 0 };
            }
        }
    }

    /// The conditions of a resize.
    pub(crate) fn resize_conditions(&self, last: &[PodCondition], now: Timestamp) -> Vec<PodCondition> {
        let mut conditions = Vec::new();
        let kept = |kind: &str| {
            let known = last.iter().find(|it| it.type_ == kind);
            known.and_then(|it| it.last_transition_time.as_ref()).map(|time| time.0)
        };
        if let Some(it) = &self.resize.pending {
            let (reason, message) = (Some(it.reason.as_str()), Some(it.message.as_str()));
            let since = kept(PENDING).unwrap_or(it.since);
            conditions.push(condition(PENDING, reason, message, it.generation, since));
        }
        if let Some(since) = self.resize.since {
            let error = self.resize.error.as_deref();
            let since = kept(IN_PROGRESS).unwrap_or(since).min(now);
            let generation = self.pod.metadata.generation;
            conditions.push(condition(IN_PROGRESS, error.map(|_| "Error"), error, generation, since));
        }
        conditions
    }

    /// Whether a run has to be made anew to get what it was granted.
    pub(crate) fn restarts_for_resize(&self, spec: &Spec, run: &Container) -> bool {
        let Some(applied) = self.resize.applied.get(&run.id) else { return false };
        let none = ResourceRequirements::default();
        let wanted = spec.container.resources.as_ref().unwrap_or(&none);
        let policies = spec.container.resize_policy.iter().flatten();
        let strict = policies.filter(|policy| policy.restart_policy == "RestartContainer");
        strict.into_iter().any(|policy| {
            let only = |list: &ResourceRequirements| ResourceRequirements {
                requests: pick(list.requests.as_ref(), &policy.resource_name),
                limits: pick(list.limits.as_ref(), &policy.resource_name),
                claims: None,
            };
            !same(&only(applied), &only(wanted))
        })
    }

    /// Whether something of what was granted is not in effect.
    fn is_behind(&self) -> bool {
        let late = |spec: &Spec| {
            self.newest(spec.name()).is_some_and(|run| {
                let lives = run.exit().is_none_or(|exit| self.runs_again(spec, run, &exit));
                lives && self.differs(spec, run)
            })
        };
        !Allocation::of(&self.resize.actuated).agrees(&self.pod) || self.resizable().any(late)
    }

    fn resizable(&self) -> impl Iterator<Item = &Spec> {
        self.specs.iter().filter(|spec| matches!(spec.role, Role::Main | Role::Sidecar))
    }

    fn differs(&self, spec: &Spec, run: &Container) -> bool {
        let none = ResourceRequirements::default();
        let wanted = spec.container.resources.as_ref().unwrap_or(&none);
        self.resize.applied.get(&run.id).is_some_and(|applied| !same(applied, wanted))
    }

    /// The runs that go on.
    fn kept_runs(&self) -> Vec<(&Spec, &Container)> {
        let runs = self.resizable().filter_map(|spec| Some((spec, self.newest(spec.name())?)));
        runs.filter(|(spec, run)| run.running() && !self.restarts_for_resize(spec, run)).collect()
    }

    fn has_change(&self, kept: &[(&Spec, &Container)]) -> bool {
        !Allocation::of(&self.resize.actuated).agrees(&self.pod)
            || kept.iter().any(|(spec, run)| self.differs(spec, run))
    }

    /// The pod as the kernel has it.
    fn present(&self, kept: &[(&Spec, &Container)]) -> Arc<Pod> {
        let mut present = Allocation::of(&self.resize.actuated);
        for (spec, run) in kept {
            if let Some(applied) = self.resize.applied.get(&run.id) {
                present.containers.insert(spec.container.name.clone(), applied.clone());
            }
        }
        present.apply(&self.pod)
    }
}

/// One amount of a list.
fn pick(list: Option<&BTreeMap<String, Text>>, name: &str) -> Option<BTreeMap<String, Text>> {
    let (name, amount) = list?.get_key_value(name)?;
    Some(BTreeMap::from([(name.clone(), amount.clone())]))
}
