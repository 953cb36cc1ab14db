//! What a pod needs next: keep it alive, wind it down, or clear it away.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::LifecycleHandler;

use crate::effect::{Effect, Event, Signal, Verdict};
use crate::hash::hash;
use crate::life::{Life, Op, Slot, Stage, Step, Waiting};
use crate::observed::{Container, Exit, State};
use crate::probe::ProbeKind;
use crate::restart::{go_duration, is_pending, may_restart, should_restart};
use crate::spec::{Role, Spec, is_over, pod_spec};

/// A failed pull shows its error for this long before it shows that it waits.
const ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(2);

/// The grace of a pod that names none, in seconds.
const GRACE: i64 = 30;

impl Life {
    pub(crate) fn plan(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.alarm.0 = None;
        self.settle();
        for name in std::mem::take(&mut self.starved) {
            let message = format!("Container {name} was killed because it used more memory than it may");
            out.push(Effect::Event(Event::warning("OOMKilled", message, self.field_path(&name))));
        }
        self.judge(now, out);
        if self.stage == Stage::Living {
            self.keep_alive(now, out);
        }
        if let Stage::Ending { deadline, grace } = self.stage {
            self.wind_down(deadline, grace, now, out);
        }
        if self.stage == Stage::Over {
            self.clear(now, out);
        }
    }

    /// Ends a stop when its run has ended, however it came to know.
    fn settle(&mut self) {
        for slot in self.slots.values_mut() {
            let Op::Stopping { id, .. } = &slot.op else { continue };
            let run = self.containers.iter().find(|run| run.id == *id);
            if run.is_none_or(|run| run.exit().is_some()) {
                slot.op = Op::Idle;
            }
        }
    }

