//! The state of one pod's life and how each input changes it.
//!
//! [`Life::on`] takes in one input and then asks [`plan`](crate::plan) what has to be done next. What
//! is under way is part of the state, so the same effect is never asked for twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::effect::{Alarm, Effect, Event, ImageError, Input, StartError, Verdict};
use crate::observed::{Container, Sandbox};
use crate::probe::{Counter, Outcome, ProbeKind, Target};
use crate::resize::{Allocation, Progress};
use crate::restart::{Backoff, Delays, is_pending};
use crate::spec::{Role, Spec, specs};

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
    pub(crate) slots: BTreeMap<String, Slot>,
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
    pub(crate) last: PodStatus,
    /// What was told last of each container that ran: engines may lose their records.
    pub(crate) remembered: BTreeMap<String, ContainerStatus>,
    /// Containers whose end by want of memory was not told yet.
    pub(crate) starved: Vec<String>,
    pub(crate) resize: Progress,
}

/// Something that is done once and may fail.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Step {
    #[default]
    Idle,
    Busy(u32),
    Done,
    Failed {
        retry: Timestamp,
        tries: u32,
    },
}

impl Step {
    /// Begins when it is time to; true when the caller has to act.
    pub(crate) fn begin(&mut self, now: Timestamp, alarm: &mut Alarm) -> bool {
        let tries = match self {
            Self::Idle => 0,
            Self::Failed { retry, tries } if !is_pending(*retry, now) => *tries,
            Self::Failed { retry, .. } => {
                alarm.at(*retry);
                return false;
            }
            Self::Busy(_) | Self::Done => return false,
        };
        *self = Self::Busy(tries);
        true
    }

    /// Waits 1 s, 2 s, 4 s … 16 s after failures.
    fn fail(&mut self, now: Timestamp) {
        let tries = match self {
            Self::Busy(tries) | Self::Failed { tries, .. } => *tries,
            Self::Idle | Self::Done => 0,
        };
        *self = Self::Failed { retry: now + SignedDuration::from_secs(1 << tries.min(4)), tries: tries + 1 };
    }

    fn end<E>(&mut self, result: &Result<(), E>, now: Timestamp) {
        match result {
            Ok(()) => *self = Self::Done,
            Err(_) => self.fail(now),
        }
    }
}

/// Where the pod stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Containers are kept running.
    Living,
    /// Containers are stopped; those that run get until then.
    Ending { deadline: Timestamp, grace: i64 },
    /// Nothing is left but the records of its containers.
    Over,
    /// Those are removed too.
    Finished,
}

