//! Whole lives, told as the effects they ask for and the statuses they show.
#![expect(clippy::unwrap_used, reason = "tests")]

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

#[test]
fn a_pod_comes_up_and_goes() {
    let mut world = World::new(one());
    assert_eq!(world.look(), "Pending ContainerCreating");
    assert_eq!(world.condition("PodReadyToStartContainers").0, "False");
    world.send(Input::Tick);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image c", "start c 0"]);
    assert_eq!(world.look(), "Running Running+");
    let status = world.status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.0"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("plimsoll://c0"));
    assert_eq!(world.condition("Ready").0, "True");
    world.delete(10);
    assert_eq!(
        world.log(),
        [
            "Killing: Stopping container c",
            "stop c 10",
            "stop sandbox s0",
            "release",
            "remove sandbox s0",
            "finish"
        ]
    );
    assert_eq!(world.condition("Ready"), ("False".into(), "PodFailed".into(), String::new()));
    assert!(world.life.finished());
}

#[test]
fn nothing_waits_for_what_it_does_not_need() {
    let mut world = World::new(one());
    world.held = vec!["volumes", "sandbox", "image"];
    world.send(Input::Tick);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image c"]);
    world.release("image");
    world.release("sandbox");
    assert_eq!(world.log(), Vec::<String>::new());
    world.release("volumes");
    assert_eq!(world.log(), ["start c 0"]);
}

#[test]
fn a_crash_loop_backs_off() {
    let mut world = World::running(one());
    world.exit("c", 1);
    assert_eq!(world.log(), ["image c", "start c 1"]);
    assert_eq!(world.look(), "Running Running+*1");
    let mut waits = Vec::new();
    for _ in 0..7 {
        world.exit("c", 1);
        assert!(world.look().starts_with("Running CrashLoopBackOff"), "{}", world.look());
        waits.push(world.wait_for_alarm());
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    let log = world.log();
    let back_off = "BackOff: Back-off restarting failed container c in pod p_ns(u)";
    assert_eq!(log[..5], [back_off, "image c", "start c 2", "remove", back_off]);
    world.exit("c", 1);
    let state = world.status().container_statuses.unwrap()[0].clone();
    let waiting = state.state.unwrap().waiting.unwrap();
    assert_eq!(waiting.message.unwrap(), "back-off 5m0s restarting failed container=c pod=p_ns(u)");
    assert_eq!(state.last_state.unwrap().terminated.unwrap().exit_code, 1);
    assert_eq!(state.restart_count, 8);
    world.wait(300);
    // Ten quiet minutes make it a new beginning.
    world.wait(601);
    world.exit("c", 1);
    assert_eq!(world.look(), "Running Running+*10");
}

#[test]
fn want_of_memory_is_told_once() {
    let mut world = World::running(one());
    let mut run = world.life.newest("c").unwrap().clone();
    let reason = "OOMKilled".to_owned();
    let message = String::new();
    run.state = State::Exited(Exit { started: None, finished: world.now, code: 137, reason, message });
    for told in [1, 0] {
        world.send(Input::Seen { sandboxes: Vec::new(), containers: vec![run.clone()] });
        let events =
            world.log().into_iter().filter(|line| line.starts_with("OOMKilled: Container c was killed"));
        assert_eq!(events.count(), told);
    }
}

#[test]
fn policies_decide_how_a_pod_ends() {
    let cases = [
        ("Never", 0, "Succeeded Completed(0)"),
        ("Never", 3, "Failed Error(3)"),
        ("OnFailure", 0, "Succeeded Completed(0)"),
        ("OnFailure", 3, "Running Running+*1"),
        ("Always", 0, "Running Running+*1"),
    ];
    for (policy, code, expected) in cases {
        let mut world = World::running(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        world.exit("c", code);
        assert_eq!(world.look(), expected, "{policy} {code}");
        if !expected.starts_with("Running") {
            assert_eq!(world.log(), ["stop sandbox s0", "release"]);
            assert_eq!(world.condition("PodReadyToStartContainers").0, "False");
            assert_eq!(world.status().pod_ip.as_deref(), Some("10.0.0.0"), "the address stays");
            world.delete(30);
            assert_eq!(world.log(), ["remove sandbox s0", "finish"]);
        }
    }
}

#[test]
fn two_containers_end_together_only() {
    let mut world =
        World::running(json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]}));
    world.exit("a", 0);
    assert_eq!(world.look(), "Running Completed(0) Running+");
    let ready = world.condition("Ready");
    assert_eq!(ready.2, "containers with unready status: [a]");
    world.exit("b", 1);
    assert_eq!(world.look(), "Failed Completed(0) Error(1)");
}

