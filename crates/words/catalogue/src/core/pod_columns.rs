//! What `kubectl get pods` shows.

use jiff::Timestamp;
use serde_json::Value;

use crate::access::Access;
use crate::age;
use crate::column::{self, Column};

pub(super) const COLUMNS: &[Column] = &[
    column::NAME,
    Column::text("Ready", "containers that are ready, of all that run side by side", |pod, _| {
        let summary = Summary::of(pod);
        format!("{}/{}", summary.ready, summary.total).into()
    }),
    Column::text("Status", "what the containers of the pod are doing", |pod, _| {
        Summary::of(pod).reason.into()
    }),
    Column::text("Restarts", "how often containers were restarted, and when last", |pod, now| {
        Summary::of(pod).restarts(now).into()
    }),
    column::AGE,
    Column::text("IP", "address of the pod", |pod, _| {
        let first = pod.list("status.podIPs").first().map_or("", |ip| ip.text("ip"));
        column::or(first, "<none>")
    })
    .wide(),
    Column::text("Node", "node that the pod is bound to", |pod, _| {
        column::or(pod.text("spec.nodeName"), "<none>")
    })
    .wide(),
    Column::text("Nominated Node", "node that is being cleared for the pod", |pod, _| {
        column::or(pod.text("status.nominatedNodeName"), "<none>")
    })
    .wide(),
    Column::text("Readiness Gates", "extra conditions that are true, of all", |pod, _| {
        readiness_gates(pod).into()
    })
    .wide(),
];

/// The state of a pod in a few words, gathered over its containers.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restart_count: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let init = pod.list("spec.initContainers");
        let sidecars = init.iter().filter(|container| is_sidecar(container)).count();
        let mut summary = Summary {
            ready: 0,
            total: pod.list("spec.containers").len() + sidecars,
            reason: phase(pod),
            restart_count: 0,
            last_restart: None,
        };
        let (initializing, of_sidecars) = summary.add_init_containers(pod);
        if !initializing || is_true(pod, "Initialized") {
            (summary.restart_count, summary.last_restart) = of_sidecars;
            summary.add_containers(pod);
        }
        if pod.has("metadata.deletionTimestamp") {
            let lost = pod.text("status.reason") == "NodeLost";
            summary.reason = if lost { "Unknown" } else { "Terminating" }.to_owned();
        }
        summary
    }

    /// Tells whether initialization still goes on, and the restarts of sidecars alone.
    fn add_init_containers(&mut self, pod: &Value) -> (bool, (i64, Option<Timestamp>)) {
        let specs = pod.list("spec.initContainers");
        let mut of_sidecars = (0, None);
        for (at, status) in pod.list("status.initContainerStatuses").iter().enumerate() {
            let sidecar =
                specs.iter().any(|spec| spec.text("name") == status.text("name") && is_sidecar(spec));
            self.count_restarts(status);
            if sidecar {
                of_sidecars.0 += status.count("restartCount");
                of_sidecars.1 = of_sidecars.1.max(last_end(status));
            }
            let terminated = status.at("state.terminated");
            if terminated.is_some_and(|state| state.count("exitCode") == 0) {
                continue;
            }
            if sidecar && status.flag("started") {
                self.ready += usize::from(status.flag("ready"));
                continue;
            }
            let waiting = status.text("state.waiting.reason");
            self.reason = match terminated {
                Some(state) => format!("Init:{}", ended(state)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{at}/{}", specs.len()),
            };
            return (true, of_sidecars);
        }
        (false, of_sidecars)
    }

    fn add_containers(&mut self, pod: &Value) {
        let mut has_running = false;
        for status in pod.list("status.containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = status.text("state.waiting.reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(state) = status.at("state.terminated") {
                self.reason = ended(state);
            } else if status.flag("ready") && status.has("state.running") {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            self.reason = if is_true(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restart_count += status.count("restartCount");
        self.last_restart = self.last_restart.max(last_end(status));
    }

    fn restarts(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(then) if self.restart_count != 0 => {
                format!("{} ({} ago)", self.restart_count, age::human(now.duration_since(then).as_secs()))
            }
            _ => self.restart_count.to_string(),
        }
    }
}

fn phase(pod: &Value) -> String {
    let gated = |condition: &Value| {
        condition.text("type") == "PodScheduled" && condition.text("reason") == "SchedulingGated"
    };
    if pod.list("status.conditions").iter().any(gated) {
        return "SchedulingGated".to_owned();
    }
    match pod.text("status.reason") {
        "" => pod.text("status.phase").to_owned(),
        reason => reason.to_owned(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

fn is_true(pod: &Value, condition: &str) -> bool {
    let found = pod.list("status.conditions").iter().find(|one| one.text("type") == condition);
    found.is_some_and(|one| one.text("status") == "True")
}

fn last_end(status: &Value) -> Option<Timestamp> {
    age::timestamp(status.at("lastState.terminated.finishedAt"))
}

/// Why a container ended: its reason, else its signal, else its exit code.
fn ended(state: &Value) -> String {
    match (state.text("reason"), state.count("signal")) {
        ("", 0) => format!("ExitCode:{}", state.count("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    match pod.list("spec.readinessGates") {
        [] => "<none>".to_owned(),
        gates => {
            let open = gates.iter().filter(|gate| is_true(pod, gate.text("conditionType"))).count();
            format!("{open}/{}", gates.len())
        }
    }
}