/// What is under way for one container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) op: Op,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) crash: Backoff,
    pub(crate) pull: Backoff,
    /// No new try before.
    pub(crate) retry: Option<Timestamp>,
    pub(crate) failures: u32,
    /// The end whose back-off was told to users.
    pub(crate) told: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Op {
    #[default]
    Idle,
    Image,
    HasImage(String),
    Starting,
    PostStart(String),
    Stopping {
        id: String,
        grace: i64,
    },
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Life {
    /// The life of a pod that this agent sees for the first time, or adopts after a restart.
    #[must_use]
    pub fn new(pod: Arc<Pod>, node: Arc<Node>, now: Timestamp) -> Self {
        let last = pod.status.clone().unwrap_or_default();
        let start_time = last.start_time.as_ref().map_or(now, |time| time.0);
        let resize = Progress::new(&pod);
        let mut life = Self {
            specs: specs(&pod),
            counters: adopted_counters(&last),
            pod,
            node,
            sandboxes: Vec::new(),
            containers: Vec::new(),
            slots: BTreeMap::new(),
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
            remembered: remembered(&last),
            last,
            starved: Vec::new(),
            resize,
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
        self.slots.entry(name.to_owned()).or_default()
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
            self.slots.entry(spec.container.name.clone()).or_default();
        }
    }

    fn take(&mut self, input: Input, now: Timestamp, out: &mut Vec<Effect>) {
        match input {
            Input::Desired(pod) => {
                if !Allocation::of(&self.pod).agrees(&pod) {
                    self.resize.granted();
                }
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

    /// Goes on where another agent was: since when the pod is there, what its probes had found out, how often
    /// its containers ran.
    fn shown(&mut self, status: PodStatus) {
        let since = status.start_time.as_ref().map(|time| time.0);
        let Some(since) = since.filter(|since| since.as_second() < self.start_time.as_second()) else {
            return;
        };
        self.start_time = since;
        for (key, counter) in adopted_counters(&status) {
            self.counters.entry(key).or_insert(counter);
        }
        for (name, known) in remembered(&status) {
            self.remembered.entry(name).or_insert(known);
        }
        self.last = status;
    }

    fn merge(&mut self, sandboxes: Vec<Sandbox>, containers: Vec<Container>) {
        for sandbox in sandboxes {
            match self.sandboxes.iter_mut().find(|known| known.id == sandbox.id) {
                // Addresses stay: an engine forgets them when it takes the network down.
                Some(known) => {
                    known.ready &= sandbox.ready;
                    if known.ips.is_empty() {
                        known.ips = sandbox.ips;
                    }
                }
                None => self.sandboxes.push(sandbox),
            }
        }
        for run in containers {
            match self.containers.iter_mut().find(|known| known.id == run.id) {
                Some(known) if known.rank() > run.rank() => {}
                Some(known) => {
                    let oom = |run: &Container| run.exit().is_some_and(|exit| exit.reason == "OOMKilled");
                    if oom(&run) && !oom(known) {
                        self.starved.push(run.name.clone());
                    }
                    let sandbox = std::mem::take(&mut known.sandbox);
                    *known = run;
                    if known.sandbox.is_empty() {
                        known.sandbox = sandbox;
                    }
                }
                None => self.containers.push(run),
            }
        }
    }

    fn replace(&mut self, sandboxes: Vec<Sandbox>, containers: Vec<Container>) {
        self.sandboxes.retain(|known| sandboxes.iter().any(|it| it.id == known.id));
        self.containers.retain(|known| containers.iter().any(|it| it.id == known.id));
        // What could not be removed is tried again.
        self.removing.clear();
        self.merge(sandboxes, containers);
    }

    fn retry_now(&mut self) {
        if let Step::Failed { tries, .. } = self.volumes {
            self.volumes = Step::Failed { retry: Timestamp::MIN, tries };
        }
        for slot in self.slots.values_mut() {
            let config = slot.waiting.as_ref().is_some_and(|it| it.reason == "CreateContainerConfigError");
            if config {
                slot.retry = None;
            }
        }
    }

    fn volumes_ended(&mut self, result: Result<(), String>, now: Timestamp, out: &mut Vec<Effect>) {
        self.volumes.end(&result, now);
        if let Err(message) = result {
            out.push(Effect::Event(Event::warning("FailedMount", message, None)));
        }
    }

    fn unprepared(&mut self, why: String, now: Timestamp, out: &mut Vec<Effect>) {
        let message = format!("Failed to prepare dynamic resources: {why}");
        self.volumes.end(&Err(why), now);
        out.push(Effect::Event(Event::warning("FailedPrepareDynamicResources", message, None)));
    }

    fn sandbox_started(&mut self, result: Result<Sandbox, String>, now: Timestamp, out: &mut Vec<Effect>) {
        match result {
            Ok(sandbox) => {
                self.sandbox = Step::Idle;
                self.merge(vec![sandbox], Vec::new());
            }
            Err(message) => {
                self.sandbox.fail(now);
                let message = format!("Failed to create pod sandbox: {message}");
                out.push(Effect::Event(Event::warning("FailedCreatePodSandBox", message, None)));
            }
        }
    }

    fn sandbox_stopped(
        &mut self,
        id: &str,
        result: Result<(), String>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        self.closing.retain(|closing| closing != id);
        match result {
            Ok(()) => {
                self.sandboxes.iter_mut().filter(|it| it.id == id).for_each(|it| it.ready = false);
                self.close = Step::Idle;
            }
            Err(message) => {
                self.close.fail(now);
                let message = format!("error killing pod: {message}");
                out.push(Effect::Event(Event::warning("FailedKillPod", message, None)));
            }
        }
    }

    fn sandbox_removed(&mut self, id: &str, result: &Result<(), String>, now: Timestamp) {
        self.closing.retain(|closing| closing != id);
        if result.is_ok() {
            self.sandboxes.retain(|it| it.id != id);
            self.containers.retain(|run| run.sandbox != id);
            self.close = Step::Idle;
        } else {
            self.close.fail(now);
        }
    }

    fn image_ended(&mut self, name: &str, result: Result<String, ImageError>, now: Timestamp) {
        let slot = self.slot(name);
        match result {
            Ok(image) => {
                slot.op = Op::HasImage(image);
                slot.pull.reset();
            }
            Err(error) => {
                slot.op = Op::Idle;
                slot.waiting = Some(Waiting { reason: error.reason(), message: error.message().to_owned() });
                slot.pull.next(now, now, Delays::default());
                slot.retry = slot.pull.since_update();
            }
        }
    }

    fn start_ended(
        &mut self,
        name: &str,
        result: Result<Box<Container>, StartError>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        match result {
            Ok(run) => self.started(name, *run, out),
            Err(error) => self.not_started(name, error, now, out),
        }
    }

    fn started(&mut self, name: &str, run: Container, out: &mut Vec<Effect>) {
        let id = run.id.clone();
        self.resize.started(name, &id);
        self.merge(Vec::new(), vec![run]);
        let hook = self.spec(name).and_then(|spec| spec.container.lifecycle.clone()?.post_start);
        let slot = self.slot(name);
        (slot.retry, slot.failures) = (None, 0);
        if let Some(hook) = hook {
            // The container does not count as started before its hook has ended.
            slot.op = Op::PostStart(id.clone());
            out.push(Effect::RunPostStart { container: name.to_owned(), id, hook });
        } else {
            (slot.op, slot.waiting) = (Op::Idle, None);
        }
    }

    fn not_started(&mut self, name: &str, error: StartError, now: Timestamp, out: &mut Vec<Effect>) {
        let message = format!("Error: {}", error.message());
        out.push(Effect::Event(Event::warning("Failed", message, self.field_path(name))));
        let slot = self.slot(name);
        slot.op = Op::Idle;
        slot.waiting = Some(Waiting { reason: error.reason(), message: error.message().to_owned() });
        match error {
            StartError::Run(_, Some(run)) => self.merge(Vec::new(), vec![*run]),
            _ => {
                slot.retry = Some(now + SignedDuration::from_secs(1 << slot.failures.min(4)));
                slot.failures += 1;
            }
        }
    }

    fn post_start_ended(
        &mut self,
        id: &str,
        result: Result<(), String>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some((name, slot)) = self.slots.iter_mut().find(|(_, slot)| slot.op == Op::PostStart(id.into()))
        else {
            return;
        };
        (slot.op, slot.waiting) = (Op::Idle, None);
        let Err(message) = result else { return };
        slot.waiting = Some(Waiting { reason: "PostStartHookError", message });
        let name = name.clone();
        let path = self.field_path(&name);
        out.push(Effect::Event(Event::warning("FailedPostStartHook", "PostStartHook failed", path)));
        self.stop(&name, "FailedPostStartHook".into(), None, now, out);
    }

    fn stop_ended(&mut self, id: &str, result: Result<(), String>, now: Timestamp, out: &mut Vec<Effect>) {
        let mine = |slot: &Slot| matches!(&slot.op, Op::Stopping { id: stopping, .. } if stopping == id);
        let Some((_, slot)) = self.slots.iter_mut().find(|(_, slot)| mine(slot)) else { return };
        slot.op = Op::Idle;
        match result {
            // Its end comes as an observation; until then it must not be stopped once more.
            Ok(()) => {
                if self.containers.iter().any(|run| run.id == id && run.exit().is_none()) {
                    slot.op = Op::Stopping { id: id.to_owned(), grace: 0 };
                }
            }
            Err(message) => {
                slot.retry = Some(now + SignedDuration::from_secs(1));
                let message = format!("error killing pod: {message}");
                out.push(Effect::Event(Event::warning("FailedKillPod", message, None)));
            }
        }
    }

    fn probed(&mut self, id: &str, kind: ProbeKind, outcome: Outcome, out: &mut Vec<Effect>) {
        let Some(target) = self.probes().into_iter().find(|it| it.id == id && it.kind == kind) else {
            return;
        };
        if let Some((reason, message)) = outcome.told(kind) {
            let path = self.field_path(&target.container);
            out.push(Effect::Event(Event::warning(reason, message, path)));
        }
        let Some(success) = outcome.verdict() else { return };
        self.counters.entry((id.to_owned(), kind)).or_default().count(&target.probe, success);
    }

    fn probes_of(&self, spec: &Spec) -> Vec<Target> {
        let Some(run) = self.newest(spec.name()) else { return Vec::new() };
        let crate::observed::State::Running(started) = run.state else { return Vec::new() };
        if matches!(spec.role, Role::Init | Role::Ephemeral) || self.in_post_start(run) {
            return Vec::new();
        }
        let container = &spec.container;
        let target = |kind, probe: &Option<_>| {
            probe.clone().map(|probe| Target {
                container: container.name.clone(),
                id: run.id.clone(),
                kind,
                probe,
                started,
            })
        };
        if !self.is_started(spec, run) {
            // A container that failed is asked no more: it is being stopped.
            let failed = self.verdict_of(&run.id, ProbeKind::Startup) == Some(false);
            let asked = self.stage == Stage::Living && !failed;
            return target(ProbeKind::Startup, &container.startup_probe)
                .filter(|_| asked)
                .into_iter()
                .collect();
        }
        let healthy = self.verdict_of(&run.id, ProbeKind::Liveness) != Some(false);
        let liveness = target(ProbeKind::Liveness, &container.liveness_probe)
            .filter(|_| healthy && self.stage == Stage::Living);
        liveness.into_iter().chain(target(ProbeKind::Readiness, &container.readiness_probe)).collect()
    }
}

/// The containers of a status that ran.
pub(crate) fn remembered(status: &PodStatus) -> BTreeMap<String, ContainerStatus> {
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let statuses = lists.into_iter().flatten().flatten().filter(|status| status.container_id.is_some());
    statuses.map(|status| (status.name.clone(), status.clone())).collect()
}

/// What another agent had found out about the runs that the API shows, so that a restart of the agent
/// takes no pod out of service.
fn adopted_counters(status: &PodStatus) -> BTreeMap<(String, ProbeKind), Counter> {
    let statuses = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut counters = BTreeMap::new();
    for status in statuses {
        let Some((_, id)) = status.container_id.as_deref().and_then(|id| id.split_once("://")) else {
            continue;
        };
        if status.started == Some(true) {
            counters.insert((id.to_owned(), ProbeKind::Startup), Counter::decided(true));
        }
        if status.ready {
            counters.insert((id.to_owned(), ProbeKind::Readiness), Counter::decided(true));
        }
    }
    counters
}