#[test]
fn init_containers_run_in_order() {
    let mut world = World::new(json!({"restartPolicy": "Always",
        "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "c"}]}));
    world.send(Input::Tick);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image i", "start i 0"]);
    assert_eq!(world.look(), "Pending Running PodInitializing PodInitializing");
    assert_eq!(world.condition("Initialized").2, "containers with incomplete status: [i j]");
    world.exit("i", 1);
    assert_eq!(world.log(), ["image i", "start i 1"]);
    world.exit("i", 1);
    assert_eq!(world.look(), "Pending CrashLoopBackOff*1 PodInitializing PodInitializing");
    world.wait(10);
    world.exit("i", 0);
    world.log();
    assert_eq!(world.look(), "Pending Completed(0)+*2 Running PodInitializing");
    world.exit("j", 0);
    assert_eq!(world.log(), ["image c", "start c 0"]);
    assert_eq!(world.look(), "Running Completed(0)+*2 Completed(0)+ Running+");
    assert_eq!(world.condition("Initialized").0, "True");
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut world = World::new(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    world.send(Input::Tick);
    world.exit("i", 7);
    assert_eq!(world.look(), "Failed Error(7) PodInitializing");
}

#[test]
fn sidecars_start_before_and_end_after_the_others() {
    let probe = json!({"exec": {"command": ["x"]}, "failureThreshold": 2});
    let mut world = World::new(json!({"restartPolicy": "Never",
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "startupProbe": probe},
            {"name": "t", "restartPolicy": "Always"},
            {"name": "i"},
        ],
        "containers": [{"name": "c"}]}));
    world.send(Input::Tick);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image s", "start s 0"]);
    assert_eq!(world.probes(), "s0:Startup");
    world.probe("s0", ProbeKind::Startup, true);
    assert_eq!(world.log(), ["image t", "start t 0", "image i", "start i 0"]);
    world.exit("i", 0);
    assert_eq!(world.log(), ["image c", "start c 0"]);
    assert_eq!(world.look(), "Running Running+ Running+ Completed(0)+ Running+");
    world.exit("t", 0);
    assert_eq!(world.log(), ["image t", "start t 1"], "a sidecar always runs again");
    world.held = vec!["stop"];
    world.exit("c", 0);
    assert_eq!(world.log(), ["Killing: Stopping container t", "stop t 30"]);
    assert_eq!(world.look(), "Running Running+ Running+*1 Completed(0)+ Completed(0)");
    world.now += SignedDuration::from_secs(12);
    world.release("stop");
    assert_eq!(world.log(), ["Killing: Stopping container s", "stop s 18", "stop sandbox s0", "release"]);
    assert!(world.look().starts_with("Succeeded"));
}

#[test]
fn images_that_cannot_be_had() {
    let mut world = World::new(one());
    world.bad_images.insert("c".into(), ImageError::Pull("not found".into()));
    world.send(Input::Tick);
    assert_eq!(world.look(), "Pending ErrImagePull");
    assert_eq!(world.wait_for_alarm(), 2);
    assert_eq!(world.look(), "Pending ImagePullBackOff");
    let waiting = world.status().container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.message.unwrap(), "Back-off pulling image \"c\": ErrImagePull: not found");
    world.log();
    assert_eq!(world.wait_for_alarm(), 8);
    assert_eq!(world.log(), ["image c"]);
    world.wait(2);
    assert_eq!(world.wait_for_alarm(), 18, "the delay doubles");
    world.bad_images.clear();
    world.wait(40);
    assert_eq!(world.look(), "Running Running+");
    let mut world = World::new(one());
    world.bad_images.insert("c".into(), ImageError::NeverPull("no".into()));
    world.send(Input::Tick);
    world.wait(5);
    assert_eq!(world.look(), "Pending ErrImageNeverPull");
}

#[test]
fn starts_that_fail() {
    let mut world = World::new(one());
    world.bad_starts.insert("c".into(), StartError::Config("configmap \"x\" not found".into()));
    world.send(Input::Tick);
    assert_eq!(world.look(), "Pending CreateContainerConfigError");
    assert!(world.log().contains(&"Failed: Error: configmap \"x\" not found".to_owned()));
    assert_eq!(world.wait_for_alarm(), 1);
    assert_eq!(world.wait_for_alarm(), 2);
    world.bad_starts.clear();
    world.send(Input::Retry);
    assert_eq!(world.look(), "Running Running+", "what appears is used at once");

    let mut world = World::new(one());
    let failed = |attempt| {
        let exit = Exit {
            started: None,
            finished: Timestamp::from_second(1_000_000).unwrap(),
            code: 128,
            reason: "StartError".into(),
            message: "no such file".into(),
        };
        let run = Container {
            id: format!("c{attempt}"),
            name: "c".into(),
            sandbox: "s0".into(),
            attempt,
            created: Timestamp::from_second(1_000_000).unwrap(),
            state: State::Exited(exit),
            image: "c".into(),
            image_ref: String::new(),
            hash: String::new(),
            user: None,
        };
        StartError::Run("no such file".into(), Some(Box::new(run)))
    };
    world.held = vec!["start"];
    world.send(Input::Tick);
    world.bad_starts.insert("c".into(), failed(0));
    world.pending.clear();
    world.send(Input::Started { container: "c".into(), result: Err(failed(0)) });
    assert_eq!(world.look(), "Running RunContainerError");
    world.pending.clear();
    world.send(Input::Started { container: "c".into(), result: Err(failed(1)) });
    assert_eq!(world.look(), "Running CrashLoopBackOff*1");
}

#[test]
fn clocks_that_jump_hold_nothing_up() {
    for hours in [-24, 24] {
        let mut world = World::running(one());
        world.exit("c", 1);
        world.exit("c", 1);
        assert_eq!(world.look(), "Running CrashLoopBackOff*1");
        world.wait(hours * 3600);
        assert_eq!(world.look(), "Running Running+*2", "{hours}");
        world.exit("c", 1);
        let waits = world.wait_for_alarm();
        assert!((10..=20).contains(&waits), "{hours}: {waits}");

        let mut world = World::new(one());
        world.bad_images.insert("c".into(), ImageError::Pull("not found".into()));
        world.bad_starts.insert("c".into(), StartError::Config("no".into()));
        world.send(Input::Tick);
        world.bad_images.clear();
        world.wait(hours * 3600);
        assert_eq!(world.look(), "Pending CreateContainerConfigError", "{hours}");
        world.bad_starts.clear();
        world.wait(hours * 3600);
        assert_eq!(world.look(), "Running Running+", "{hours}");
    }
}

#[test]
fn last_words_are_shared_by_all_containers() {
    let names = ["a", "b", "c"].map(|name| json!({"name": name}));
    let mut world = World::running(json!({"restartPolicy": "Never", "containers": names}));
    let mut run = world.life.newest("a").unwrap().clone();
    let message = "é".repeat(8 * 1024);
    let finished = world.now;
    run.state = State::Exited(Exit { started: None, finished, code: 1, reason: "Error".into(), message });
    world.send(Input::Seen { sandboxes: Vec::new(), containers: vec![run] });
    let ended = world.status().container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(ended.message.unwrap(), "é".repeat(2 * 1024));
}

#[test]
fn what_the_engine_lost_is_remembered() {
    let lost = || Input::Listed { sandboxes: Vec::new(), containers: Vec::new() };
    let mut adopted = pod(one());
    adopted.status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": [{
        "name": "c", "image": "c", "imageID": "", "containerID": "plimsoll://x", "ready": true, "started": true,
        "restartCount": 4, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}))
    .unwrap();
    let mut world = World::of(adopted.clone());
    world.held = vec!["image"];
    world.send(lost());
    for _ in 0..3 {
        assert_eq!(world.look(), "Running ContainerCreating*5");
        let status = world.status().container_statuses.unwrap().remove(0);
        let last = status.last_state.unwrap().terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    }
    world.release("image");
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image c", "start c 5"]);
    assert_eq!(world.look(), "Running Running+*5");
    // Once more, in the same life.
    world.held = vec!["image"];
    world.send(lost());
    assert!(world.look().ends_with("ContainerCreating*6"), "{}", world.look());
    world.release("image");
    assert_eq!(world.look(), "Running Running+*6");

    let mut world = World::of(adopted);
    world.held = vec!["volumes"];
    world.send(lost());
    world.delete(1);
    world.release("volumes");
    assert_eq!(world.look(), "Failed ContainerStatusUnknown(137)*4");
}

