//! The status that users see: containers, phase, addresses (kubelet: pkg/kubelet/kubelet_pods.go).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, PodIP, PodSpec, PodStatus, ResourceRequirements,
    VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use plimsoll_meta::quantity::Quantity as Amount;

use crate::cgroup::request_sum;
use crate::conditions;
use crate::life::{Life, Stage, remembered};
use crate::observed::{Container, Exit, State};
use crate::probe::ProbeKind;
use crate::qos;
use crate::spec::{Role, Spec, host_network, pod_spec};

/// Bytes of last words that the containers of a pod share (kubelet: pkg/kubelet/status, `normalizeStatus`).
const LAST_WORDS: usize = 12 * 1024;

impl Life {
    /// The pod's status now. Times of conditions that did not change are kept.
    pub fn status(&mut self, now: Timestamp) -> PodStatus {
        let now = whole_seconds(now);
        if self.refused && self.containers.is_empty() {
            let status = self.refusal();
            self.told = status.conditions.clone().unwrap_or_default();
            return status;
        }
        let of = |life: &Self, roles: &[Role]| -> Option<Vec<ContainerStatus>> {
            let specs = life.specs.iter().filter(|spec| roles.contains(&spec.role));
            let statuses: Vec<_> = specs.map(|spec| life.container_status(spec)).collect();
            (!statuses.is_empty()).then_some(statuses)
        };
        let init = of(self, &[Role::Init, Role::Sidecar]);
        let main = of(self, &[Role::Main]);
        let phase = self.phase(init.as_deref().unwrap_or_default(), main.as_deref().unwrap_or_default());
        let api = self.pod.status.clone().unwrap_or_default();
        let verdict = self.verdict.as_ref();
        let kept = api.phase.as_deref() == Some(phase);
        let mut status = PodStatus {
            observed_generation: self.pod.metadata.generation,
            phase: Some(phase.to_owned()),
            reason: verdict.map(|it| it.reason.clone()).or(api.reason.filter(|_| kept)),
            message: verdict.map(|it| it.message.clone()).or(api.message.filter(|_| kept)),
            init_container_statuses: init,
            container_statuses: main,
            ephemeral_container_statuses: of(self, &[Role::Ephemeral]),
            start_time: Some(Time(whole_seconds(self.start_time))),
            qos_class: Some(qos::class(pod_spec(&self.pod)).as_str().to_owned()),
            nominated_node_name: None,
            conditions: None,
            allocated_resources: allocated(pod_spec(&self.pod)),
            resources: self.resize.of_pod(),
            host_ip: self.node.addresses.first().cloned(),
            host_ips: Some(self.node.addresses.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
            ..api
        };
        self.set_addresses(&mut status);
        self.shorten_messages(&mut status);
        let mut conditions = conditions::of(&self.pod, &status, self.sandbox().is_some(), &self.told, now);
        if let Some(verdict) = self.verdict.as_ref().filter(|verdict| verdict.disrupts) {
            conditions.retain(|condition| condition.type_ != conditions::DISRUPTION);
            conditions.push(conditions::disruption(&self.pod, &verdict.message, &self.told, now));
        }
        if self.stage == Stage::Living {
            conditions.extend(self.resize_conditions(&self.told, now));
        }
        self.told.clone_from(&conditions);
        status.conditions = Some(conditions);
        self.remembered.extend(remembered(&status));
        status
    }

    /// Of a pod that is not taken nothing is told but that: no container, no address, no condition of the node's
    /// (kubelet: pkg/kubelet/kubelet.go, `rejectPod`).
    fn refusal(&self) -> PodStatus {
        let api = self.pod.status.clone().unwrap_or_default();
        let verdict = self.verdict.clone().unwrap_or_default();
        PodStatus {
            observed_generation: self.pod.metadata.generation,
            phase: Some("Failed".to_owned()),
            reason: Some(verdict.reason),
            message: Some(verdict.message),
            start_time: Some(Time(whole_seconds(self.start_time))),
            qos_class: Some(qos::class(pod_spec(&self.pod)).as_str().to_owned()),
            conditions: Some(conditions::foreign(&self.pod)),
            resource_claim_statuses: api.resource_claim_statuses,
            extended_resource_claim_status: api.extended_resource_claim_status,
            ..PodStatus::default()
        }
    }

    /// All last words of a pod together have an upper limit.
    fn shorten_messages(&self, status: &mut PodStatus) {
        let most = LAST_WORDS / self.specs.len().max(1);
        let lists = [
            &mut status.container_statuses,
            &mut status.init_container_statuses,
            &mut status.ephemeral_container_statuses,
        ];
        let statuses = lists.into_iter().flatten().flatten();
        let states = statuses.flat_map(|status| [&mut status.state, &mut status.last_state]).flatten();
        for message in states.filter_map(|state| state.terminated.as_mut()?.message.as_mut()) {
            let end = (0..=most.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or_default());
        }
    }

    pub(crate) fn last_status(&self, name: &str) -> Option<&ContainerStatus> {
        self.remembered.get(name)
    }

    /// Addresses stay after the sandbox has gone: users still ask whose they were.
    fn set_addresses(&self, status: &mut PodStatus) {
        let ips = if host_network(&self.pod) {
            self.node.addresses.clone()
        } else {
            let known = self.sandbox().or_else(|| self.sandboxes.iter().max_by_key(|it| it.attempt));
            known.map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
        };
        if !ips.is_empty() && (!host_network(&self.pod) || status.pod_ip.is_none()) {
            status.pod_ip = ips.first().cloned();
            status.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
        }
    }

    fn phase(&self, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
        let over = matches!(self.stage, Stage::Over | Stage::Finished);
        let api = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        match api {
            Some("Failed") => return "Failed",
            Some("Succeeded") => return "Succeeded",
            _ => {}
        }
        let computed = if self.verdict.is_some() { "Failed" } else { self.computed_phase(init, main) };
        let terminal = matches!(computed, "Succeeded" | "Failed");
        let alive = self.containers.iter().any(Container::running);
        if terminal && alive {
            // A pod never seems ended while something of it runs.
            let ran = |spec: &Spec| spec.role == Role::Main && self.newest(spec.name()).is_some();
            return if self.specs.iter().any(ran) { "Running" } else { "Pending" };
        }
        if over && !terminal { "Failed" } else { computed }
    }

    fn computed_phase(&self, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
        let (mut pending, mut failed) = (false, false);
        let (mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0);
        let specs = self.specs.iter().filter(|spec| matches!(spec.role, Role::Init | Role::Sidecar));
        for (spec, status) in specs.zip(init) {
            match (spec.role, stand(status)) {
                (Role::Sidecar, Stand::Running) => {
                    running += 1;
                    pending |= status.started != Some(true);
                }
                (Role::Sidecar, Stand::Waiting) => {
                    waiting += 1;
                    pending = true;
                }
                (Role::Sidecar, Stand::Ended(_)) | (_, Stand::Ended(0)) => {}
                (_, Stand::Ended(_)) => failed = true,
                (_, Stand::Running | Stand::Waiting) => pending = true,
            }
        }
        for status in main {
            match stand(status) {
                Stand::Running => running += 1,
                Stand::Waiting => waiting += 1,
                Stand::Ended(code) => {
                    stopped += 1;
                    succeeded += i32::from(code == 0);
                }
            }
        }
        if failed && self.done_by_itself() {
            return "Failed";
        }
        if pending && running + stopped == 0 || waiting > 0 {
            return "Pending";
        }
        if running > 0 {
            return "Running";
        }
        if stopped == 0 {
            return "Pending";
        }
        let ended = self.stage != Stage::Living || self.done_by_itself();
        match (ended, stopped == succeeded) {
            (true, true) => "Succeeded",
            (true, false) => "Failed",
            (false, _) => "Running",
        }
    }

    fn container_status(&self, spec: &Spec) -> ContainerStatus {
        let container = &spec.container;
        let mut status = ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            started: Some(false),
            ..ContainerStatus::default()
        };
        // What was made and not started yet is nothing to show.
        let started = self.runs(spec.name()).filter(|run| run.state != State::Created);
        let mut runs: Vec<_> = started.collect();
        runs.sort_by_key(|run| std::cmp::Reverse((run.attempt, run.created)));
        match runs.as_slice() {
            [] => self.never_seen(spec, &mut status),
            [run, before @ ..] => self.seen(spec, run, before.first().copied(), &mut status),
        }
        status
    }

