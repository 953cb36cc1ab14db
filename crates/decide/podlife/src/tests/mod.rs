//! Whole lives, told as the effects they ask for and the statuses they show.
#![expect(clippy::unwrap_used, reason = "tests")]

mod ends;
mod probes;
mod resizes;
mod starts;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use crate::observed::{Container, Exit, Sandbox, State};
use crate::probe::{Outcome, ProbeKind};
use crate::{Effect, ImageError, Input, Life, Node, Signal, StartError, Verdict, hash};

/// A node on which everything works at once, unless told otherwise.
struct World {
    life: Life,
    now: Timestamp,
    log: Vec<String>,
    signals: Vec<Signal>,
    /// Effects whose ends are withheld.
    held: Vec<&'static str>,
    pending: Vec<Effect>,
    bad_images: BTreeMap<String, ImageError>,
    bad_starts: BTreeMap<String, StartError>,
    runs: u32,
}

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let image = container["name"].clone();
            container.as_object_mut().unwrap().entry("image").or_insert(image);
        }
    }
    let spec = spec.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
    let spec: serde_json::Map<_, _> = spec.map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}))
        .unwrap()
}

impl World {
    fn of(pod: Pod) -> Self {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let node =
            Node { addresses: vec!["192.0.2.1".into()], runtime: "plimsoll".into(), ..Node::default() };
        Self {
            life: Life::new(Arc::new(pod), Arc::new(node), now),
            now,
            log: Vec::new(),
            signals: Vec::new(),
            held: Vec::new(),
            pending: Vec::new(),
            bad_images: BTreeMap::new(),
            bad_starts: BTreeMap::new(),
            runs: 0,
        }
    }

    fn new(spec: Value) -> Self {
        Self::of(pod(spec))
    }

    /// A pod that runs.
    fn running(spec: Value) -> Self {
        let mut world = Self::new(spec);
        world.send(Input::Tick);
        world.log.clear();
        world
    }

    fn send(&mut self, input: Input) {
        let effects = self.life.on(input, self.now);
        for effect in effects {
            self.note(&effect);
            self.pending.push(effect);
        }
        self.work();
    }

    /// Ends what is not withheld.
    fn work(&mut self) {
        let ready = |world: &Self, effect: &Effect| !world.held.contains(&word(effect));
        while let Some(index) = self.pending.iter().position(|effect| ready(self, effect)) {
            let effect = self.pending.remove(index);
            if let Some(input) = self.end(effect) {
                self.send(input);
            }
        }
    }

    fn release(&mut self, held: &'static str) {
        self.held.retain(|it| *it != held);
        self.work();
    }

    fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.send(Input::Tick);
    }

    /// Waits until the machine wants to be woken; seconds waited.
    fn wait_for_alarm(&mut self) -> i64 {
        let wake = self.life.wake().expect("an alarm is set");
        let seconds = wake.duration_since(self.now).as_secs();
        self.now = wake;
        self.send(Input::Tick);
        seconds
    }

    fn note(&mut self, effect: &Effect) {
        let line = match effect {
            Effect::Event(event) => format!("{}: {}", event.reason, event.message),
            Effect::StartSandbox { attempt } => format!("sandbox {attempt}"),
            Effect::StopSandbox { id } => format!("stop sandbox {id}"),
            Effect::RemoveSandbox { id } => format!("remove sandbox {id}"),
            Effect::EnsureImage { container } => format!("image {container}"),
            Effect::StartContainer { container, attempt, .. } => format!("start {container} {attempt}"),
            Effect::StopContainer { container, grace, pre_stop, signal, .. } => {
                self.signals.push(*signal);
                format!("stop {container} {grace}{}", if pre_stop.is_some() { " hook" } else { "" })
            }
            Effect::Resize { runs, .. } => {
                let names: Vec<_> = runs.iter().map(|(name, _)| name.as_str()).collect();
                format!("resize [{}]", names.join(" "))
            }
            other => word(other).to_owned(),
        };
        self.log.push(line);
    }

    fn end(&mut self, effect: Effect) -> Option<Input> {
        Some(match effect {
            Effect::PrepareVolumes => Input::Volumes(Ok(())),
            Effect::StartSandbox { attempt } => Input::SandboxStarted(Ok(Sandbox {
                id: format!("s{attempt}"),
                attempt,
                ready: true,
                created: self.now,
                ips: vec![format!("10.0.0.{attempt}")],
            })),
            Effect::Resize { after, runs, .. } => Input::Resized { after, runs, result: Ok(()) },
            Effect::StopSandbox { id } => {
                let live = self.life.containers.iter().filter(|run| run.sandbox == id && run.running());
                let live: Vec<_> = live.map(|run| run.name.clone()).collect();
                live.iter().for_each(|name| self.exit(name, 137));
                Input::SandboxStopped { id, result: Ok(()) }
            }
            Effect::RemoveSandbox { id } => Input::SandboxRemoved { id, result: Ok(()) },
            Effect::EnsureImage { container } => {
                let result = self.bad_images.get(&container).cloned().map_or(Ok("sha256:1".into()), Err);
                Input::Image { container, result }
            }
            Effect::StartContainer { container, attempt, sandbox, .. } => {
                self.started(container, attempt, sandbox)
            }
            Effect::RunPostStart { id, .. } => Input::PostStarted { id, result: Ok(()) },
            Effect::StopContainer { container, id, .. } => {
                self.exit(&container, 143);
                Input::Stopped { id, result: Ok(()) }
            }
            Effect::RemoveContainer { id } => Input::Removed { id },
            Effect::Release => Input::Released(Ok(())),
            Effect::Event(_) | Effect::Finish => return None,
        })
    }

    fn started(&mut self, container: String, attempt: u32, sandbox: String) -> Input {
        if let Some(error) = self.bad_starts.get(&container).cloned() {
            return Input::Started { container, result: Err(error) };
        }
        self.runs += 1;
        let spec = self.life.specs().iter().find(|spec| spec.name() == container).unwrap();
        let run = Container {
            id: format!("{container}{attempt}"),
            name: container.clone(),
            sandbox,
            attempt,
            created: self.now + SignedDuration::from_nanos(i64::from(self.runs)),
            state: State::Running(self.now),
            image: container.clone(),
            image_ref: "sha256:1".into(),
            hash: hash(&spec.container),
            user: None,
        };
        Input::Started { container, result: Ok(Box::new(run)) }
    }

    /// A container ends by itself.
    fn exit(&mut self, name: &str, code: i32) {
        let mut run = self.life.newest(name).unwrap().clone();
        let started = Some(run.created);
        let reason = if code == 0 { "Completed" } else { "Error" }.into();
        run.state = State::Exited(Exit { started, finished: self.now, code, reason, message: String::new() });
        self.send(Input::Seen { sandboxes: Vec::new(), containers: vec![run] });
    }

    fn delete(&mut self, grace: i64) {
        let mut pod = (**self.life.pod()).clone();
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now);
        pod.metadata.deletion_timestamp = Some(time);
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.send(Input::Desired(Arc::new(pod)));
    }

    fn probe(&mut self, id: &str, kind: ProbeKind, success: bool) {
        let outcome = if success { Outcome::Success } else { Outcome::Failure("bad".into()) };
        self.send(Input::Probed { id: id.into(), kind, outcome });
    }

    fn probes(&self) -> String {
        let probes = self.life.probes();
        probes.iter().map(|it| format!("{}:{}", it.id, it.kind.word())).collect::<Vec<_>>().join(" ")
    }

    fn status(&mut self) -> PodStatus {
        self.life.status(self.now)
    }

    /// Phase, then a word for each container: state, readiness, restarts.
    fn look(&mut self) -> String {
        let status = self.status();
        let lists = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        let mut words = vec![status.phase.clone().unwrap()];
        for status in lists.into_iter().flatten().flatten() {
            let state = status.state.clone().unwrap();
            let state = match (state.waiting, state.terminated) {
                (Some(waiting), _) => waiting.reason.unwrap(),
                (_, Some(ended)) => format!("{}({})", ended.reason.unwrap(), ended.exit_code),
                _ => "Running".to_owned(),
            };
            let ready = if status.ready { "+" } else { "" };
            let count = Some(status.restart_count).filter(|count| *count > 0);
            words.push(format!("{state}{ready}{}", count.map(|it| format!("*{it}")).unwrap_or_default()));
        }
        words.join(" ")
    }

    fn condition(&mut self, type_: &str) -> (String, String, String) {
        let conditions = self.status().conditions.unwrap();
        let it = conditions.into_iter().find(|it| it.type_ == type_).unwrap();
        (it.status, it.reason.unwrap_or_default(), it.message.unwrap_or_default())
    }

    fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

fn word(effect: &Effect) -> &'static str {
    match effect {
        Effect::PrepareVolumes => "volumes",
        Effect::StartSandbox { .. } => "sandbox",
        Effect::StopSandbox { .. } => "stop sandbox",
        Effect::RemoveSandbox { .. } => "remove sandbox",
        Effect::EnsureImage { .. } => "image",
        Effect::StartContainer { .. } => "start",
        Effect::RunPostStart { .. } => "post start",
        Effect::StopContainer { .. } => "stop",
        Effect::RemoveContainer { .. } => "remove",
        Effect::Resize { .. } => "resize",
        Effect::Event(_) => "event",
        Effect::Release => "release",
        Effect::Finish => "finish",
    }
}

fn one() -> Value {
    json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "containers": [{"name": "c"}]})
}
