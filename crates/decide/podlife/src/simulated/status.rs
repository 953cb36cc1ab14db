//! What a simulated pod's status tells after each step.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, HostIP, Pod, PodIP,
    PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{Ending, Step, phase, uid};
use crate::spec::{Role, Spec, specs};
use crate::status::whole_seconds;
use crate::{conditions, status_patch};

/// Where a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its node's address.
    pub host: Ipv4Addr,
    /// Its own.
    pub pod: Ipv4Addr,
}

/// The strategic merge patch that tells of a step; none when the API knows already.
pub fn patch(pod: &Pod, step: Step, place: Place, now: Timestamp) -> Option<Value> {
    let old = pod.status.clone().unwrap_or_default();
    let mut new = told(pod, &old, step, place, whole_seconds(now));
    let (sandbox, before) = (new.phase.as_deref() == Some("Running"), old.conditions.as_deref());
    let before = before.unwrap_or_default();
    new.conditions = Some(conditions::of(pod, &new, sandbox, before, whole_seconds(now)));
    status_patch(uid(pod), &json!(old), &json!(new))
}

/// The strategic merge patch that tells that the pod's node does not take it, and why.
pub fn refusal(pod: &Pod, reason: String, why: &str) -> Option<Value> {
    let old = pod.status.clone().unwrap_or_default();
    let new = PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(reason),
        message: Some(format!("Pod was rejected: {why}")),
        ..old.clone()
    };
    status_patch(uid(pod), &json!(old), &json!(new))
}

/// Everything but the conditions.
fn told(pod: &Pod, old: &PodStatus, step: Step, place: Place, now: Timestamp) -> PodStatus {
    let containers = |roles: [Role; 2]| -> Option<Vec<ContainerStatus>> {
        let all = specs(pod).into_iter().filter(|spec| roles.contains(&spec.role));
        let all: Vec<_> = all.map(|spec| container(pod, old, &spec, step, now)).collect();
        (!all.is_empty()).then_some(all)
    };
    let base = PodStatus {
        observed_generation: pod.metadata.generation,
        phase: Some(phase_after(pod, step).to_owned()),
        init_container_statuses: containers([Role::Init, Role::Sidecar]),
        container_statuses: containers([Role::Main; 2]),
        nominated_node_name: None,
        ..old.clone()
    };
    if step != Step::Start {
        return base;
    }
    let (host, address) = (place.host.to_string(), place.pod.to_string());
    PodStatus {
        host_ip: Some(host.clone()),
        host_ips: Some(vec![HostIP { ip: host }]),
        pod_ip: Some(address.clone()),
        pod_ips: Some(vec![PodIP { ip: address }]),
        start_time: Some(Time(now)),
        ..base
    }
}

fn phase_after(pod: &Pod, step: Step) -> &'static str {
    match (step, phase(pod)) {
        (Step::Start | Step::Restart(_), _) => "Running",
        (Step::End(Ending::Succeeded), _) | (Step::Remove, "Running" | "Succeeded") => "Succeeded",
        // What never ran has not succeeded.
        (Step::End(Ending::Failed) | Step::Remove, _) => "Failed",
    }
}