    /// Without records: what the API said last is all there is to know.
    fn never_seen(&self, spec: &Spec, status: &mut ContainerStatus) {
        if let Some(last) = self.last_status(spec.name()).filter(|last| last.container_id.is_some()) {
            let state = last.state.clone().unwrap_or_default();
            if state.terminated.is_some() {
                *status = last.clone();
                return;
            }
            let running = state.running.is_some();
            // It will be started once more.
            status.restart_count = last.restart_count + i32::from(running && !self.deleted());
            status.last_state = last.last_state.clone();
            if running {
                status.last_state = Some(terminated(&lost(), None));
            }
        }
        let over = matches!(self.stage, Stage::Over | Stage::Finished);
        status.state = Some(match over && self.was_due(spec) {
            true => terminated(&lost(), None),
            false => self.waiting(spec),
        });
    }

    /// Whether the container's turn had come, so that it is lost when nothing is known of it
    /// (kubelet: pkg/kubelet/status/status_manager.go, TerminatePod).
    fn was_due(&self, spec: &Spec) -> bool {
        match spec.role {
            Role::Main => self.was_initialized(),
            Role::Ephemeral => false,
            Role::Init | Role::Sidecar => {
                let mut later = self.specs.iter().skip_while(|it| it.name() != spec.name()).skip(1);
                later.any(|it| it.role != Role::Ephemeral && self.has_started(it))
            }
        }
    }

