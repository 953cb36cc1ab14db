//! Lives that are broken off at every step: the agent dies, the engine dies, the machine starts anew.
//!
//! The model below is an engine that works at once. What the agent forgets when it dies are the ends of what it
//! had begun; the engine has either done that or not.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::observed::{Container, Exit, Sandbox, State};
use crate::{Effect, Input, Life, Node, hash};

/// What becomes of an effect whose end the agent does not live to see.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Done,
    Undone,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The agent is killed.
    Agent(Left),
    /// The pause process dies, or the shim with everything in the pod.
    Pause,
    Shim,
    /// Nothing is left but records.
    Reboot,
}

const FAULTS: [Fault; 5] =
    [Fault::Agent(Left::Done), Fault::Agent(Left::Undone), Fault::Pause, Fault::Shim, Fault::Reboot];

struct Model {
    pod: Pod,
    life: Life,
    now: Timestamp,
    sandboxes: Vec<Sandbox>,
    containers: Vec<Container>,
    pending: VecDeque<Effect>,
    steps: usize,
    finished: bool,
}

fn pod() -> Pod {
    let hook = json!({"exec": {"command": ["x"]}});
    let spec: Value = json!({
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "initContainers": [
            {"name": "init", "image": "i"},
            {"name": "side", "image": "i", "restartPolicy": "Always"},
        ],
        "containers": [{"name": "web", "image": "i", "lifecycle": {"postStart": hook}}, {"name": "log", "image": "i"}],
    });
    let metadata = json!({"name": "p", "namespace": "ns", "uid": "u"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn life(pod: &Pod, now: Timestamp) -> Life {
    let node = Node { addresses: vec!["192.0.2.1".into()], runtime: "plimsoll".into(), ..Node::default() };
    Life::new(Arc::new(pod.clone()), Arc::new(node), now)
}

impl Model {
    fn new() -> Self {
        let (pod, now) = (pod(), Timestamp::from_second(1_000_000).unwrap());
        Self {
            life: life(&pod, now),
            pod,
            now,
            sandboxes: Vec::new(),
            containers: Vec::new(),
            pending: VecDeque::new(),
            steps: 0,
            finished: false,
        }
    }

    fn send(&mut self, input: Input) {
        let effects = self.life.on(input, self.now);
        self.pending.extend(effects.into_iter().filter(|effect| !matches!(effect, Effect::Event(_))));
        self.pod.status = Some(self.life.status(self.now));
    }

    fn list(&self) -> Input {
        Input::Listed { sandboxes: self.sandboxes.clone(), containers: self.containers.clone() }
    }

    /// Carries out effects until there are none and no time to wait for, or `steps` of them were.
    fn run(&mut self, steps: usize) {
        let mut quiet = 0;
        while self.steps < steps && !self.finished && quiet < 30 {
            if let Some(effect) = self.pending.pop_front() {
                self.steps += 1;
                if let Some(input) = self.end(effect) {
                    self.send(input);
                }
                self.exit_of_init();
                quiet = 0;
                continue;
            }
            let Some(wake) = self.life.wake() else { return };
            self.now = wake.max(self.now);
            self.send(Input::Tick);
            quiet += 1;
        }
        assert!(quiet < 30, "it waits for ever");
    }

    /// Init containers end as soon as they run.
    fn exit_of_init(&mut self) {
        let running = self.containers.iter().position(|run| run.name == "init" && run.running());
        if let Some(index) = running {
            self.exit(index, 0);
            let containers = vec![self.containers[index].clone()];
            self.send(Input::Seen { sandboxes: Vec::new(), containers });
        }
    }

    fn exit(&mut self, index: usize, code: i32) {
        let started = match self.containers[index].state {
            State::Running(started) => Some(started),
            _ => None,
        };
        self.containers[index].state = State::Exited(Exit {
            started,
            finished: self.now,
            code,
            reason: String::new(),
            message: String::new(),
        });
    }

    fn exit_all(&mut self, sandbox: Option<&str>, code: i32) {
        for index in 0..self.containers.len() {
            let run = &self.containers[index];
            if run.exit().is_none() && sandbox.is_none_or(|id| run.sandbox == id) {
                self.exit(index, code);
            }
        }
    }

    fn end(&mut self, effect: Effect) -> Option<Input> {
        let now = self.now;
        Some(match effect {
            Effect::PrepareVolumes => Input::Volumes(Ok(())),
            Effect::StartSandbox { attempt } => {
                let id = format!("s{attempt}-{}", self.sandboxes.len());
                let sandbox =
                    Sandbox { id, attempt, ready: true, created: now, ips: vec!["10.0.0.1".into()] };
                self.sandboxes.push(sandbox.clone());
                Input::SandboxStarted(Ok(sandbox))
            }
            Effect::StopSandbox { id } => {
                self.exit_all(Some(&id), 137);
                self.sandboxes.iter_mut().filter(|it| it.id == id).for_each(|it| it.ready = false);
                let seen = Input::Seen { sandboxes: Vec::new(), containers: self.containers.clone() };
                self.send(seen);
                Input::SandboxStopped { id, result: Ok(()) }
            }
            Effect::RemoveSandbox { id } => {
                self.sandboxes.retain(|it| it.id != id);
                self.containers.retain(|run| run.sandbox != id);
                Input::SandboxRemoved { id, result: Ok(()) }
            }
            Effect::EnsureImage { container } => Input::Image { container, result: Ok("sha256:1".into()) },
            Effect::StartContainer { container, attempt, sandbox, .. } => {
                self.start(container, attempt, sandbox)
            }
            Effect::RunPostStart { id, .. } => Input::PostStarted { id, result: Ok(()) },
            Effect::StopContainer { id, .. } => {
                let index = self.containers.iter().position(|run| run.id == id)?;
                if self.containers[index].exit().is_none() {
                    self.exit(index, 143);
                }
                let containers = vec![self.containers[index].clone()];
                self.send(Input::Seen { sandboxes: Vec::new(), containers });
                Input::Stopped { id, result: Ok(()) }
            }
            Effect::Resize { after, runs, .. } => Input::Resized { after, runs, result: Ok(()) },
            Effect::RemoveContainer { id } => {
                self.containers.retain(|run| run.id != id);
                Input::Removed { id }
            }
            Effect::Release => Input::Released(Ok(())),
            Effect::Finish => {
                self.finished = true;
                Input::Gone
            }
            Effect::Event(_) => return None,
        })
    }

    fn start(&mut self, container: String, attempt: u32, sandbox: String) -> Input {
        let works = self.sandboxes.iter().any(|it| it.id == sandbox && it.ready);
        if !works {
            let result = Err(crate::StartError::Create("the sandbox is not ready".into()));
            return Input::Started { container, result };
        }
        let spec = crate::spec::specs(&self.pod).into_iter().find(|spec| spec.name() == container).unwrap();
        let run = Container {
            id: format!("{container}{attempt}-{}", self.steps),
            name: container.clone(),
            sandbox,
            attempt,
            created: self.now + SignedDuration::from_nanos(i64::try_from(self.steps).unwrap()),
            state: State::Running(self.now),
            image: "i".into(),
            image_ref: "sha256:1".into(),
            hash: hash(&spec.container),
            user: None,
        };
        self.containers.push(run.clone());
        Input::Started { container, result: Ok(Box::new(run)) }
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Agent(left) => self.restart_agent(left),
            Fault::Pause => self.sandboxes.iter_mut().for_each(|it| it.ready = false),
            Fault::Shim | Fault::Reboot => {
                self.sandboxes.iter_mut().for_each(|it| it.ready = false);
                self.exit_all(None, 255);
            }
        }
        if matches!(fault, Fault::Reboot) {
            self.restart_agent(Left::Undone);
        } else {
            let listed = self.list();
            self.send(listed);
        }
    }

    fn restart_agent(&mut self, left: Left) {
        for effect in std::mem::take(&mut self.pending) {
            if left == Left::Done && !matches!(effect, Effect::Finish) {
                self.end(effect);
            }
        }
        self.pending.clear();
        self.life = life(&self.pod, self.now);
        let listed = self.list();
        self.send(listed);
    }

    fn delete(&mut self) {
        self.pod.metadata.deletion_timestamp = Some(Time(self.now));
        self.pod.metadata.deletion_grace_period_seconds = Some(30);
        self.send(Input::Desired(Arc::new(self.pod.clone())));
    }

    /// Every container runs once, in the one sandbox that works.
    fn assert_runs(&self, what: &str) {
        let ready: Vec<_> = self.sandboxes.iter().filter(|it| it.ready).collect();
        assert_eq!(ready.len(), 1, "{what}: {:?}", self.sandboxes);
        for name in ["side", "web", "log"] {
            let running: Vec<_> =
                self.containers.iter().filter(|run| run.name == name && run.running()).collect();
            assert_eq!(running.len(), 1, "{what}: {name}: {running:?}");
            assert_eq!(running[0].sandbox, ready[0].id, "{what}: {name}");
            assert!(running[0].attempt <= 2, "{what}: {name} was started {} times", running[0].attempt);
        }
        let status = self.pod.status.as_ref().unwrap();
        assert_eq!(status.phase.as_deref(), Some("Running"), "{what}");
        let ready = status.container_statuses.iter().flatten().all(|status| status.ready);
        assert!(ready, "{what}: {:?}", status.container_statuses);
    }

    fn assert_gone(&self, what: &str) {
        assert!(self.finished, "{what}: {:?}", self.pod.status);
        assert!(self.sandboxes.is_empty() && self.containers.is_empty(), "{what}: {:?}", self.containers);
    }
}

#[test]
fn a_pod_comes_up_whatever_happens_on_the_way() {
    let mut whole = Model::new();
    whole.send(Input::Tick);
    whole.run(usize::MAX);
    whole.assert_runs("undisturbed");
    for fault in FAULTS {
        for steps in 0..=whole.steps {
            let mut model = Model::new();
            model.send(Input::Tick);
            model.run(steps);
            model.strike(fault);
            model.run(usize::MAX);
            model.assert_runs(&format!("{fault:?} after {steps} steps"));
            model.delete();
            model.run(usize::MAX);
            model.assert_gone(&format!("{fault:?} after {steps} steps"));
        }
    }
}

#[test]
fn a_pod_goes_whatever_happens_on_the_way() {
    let running = || {
        let mut model = Model::new();
        model.send(Input::Tick);
        model.run(usize::MAX);
        model.steps = 0;
        model.delete();
        model
    };
    let mut whole = running();
    whole.run(usize::MAX);
    whole.assert_gone("undisturbed");
    for fault in FAULTS {
        for steps in 0..whole.steps {
            let mut model = running();
            model.run(steps);
            model.strike(fault);
            model.run(usize::MAX);
            model.assert_gone(&format!("{fault:?} after {steps} steps"));
        }
    }
}
