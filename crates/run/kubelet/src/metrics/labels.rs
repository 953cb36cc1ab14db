//! The labels of the agent's series, in the order in which they are written.

use std::time::Instant;

use plimsoll_metrics::Histogram;
use plimsoll_podlife::probe::ProbeKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::node::VERSION;

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Operation {
    pub(super) operation_type: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Handler {
    pub(super) runtime_handler: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ContainerType {
    pub(super) container_type: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Failed {
    pub(super) code: &'static str,
    pub(super) container_type: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Signal {
    pub(super) eviction_signal: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Handled {
    pub(super) is_error: &'static str,
    pub(super) operation_name: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Asked {
    pub(super) driver_name: String,
    pub(super) grpc_status_code: String,
    pub(super) method_name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Preemption {
    pub(super) preemption_signal: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Refusal {
    pub(super) reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Of {
    pub(super) resource_name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Knows {
    pub(super) plugin_name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Named {
    pub(super) node: String,
}

/// One of the agent's own answers.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Answered {
    long_running: &'static str,
    method: &'static str,
    path: &'static str,
    server_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Probed {
    pub(super) container: String,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) pod_uid: String,
    pub(super) probe_type: &'static str,
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ProbedFor {
    pub(super) container: String,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) probe_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Build {
    build_date: &'static str,
    compiler: &'static str,
    git_commit: &'static str,
    git_tree_state: &'static str,
    git_version: &'static str,
    go_version: &'static str,
    major: &'static str,
    minor: &'static str,
    platform: String,
}

impl Default for Build {
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            build_date: "",
            compiler: "rustc",
            git_commit: "",
            git_tree_state: "",
            git_version: VERSION,
            go_version: "",
            major: "1",
            minor: "37",
            platform: format!("{}/{architecture}", std::env::consts::OS),
        }
    }
}

/// Upstream's word for the containers of a list in a pod's specification.
pub(super) fn container_type(list: &str) -> &'static str {
    match list {
        list if list.contains("initContainers") => "init_container",
        list if list.contains("ephemeralContainers") => "ephemeral_container",
        _ => "container",
    }
}

/// Upstream's word for a probe.
pub(super) fn probe_type(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Liveness => "Liveness",
        ProbeKind::Readiness => "Readiness",
        ProbeKind::Startup => "Startup",
    }
}

/// A request of the agent's API.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a [&'a str],
}

impl Request<'_> {
    /// Its labels: unknown words are told as one (kubelet: server.go, getMetricBucket).
    pub(super) fn answered(&self) -> Answered {
        const METHODS: [&str; 9] =
            ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
        const PATHS: [&str; 9] =
            ["healthz", "pods", "stats", "run", "exec", "attach", "portForward", "containerLogs", "logs"];
        let path = match self.path {
            ["metrics"] => "metrics",
            ["metrics", "cadvisor"] => "metrics/cadvisor",
            ["metrics", "probes"] => "metrics/probes",
            ["metrics", "resource"] => "metrics/resource",
            [first, ..] => PATHS.into_iter().find(|known| known == first).unwrap_or("other"),
            [] => "other",
        };
        let long = matches!(path, "exec" | "attach" | "portForward" | "containerLogs");
        Answered {
            long_running: if long { "true" } else { "false" },
            method: METHODS.into_iter().find(|known| *known == self.method).unwrap_or("other"),
            path,
            server_type: "readwrite",
        }
    }
}

/// A request on its way; it has ended when this is dropped.
pub(crate) struct Counted {
    times: Histogram,
    in_flight: Gauge,
    since: Instant,
}

impl Counted {
    pub(super) fn new(count: &Counter, times: Histogram, in_flight: Gauge) -> Self {
        count.inc();
        in_flight.inc();
        Self { times, in_flight, since: Instant::now() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.in_flight.dec();
        self.times.observe(self.since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_known_words() {
        for (method, path, expected) in [
            ("GET", vec!["metrics", "cadvisor"], ("GET", "metrics/cadvisor", "false")),
            ("POST", vec!["exec", "ns", "p", "c"], ("POST", "exec", "true")),
            ("BREW", vec!["coffee"], ("other", "other", "false")),
        ] {
            let answered = Request { method, path: &path }.answered();
            assert_eq!((answered.method, answered.path, answered.long_running), expected);
        }
    }
}
