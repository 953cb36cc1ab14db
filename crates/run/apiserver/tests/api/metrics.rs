//! What Prometheus and probes are told.

use http::Method;
use serde_json::json;

use crate::support::{Cluster, admin};
use plimsoll_apiserver::{AuditLog, AuditMode, AuditOptions, Compression, User};

/// What upstream promises or is most looked at: name, type, and labels in their order (`le` left out).
const PROMISED: &[(&str, &str, &str)] = &[
    (
        "apiserver_admission_controller_admission_duration_seconds",
        "histogram",
        "name operation rejected type",
    ),
    ("apiserver_admission_step_admission_duration_seconds", "histogram", "operation rejected type"),
    ("apiserver_admission_webhook_admission_duration_seconds", "histogram", "name operation rejected type"),
    ("apiserver_admission_webhook_fail_open_count", "counter", "name type"),
    (
        "apiserver_admission_webhook_rejection_count",
        "counter",
        "error_type name operation rejection_code type",
    ),
    ("apiserver_admission_webhook_request_total", "counter", "code name operation rejected type"),
    ("apiserver_audit_event_total", "counter", ""),
    ("apiserver_audit_level_total", "counter", "level"),
    ("apiserver_audit_requests_rejected_total", "counter", ""),
    ("apiserver_authorization_decisions_total", "counter", "decision name type"),
    ("apiserver_current_inflight_requests", "gauge", "request_kind"),
    ("apiserver_current_inqueue_requests", "gauge", "request_kind"),
    ("apiserver_flowcontrol_current_executing_requests", "gauge", "flow_schema priority_level"),
    ("apiserver_flowcontrol_current_executing_seats", "gauge", "flow_schema priority_level"),
    ("apiserver_flowcontrol_current_inqueue_requests", "gauge", "flow_schema priority_level"),
    ("apiserver_flowcontrol_current_inqueue_seats", "gauge", "flow_schema priority_level"),
    ("apiserver_flowcontrol_current_limit_seats", "gauge", "priority_level"),
    ("apiserver_flowcontrol_demand_seats", "histogram", "priority_level"),
    ("apiserver_flowcontrol_demand_seats_average", "gauge", "priority_level"),
    ("apiserver_flowcontrol_demand_seats_high_watermark", "gauge", "priority_level"),
    ("apiserver_flowcontrol_demand_seats_smoothed", "gauge", "priority_level"),
    ("apiserver_flowcontrol_demand_seats_stdev", "gauge", "priority_level"),
    ("apiserver_flowcontrol_dispatched_requests_total", "counter", "flow_schema priority_level"),
    ("apiserver_flowcontrol_lower_limit_seats", "gauge", "priority_level"),
    ("apiserver_flowcontrol_nominal_limit_seats", "gauge", "priority_level"),
    ("apiserver_flowcontrol_priority_level_request_utilization", "histogram", "phase priority_level"),
    ("apiserver_flowcontrol_priority_level_seat_utilization", "histogram", "phase priority_level"),
    ("apiserver_flowcontrol_request_execution_seconds", "histogram", "flow_schema priority_level type"),
    ("apiserver_flowcontrol_request_queue_length_after_enqueue", "histogram", "flow_schema priority_level"),
    (
        "apiserver_flowcontrol_request_wait_duration_seconds",
        "histogram",
        "execute flow_schema priority_level",
    ),
    ("apiserver_flowcontrol_target_seats", "gauge", "priority_level"),
    ("apiserver_flowcontrol_upper_limit_seats", "gauge", "priority_level"),
    ("apiserver_flowcontrol_watch_count_samples", "histogram", "flow_schema priority_level"),
    ("apiserver_flowcontrol_work_estimated_seats", "histogram", "flow_schema priority_level"),
    ("apiserver_init_events_total", "counter", "group resource"),
    ("apiserver_longrunning_requests", "gauge", "component group resource scope subresource verb version"),
    (
        "apiserver_request_duration_seconds",
        "histogram",
        "component dry_run group resource scope subresource verb version",
    ),
    (
        "apiserver_request_sli_duration_seconds",
        "histogram",
        "component group resource scope subresource verb version",
    ),
    (
        "apiserver_request_total",
        "counter",
        "code component dry_run group resource scope subresource verb version",
    ),
    ("apiserver_requested_deprecated_apis", "gauge", "group removed_release resource subresource version"),
    ("apiserver_resource_objects", "gauge", "group resource"),
    ("apiserver_response_sizes", "histogram", "component group resource scope subresource verb version"),
    ("apiserver_storage_objects", "gauge", "resource"),
    ("apiserver_storage_size_bytes", "gauge", "storage_cluster_id"),
    ("apiserver_tls_handshake_errors_total", "counter", ""),
    ("apiserver_watch_events_sizes", "histogram", "group resource version"),
    ("apiserver_watch_events_total", "counter", "group resource version"),
    ("authenticated_user_requests", "counter", "username"),
    ("authentication_attempts", "counter", "result"),
    ("authentication_duration_seconds", "histogram", "result"),
    ("authorization_attempts_total", "counter", "result"),
    ("authorization_duration_seconds", "histogram", "result"),
    ("etcd_debugging_mvcc_db_total_size_in_bytes", "gauge", ""),
    ("etcd_debugging_mvcc_keys_total", "gauge", ""),
    ("etcd_debugging_mvcc_slow_watcher_total", "gauge", ""),
    ("etcd_disk_backend_commit_duration_seconds", "histogram", ""),
    ("etcd_disk_wal_fsync_duration_seconds", "histogram", ""),
    ("etcd_mvcc_db_total_size_in_bytes", "gauge", ""),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", ""),
    ("etcd_request_duration_seconds", "histogram", "group operation resource"),
    ("etcd_requests_total", "counter", "group operation resource"),
    ("etcd_server_quota_backend_bytes", "gauge", ""),
    ("kubernetes_build_info", "gauge", "git_version major minor platform"),
    ("kubernetes_feature_enabled", "gauge", "name stage"),
    ("process_cpu_seconds_total", "counter", ""),
    ("process_resident_memory_bytes", "gauge", ""),
];