    /// Decides whether the pod has to end, and how soon.
    fn judge(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Over | Stage::Finished) {
            return;
        }
        self.check_deadline(now, out);
        let ends = self.deleted() || self.verdict.is_some() || self.api_terminal() || self.done_by_itself();
        if !ends {
            return;
        }
        let grace = self.grace();
        let new = now + SignedDuration::from_secs(grace);
        match &mut self.stage {
            Stage::Ending { deadline, grace: known } if grace < *known && new < *deadline => {
                (*deadline, *known) = (new, grace);
            }
            Stage::Living => self.stage = Stage::Ending { deadline: new, grace },
            _ => {}
        }
    }

    fn check_deadline(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(seconds) = pod_spec(&self.pod).active_deadline_seconds else { return };
        let end = self.start_time + SignedDuration::from_secs(seconds);
        if end > now {
            self.alarm.at(end);
        } else if self.verdict.is_none() && !self.api_terminal() && !self.deleted() && !self.done_by_itself()
        {
            let (reason, message) =
                ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
            out.push(Effect::Event(Event::normal(reason, message, None)));
            self.verdict =
                Some(Verdict { reason: reason.into(), message: message.into(), ..Verdict::default() });
        }
    }

    pub(crate) fn deleted(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    fn api_terminal(&self) -> bool {
        is_over(&self.pod)
    }

    /// Seconds between the first stop signal and SIGKILL.
    fn grace(&self) -> i64 {
        let own = pod_spec(&self.pod).termination_grace_period_seconds.unwrap_or(GRACE);
        let deletion =
            self.pod.metadata.deletion_grace_period_seconds.filter(|_| self.deleted()).unwrap_or(own);
        let verdict = self.verdict.as_ref().and_then(|verdict| verdict.grace);
        verdict.map_or(deletion, |verdict| verdict.min(deletion)).max(0)
    }

    /// Whether every container has ended for good, or an init container has failed for good.
    pub(crate) fn done_by_itself(&self) -> bool {
        let ended = |spec: &Spec| {
            self.newest(spec.name()).is_some_and(|run| {
                run.exit().is_some_and(|exit| !self.runs_again(spec, run, &exit))
                    && !matches!(self.op(spec.name()), Op::Starting)
            })
        };
        let of = |role| self.specs.iter().filter(move |spec| spec.role == role);
        if of(Role::Main).all(ended) {
            return true;
        }
        let never_ran = of(Role::Main).all(|spec| self.newest(spec.name()).is_none());
        let failed = |spec: &Spec| {
            ended(spec)
                && self.newest(spec.name()).and_then(Container::exit).is_some_and(|exit| exit.code != 0)
        };
        never_ran && of(Role::Init).any(failed)
    }

    pub(crate) fn runs_again(&self, spec: &Spec, run: &Container, exit: &Exit) -> bool {
        changed(spec, run) || should_restart(&self.pod, spec, exit.code)
    }

    fn keep_alive(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.volumes.begin(now, &mut self.alarm) {
            out.push(Effect::PrepareVolumes);
        }
        self.stop_unfit(now, out);
        self.resize(now, out);
        let wanted = self.wanted();
        if self.sandbox().is_none() && !wanted.is_empty() {
            self.renew_sandbox(now, out);
        }
        for name in wanted {
            self.bring_up(&name, now, out);
        }
        self.collect(now, out);
    }

    /// Stops what failed its probes or has another image now.
    fn stop_unfit(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let specs = self.specs.iter().filter(|spec| matches!(spec.role, Role::Sidecar | Role::Main));
        let unfit: Vec<_> = specs.filter_map(|spec| self.unfit(spec)).collect();
        for (name, message, grace) in unfit {
            self.stop(&name, message, grace, now, out);
        }
    }

    fn unfit(&self, spec: &Spec) -> Option<(String, String, Option<i64>)> {
        let run = self.newest(spec.name()).filter(|run| run.running())?;
        let name = spec.name();
        if self.restarts_for_resize(spec, run) {
            return Some((name.to_owned(), format!("Container {name} resize requires restart"), None));
        }
        let failed = |kind| self.verdict_of(&run.id, kind) == Some(false);
        let (why, probe) = if changed(spec, run) {
            ("definition changed", None)
        } else if failed(ProbeKind::Startup) {
            ("failed startup probe", spec.container.startup_probe.as_ref())
        } else if failed(ProbeKind::Liveness) {
            ("failed liveness probe", spec.container.liveness_probe.as_ref())
        } else {
            return None;
        };
        let grace = probe.and_then(|probe| probe.termination_grace_period_seconds);
        let again = if probe.is_none() || may_restart(&self.pod, spec) { ", will be restarted" } else { "" };
        Some((name.to_owned(), format!("Container {name} {why}{again}"), grace))
    }

    /// Stops a container's newest run unless that is under way.
    pub(crate) fn stop(
        &mut self,
        name: &str,
        message: String,
        grace: Option<i64>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(run) = self.newest(name).filter(|run| run.running()) else { return };
        let id = run.id.clone();
        let grace = grace.unwrap_or_else(|| self.grace());
        let (pre_stop, repeated) = match self.op(name) {
            Op::Starting => return,
            Op::Stopping { id: stopping, grace: known } if *stopping == id => {
                if *known <= grace {
                    return;
                }
                (None, true)
            }
            _ => (self.pre_stop(name), false),
        };
        if let Some(retry) = self.slot(name).retry.filter(|retry| is_pending(*retry, now) && !repeated) {
            return self.alarm.at(retry);
        }
        if !repeated {
            out.push(Effect::Event(Event::normal("Killing", message, self.field_path(name))));
        }
        self.slot(name).op = Op::Stopping { id: id.clone(), grace };
        // Whoever is hurried does not wait.
        let for_good = self.stage != Stage::Living && !repeated;
        let signal = if for_good { Signal::AfterTraffic } else { Signal::Prompt };
        out.push(Effect::StopContainer { container: name.to_owned(), id, grace, pre_stop, signal });
    }

    fn pre_stop(&self, name: &str) -> Option<LifecycleHandler> {
        self.spec(name)?.container.lifecycle.as_ref()?.pre_stop.clone()
    }

    /// The containers that ought to be started now, in order.
    fn wanted(&self) -> Vec<String> {
        let mut names = Vec::new();
        if self.initialized(&mut names) {
            let later = self.specs.iter().filter(|spec| matches!(spec.role, Role::Main | Role::Ephemeral));
            names.extend(later.filter(|spec| self.lacks(spec)).map(|spec| spec.container.name.clone()));
        }
        names
    }

    /// Whether the main containers may run. Puts the init container or sidecars to be started in `names`.
    fn initialized(&self, names: &mut Vec<String>) -> bool {
        let mut before = self.specs.iter().filter(|spec| matches!(spec.role, Role::Init | Role::Sidecar));
        if self.main_ran() {
            let sidecars = before.filter(|spec| spec.role == Role::Sidecar && self.lacks(spec));
            names.extend(sidecars.map(|spec| spec.container.name.clone()));
            return true;
        }
        let Some(next) = before.find(|spec| !self.init_done(spec)) else { return true };
        if self.lacks(next) {
            names.push(next.container.name.clone());
        }
        false
    }

    /// Whether a main container has run in the present sandbox, so that initialization is over.
    fn main_ran(&self) -> bool {
        let mains = self.specs.iter().filter(|spec| spec.role == Role::Main);
        mains.into_iter().any(|spec| self.newest_here(spec.name()).is_some())
    }

    fn newest_here(&self, name: &str) -> Option<&Container> {
        let sandbox = &self.sandbox()?.id;
        self.newest(name).filter(|run| run.sandbox == *sandbox)
    }

    fn init_done(&self, spec: &Spec) -> bool {
        self.newest_here(spec.name()).is_some_and(|run| match spec.role {
            Role::Sidecar => self.is_started(spec, run),
            _ => run.exit().is_some_and(|exit| exit.code == 0),
        })
    }

    /// Whether a container has no run and ought to have one.
    fn lacks(&self, spec: &Spec) -> bool {
        let run = match spec.role {
            // Initialization starts over in a new sandbox.
            Role::Init | Role::Sidecar => self.newest_here(spec.name()),
            Role::Main | Role::Ephemeral => self.newest(spec.name()),
        };
        let Some(run) = run else { return true };
        match (&run.state, run.exit()) {
            (_, Some(exit)) => self.runs_again(spec, run, &exit),
            // What the last agent made and did not start.
            (State::Created, None) => spec.role != Role::Ephemeral,
            (_, None) => spec.role != Role::Ephemeral && self.newest_here(spec.name()).is_none(),
        }
    }

    /// Takes down what is left of the old sandbox, then asks for a new one.
    fn renew_sandbox(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let old = self.sandboxes.iter().map(|sandbox| sandbox.id.clone());
        let in_use: Vec<_> = old
            .filter(|id| self.containers.iter().any(|run| run.sandbox == *id && run.exit().is_none()))
            .collect();
        if !in_use.is_empty() {
            if self.close.begin(now, &mut self.alarm) {
                let text = "Pod sandbox changed, it will be killed and re-created.";
                out.push(Effect::Event(Event::normal("SandboxChanged", text, None)));
                self.closing.extend(in_use.iter().cloned());
                out.extend(in_use.into_iter().map(|id| Effect::StopSandbox { id }));
            }
            return;
        }
        if self.sandbox.begin(now, &mut self.alarm) {
            let attempt = self.sandboxes.iter().map(|sandbox| sandbox.attempt + 1).max().unwrap_or(0);
            self.resize.made(&self.pod);
            out.push(Effect::StartSandbox { attempt });
        }
    }

    /// Takes a container the next step towards running.
    fn bring_up(&mut self, name: &str, now: Timestamp, out: &mut Vec<Effect>) {
        if *self.op(name) == Op::Idle {
            if self.may_start(name, now, out) {
                self.slot(name).op = Op::Image;
                out.push(Effect::EnsureImage { container: name.to_owned() });
            }
            return;
        }
        // A container does not fit into a group that is still to grow.
        if self.resize.is_busy() {
            return;
        }
        let (Op::HasImage(image), Step::Done, Some(sandbox)) = (self.op(name), &self.volumes, self.sandbox())
        else {
            return;
        };
        let (image, sandbox) = (image.clone(), sandbox.id.clone());
        let attempt = self.next_attempt(name);
        self.slot(name).op = Op::Starting;
        if let Some(spec) = self.specs.iter().find(|spec| spec.name() == name) {
            self.resize.starting(spec);
        }
        out.push(Effect::StartContainer { container: name.to_owned(), attempt, image, sandbox });
    }

    fn next_attempt(&self, name: &str) -> u32 {
        if let Some(run) = self.newest(name) {
            return run.attempt + 1;
        }
        // The engine has lost its records: the API knows how often it ran.
        let known = self.last_status(name);
        known.map_or(0, |status| {
            let count = u32::try_from(status.restart_count).unwrap_or(0);
            count + u32::from(status.container_id.is_some())
        })
    }

    /// Whether no back-off holds a container back; counts the crash when none does.
    fn may_start(&mut self, name: &str, now: Timestamp, out: &mut Vec<Effect>) -> bool {
        if let Some(retry) = self.slot(name).retry.filter(|retry| is_pending(*retry, now)) {
            self.alarm.at(retry);
            self.show_pull_back_off(name, now, out);
            return false;
        }
        let Some(exit) = self.newest(name).and_then(Container::exit) else { return true };
        let until = self.slot(name).crash.since_event(exit.finished).filter(|until| is_pending(*until, now));
        let Some(until) = until else {
            let delays = self.node.delays;
            self.slot(name).crash.next(exit.finished, now, delays);
            return true;
        };
        self.alarm.at(until);
        self.show_crash_loop(name, exit.finished, out);
        false
    }

    fn show_crash_loop(&mut self, name: &str, finished: Timestamp, out: &mut Vec<Effect>) {
        let (pod, path) = (self.full_name(), self.field_path(name));
        let slot = self.slot(name);
        let delay = go_duration(slot.crash.delay());
        slot.waiting = Some(Waiting {
            reason: "CrashLoopBackOff",
            message: format!("back-off {delay} restarting failed container={name} pod={pod}"),
        });
        if slot.told != Some(finished) {
            slot.told = Some(finished);
            let message = format!("Back-off restarting failed container {name} in pod {pod}");
            out.push(Effect::Event(Event::warning("BackOff", message, path)));
        }
    }

    fn show_pull_back_off(&mut self, name: &str, now: Timestamp, out: &mut Vec<Effect>) {
        let path = self.field_path(name);
        let image = self.spec(name).and_then(|spec| spec.container.image.clone()).unwrap_or_default();
        let Slot { pull, waiting, .. } = self.slot(name);
        let Some(Waiting { reason: "ErrImagePull", message }) = waiting else { return };
        let Some(failed) = pull.since_update().map(|until| until - pull.delay()) else { return };
        if failed + ERROR_SHOWN > now {
            self.alarm.at(failed + ERROR_SHOWN);
            return;
        }
        let text = format!("Back-off pulling image \"{image}\"");
        *waiting =
            Some(Waiting { reason: "ImagePullBackOff", message: format!("{text}: ErrImagePull: {message}") });
        out.push(Effect::Event(Event::normal("BackOff", text, path.clone())));
        out.push(Effect::Event(Event::warning("Failed", "Error: ImagePullBackOff", path)));
    }

    /// Name, namespace and UID as upstream's messages have them.
    pub(crate) fn full_name(&self) -> String {
        let meta = &self.pod.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}_{}({})", part(&meta.name), part(&meta.namespace), part(&meta.uid))
    }

    /// Removes records that nobody reads: all but the newest two runs, and empty old sandboxes.
    fn collect(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let mut old: Vec<String> = Vec::new();
        for spec in &self.specs {
            let mut runs: Vec<_> = self.runs(spec.name()).collect();
            runs.sort_by_key(|run| std::cmp::Reverse((run.attempt, run.created)));
            let dead = runs.into_iter().skip(2).filter(|run| !run.running());
            old.extend(dead.map(|run| run.id.clone()).filter(|id| !self.removing.contains(id)));
        }
        for id in old {
            self.removing.push(id.clone());
            out.push(Effect::RemoveContainer { id });
        }
        let empty = self.sandboxes.iter().filter(|sandbox| {
            !sandbox.ready
                && !self.closing.contains(&sandbox.id)
                && self.containers.iter().all(|run| run.sandbox != sandbox.id)
        });
        // The newest one stays until it is replaced: its attempt counts.
        let kept = self.sandboxes.iter().max_by_key(|it| (it.attempt, it.created)).map(|it| it.id.clone());
        let empty: Vec<_> = empty.map(|it| it.id.clone()).filter(|id| Some(id) != kept.as_ref()).collect();
        if !empty.is_empty() && self.close.begin(now, &mut self.alarm) {
            self.closing.extend(empty.iter().cloned());
            out.extend(empty.into_iter().map(|id| Effect::RemoveSandbox { id }));
        }
    }

    /// Stops everything in order: ordinary containers together, then sidecars from the last to the
    /// first, then the sandbox, then volumes and cgroup.
    fn wind_down(&mut self, deadline: Timestamp, grace: i64, now: Timestamp, out: &mut Vec<Effect>) {
        let names = |life: &Self, sidecars: bool| -> Vec<String> {
            let specs = life.specs.iter().filter(|spec| (spec.role == Role::Sidecar) == sidecars);
            specs.map(|spec| spec.container.name.clone()).collect()
        };
        let mut alive = false;
        for name in names(self, false) {
            alive |= self.end(&name, grace, now, out);
        }
        if alive {
            return;
        }
        let left = deadline.duration_since(now).as_secs().clamp(0, grace);
        for name in names(self, true).into_iter().rev() {
            if self.end(&name, left, now, out) {
                return;
            }
        }
        if matches!(self.sandbox, Step::Busy(_)) || matches!(self.volumes, Step::Busy(_)) {
            return;
        }
        if self.close_sandboxes(now, out) && self.release.begin(now, &mut self.alarm) {
            out.push(Effect::Release);
        }
        if self.release == Step::Done {
            self.stage = Stage::Over;
        }
    }

    /// Stops a container; true while it is not at rest.
    fn end(&mut self, name: &str, grace: i64, now: Timestamp, out: &mut Vec<Effect>) -> bool {
        match self.op(name) {
            Op::Starting => return true,
            Op::Image | Op::HasImage(_) => self.slot(name).op = Op::Idle,
            _ => {}
        }
        let running = self.newest(name).is_some_and(Container::running);
        if running {
            self.stop(name, format!("Stopping container {name}"), Some(grace), now, out);
        }
        running
    }

    /// Stops the sandboxes that work; true when none does.
    fn close_sandboxes(&mut self, now: Timestamp, out: &mut Vec<Effect>) -> bool {
        let open: Vec<_> = self.sandboxes.iter().filter(|it| it.ready).map(|it| it.id.clone()).collect();
        let idle: Vec<_> = open.iter().filter(|id| !self.closing.contains(id)).cloned().collect();
        if !idle.is_empty() && self.close.begin(now, &mut self.alarm) {
            self.closing.extend(idle.iter().cloned());
            out.extend(idle.into_iter().map(|id| Effect::StopSandbox { id }));
        }
        open.is_empty()
    }

    /// Removes the records of a pod that nobody wants any more, then the pod itself.
    fn clear(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if !self.deleted() {
            return;
        }
        let idle: Vec<_> =
            self.sandboxes.iter().map(|it| it.id.clone()).filter(|id| !self.closing.contains(id)).collect();
        if !idle.is_empty() && self.close.begin(now, &mut self.alarm) {
            self.closing.extend(idle.iter().cloned());
            out.extend(idle.into_iter().map(|id| Effect::RemoveSandbox { id }));
        }
        if self.sandboxes.is_empty() {
            self.stage = Stage::Finished;
            if !self.gone {
                out.push(Effect::Finish);
            }
        }
    }
}

/// Whether a run was made from another specification. Runs of other agents tell none.
fn changed(spec: &Spec, run: &Container) -> bool {
    matches!(spec.role, Role::Main | Role::Sidecar)
        && !run.hash.is_empty()
        && run.hash != hash(&spec.container)
}