#[test]
fn probes_gate_readiness_and_restart() {
    let probe = json!({"tcpSocket": {"port": 1}, "failureThreshold": 2});
    let mut world = World::running(json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 9,
        "containers": [{"name": "c", "startupProbe": probe, "livenessProbe": probe, "readinessProbe": probe}]}));
    assert_eq!(world.probes(), "c0:Startup");
    assert_eq!(world.look(), "Running Running");
    world.probe("c0", ProbeKind::Readiness, true);
    assert_eq!(world.look(), "Running Running", "what is not due is not heard");
    world.probe("c0", ProbeKind::Startup, true);
    assert_eq!(world.probes(), "c0:Liveness c0:Readiness");
    world.probe("c0", ProbeKind::Readiness, true);
    assert_eq!(world.look(), "Running Running+");
    world.probe("c0", ProbeKind::Readiness, false);
    assert_eq!(world.look(), "Running Running+", "one failure is not enough");
    world.probe("c0", ProbeKind::Readiness, false);
    assert_eq!(world.look(), "Running Running");
    assert_eq!(world.condition("Ready").1, "ContainersNotReady");
    world.log();
    world.probe("c0", ProbeKind::Liveness, false);
    assert_eq!(world.log(), ["Unhealthy: Liveness probe failed: bad"]);
    world.probe("c0", ProbeKind::Liveness, false);
    assert_eq!(
        world.log(),
        [
            "Unhealthy: Liveness probe failed: bad",
            "Killing: Container c failed liveness probe, will be restarted",
            "stop c 9",
            "image c",
            "start c 1"
        ]
    );
    assert_eq!(world.probes(), "c1:Startup", "a new run begins anew");
    world.probe("c1", ProbeKind::Startup, false);
    world.probe("c1", ProbeKind::Startup, false);
    assert!(world.log().contains(&"Killing: Container c failed startup probe, will be restarted".to_owned()));
    assert_eq!(world.look(), "Running CrashLoopBackOff*1");
}