    /// Whether the main containers' turn had come.
    fn was_initialized(&self) -> bool {
        self.specs.iter().all(|spec| match spec.role {
            Role::Init => self.has_succeeded(spec),
            Role::Sidecar => self.has_started(spec),
            Role::Main | Role::Ephemeral => true,
        }) || self.specs.iter().any(|spec| spec.role == Role::Main && self.has_started(spec))
    }

    fn has_succeeded(&self, spec: &Spec) -> bool {
        let ended =
            |status: &ContainerStatus| status.state.as_ref()?.terminated.as_ref().map(|end| end.exit_code);
        self.runs(spec.name()).any(|run| run.exit().is_some_and(|exit| exit.code == 0))
            || self.last_status(spec.name()).and_then(ended) == Some(0)
    }

    fn has_started(&self, spec: &Spec) -> bool {
        let told = |status: &ContainerStatus| status.container_id.is_some();
        self.runs(spec.name()).any(|run| run.state != State::Created)
            || self.last_status(spec.name()).is_some_and(told)
    }

    fn seen(&self, spec: &Spec, run: &Container, before: Option<&Container>, status: &mut ContainerStatus) {
        status.restart_count = i32::try_from(run.attempt).unwrap_or(i32::MAX);
        status.image.clone_from(&run.image);
        status.image_id.clone_from(&run.image_ref);
        status.container_id = Some(self.container_id(run));
        status.volume_mounts = mounts(spec);
        status.user = run.user.clone().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser { uid, gid, supplemental_groups: Some(groups) }),
        });
        status.last_state =
            before.and_then(|before| Some(terminated(&before.exit()?, Some(self.container_id(before)))));
        status.state = Some(self.state(spec, run, status));
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        status.started = Some(running && self.is_started(spec, run));
        status.ready = match spec.role {
            Role::Init => run.exit().is_some_and(|exit| exit.code == 0),
            Role::Ephemeral => false,
            Role::Sidecar | Role::Main => {
                status.started == Some(true)
                    && (spec.container.readiness_probe.is_none()
                        || self.verdict_of(&run.id, ProbeKind::Readiness) == Some(true))
            }
        };
        if running && spec.role != Role::Ephemeral {
            let allocated = spec.container.resources.as_ref().and_then(|it| it.requests.clone());
            status.allocated_resources = allocated.filter(|requests| !requests.is_empty());
            let applied = self.resize.applied(spec, run).cloned().unwrap_or_default();
            status.resources = Some(ResourceRequirements { claims: None, ..applied });
        }
    }

    /// The state to show, moving an end into the last state when the container waits to run again.
    fn state(&self, spec: &Spec, run: &Container, status: &mut ContainerStatus) -> ContainerState {
        match (&run.state, run.exit()) {
            (State::Running(started), _) if !self.in_post_start(run) => ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(Time(whole_seconds(*started))) }),
                ..ContainerState::default()
            },
            (_, Some(exit)) => {
                let ended = terminated(&exit, Some(self.container_id(run)));
                let again = self.stage == Stage::Living && self.runs_again(spec, run, &exit);
                let waits = self.slots.get(spec.name()).is_some_and(|slot| slot.waiting.is_some());
                if again && waits {
                    status.last_state = Some(ended);
                    return self.waiting(spec);
                }
                ended
            }
            _ => self.waiting(spec),
        }
    }

    fn waiting(&self, spec: &Spec) -> ContainerState {
        let (reason, message) = match self.slots.get(spec.name()).and_then(|slot| slot.waiting.as_ref()) {
            Some(waiting) => (waiting.reason, Some(waiting.message.clone()).filter(|text| !text.is_empty())),
            None if self.specs.iter().any(|it| matches!(it.role, Role::Init | Role::Sidecar)) => {
                ("PodInitializing", None)
            }
            None => ("ContainerCreating", None),
        };
        ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
            ..ContainerState::default()
        }
    }

    fn container_id(&self, run: &Container) -> String {
        format!("{}://{}", self.node.runtime, run.id)
    }
}

