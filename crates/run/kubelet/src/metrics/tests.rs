//! The texts of `/metrics` and `/metrics/probes`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_cri::v1;
use plimsoll_podlife::placement::Tally;
use plimsoll_podlife::placement::hints::Scope;
use plimsoll_podlife::probe::ProbeKind;
use serde_json::json;

use super::*;

fn now() -> Now {
    let pod = |mirror: bool, phase: &str| {
        let annotations = if mirror { json!({"kubernetes.io/config.mirror": "1"}) } else { json!({}) };
        let spec = json!({"containers": [], "ephemeralContainers": [{"name": "e"}]});
        let pod = json!({"metadata": {"annotations": annotations}, "spec": spec, "status": {"phase": phase}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    };
    let running = v1::Container { state: 1, ..v1::Container::default() };
    Now {
        sandboxes: vec![v1::PodSandbox::default(), v1::PodSandbox { state: 1, ..Default::default() }],
        containers: vec![running.clone(), running, v1::Container { state: 2, ..Default::default() }],
        pods: vec![pod(false, "Running"), pod(false, "Failed"), pod(true, "Running")],
        placed: Placed {
            tally: Tally {
                cpu_requests: 3,
                apart: 1,
                on_one_node: 2,
                whole_cores: 3,
                one_cache: 1,
                ..Tally::default()
            },
            scope: Scope::Pod,
            shared: 13_000,
            exclusive: [(0, 2), (1, 1)].into(),
        },
        claims: [("<any>".to_owned(), 1), ("gpu.example.com".to_owned(), 1)].into(),
    }
}

/// Names of upstream's agent that this one tells, without `kubelet_`, and their types
/// (kubelet: pkg/kubelet/metrics/metrics.go, v1.37).
const NAMES: &[&str] = &[
    "active_pods gauge",
    "admission_rejections_total counter",
    "cgroup_manager_duration_seconds histogram",
    "container_aligned_compute_resources_count counter",
    "container_aligned_compute_resources_failure_count counter",
    "containers_per_pod_count histogram",
    "cpu_manager_allocation_per_numa gauge",
    "cpu_manager_exclusive_cpu_allocation_count gauge",
    "cpu_manager_pinning_errors_total counter",
    "cpu_manager_pinning_requests_total counter",
    "cpu_manager_shared_pool_size_millicores gauge",
    "credential_provider_plugin_duration histogram",
    "credential_provider_plugin_errors_total counter",
    "desired_pods gauge",
    "device_plugin_alloc_duration_seconds histogram",
    "device_plugin_registration_total counter",
    "evictions counter",
    "graceful_shutdown_end_time_seconds gauge",
    "graceful_shutdown_start_time_seconds gauge",
    "http_inflight_requests gauge",
    "http_requests_duration_seconds histogram",
    "http_requests_total counter",
    "image_garbage_collected_total counter",
    "image_pull_duration_seconds histogram",
    "managed_ephemeral_containers gauge",
    "memory_manager_pinning_errors_total counter",
    "memory_manager_pinning_requests_total counter",
    "mirror_pods gauge",
    "node_name gauge",
    "orphaned_runtime_pods_total counter",
    "pod_resources_endpoint_errors_get counter",
    "pod_resources_endpoint_errors_get_allocatable counter",
    "pod_resources_endpoint_errors_list counter",
    "pod_resources_endpoint_requests_get counter",
    "pod_resources_endpoint_requests_get_allocatable counter",
    "pod_resources_endpoint_requests_list counter",
    "pod_resources_endpoint_requests_total counter",
    "pod_start_duration_seconds histogram",
    "pod_start_sli_duration_seconds histogram",
    "pod_start_total_duration_seconds histogram",
    "pod_status_sync_duration_seconds histogram",
    "pod_worker_duration_seconds histogram",
    "pod_worker_start_duration_seconds histogram",
    "preemptions counter",
    "run_podsandbox_duration_seconds histogram",
    "run_podsandbox_errors_total counter",
    "running_containers gauge",
    "running_pods gauge",
    "runtime_operations_duration_seconds histogram",
    "runtime_operations_errors_total counter",
    "runtime_operations_total counter",
    "started_containers_errors_total counter",
    "started_containers_total counter",
    "started_pods_errors_total counter",
    "started_pods_total counter",
    "topology_manager_admission_duration_ms histogram",
    "topology_manager_admission_errors_total counter",
    "topology_manager_admission_requests_total counter",
];

#[test]
fn the_agents_work_is_told_under_upstreams_names() {
    let metrics = Metrics::new("n1");
    metrics.called("run_podsandbox", Duration::from_millis(20), false);
    metrics.called("status", Duration::from_millis(1), true);
    metrics.pod_started(false);
    metrics.container_started("spec.initContainers{a}", None);
    metrics.container_started("spec.containers{b}", Some("RunContainerError"));
    metrics.pod_runs(&Start {
        seen: Duration::from_millis(60),
        created: Some(Duration::from_secs(3)),
        pulling: Duration::from_secs(2),
    });
    metrics.worked("create", Duration::from_millis(3));
    metrics.lives.taken(3);
    metrics.lives.begun(Duration::from_millis(1));
    metrics.lives.orphaned();
    metrics.lives.ends(jiff::Timestamp::constant(1000, 0), None);
    metrics.status_written(Duration::from_millis(3));
    metrics.cgroup("create", Instant::now());
    metrics.evicted("memory.available");
    metrics.preempted("cpu");
    metrics.refused("OutOfcpu");
    metrics.device_plugin_registered("example.com/gpu");
    metrics.devices_given("example.com/gpu", Duration::from_millis(3));
    metrics.credentials_asked("helper", Duration::from_millis(3), false);
    for question in [Question::List, Question::GetAllocatable, Question::Get] {
        metrics.resources_not_told(question);
        metrics.resources_asked(question);
    }
    for (bytes, seconds) in [(0, 0), (5 << 20, 10), (1 << 30, 10), (200 << 30, 10)] {
        metrics.pulled(bytes, Duration::from_secs(seconds));
    }
    metrics.images_removed(Removal::Space, 2);
    metrics.claims_handled("PrepareResources", false, Duration::from_millis(3));
    metrics.driver_called("gpu.example.com", "/x/y".into(), tonic::Code::Ok, Duration::from_millis(3));
    metrics.placed(Duration::from_millis(1));
    let request = Request { method: "GET", path: &["pods"] };
    drop(metrics.asked(&request));
    let running = metrics.asked(&request);
    let (media_type, text) = metrics.text(&now(), &[], "*/*");
    drop(running);
    assert!(media_type.starts_with("text/plain"));
    for line in [
        "kubelet_node_name{node=\"n1\"} 1",
        "kubelet_running_pods 1",
        "kubelet_running_containers{container_state=\"running\"} 2",
        "kubelet_running_containers{container_state=\"exited\"} 1",
        "kubelet_desired_pods{static=\"\"} 2",
        "kubelet_desired_pods{static=\"true\"} 1",
        "kubelet_active_pods{static=\"\"} 1",
        "kubelet_mirror_pods 1",
        "kubelet_runtime_operations_total{operation_type=\"status\"} 1",
        "kubelet_runtime_operations_errors_total{operation_type=\"run_podsandbox\"} 1",
        "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"run_podsandbox\",le=\"0.03125\"} 1",
        "kubelet_run_podsandbox_errors_total{runtime_handler=\"\"} 1",
        "kubelet_started_pods_total 1",
        "kubelet_started_pods_errors_total 1",
        "kubelet_started_containers_total{container_type=\"init_container\"} 1",
        "kubelet_started_containers_errors_total{code=\"RunContainerError\",container_type=\"container\"} 1",
        "kubelet_pod_start_duration_seconds_bucket{le=\"0.1\"} 1",
        "kubelet_pod_start_total_duration_seconds_sum 3",
        "kubelet_pod_start_sli_duration_seconds_sum 1",
        "kubelet_pod_worker_duration_seconds_count{operation_type=\"create\"} 1",
        "kubelet_containers_per_pod_count_bucket{le=\"2\"} 0",
        "kubelet_containers_per_pod_count_bucket{le=\"4\"} 1",
        "kubelet_pod_worker_start_duration_seconds_count 1",
        "kubelet_orphaned_runtime_pods_total 1",
        "kubelet_graceful_shutdown_start_time_seconds 1000",
        "kubelet_graceful_shutdown_end_time_seconds 0",
        "kubelet_pod_status_sync_duration_seconds_count 1",
        "kubelet_cgroup_manager_duration_seconds_count{operation_type=\"create\"} 1",
        "dra_operations_duration_seconds_count{is_error=\"false\",operation_name=\"PrepareResources\"} 1",
        "dra_grpc_operations_duration_seconds_count{driver_name=\"gpu.example.com\",grpc_status_code=\"OK\",method_name=\"/x/y\"} 1",
        "dra_resource_claims_in_use{driver_name=\"<any>\"} 1",
        "kubelet_pod_resources_endpoint_requests_total{server_api_version=\"v1\"} 3",
        "kubelet_image_pull_duration_seconds_bucket{image_size_in_bytes=\"N/A\",le=\"1\"} 1",
        "kubelet_image_pull_duration_seconds_sum{image_size_in_bytes=\"0-10MB\"} 10",
        "kubelet_image_pull_duration_seconds_bucket{image_size_in_bytes=\"1GB-5GB\",le=\"10\"} 1",
        "kubelet_image_pull_duration_seconds_bucket{image_size_in_bytes=\"GT100GB\",le=\"5\"} 0",
        "kubelet_image_garbage_collected_total{reason=\"space\"} 2",
        "kubelet_managed_ephemeral_containers 3",
        "kubelet_preemptions{preemption_signal=\"cpu\"} 1",
        "kubelet_credential_provider_plugin_errors_total{plugin_name=\"helper\"} 1",
        "kubelet_pod_resources_endpoint_requests_list{server_api_version=\"v1\"} 1",
        "kubelet_cpu_manager_pinning_requests_total 3",
        "kubelet_cpu_manager_shared_pool_size_millicores 13000",
        "kubelet_cpu_manager_exclusive_cpu_allocation_count 3",
        "kubelet_cpu_manager_allocation_per_numa{numa_node=\"1\"} 1",
        "kubelet_memory_manager_pinning_errors_total 0",
        "kubelet_topology_manager_admission_requests_total 1",
        "kubelet_topology_manager_admission_errors_total 1",
        "kubelet_topology_manager_admission_duration_ms_bucket{le=\"1.6\"} 1",
        "kubelet_container_aligned_compute_resources_count{boundary=\"numa_node\",scope=\"pod\"} 2",
        "kubelet_container_aligned_compute_resources_count{boundary=\"physical_cpu\",scope=\"container\"} 3",
        "kubelet_container_aligned_compute_resources_count{boundary=\"uncore_cache\",scope=\"container\"} 1",
        "kubelet_container_aligned_compute_resources_failure_count{boundary=\"numa_node\",scope=\"container\"} 0",
        "kubelet_container_aligned_compute_resources_failure_count{boundary=\"physical_cpu\",scope=\"container\"} 0",
        "kubelet_evictions{eviction_signal=\"memory.available\"} 1",
        "kubelet_http_requests_total{long_running=\"false\",method=\"GET\",path=\"pods\",server_type=\"readwrite\"} 2",
        "kubelet_http_inflight_requests{long_running=\"false\",method=\"GET\",path=\"pods\",server_type=\"readwrite\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE kubelet_")).collect();
    let mut sorted = told.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, NAMES, "names and types");
    for head in ["kubernetes_build_info{", "process_start_time_seconds ", "process_cpu_seconds_total "] {
        assert!(text.lines().any(|line| line.starts_with(head)), "{head}\n{text}");
    }
}

#[test]
fn probes_are_counted_until_their_pod_is_gone() {
    let metrics = Metrics::new("n1");
    let of = ProbeOf { container: "c", namespace: "ns", pod: "web", uid: "u1", kind: ProbeKind::Readiness };
    let series = metrics.probe(of);
    series.add(Some(true), Duration::from_millis(7));
    series.add(Some(false), Duration::from_millis(1));
    let text = metrics.probes_text("").1;
    let labels = "container=\"c\",namespace=\"ns\",pod=\"web\"";
    for line in [
        format!(
            "prober_probe_total{{{labels},pod_uid=\"u1\",probe_type=\"Readiness\",result=\"successful\"}} 1"
        ),
        format!("prober_probe_total{{{labels},pod_uid=\"u1\",probe_type=\"Readiness\",result=\"failed\"}} 1"),
        format!("prober_probe_duration_seconds_bucket{{{labels},probe_type=\"Readiness\",le=\"0.01\"}} 1"),
        format!("prober_probe_duration_seconds_count{{{labels},probe_type=\"Readiness\"}} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    metrics.forget_probe(of);
    assert!(!metrics.probes_text("").1.contains("web"));
}