async fn told(cluster: &Cluster) -> String {
    String::from_utf8(cluster.get("/metrics").await.body.to_vec()).expect("text")
}

/// The labels of the first sample of a metric.
fn labels(text: &str, name: &str) -> Option<String> {
    let of = |line: &&str| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        let rest =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| rest.strip_prefix(end)).unwrap_or(rest);
        rest.starts_with(['{', ' '])
    };
    let line = text.lines().find(of)?;
    let inner =
        line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').map_or(rest, |(inner, _)| inner));
    let names = inner.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|(name, _)| name.trim());
    Some(names.filter(|name| *name != "le").collect::<Vec<_>>().join(" "))
}

/// Two webhooks that nobody answers for: one is overlooked, the other is not.
async fn deaf_webhooks(cluster: &Cluster) {
    let hook = |name: &str, policy: &str, resource: &str| {
        json!({"name": name, "clientConfig": {"url": "https://127.0.0.1:1/"}, "failurePolicy": policy,
            "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]}]})
    };
    let hooks = json!({"metadata": {"name": "deaf"}, "webhooks": [
        hook("open.example.com", "Ignore", "configmaps"), hook("closed.example.com", "Fail", "secrets")]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    assert_eq!(cluster.post(path, hooks).await.code, 201);
    let secret = json!({"metadata": {"generateName": "s"}});
    cluster
        .until(async || cluster.post("/api/v1/namespaces/default/secrets", secret.clone()).await.code == 500)
        .await;
    let map = json!({"metadata": {"generateName": "m"}});
    assert_eq!(cluster.post("/api/v1/namespaces/default/configmaps", map).await.code, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_promised_is_told_with_upstreams_labels() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let policy = scratch.path().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")
        .expect("written");
    let log = AuditLog {
        path: scratch.path().join("audit.log"),
        mode: AuditMode::Batch,
        buffer: 10_000,
        max_size: 100,
        max_age: 0,
        max_backups: 0,
        compression: Compression::None,
        truncation: None,
    };
    let cluster = Cluster::start_with(|config| {
        config.safeguards.audit = AuditOptions { policy: Some(policy), log: Some(log), webhook: None };
    })
    .await;
    deaf_webhooks(&cluster).await;
    let nobody = User::authenticated("nobody", &[]);
    assert_eq!(cluster.ask_as(nobody, Method::GET, "/api/v1/nodes", &[], None).await.code, 403);
    let old = cluster.get("/api/v1/namespaces/default/endpoints").await;
    assert_eq!(
        old.headers["warning"],
        "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""
    );
    let watch = "/api/v1/configmaps?watch=true&resourceVersion=0&timeoutSeconds=1";
    assert_eq!(cluster.get(watch).await.code, 200);
    let text = told(&cluster).await;
    for (name, kind, expected) in PROMISED {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}: {kind}");
        assert_eq!(labels(&text, name).as_deref(), Some(*expected), "{name}");
    }
    for line in [
        r#"apiserver_admission_webhook_fail_open_count{name="open.example.com",type="validating"} 1"#,
        r#"apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1"#,
        r#"apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="configmaps",scope="cluster",subresource="",verb="WATCH",version="v1"} 1"#,
        r#"apiserver_longrunning_requests{component="apiserver",group="",resource="configmaps",scope="cluster",subresource="",verb="WATCH",version="v1"} 0"#,
        r#"apiserver_current_inqueue_requests{request_kind="mutating"} 0"#,
        r#"kubernetes_feature_enabled{name="CBORServingAndStorage",stage="ALPHA"} 0"#,
        r#"kubernetes_feature_enabled{name="MutatingAdmissionPolicy",stage=""} 1"#,
        "# HELP apiserver_current_inflight_requests [STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let begun = text.lines().find_map(|line| {
        line.strip_prefix(r#"apiserver_init_events_total{group="",resource="configmaps"} "#)
    });
    assert!(begun.and_then(|count| count.parse::<u64>().ok()) >= Some(1), "{begun:?}");
    let le =
        |name: &str, bound: &str| text.lines().any(|line| line.starts_with(name) && line.contains(bound));
    assert!(
        le("apiserver_response_sizes_bucket", "le=\"1e+06\"")
            && le("apiserver_request_duration_seconds_bucket", "le=\"1\"")
    );
    let rejected = r#"apiserver_admission_webhook_rejection_count{error_type="calling_webhook_error",name="closed.example.com",operation="CREATE",rejection_code="400",type="validating"}"#;
    assert!(text.contains(rejected), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_takes_counts_for_no_objective() {
    let cluster = Cluster::start().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/", silent.local_addr().expect("an address"));
    let hooks = json!({"metadata": {"name": "slow"}, "webhooks": [{"name": "slow.example.com", "clientConfig": {"url": url},
        "failurePolicy": "Ignore", "timeoutSeconds": 1, "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    assert_eq!(cluster.post(path, hooks).await.code, 201);
    let slow = async || {
        let map = json!({"metadata": {"generateName": "m"}});
        let since = std::time::Instant::now();
        assert_eq!(cluster.post("/api/v1/namespaces/default/configmaps", map).await.code, 201);
        since.elapsed().as_secs_f64() > 1.0
    };
    cluster.until(slow).await;
    let text = told(&cluster).await;
    let sum = |name: &str| {
        let of = |line: &&str| line.starts_with(name) && line.contains("configmaps") && line.contains("POST");
        let line = text.lines().find(of).expect("a sum");
        line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok()).expect("a number")
    };
    assert!(sum("apiserver_request_duration_seconds_sum") > 1.0);
    assert!(sum("apiserver_request_sli_duration_seconds_sum") < 0.9, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_what_runs_and_how_it_was_started() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.get("/livez").await.code, 200);
    let slis = cluster.get("/metrics/slis").await;
    let text = String::from_utf8(slis.body.to_vec()).expect("text");
    for line in [
        "# TYPE kubernetes_healthcheck gauge",
        r#"kubernetes_healthcheck{name="ping",type="livez"} 1"#,
        r#"kubernetes_healthchecks_total{name="etcd",status="success",type="livez"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    for (path, part) in [
        ("/statusz", "\nkube-apiserver statusz\nWarning: "),
        ("/statusz", "\nEmulation version: 1.37\n"),
        ("/flagz", "\ngoaway-chance=0\n"),
    ] {
        let text = String::from_utf8(cluster.get(path).await.body.to_vec()).expect("text");
        assert!(text.contains(part), "{path}: {text}");
        let json = [("accept", "application/json")];
        assert_eq!(cluster.ask_as(admin(), Method::GET, path, &json, None).await.code, 406);
    }
    // As upstream's server with these answers: it keeps no such pages.
    for path in ["/configz", "/debug/pprof/", "/debug/pprof/heap"] {
        assert_eq!(cluster.get(path).await.code, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_serves_for_a_while_after_it_is_told_to_stop() {
    let cluster = Cluster::start_with(|config| {
        config.limits.shutdown_delay = std::time::Duration::from_secs(300);
    })
    .await;
    cluster.stop();
    assert_eq!(cluster.get("/readyz").await.code, 500);
    assert_eq!(cluster.get("/livez").await.code, 200);
    let map = json!({"metadata": {"name": "late"}});
    assert_eq!(cluster.post("/api/v1/namespaces/default/configmaps", map).await.code, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_under_the_names_of_dashboards() {
    let cluster = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    cluster.post(maps, json!({"metadata": {"name": "a"}})).await;
    cluster.get(&format!("{maps}/none")).await;
    let all = cluster.get("/api/v1/configmaps").await.json();
    let stored = all["items"].as_array().expect("items").len();
    let answer = cluster.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.body.to_vec()).expect("text");
    for line in [
        "# TYPE apiserver_request_total counter",
        r#"apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1"} 1"#,
        r#"apiserver_request_total{code="404",component="apiserver",dry_run="",group="",resource="configmaps",scope="resource",subresource="",verb="GET",version="v1"} 1"#,
        r#"apiserver_storage_objects{resource="podtemplates"} 0"#,
        r#"apiserver_resource_objects{group="",resource="podtemplates"} 0"#,
        &format!(r#"apiserver_storage_objects{{resource="configmaps"}} {stored}"#),
        "# TYPE apiserver_request_duration_seconds histogram",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    for name in ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "kubernetes_build_info{"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
    }
    let open = [("accept", "application/openmetrics-text; version=1.0.0")];
    let answer = cluster.ask_as(admin(), Method::GET, "/metrics", &open, None).await;
    assert!(answer.body.ends_with(b"# EOF\n"));
    let bob = cluster.ask_as(User::authenticated("bob", &[]), Method::GET, "/metrics", &[], None).await;
    assert_eq!(bob.code, 403);
    let monitor = User::authenticated("prometheus", &["system:monitoring"]);
    assert_eq!(cluster.ask_as(monitor, Method::GET, "/metrics", &[], None).await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_by_check() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.get("/livez").await.body, "ok");
    assert_eq!(cluster.get("/readyz/shutdown").await.body, "ok");
    assert_eq!(cluster.get("/livez/shutdown").await.code, 404);
    let verbose = cluster.get("/readyz?verbose&exclude=etcd").await;
    let text = String::from_utf8(verbose.body.to_vec()).expect("text");
    assert!(text.contains("[+]etcd excluded: ok\n") && text.ends_with("readyz check passed\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_so_and_ends_watches() {
    let cluster = Cluster::start().await;
    let watch = cluster.get("/api/v1/namespaces?watch=true&resourceVersion=0");
    let stop = async {
        cluster.get("/readyz").await;
        cluster.stop();
    };
    let (watched, ()) = tokio::join!(watch, stop);
    assert_eq!(watched.code, 200);
    let ready = cluster.get("/readyz").await;
    assert_eq!(ready.code, 500);
    let text = String::from_utf8(ready.body.to_vec()).expect("text");
    assert!(text.contains("[-]shutdown failed: reason withheld\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_deadline_is_refused() {
    let cluster = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let refused = cluster.get(&format!("{maps}?timeout=soon")).await;
    assert_eq!(refused.code, 400);
    assert_eq!(
        refused.message(),
        "invalid timeout specified in the request URL - time: invalid duration \"soon\""
    );
}