#[test]
fn only_results_that_may_change_something_are_news() {
    let probe = json!({"tcpSocket": {"port": 1}, "successThreshold": 2});
    let mut world = World::running(json!({"restartPolicy": "Always",
        "containers": [{"name": "c", "readinessProbe": probe}]}));
    let result = |outcome| Input::Probed { id: "c0".into(), kind: ProbeKind::Readiness, outcome };
    for (outcome, news) in [
        (Outcome::Success, true),
        (Outcome::Success, true),
        (Outcome::Success, false),
        (Outcome::Warning("elsewhere".into()), true),
        (Outcome::Failure("bad".into()), true),
        (Outcome::Success, true),
        (Outcome::Success, false),
    ] {
        assert_eq!(world.life.is_news(&result(outcome.clone())), news, "{outcome:?}");
        world.send(result(outcome));
        assert!(world.life.is_news(&Input::Tick));
    }
    let told = ["ProbeWarning: Readiness probe warning: elsewhere", "Unhealthy: Readiness probe failed: bad"];
    assert_eq!(world.log(), told);
}

#[test]
fn a_container_that_failed_a_probe_is_asked_no_more() {
    let probe = json!({"tcpSocket": {"port": 1}, "failureThreshold": 1, "terminationGracePeriodSeconds": 3});
    for (policy, own, message) in [
        ("Always", None, "Container c failed startup probe, will be restarted"),
        ("Never", None, "Container c failed startup probe"),
        ("Never", Some("OnFailure"), "Container c failed startup probe, will be restarted"),
    ] {
        let mut world = World::running(json!({"restartPolicy": policy, "containers": [
            {"name": "c", "startupProbe": probe, "restartPolicy": own}]}));
        world.held = vec!["stop"];
        world.probe("c0", ProbeKind::Startup, false);
        let log =
            ["Unhealthy: Startup probe failed: bad".into(), format!("Killing: {message}"), "stop c 3".into()];
        assert_eq!(world.log(), log);
        assert_eq!(world.probes(), "");
    }
}