fn container(pod: &Pod, old: &PodStatus, spec: &Spec, step: Step, now: Timestamp) -> ContainerStatus {
    let name = &spec.container.name;
    let known = old.container_statuses.iter().chain(&old.init_container_statuses).flatten();
    let known = known.into_iter().find(|status| status.name == *name);
    let started = known.and_then(|status| status.state.as_ref()?.running.as_ref()?.started_at.clone());
    let ended = |code: i32| ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            reason: Some(if code == 0 { "Completed" } else { "Error" }.to_owned()),
            started_at: Some(started.clone().unwrap_or(Time(now))),
            finished_at: Some(Time(now)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    let running = || ContainerState {
        running: Some(ContainerStateRunning { started_at: Some(Time(now)) }),
        ..ContainerState::default()
    };
    let fresh = || ContainerStatus {
        name: name.clone(),
        image: spec.container.image.clone().unwrap_or_default(),
        image_id: spec.container.image.clone().unwrap_or_default(),
        container_id: Some(format!("simulated://{}/{name}", uid(pod))),
        ..ContainerStatus::default()
    };
    let mut status = known.filter(|status| status.container_id.is_some()).cloned().unwrap_or_else(fresh);
    let is_over = status.state.as_ref().is_some_and(|state| state.terminated.is_some());
    let state = match (step, spec.role) {
        (Step::Start, Role::Init) => ended(0),
        (Step::Start, _) => running(),
        (Step::Restart(_), Role::Main) => {
            status.restart_count += 1;
            status.last_state = Some(ended(1));
            running()
        }
        (Step::Restart(_), _) => return status,
        (Step::End(_) | Step::Remove, _) if is_over => return status,
        (Step::End(Ending::Failed), Role::Main) => ended(1),
        (Step::End(_) | Step::Remove, _) => ended(0),
    };
    let runs = state.running.is_some();
    status.ready = runs || spec.role == Role::Init;
    status.started = Some(runs);
    status.state = Some(state);
    status
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn pod(status: Value) -> Pod {
        let spec = json!({"nodeName": "sim-0", "containers": [{"name": "main", "image": "app:1"}], "initContainers": [
            {"name": "first", "image": "init:1"}, {"name": "beside", "image": "log:1", "restartPolicy": "Always"},
        ]});
        let metadata = json!({"uid": "u", "generation": 1});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    /// The pod after that step, as its status would be stored.
    fn after(pod: &Pod, step: Step, now: &str) -> Pod {
        let place = Place { host: [100, 64, 0, 1].into(), pod: [100, 64, 0, 9].into() };
        let old = pod.status.clone().unwrap_or_default();
        let now = now.parse().unwrap();
        let mut new = told(pod, &old, step, place, now);
        let before = old.conditions.as_deref().unwrap_or_default();
        let sandbox = new.phase.as_deref() == Some("Running");
        new.conditions = Some(conditions::of(pod, &new, sandbox, before, now));
        Pod { status: Some(new), ..pod.clone() }
    }

    /// Phase, conditions that are true, and each container: ready, restarts, exit code.
    fn tell(pod: &Pod) -> String {
        let status = pod.status.as_ref().unwrap();
        let conditions = status.conditions.iter().flatten().filter(|it| it.status == "True");
        let conditions: Vec<_> = conditions.map(|it| it.type_.as_str()).collect();
        let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        let containers = all.map(|it| {
            let code = it.state.as_ref().unwrap().terminated.as_ref().map(|ended| ended.exit_code);
            format!("{} {} {} {code:?}", it.name, it.ready, it.restart_count)
        });
        let containers: Vec<_> = containers.collect();
        format!("{} [{}] {}", status.phase.as_deref().unwrap(), conditions.join(" "), containers.join(", "))
    }

    #[test]
    fn a_pod_runs_restarts_and_ends() {
        let all = "PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled";
        let bound =
            pod(json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}));
        let running = after(&bound, Step::Start, "2026-01-01T00:00:00Z");
        let up = "first true 0 Some(0), beside true 0 None, main true";
        assert_eq!(tell(&running), format!("Running [{all}] {up} 0 None"));
        let again = after(&running, Step::Restart(0), "2026-01-01T00:00:10Z");
        assert_eq!(tell(&again), format!("Running [{all}] {up} 1 None"));
        let ended = "first true 0 Some(0), beside false 0 Some(0), main false 1";
        let cases = [
            (
                &again,
                Step::End(Ending::Succeeded),
                format!("Succeeded [Initialized PodScheduled] {ended} Some(0)"),
            ),
            (&again, Step::End(Ending::Failed), format!("Failed [Initialized PodScheduled] {ended} Some(1)")),
            (&again, Step::Remove, format!("Succeeded [Initialized PodScheduled] {ended} Some(0)")),
        ];
        for (pod, step, expected) in cases {
            assert_eq!(tell(&after(pod, step, "2026-01-01T00:00:20Z")), expected, "{step:?}");
        }
        assert_eq!(
            after(&bound, Step::Remove, "2026-01-01T00:00:20Z").status.unwrap().phase.unwrap(),
            "Failed"
        );
    }

    #[test]
    fn addresses_are_told_once_and_what_is_known_not_again() {
        let place = Place { host: [100, 64, 0, 1].into(), pod: [100, 64, 0, 9].into() };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let bound = pod(json!({"phase": "Pending"}));
        let told = patch(&bound, Step::Start, place, now).unwrap();
        assert_eq!(told["metadata"]["uid"], "u");
        assert_eq!(told["status"]["podIP"], "100.64.0.9");
        assert_eq!(told["status"]["startTime"], "2026-01-01T00:00:00Z");
        let running = after(&bound, Step::Start, "2026-01-01T00:00:00Z");
        let gone = after(&running, Step::Remove, "2026-01-01T00:00:30Z");
        assert_eq!(gone.status.as_ref().unwrap().pod_ip.as_deref(), Some("100.64.0.9"));
        assert_eq!(patch(&gone, Step::Remove, place, now), None);
    }
}
