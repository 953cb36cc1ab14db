//! What the agent tells about its own work, under the names of upstream's agent.
//!
//! What enters: starts, calls and requests as they end. What leaves: the text of `/metrics` and
//! `/metrics/probes`. Counting costs some atomic additions; how many pods there are is counted when it is asked for.

mod images;
mod labels;
mod lives;
mod now;
mod placement;
mod probe;
mod resources;
mod start;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_metrics::Histogram;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use images::Images;
pub(crate) use images::Removal;
use labels::{
    Answered, Asked, Build, ContainerType, Failed, Handled, Handler, Knows, Named, Of, Operation, Preemption,
    Refusal, Signal,
};
pub(crate) use labels::{Counted, Request};
use lives::Lives;
pub(crate) use now::Now;
pub(crate) use placement::Placed;
use probe::Probes;
pub(crate) use probe::{ProbeOf, ProbeSeries};
pub(crate) use resources::Question;
use resources::Questions;
pub(crate) use start::{Start, Starting};
pub(crate) use wire::Wire;

/// Prometheus' own default, in seconds.
const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds of calls to the engine: each 2.5 times the one before.
const CALLS: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
    47.6837158203125,
    119.20928955078125,
    298.0232238769531,
    745.0580596923828,
];
/// Seconds of starts of pods.
const STARTS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
/// Seconds until a status is written.
const STATUSES: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];

/// Seconds of work on claims.
const CLAIMS: &[f64] = &[
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0,
    20.0, 25.0, 30.0, 60.0,
];
/// Milliseconds in which pods get what the node has only so much of: each twice the one before.
const ADMISSIONS: &[f64] =
    &[0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2];

type Distribution<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    probes_registry: Registry,
    calls: Family<Operation, Counter>,
    call_errors: Family<Operation, Counter>,
    call_times: Distribution<Operation>,
    sandbox_times: Distribution<Handler>,
    sandbox_errors: Family<Handler, Counter>,
    started_pods: Counter,
    started_pods_errors: Counter,
    started_containers: Family<ContainerType, Counter>,
    started_containers_errors: Family<Failed, Counter>,
    start_times: Histogram,
    start_sli_times: Histogram,
    start_total_times: Histogram,
    work_times: Distribution<Operation>,
    status_times: Histogram,
    cgroup_times: Distribution<Operation>,
    evictions: Family<Signal, Counter>,
    claim_times: Distribution<Handled>,
    driver_times: Distribution<Asked>,
    questions: Questions,
    images: Images,
    /// Pods as they come.
    pub(crate) lives: Lives,
    admissions: Counter,
    admission_times: Histogram,
    preemptions: Family<Preemption, Counter>,
    refusals: Family<Refusal, Counter>,
    plugins: Family<Of, Counter>,
    device_times: Distribution<Of>,
    credential_times: Distribution<Knows>,
    credential_errors: Family<Knows, Counter>,
    answers: Family<Answered, Counter>,
    answer_times: Distribution<Answered>,
    in_flight: Family<Answered, Gauge>,
    probes: Probes,
}

fn usual() -> Histogram {
    Histogram::new(USUAL)
}

impl Metrics {
    /// Nothing counted yet.
    pub(crate) fn new(node: &str) -> Self {
        let mut probes_registry = Registry::default();
        let probes = Probes::register(&mut probes_registry);
        let mut this = Self {
            registry: Registry::default(),
            calls: Family::default(),
            call_errors: Family::default(),
            call_times: Family::new_with_constructor(|| Histogram::new(CALLS)),
            sandbox_times: Family::new_with_constructor(usual),
            sandbox_errors: Family::default(),
            started_pods: Counter::default(),
            started_pods_errors: Counter::default(),
            started_containers: Family::default(),
            started_containers_errors: Family::default(),
            start_times: usual(),
            start_sli_times: Histogram::new(STARTS),
            start_total_times: Histogram::new(STARTS),
            work_times: Family::new_with_constructor(usual),
            status_times: Histogram::new(STATUSES),
            cgroup_times: Family::new_with_constructor(usual),
            evictions: Family::default(),
            claim_times: Family::new_with_constructor(|| Histogram::new(CLAIMS)),
            driver_times: Family::new_with_constructor(|| Histogram::new(CLAIMS)),
            questions: Questions::default(),
            images: Images::default(),
            lives: Lives::default(),
            admissions: Counter::default(),
            admission_times: Histogram::new(ADMISSIONS),
            preemptions: Family::default(),
            refusals: Family::default(),
            plugins: Family::default(),
            device_times: Family::new_with_constructor(usual),
            credential_times: Family::new_with_constructor(usual),
            credential_errors: Family::default(),
            answers: Family::default(),
            answer_times: Family::new_with_constructor(usual),
            in_flight: Family::default(),
            probes,
            probes_registry,
        };
        this.register(node);
        this.register_pods();
        this
    }