#[test]
fn a_pod_that_ends_is_asked_for_its_readiness_only() {
    let probe = json!({"tcpSocket": {"port": 1}, "failureThreshold": 1});
    let mut world = World::running(json!({"restartPolicy": "Always",
        "containers": [{"name": "c", "livenessProbe": probe, "readinessProbe": probe}]}));
    world.probe("c0", ProbeKind::Readiness, true);
    world.held = vec!["stop"];
    world.delete(30);
    assert_eq!(world.probes(), "c0:Readiness");
    assert_eq!(world.look(), "Running Running+");
    world.probe("c0", ProbeKind::Readiness, false);
    assert_eq!(world.look(), "Running Running");
}

#[test]
fn hooks_hold_a_start_back_and_precede_an_end() {
    let hook = json!({"exec": {"command": ["x"]}});
    let spec = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
        "containers": [{"name": "c", "lifecycle": {"postStart": hook, "preStop": hook}}]});
    let mut world = World::new(spec.clone());
    world.held = vec!["post start"];
    world.send(Input::Tick);
    assert_eq!(world.look(), "Pending ContainerCreating");
    world.release("post start");
    assert_eq!(world.look(), "Running Running+");
    world.log();
    world.delete(30);
    assert_eq!(world.log()[1], "stop c 30 hook");

    let mut world = World::new(spec);
    world.held = vec!["post start"];
    world.send(Input::Tick);
    world.log();
    world.send(Input::PostStarted { id: "c0".into(), result: Err("exit 1".into()) });
    assert_eq!(
        world.log(),
        [
            "FailedPostStartHook: PostStartHook failed",
            "Killing: FailedPostStartHook",
            "stop c 30 hook",
            "image c",
            "start c 1",
            "post start"
        ]
    );
    assert_eq!(world.look(), "Running PostStartHookError*1");
}

#[test]
fn deletion_in_every_phase() {
    for held in ["volumes", "sandbox", "image", "start", "post start"] {
        let hook = json!({"exec": {"command": ["x"]}});
        let mut world = World::new(json!({"restartPolicy": "Always",
            "containers": [{"name": "c", "lifecycle": {"postStart": hook}}]}));
        world.held = vec![held];
        world.send(Input::Tick);
        world.delete(5);
        let waits = matches!(held, "volumes" | "sandbox" | "start");
        assert_eq!(world.life.finished(), !waits, "{held}: {:?}", world.log);
        world.release(held);
        assert!(world.life.finished(), "{held}: {:?}", world.log);
        assert_eq!(world.log.last().unwrap(), "finish", "{held}");
        assert_eq!(world.look().split(' ').next(), Some("Failed"), "{held}");
    }
}

#[test]
fn a_shorter_grace_hurries_an_end() {
    let mut world = World::running(one());
    world.held = vec!["stop"];
    world.delete(30);
    world.now += SignedDuration::from_secs(1);
    world.delete(30);
    assert_eq!(world.log(), ["Killing: Stopping container c", "stop c 30"]);
    world.delete(0);
    assert_eq!(world.log(), ["stop c 0"]);
    world.release("stop");
    assert!(world.life.finished());
}

#[test]
fn only_those_who_end_for_good_wait_for_their_traffic() {
    let probe = json!({"tcpSocket": {"port": 1}, "failureThreshold": 1});
    let mut world = World::running(json!({"restartPolicy": "Always",
        "containers": [{"name": "c", "livenessProbe": probe}]}));
    world.probe("c0", ProbeKind::Liveness, false);
    world.held = vec!["stop"];
    world.delete(30);
    world.delete(1);
    assert_eq!(world.signals, [Signal::Prompt, Signal::AfterTraffic, Signal::Prompt]);
}

#[test]
fn a_pod_gone_from_the_api_ends_without_a_last_call() {
    let mut world = World::running(one());
    world.send(Input::Gone);
    assert!(world.life.finished());
    assert!(!world.log().contains(&"finish".to_owned()));
}

