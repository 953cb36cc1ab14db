//! The state of one pod's life and how each input changes it.
//!
//! [`Life::on`] takes in one input and then asks [`plan`](crate::plan) what has to be done next. What
//! is under way is part of the state, so the same effect is never asked for twice.

mod ended;
mod probing;
mod seen;
mod slot;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use crate::effect::{Alarm, Effect, Input, Verdict};
use crate::few::Few;
use crate::observed::{Container, Sandbox};
use crate::probe::{Counter, Outcome, ProbeKind, Target};
use crate::resize::{Allocation, Progress};
use crate::restart::Delays;
use crate::spec::{Spec, specs};
use seen::adopted_counters;
pub(crate) use seen::remembered;
pub(crate) use slot::{Op, Slot, Stage, Step, Waiting};

/// What a pod's status tells about its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The node's addresses, the first one first.
    pub addresses: Vec<String>,
    /// The engine's name, the scheme of container ids.
    pub runtime: String,
    /// How long containers that fail wait.
    pub delays: Delays,
}

/// One pod's life.
#[derive(Clone, Debug)]
pub struct Life {
    pub(crate) pod: Arc<Pod>,
    pub(crate) node: Arc<Node>,
    pub(crate) specs: Vec<Spec>,
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
    pub(crate) slots: Few<String, Slot>,
    pub(crate) counters: BTreeMap<(String, ProbeKind), Counter>,
    pub(crate) volumes: Step,
    /// The making of a sandbox.
    pub(crate) sandbox: Step,
    /// The stopping and removal of sandboxes.
    pub(crate) close: Step,
    pub(crate) release: Step,
    /// Sandboxes that are being stopped or removed.
    pub(crate) closing: Vec<String>,
    /// Runs whose records are being removed.
    pub(crate) removing: Vec<String>,
    pub(crate) stage: Stage,
    /// The node's reason to end the pod.
    pub(crate) verdict: Option<Verdict>,
    /// The node did not take the pod.
    pub(crate) refused: bool,
    pub(crate) gone: bool,
    pub(crate) start_time: Timestamp,
    pub(crate) alarm: Alarm,
    /// The conditions as they were told last.
    pub(crate) told: Vec<PodCondition>,
    /// What was told last of each container that ran: engines may lose their records.
    pub(crate) remembered: Few<String, ContainerStatus>,
    /// Containers whose end by want of memory was not told yet.
    pub(crate) starved: Vec<String>,
    pub(crate) resize: Progress,
}

impl Life {
    /// The life of a pod that this agent sees for the first time, or adopts after a restart.
    #[must_use]
    pub fn new(pod: Arc<Pod>, node: Arc<Node>, now: Timestamp) -> Self {
        let none = PodStatus::default();
        let last = pod.status.as_ref().unwrap_or(&none);
        let start_time = last.start_time.as_ref().map_or(now, |time| time.0);
        let resize = Progress::new(&pod);
        let mut life = Self {
            specs: specs(&pod),
            counters: adopted_counters(last),
            remembered: remembered(last),
            told: last.conditions.clone().unwrap_or_default(),
            node,
            sandboxes: Vec::new(),
            containers: Vec::new(),
            slots: Few::default(),
            volumes: Step::Idle,
            sandbox: Step::Idle,
            close: Step::Idle,
            release: Step::Idle,
            closing: Vec::new(),
            removing: Vec::new(),
            stage: Stage::Living,
            verdict: None,
            refused: false,
            gone: false,
            start_time,
            alarm: Alarm::default(),
            starved: Vec::new(),
            resize,
            pod,
        };
        life.make_slots();
        life
    }

    /// Whether an input may change anything. Most results of probes say what is known already: they are
    /// no news, and need no [`Life::on`].
    #[must_use]
    pub fn is_news(&self, input: &Input) -> bool {
        let Input::Probed { id, kind, outcome: Outcome::Success } = input else { return true };
        !self.counters.get(&(id.clone(), *kind)).is_some_and(Counter::is_steady)
    }

    /// Takes in what happened and says what to do.
    pub fn on(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take(input, now, &mut effects);
        self.plan(now, &mut effects);
        effects
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn wake(&self) -> Option<Timestamp> {
        self.alarm.0
    }

    /// The pod as the API had it last.
    #[must_use]
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// Every container of the pod.
    #[must_use]
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// The newest run of a container.
    #[must_use]
    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.runs(name).max_by_key(|run| (run.attempt, run.created))
    }

    /// The sandbox that works, if any.
    #[must_use]
    pub fn sandbox(&self) -> Option<&Sandbox> {
        let ready = self.sandboxes.iter().filter(|it| it.ready && !self.closing.contains(&it.id));
        ready.max_by_key(|it| (it.attempt, it.created))
    }

    /// Whether any container runs, as far as is known.
    #[must_use]
    pub fn runs_anything(&self) -> bool {
        self.containers.iter().any(Container::running)
    }