    fn register(&mut self, node: &str) {
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build::default()).set(1);
        let help = "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.";
        self.registry.register("kubernetes_build_info", help, build);
        let claims = self.registry.sub_registry_with_prefix("dra");
        claims.register(
            "operations_duration_seconds",
            "[BETA] Latency histogram in seconds for the duration of handling all ResourceClaims referenced by a pod when the pod starts or stops. Identified by the name of the operation (PrepareResources or UnprepareResources) and separated by the success of the operation. The number of failed operations is provided through the histogram's overall count.",
            self.claim_times.clone(),
        );
        claims.register(
            "grpc_operations_duration_seconds",
            "[BETA] Duration in seconds of the DRA gRPC operations",
            self.driver_times.clone(),
        );
        let all = self.registry.sub_registry_with_prefix("kubelet");
        let name: Family<Named, Gauge> = Family::default();
        name.get_or_create(&Named { node: node.to_owned() }).set(1);
        all.register("node_name", "[ALPHA] The node's name. The count is always 1.", name);
        all.register(
            "runtime_operations",
            "[ALPHA] Cumulative number of runtime operations by operation type.",
            self.calls.clone(),
        );
        all.register(
            "runtime_operations_errors",
            "[ALPHA] Cumulative number of runtime operation errors by operation type.",
            self.call_errors.clone(),
        );
        all.register(
            "runtime_operations_duration_seconds",
            "[ALPHA] Duration in seconds of runtime operations. Broken down by operation type.",
            self.call_times.clone(),
        );
        all.register(
            "run_podsandbox_duration_seconds",
            "[ALPHA] Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
            self.sandbox_times.clone(),
        );
        all.register(
            "run_podsandbox_errors",
            "[ALPHA] Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
            self.sandbox_errors.clone(),
        );
        all.register(
            "cgroup_manager_duration_seconds",
            "[ALPHA] Duration in seconds for cgroup manager operations. Broken down by method.",
            self.cgroup_times.clone(),
        );
        all.register(
            "evictions",
            "[ALPHA] Cumulative number of pod evictions by eviction signal",
            self.evictions.clone(),
        );
        all.register(
            "topology_manager_admission_requests",
            "[ALPHA] The number of admission requests where resources have to be aligned.",
            self.admissions.clone(),
        );
        all.register(
            "topology_manager_admission_duration_ms",
            "[ALPHA] Duration in milliseconds to serve a pod admission request.",
            self.admission_times.clone(),
        );
        self.questions.register(all);
        self.images.register(all);
        all.register(
            "preemptions",
            "[ALPHA] Cumulative number of pod preemptions by preemption resource",
            self.preemptions.clone(),
        );
        all.register(
            "admission_rejections",
            "[ALPHA] Cumulative number pod admission rejections by the Kubelet.",
            self.refusals.clone(),
        );
        all.register(
            "device_plugin_registration",
            "[ALPHA] Cumulative number of device plugin registrations. Broken down by resource name.",
            self.plugins.clone(),
        );
        all.register(
            "device_plugin_alloc_duration_seconds",
            "[ALPHA] Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
            self.device_times.clone(),
        );
        all.register(
            "credential_provider_plugin_duration",
            "[ALPHA] Duration of execution in seconds for credential provider plugin",
            self.credential_times.clone(),
        );
        all.register(
            "credential_provider_plugin_errors",
            "[ALPHA] Number of errors from credential provider plugin",
            self.credential_errors.clone(),
        );
        all.register(
            "http_requests",
            "[ALPHA] Number of the http requests received since the server started",
            self.answers.clone(),
        );
        all.register(
            "http_requests_duration_seconds",
            "[ALPHA] Duration in seconds to serve http requests",
            self.answer_times.clone(),
        );
        all.register(
            "http_inflight_requests",
            "[ALPHA] Number of the inflight http requests",
            self.in_flight.clone(),
        );
    }

    fn register_pods(&mut self) {
        let all = self.registry.sub_registry_with_prefix("kubelet");
        self.lives.register(all);
        all.register("started_pods", "[ALPHA] Cumulative number of pods started", self.started_pods.clone());
        all.register(
            "started_pods_errors",
            "[ALPHA] Cumulative number of errors when starting pods",
            self.started_pods_errors.clone(),
        );
        all.register(
            "started_containers",
            "[ALPHA] Cumulative number of containers started",
            self.started_containers.clone(),
        );
        all.register(
            "started_containers_errors",
            "[ALPHA] Cumulative number of errors when starting containers",
            self.started_containers_errors.clone(),
        );
        all.register(
            "pod_start_duration_seconds",
            "[ALPHA] Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            self.start_times.clone(),
        );
        all.register(
            "pod_start_sli_duration_seconds",
            "[ALPHA] Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
            self.start_sli_times.clone(),
        );
        all.register(
            "pod_start_total_duration_seconds",
            "[ALPHA] Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
            self.start_total_times.clone(),
        );
        all.register(
            "pod_worker_duration_seconds",
            "[ALPHA] Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
            self.work_times.clone(),
        );
        all.register(
            "pod_status_sync_duration_seconds",
            "[ALPHA] Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the API is successfully updated for that pod, even if multiple intevening changes to pod status occur.",
            self.status_times.clone(),
        );
    }

    /// `/metrics`: the media type and the text.
    pub(crate) fn text(&self, now: &Now, others: &[Arc<Registry>], accept: &str) -> (&'static str, String) {
        let mut counted = Registry::default();
        now.register(&mut counted);
        plimsoll_metrics::register_process(&mut counted);
        let mut all = vec![&self.registry, &counted];
        all.extend(others.iter().map(Arc::as_ref));
        plimsoll_metrics::write(&all, accept)
    }

    /// `/metrics/probes`: the media type and the text.
    pub(crate) fn probes_text(&self, accept: &str) -> (&'static str, String) {
        let mut process = Registry::default();
        plimsoll_metrics::register_start(&mut process);
        plimsoll_metrics::write(&[&self.probes_registry, &process], accept)
    }

    /// The engine was called and answered, or did not.
    fn called(&self, operation_type: &'static str, took: Duration, success: bool) {
        let operation = Operation { operation_type };
        self.calls.get_or_create(&operation).inc();
        self.call_times.get_or_create(&operation).observe(took.as_secs_f64());
        if !success {
            self.call_errors.get_or_create(&operation).inc();
        }
        if operation_type == "run_podsandbox" {
            let handler = Handler { runtime_handler: "" };
            self.sandbox_times.get_or_create(&handler).observe(took.as_secs_f64());
            if !success {
                self.sandbox_errors.get_or_create(&handler).inc();
            }
        }
    }

    /// A pod's sandbox was to be started.
    pub(crate) fn pod_started(&self, success: bool) {
        self.started_pods.inc();
        if !success {
            self.started_pods_errors.inc();
        }
    }

    /// A container was to be started; `failure` is the reason that its status shows. `list` is the list of the
    /// pod's specification that it stands in.
    pub(crate) fn container_started(&self, list: &str, failure: Option<&'static str>) {
        let container_type = labels::container_type(list);
        self.started_containers.get_or_create(&ContainerType { container_type }).inc();
        if let Some(code) = failure {
            self.started_containers_errors.get_or_create(&Failed { code, container_type }).inc();
        }
    }

    /// A pod runs for the first time.
    pub(crate) fn pod_runs(&self, start: &Start) {
        self.start_times.observe(start.seen.as_secs_f64());
        if let Some(total) = start.created {
            self.start_total_times.observe(total.as_secs_f64());
            self.start_sli_times.observe(total.saturating_sub(start.pulling).as_secs_f64());
        }
    }

    /// Something was done for a pod.
    pub(crate) fn worked(&self, operation_type: &'static str, took: Duration) {
        self.work_times.get_or_create(&Operation { operation_type }).observe(took.as_secs_f64());
    }

    /// A pod's status was written this long after it had changed.
    pub(crate) fn status_written(&self, took: Duration) {
        self.status_times.observe(took.as_secs_f64());
    }

    /// A control group was made, changed or removed, which began then.
    pub(crate) fn cgroup(&self, operation_type: &'static str, since: Instant) {
        let times = self.cgroup_times.get_or_create(&Operation { operation_type });
        times.observe(since.elapsed().as_secs_f64());
    }

    /// A device plugin wants to be known.
    pub(crate) fn device_plugin_registered(&self, resource: &str) {
        self.plugins.get_or_create(&Of { resource_name: resource.to_owned() }).inc();
    }

    /// A device plugin made devices ready for a container.
    pub(crate) fn devices_given(&self, resource: &str, took: Duration) {
        let times = self.device_times.get_or_create(&Of { resource_name: resource.to_owned() });
        times.observe(took.as_secs_f64());
    }

    /// A pod got what the node has only so much of, or did not.
    pub(crate) fn placed(&self, took: Duration) {
        self.admissions.inc();
        self.admission_times.observe(took.as_secs_f64() * 1000.0);
    }

    /// All claims of a pod were prepared or taken back, or were not.
    pub(crate) fn claims_handled(&self, operation_name: &'static str, is_error: bool, took: Duration) {
        let is_error = if is_error { "true" } else { "false" };
        self.claim_times.get_or_create(&Handled { is_error, operation_name }).observe(took.as_secs_f64());
    }

    /// A driver of claimed devices answered, or did not.
    pub(crate) fn driver_called(&self, driver: &str, method_name: String, code: tonic::Code, took: Duration) {
        let code = if code == tonic::Code::Ok { "OK".to_owned() } else { format!("{code:?}") };
        let asked = Asked { driver_name: driver.to_owned(), grpc_status_code: code, method_name };
        self.driver_times.get_or_create(&asked).observe(took.as_secs_f64());
    }

    /// Somebody asked for pods' resources.
    pub(crate) fn resources_asked(&self, question: Question) {
        self.questions.asked(question);
    }

    /// Somebody who asked was told of none.
    pub(crate) fn resources_not_told(&self, question: Question) {
        self.questions.failed(question);
    }

    /// A program was asked for credentials and answered, or did not.
    pub(crate) fn credentials_asked(&self, plugin: &str, took: Duration, success: bool) {
        let knows = Knows { plugin_name: plugin.to_owned() };
        self.credential_times.get_or_create(&knows).observe(took.as_secs_f64());
        if !success {
            self.credential_errors.get_or_create(&knows).inc();
        }
    }

    /// An image of so many bytes was pulled.
    pub(crate) fn pulled(&self, bytes: u64, took: Duration) {
        self.images.pulled(bytes, took);
    }

    /// Images were removed that nobody used.
    pub(crate) fn images_removed(&self, why: Removal, count: usize) {
        self.images.removed(why, count);
    }

    /// A pod is evicted.
    pub(crate) fn evicted(&self, eviction_signal: &'static str) {
        self.evictions.get_or_create(&Signal { eviction_signal }).inc();
    }

    /// A pod ends to make room for a critical one; `signal` names the resource that was missing.
    pub(crate) fn preempted(&self, signal: &str) {
        self.preemptions.get_or_create(&Preemption { preemption_signal: signal.to_owned() }).inc();
    }

    /// A pod is not taken.
    pub(crate) fn refused(&self, reason: &str) {
        self.refusals.get_or_create(&Refusal { reason: reason.to_owned() }).inc();
    }

    /// A request of the agent's API begins; it ends when what is returned is dropped.
    pub(crate) fn asked(&self, request: &Request<'_>) -> Counted {
        let answered = request.answered();
        Counted::new(
            &self.answers.get_or_create_owned(&answered),
            self.answer_times.get_or_create_owned(&answered),
            self.in_flight.get_or_create_owned(&answered),
        )
    }

    /// The series of a container's probe.
    pub(crate) fn probe(&self, of: ProbeOf<'_>) -> ProbeSeries {
        self.probes.series(of)
    }

    /// A pod is gone, and with it the series of its probes.
    pub(crate) fn forget_probe(&self, of: ProbeOf<'_>) {
        self.probes.forget(of);
    }
}