#[test]
fn a_dead_sandbox_is_replaced() {
    let dead = |world: &World| {
        let mut sandbox = world.life.sandboxes[0].clone();
        sandbox.ready = false;
        Input::Seen { sandboxes: vec![sandbox], containers: Vec::new() }
    };
    let mut world = World::running(one());
    let input = dead(&world);
    world.send(input);
    assert_eq!(
        world.log(),
        [
            "SandboxChanged: Pod sandbox changed, it will be killed and re-created.",
            "stop sandbox s0",
            "image c",
            "sandbox 1",
            "start c 1"
        ]
    );
    assert_eq!(world.look(), "Running Running+*1");
    assert_eq!(world.status().pod_ip.as_deref(), Some("10.0.0.1"));

    let mut world = World::running(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    let input = dead(&world);
    world.send(input);
    assert_eq!(world.look(), "Failed Error(137)");
}

#[test]
fn initialization_starts_over_in_a_new_sandbox() {
    let mut world = World::running(json!({"restartPolicy": "Always",
        "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    world.exit("i", 0);
    world.log();
    world.wait(100);
    let mut sandbox = world.life.sandboxes[0].clone();
    sandbox.ready = false;
    world.send(Input::Seen { sandboxes: vec![sandbox], containers: Vec::new() });
    let starts: Vec<_> = world.log().into_iter().filter(|line| line.starts_with("start")).collect();
    assert_eq!(starts, ["start i 1"]);
    world.exit("i", 0);
    assert_eq!(world.log(), ["image c", "start c 1"]);
}

#[test]
fn a_restarted_agent_adopts_what_runs() {
    let probe = json!({"tcpSocket": {"port": 1}});
    let spec = json!({"restartPolicy": "Always",
        "containers": [{"name": "c", "startupProbe": probe, "readinessProbe": probe}]});
    let mut world = World::running(spec.clone());
    world.exit("c", 1);
    world.probe("c1", ProbeKind::Startup, true);
    world.probe("c1", ProbeKind::Readiness, true);
    let before = world.status();
    let mut pod = pod(spec);
    pod.status = Some(before.clone());
    let mut next = World::of(pod);
    next.now = world.now + SignedDuration::from_secs(77);
    let (sandboxes, containers) = (world.life.sandboxes.clone(), world.life.containers.clone());
    next.send(Input::Listed { sandboxes, containers });
    assert_eq!(next.log(), ["volumes"]);
    assert_eq!(next.status(), before, "nothing changes for users");
    assert_eq!(next.probes(), "c1:Readiness");
}

#[test]
fn a_changed_image_replaces_a_container() {
    let mut world = World::running(one());
    let mut pod = (**world.life.pod()).clone();
    pod.spec.as_mut().unwrap().containers[0].image = Some("new".into());
    world.send(Input::Desired(Arc::new(pod)));
    assert_eq!(
        world.log(),
        ["Killing: Container c definition changed, will be restarted", "stop c 30", "image c", "start c 1"]
    );
}

#[test]
fn ephemeral_containers_join_once() {
    let mut world = World::running(one());
    let mut new = one();
    new["ephemeralContainers"] = json!([{"name": "e", "targetContainerName": "c"}]);
    world.send(Input::Desired(Arc::new(pod(new))));
    assert_eq!(world.log(), ["image e", "start e 0"]);
    world.exit("e", 0);
    assert_eq!(world.look(), "Running Running+ Completed(0)");
    assert!(world.log().is_empty());
}

#[test]
fn a_deadline_fails_a_pod() {
    let mut world = World::running(json!({"restartPolicy": "Always", "activeDeadlineSeconds": 60,
        "containers": [{"name": "c"}]}));
    world.wait(30);
    world.held = vec!["stop"];
    assert_eq!(world.wait_for_alarm(), 30);
    assert_eq!(world.look(), "Running Running+", "nothing seems ended while it runs");
    world.release("stop");
    assert_eq!(world.look(), "Failed Error(143)");
    assert_eq!(world.status().reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn an_evicted_pod_ends_fast_and_says_why() {
    let mut spec = one();
    spec["terminationGracePeriodSeconds"] = json!(30);
    let mut world = World::running(spec);
    let (reason, message) = ("Evicted".to_owned(), "The node was low on resource: memory. ".to_owned());
    world.send(Input::Evict(Verdict { reason, message, grace: Some(1), disrupts: true }));
    assert!(world.log.contains(&"stop c 1".to_owned()), "{:?}", world.log);
    let status = world.life.status(world.now);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    let conditions = status.conditions.unwrap();
    let target = conditions.iter().find(|it| it.type_ == "DisruptionTarget").unwrap();
    assert_eq!((target.status.as_str(), target.reason.as_deref()), ("True", Some("TerminationByKubelet")));
    assert_eq!(target.message, status.message);
}

#[test]
fn of_a_pod_that_is_not_taken_nothing_is_begun_or_told() {
    let mut world = World::new(one());
    let (reason, message) = ("OutOfcpu".to_owned(), "Pod was rejected: x".to_owned());
    world.send(Input::Refuse(Verdict { reason, message, ..Verdict::default() }));
    world.send(Input::Listed { sandboxes: Vec::new(), containers: Vec::new() });
    let status = world.life.status(world.now);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("OutOfcpu")));
    assert_eq!((status.container_statuses, status.init_container_statuses), (None, None));
    let begun = ["volumes", "sandbox", "image", "start"];
    assert!(!world.log.iter().any(|line| begun.iter().any(|word| line.starts_with(word))), "{:?}", world.log);
}

#[test]
fn readiness_gates_are_others_conditions() {
    let spec = json!({"restartPolicy": "Always", "readinessGates": [{"conditionType": "x/y"}],
        "containers": [{"name": "c"}]});
    let mut world = World::running(spec);
    assert_eq!(
        world.condition("Ready").2,
        "corresponding condition of pod readiness gate \"x/y\" does not exist."
    );
    let mut pod = (**world.life.pod()).clone();
    pod.status = serde_json::from_value(json!({"conditions": [{"type": "x/y", "status": "True"}]})).unwrap();
    world.send(Input::Desired(Arc::new(pod)));
    assert_eq!(world.condition("Ready").0, "True");
    assert_eq!(world.condition("x/y").0, "True", "and stay");
}

#[test]
fn times_of_conditions_change_only_with_them() {
    let mut world = World::running(one());
    let before = world.status();
    world.wait(1000);
    assert_eq!(world.status(), before);
}

#[test]
fn failures_of_the_engine_are_tried_again() {
    let mut world = World::new(one());
    world.held = vec!["sandbox", "volumes"];
    world.send(Input::Tick);
    world.pending.clear();
    world.log();
    world.send(Input::SandboxStarted(Err("no network".into())));
    world.send(Input::Volumes(Err("gone".into())));
    assert_eq!(
        world.log(),
        ["FailedCreatePodSandBox: Failed to create pod sandbox: no network", "FailedMount: gone"]
    );
    world.held.clear();
    assert_eq!(world.wait_for_alarm(), 1);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "start c 0"]);
}

fn sized(cpu: &str, memory: &str, generation: i64) -> Pod {
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let list = json!({"cpu": cpu, "memory": memory});
    let mut pod = pod(json!({"containers": [
        {"name": "c", "resizePolicy": policy, "resources": {"requests": list, "limits": list}},
    ]}));
    pod.metadata.generation = Some(generation);
    pod
}

fn condition(status: &PodStatus, kind: &str) -> Option<(String, String)> {
    let found = status.conditions.iter().flatten().find(|it| it.type_ == kind)?;
    Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
}

fn sizes(status: &PodStatus) -> (String, String) {
    let status = &status.container_statuses.as_ref().unwrap()[0];
    let allocated = status.allocated_resources.as_ref().unwrap()["cpu"].0.clone();
    (allocated, status.resources.as_ref().unwrap().limits.as_ref().unwrap()["cpu"].0.clone())
}

#[test]
fn a_resize_is_in_progress_until_the_groups_have_changed() {
    let mut world = World::of(sized("1", "64Mi", 1));
    world.send(Input::Tick);
    world.log.clear();
    world.held.push("resize");
    world.send(Input::Desired(Arc::new(sized("2", "64Mi", 2))));
    assert_eq!(world.log, ["resize [c]"]);
    let status = world.life.status(world.now);
    assert_eq!(sizes(&status), ("2".into(), "1".into()));
    assert_eq!(condition(&status, "PodResizeInProgress"), Some(Default::default()));
    world.release("resize");
    let status = world.life.status(world.now);
    assert_eq!(sizes(&status), ("2".into(), "2".into()));
    assert_eq!(condition(&status, "PodResizeInProgress"), None);
    assert!(
        world.log[1].starts_with("ResizeCompleted: Pod resize completed: {\"containers\":["),
        "{:?}",
        world.log
    );
    // Nothing is changed twice.
    world.log.clear();
    world.send(Input::Desired(Arc::new(sized("2000m", "64Mi", 3))));
    assert_eq!(world.log, [""; 0]);
}

#[test]
fn a_refused_resize_stays_in_progress_and_is_tried_again() {
    let mut world = World::of(sized("1", "64Mi", 1));
    world.send(Input::Tick);
    world.log.clear();
    world.held.push("resize");
    world.send(Input::Desired(Arc::new(sized("2", "64Mi", 2))));
    let Effect::Resize { after, runs, .. } = world.pending.pop().unwrap() else { panic!("no resize") };
    let message = "cannot decrease memory limits: too low".to_owned();
    world.send(Input::Resized { after, runs, result: Err(message.clone()) });
    let status = world.life.status(world.now);
    assert_eq!(condition(&status, "PodResizeInProgress"), Some(("Error".into(), message)));
    assert_eq!(sizes(&status), ("2".into(), "1".into()));
    assert!(world.log[1].starts_with("ResizeError: Pod resize error: "), "{:?}", world.log);
    world.held.clear();
    assert_eq!(world.wait_for_alarm(), 5);
    let status = world.life.status(world.now);
    assert_eq!((sizes(&status), condition(&status, "PodResizeInProgress")), (("2".into(), "2".into()), None));
}

#[test]
fn a_container_is_restarted_when_its_policy_says_so() {
    let mut world = World::of(sized("1", "64Mi", 1));
    world.send(Input::Tick);
    world.log.clear();
    world.send(Input::Desired(Arc::new(sized("1", "128Mi", 2))));
    let log = world.log.join("\n");
    assert!(log.starts_with("Killing: Container c resize requires restart\nstop c 30\nresize []"), "{log}");
    assert!(log.contains("start c 1"), "{log}");
    assert!(log.ends_with("],\"generation\":2}"), "{log}");
    let status = world.life.status(world.now);
    assert_eq!(condition(&status, "PodResizeInProgress"), None);
    assert_eq!(status.container_statuses.as_ref().unwrap()[0].restart_count, 1);
}

#[test]
fn another_agent_goes_on_with_a_resize() {
    let mut world = World::of(sized("1", "64Mi", 1));
    world.send(Input::Tick);
    let mut pod = sized("2", "64Mi", 2);
    pod.status = Some(world.life.status(world.now));
    let mut next = World::of(pod);
    let (sandboxes, containers) = (world.life.sandboxes.clone(), world.life.containers.clone());
    next.held.push("resize");
    next.send(Input::Listed { sandboxes, containers });
    assert!(next.log.contains(&"resize [c]".to_owned()), "{:?}", next.log);
    assert_eq!(sizes(&next.life.status(next.now)), ("2".into(), "1".into()));
}

#[test]
fn resources_of_a_pod_as_a_whole_are_told_as_granted_and_as_in_effect() {
    let sized = |cpu: &str, generation| {
        let own = json!({"resources": {"requests": {"memory": "32Mi"}}, "name": "c"});
        let mut pod = pod(
            json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}, "containers": [own]}),
        );
        pod.metadata.generation = Some(generation);
        pod
    };
    let mut world = World::of(sized("1", 1));
    world.send(Input::Tick);
    let told = |world: &mut World| {
        let status = world.life.status(world.now);
        let granted = status.allocated_resources.unwrap();
        let limits = status.resources.unwrap().limits.unwrap();
        (granted["cpu"].0.clone(), granted["memory"].0.clone(), limits["cpu"].0.clone())
    };
    assert_eq!(told(&mut world), ("1".into(), "32Mi".into(), "1".into()));
    world.held.push("resize");
    world.send(Input::Desired(Arc::new(sized("2", 2))));
    assert_eq!(told(&mut world), ("2".into(), "32Mi".into(), "1".into()));
    let Effect::Resize { after, runs, .. } = world.pending.pop().unwrap() else { panic!("no resize") };
    world.send(Input::Resized { after, runs, result: Ok(()) });
    assert_eq!(told(&mut world), ("2".into(), "32Mi".into(), "2".into()));
}