    /// Every sandbox and container that is known: ids, and whether they are ready or running.
    #[must_use]
    pub fn known(&self) -> (BTreeMap<&str, bool>, BTreeMap<&str, bool>) {
        let sandboxes = self.sandboxes.iter().map(|it| (it.id.as_str(), it.ready)).collect();
        let containers = self.containers.iter().map(|it| (it.id.as_str(), it.running())).collect();
        (sandboxes, containers)
    }

    /// Whether the pod is gone from the API.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.gone
    }

    /// Whether nothing is under way that would change what the engine has of the pod.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.slots.values().all(|slot| slot.op == Op::Idle)
            && self.closing.is_empty()
            && !matches!(self.sandbox, Step::Busy(_))
    }

    /// Whether the agent has nothing more to do for this pod.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    /// Whether the pod is being ended or has ended.
    #[must_use]
    pub fn ending(&self) -> bool {
        self.stage != Stage::Living
    }

    /// The probes that have to run now.
    #[must_use]
    pub fn probes(&self) -> Vec<Target> {
        if matches!(self.stage, Stage::Over | Stage::Finished) {
            return Vec::new();
        }
        self.specs.iter().flat_map(|spec| self.probes_of(spec)).collect()
    }

    pub(crate) fn runs(&self, name: &str) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(move |run| run.name == name)
    }

    pub(crate) fn slot(&mut self, name: &str) -> &mut Slot {
        self.slots.get_or_insert(name.to_owned(), Slot::default())
    }

    pub(crate) fn op(&self, name: &str) -> &Op {
        self.slots.get(name).map_or(&Op::Idle, |slot| &slot.op)
    }

    pub(crate) fn spec(&self, name: &str) -> Option<&Spec> {
        self.specs.iter().find(|spec| spec.name() == name)
    }

    pub(crate) fn field_path(&self, name: &str) -> Option<String> {
        self.spec(name).map(Spec::field_path)
    }

    /// Whether a run counts as started: its hook is done and its startup probe has passed.
    pub(crate) fn is_started(&self, spec: &Spec, run: &Container) -> bool {
        run.running() && !self.in_post_start(run) && {
            spec.container.startup_probe.is_none()
                || self.verdict_of(&run.id, ProbeKind::Startup) == Some(true)
        }
    }

    pub(crate) fn in_post_start(&self, run: &Container) -> bool {
        match self.op(&run.name) {
            Op::PostStart(id) => *id == run.id,
            // The engine tells of the run before the call that starts it has returned.
            Op::Starting => run.running(),
            _ => false,
        }
    }

    pub(crate) fn verdict_of(&self, id: &str, kind: ProbeKind) -> Option<bool> {
        self.counters.get(&(id.to_owned(), kind)).and_then(Counter::verdict)
    }

    fn make_slots(&mut self) {
        for spec in &self.specs {
            self.slots.get_or_insert(spec.container.name.clone(), Slot::default());
        }
    }

    fn take(&mut self, input: Input, now: Timestamp, out: &mut Vec<Effect>) {
        match input {
            Input::Desired(pod) => {
                if !Allocation::of(&self.pod).agrees(&pod) {
                    self.resize.granted();
                }
                self.resize.renew(&pod);
                self.specs = specs(&pod);
                self.pod = pod;
                self.make_slots();
            }
            Input::Gone => self.gone = true,
            Input::Shown(status) => self.shown(*status),
            Input::Seen { sandboxes, containers } => self.merge(sandboxes, containers),
            Input::Listed { sandboxes, containers } => self.replace(sandboxes, containers),
            Input::Removed { id } => {
                self.removing.retain(|removing| *removing != id);
                self.containers.retain(|run| run.id != id);
            }
            Input::Volumes(result) => self.volumes_ended(result, now, out),
            Input::Unprepared(why) => self.unprepared(why, now, out),
            Input::Retry => self.retry_now(),
            Input::SandboxStarted(result) => self.sandbox_started(result, now, out),
            Input::SandboxStopped { id, result } => self.sandbox_stopped(&id, result, now, out),
            Input::SandboxRemoved { id, result } => self.sandbox_removed(&id, &result, now),
            Input::Image { container, result } => self.image_ended(&container, result, now),
            Input::Started { container, result } => self.start_ended(&container, result, now, out),
            Input::PostStarted { id, result } => self.post_start_ended(&id, result, now, out),
            Input::Stopped { id, result } => self.stop_ended(&id, result, now, out),
            Input::Probed { id, kind, outcome } => self.probed(&id, kind, outcome, out),
            Input::Pending(pending) => self.resize.pending = pending,
            Input::Resized { after, runs, result } => self.resized(&after, &runs, result, now, out),
            Input::Released(result) => self.release.end(&result, now),
            Input::Evict(verdict) => {
                self.verdict.get_or_insert(verdict);
            }
            Input::Refuse(verdict) => {
                self.verdict.get_or_insert(verdict);
                self.refused = true;
            }
            Input::Tick => {}
        }
    }
}