/// What a pod that has resources as a whole was given: what it asks for itself, or else its containers together.
fn allocated(spec: &PodSpec) -> Option<BTreeMap<String, Quantity>> {
    let own = spec.resources.as_ref().filter(|own| own.requests.is_some() || own.limits.is_some())?;
    let mut requests = own.requests.clone().unwrap_or_default();
    let sums = [
        ("cpu", Amount::from_milli(request_sum(spec, "cpu", |amount| amount.milli()))),
        ("memory", Amount::from_bytes(request_sum(spec, "memory", |amount| amount.value()))),
    ];
    for (name, sum) in sums.into_iter().filter(|(_, sum)| sum.sign() > 0) {
        requests.entry(name.to_owned()).or_insert_with(|| Quantity(sum.to_string()));
    }
    Some(requests).filter(|requests| !requests.is_empty())
}

enum Stand {
    Running,
    Waiting,
    Ended(i32),
}

/// What a container's status means for the phase: one that waits to run again has ended.
fn stand(status: &ContainerStatus) -> Stand {
    let code = |state: &Option<ContainerState>| Some(state.as_ref()?.terminated.as_ref()?.exit_code);
    if status.state.as_ref().is_some_and(|state| state.running.is_some()) {
        return Stand::Running;
    }
    code(&status.state).or_else(|| code(&status.last_state)).map_or(Stand::Waiting, Stand::Ended)
}

fn terminated(exit: &Exit, container_id: Option<String>) -> ContainerState {
    let word = if exit.code == 0 { "Completed" } else { "Error" };
    let reason = if exit.reason.is_empty() { word } else { &exit.reason };
    let unknown = exit.reason == "ContainerStatusUnknown";
    let time = |at: Timestamp| Some(Time(whole_seconds(at)));
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id,
            exit_code: exit.code,
            finished_at: time(exit.finished).filter(|_| !unknown),
            started_at: exit.started.and_then(time),
            reason: Some(reason.to_owned()),
            message: Some(exit.message.clone()).filter(|text| !text.is_empty()),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

fn lost() -> Exit {
    Exit {
        started: None,
        finished: Timestamp::UNIX_EPOCH,
        code: 137,
        reason: "ContainerStatusUnknown".into(),
        message: "The container could not be located when the pod was terminated".into(),
    }
}

fn mounts(spec: &Spec) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec.container.volume_mounts.as_ref()?.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.read_only.filter(|it| *it).map(|_| {
            let asked = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
            if asked == "Disabled" { "Disabled".to_owned() } else { "Enabled".to_owned() }
        }),
        ..VolumeMountStatus::default()
    });
    Some(mounts.collect::<Vec<_>>()).filter(|mounts| !mounts.is_empty())
}

/// The API's times have no fractions: two statuses that differ by them only are the same.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("a time without its fraction is one")
}
