//! What nodes and pods use, told by this server itself until somebody else serves the group.

use std::convert::Infallible;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_apiserver::User;
use plimsoll_pki::Purpose;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::Cluster;

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

/// A node agent whose container uses a quarter of a processor, and the node half of one.
async fn agent(cluster: &Cluster) -> u16 {
    let folder = cluster.folder.path();
    let request = plimsoll_pki::Request {
        purpose: Purpose::Server,
        addresses: vec![std::net::Ipv4Addr::LOCALHOST.into()],
        ..plimsoll_pki::Request::client("node", &[])
    };
    let files = cluster.authority.ensure_issued(folder, "node", &request).expect("a certificate");
    let tls = plimsoll_apiserver::server_tls(&files.certificate, &files.key, cluster.authority.certificate());
    let acceptor = TlsAcceptor::from(tls.expect("TLS"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let begin = Instant::now();
    let answer = move |request: Request<Incoming>| async move {
        assert_eq!(request.uri().path(), "/metrics/resource");
        let (seconds, now) = (begin.elapsed().as_secs_f64(), SystemTime::UNIX_EPOCH.elapsed());
        let now = now.map(|now| now.as_millis()).unwrap_or_default();
        let labels = "{container=\"c\",namespace=\"default\",pod=\"p\"}";
        let text = format!(
            "node_cpu_usage_seconds_total {} {now}\nnode_memory_working_set_bytes 4194304 {now}\n\
             container_cpu_usage_seconds_total{labels} {} {now}\ncontainer_memory_working_set_bytes{labels} 2048 {now}\n",
            seconds / 2.0,
            seconds / 4.0
        );
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer)).into_owned());
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_and_pods_use_is_told_over_the_time_between_two_samples() {
    let cluster = Cluster::start().await;
    let port = agent(&cluster).await;
    let node = json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}}});
    assert_eq!(cluster.post("/api/v1/nodes", node).await.code, 201);
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    let patch = [("content-type", "application/merge-patch+json")];
    let admin = || User::authenticated("admin", &["system:masters"]);
    let path = "/api/v1/nodes/n/status";
    assert_eq!(cluster.ask_as(admin(), Method::PATCH, path, &patch, Some(status)).await.code, 200);
    let account = json!({"metadata": {"name": "default"}});
    cluster.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    for (name, app) in [("p", "web"), ("q", "web")] {
        let pod = json!({"metadata": {"name": name, "labels": {"app": app}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
        let made = cluster.post("/api/v1/namespaces/default/pods", pod).await;
        assert_eq!(made.code, 201, "{made:?}");
        let running = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "c", "image": "i", "imageID": "",
            "ready": true, "restartCount": 0, "state": {"running": {}}}]}});
        let path = format!("/api/v1/namespaces/default/pods/{name}/status");
        assert_eq!(cluster.ask_as(admin(), Method::PATCH, &path, &patch, Some(running)).await.code, 200);
    }

    let pods =
        cluster.get(&format!("{METRICS}/namespaces/default/pods?labelSelector=app%3Dweb")).await.json();
    assert_eq!(pods["kind"], "PodMetricsList");
    let items = pods["items"].as_array().expect("a list");
    assert_eq!(items.len(), 1, "of q nothing is known: {pods}");
    let usage = &items[0]["containers"][0];
    assert_eq!((&usage["name"], &usage["usage"]["memory"]), (&json!("c"), &json!("2Ki")));
    let cores = |value: &serde_json::Value| {
        value
            .as_str()
            .and_then(|text| text.parse::<plimsoll_meta::quantity::Quantity>().ok())
            .map(|it| it.as_f64())
    };
    let used = cores(&usage["usage"]["cpu"]).expect("an amount");
    assert!((0.2..0.3).contains(&used), "{pods}");
    let window: f64 =
        items[0]["window"].as_str().and_then(|text| text.strip_suffix('s')?.parse().ok()).expect("seconds");
    assert!((0.9..3.0).contains(&window), "{pods}");

    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let path = format!("{METRICS}/namespaces/default/pods");
    let table = cluster.ask_as(admin(), Method::GET, &path, &table, None).await.json();
    let cells = &table["rows"][0]["cells"];
    assert_eq!((&table["kind"], &cells[0], &cells[2]), (&json!("Table"), &json!("p"), &json!("2Ki")));

    let node = cluster.get(&format!("{METRICS}/nodes/n")).await.json();
    assert_eq!((&node["kind"], &node["usage"]["memory"]), (&json!("NodeMetrics"), &json!("4Mi")));
    let used = cores(&node["usage"]["cpu"]).expect("an amount");
    assert!((0.4..0.6).contains(&used), "{node}");
    assert_eq!(node["metadata"]["labels"]["disk"], "ssd");
    assert_eq!(cluster.get(&format!("{METRICS}/namespaces/default/pods/q")).await.code, 404);
    assert_eq!(cluster.ask(Method::POST, &format!("{METRICS}/nodes"), Some(json!({}))).await.code, 405);
    let nobody = User::authenticated("bob", &[]);
    assert_eq!(cluster.ask_as(nobody, Method::GET, &format!("{METRICS}/nodes"), &[], None).await.code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_is_offered_until_somebody_else_serves_it() {
    let cluster = Cluster::start().await;
    let list = cluster.get(METRICS).await.json();
    assert_eq!(
        (&list["kind"], &list["resources"][1]["kind"]),
        (&json!("APIResourceList"), &json!("PodMetrics"))
    );
    let index = cluster.get("/openapi/v3").await.json();
    let place =
        index["paths"]["apis/metrics.k8s.io/v1beta1"]["serverRelativeURL"].as_str().expect("a document");
    let document = cluster.get(place).await.json();
    let schema = &document["components"]["schemas"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics"];
    let identity = json!([{"group": "metrics.k8s.io", "kind": "PodMetrics", "version": "v1beta1"}]);
    assert_eq!(schema["x-kubernetes-group-version-kind"], identity, "{schema}");
    assert!(document["paths"][format!("{METRICS}/namespaces/{{namespace}}/pods")]["get"].is_object());
    let group = cluster.get("/apis/metrics.k8s.io").await.json();
    assert_eq!(group["preferredVersion"]["groupVersion"], "metrics.k8s.io/v1beta1");
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let admin = User::authenticated("admin", &["system:masters"]);
    let all = cluster.ask_as(admin, Method::GET, "/apis", &accept, None).await.json();
    let groups = all["items"].as_array().cloned().unwrap_or_default();
    let own = groups.iter().find(|group| group["metadata"]["name"] == "metrics.k8s.io").expect("the group");
    assert_eq!(own["versions"][0]["resources"][0]["responseKind"]["kind"], "NodeMetrics", "{own}");
    assert_eq!(own["versions"][0]["freshness"], "Current");

    let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";
    let mut service = cluster.get(path).await.json();
    assert_eq!(service["spec"]["service"], json!(null), "{service}");
    service["spec"]["service"] = json!({"namespace": "kube-system", "name": "metrics-server"});
    service["spec"]["insecureSkipTLSVerify"] = json!(true);
    assert_eq!(cluster.ask(Method::PUT, path, Some(service)).await.code, 200);
    cluster.until(async || cluster.get(&format!("{METRICS}/nodes")).await.code == 503).await;
    assert_eq!(cluster.ask(Method::DELETE, path, None).await.code, 200);
    cluster.until(async || cluster.get(&format!("{METRICS}/nodes")).await.code == 200).await;
}
