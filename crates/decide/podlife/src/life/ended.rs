//! What came of what was begun.

use jiff::{SignedDuration, Timestamp};

use super::{Life, Op, Slot, Step, Waiting};
use crate::effect::{Effect, Event, ImageError, StartError};
use crate::observed::{Container, Sandbox};
use crate::restart::Delays;

impl Life {
    pub(super) fn retry_now(&mut self) {
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

    pub(super) fn volumes_ended(
        &mut self,
        result: Result<(), String>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        self.volumes.end(&result, now);
        if let Err(message) = result {
            out.push(Effect::Event(Event::warning("FailedMount", message, None)));
        }
    }

    pub(super) fn unprepared(&mut self, why: String, now: Timestamp, out: &mut Vec<Effect>) {
        let message = format!("Failed to prepare dynamic resources: {why}");
        self.volumes.end(&Err(why), now);
        out.push(Effect::Event(Event::warning("FailedPrepareDynamicResources", message, None)));
    }

    pub(super) fn sandbox_started(
        &mut self,
        result: Result<Sandbox, String>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
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

    pub(super) fn sandbox_stopped(
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

    pub(super) fn sandbox_removed(&mut self, id: &str, result: &Result<(), String>, now: Timestamp) {
        self.closing.retain(|closing| closing != id);
        if result.is_ok() {
            self.sandboxes.retain(|it| it.id != id);
            self.containers.retain(|run| run.sandbox != id);
            self.close = Step::Idle;
        } else {
            self.close.fail(now);
        }
    }

    pub(super) fn image_ended(&mut self, name: &str, result: Result<String, ImageError>, now: Timestamp) {
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

    pub(super) fn start_ended(
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

    pub(super) fn post_start_ended(
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

    pub(super) fn stop_ended(
        &mut self,
        id: &str,
        result: Result<(), String>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
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
}
