//! What Prometheus and probes are told.

use http::Method;
use serde_json::json;

use crate::support::{Cluster, admin};
use plimsoll_apiserver::User;

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
        r#"apiserver_request_total{verb="POST",dry_run="",group="",version="v1",resource="configmaps",subresource="",scope="resource",component="apiserver",code="201"} 1"#,
        r#"apiserver_request_total{verb="GET",dry_run="",group="",version="v1",resource="configmaps",subresource="",scope="resource",component="apiserver",code="404"} 1"#,
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
