//! An API server with Services and their EndpointSlices, and nothing else; over HTTP, in a process that is not
//! measured.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::{NAMES, ip};

/// Serves for as long as the process lives.
pub(super) fn start() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(accept(listener)));
    Ok(address)
}

/// The kubeconfig of a client.
pub(super) fn kubeconfig(address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    )
}

async fn accept(listener: std::net::TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let value = |name: &str| {
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.and_then(|value| value.parse::<usize>().ok())
    };
    if query.contains("watch=") {
        std::future::pending::<()>().await;
    }
    let item = match request.uri().path().rsplit('/').next() {
        Some("services") => service,
        Some("endpointslices") => slice,
        _ => return Ok(Response::new(page(&[], NAMES))),
    };
    let start = value("continue").unwrap_or_default();
    let end = NAMES.min(start + value("limit").unwrap_or(NAMES));
    let items: Vec<_> = (start..end).map(item).collect();
    Ok(Response::new(page(&items, end)))
}

fn page(items: &[Value], end: usize) -> Full<Bytes> {
    let next = if end < NAMES { end.to_string() } else { String::new() };
    let list = json!({"metadata": {"resourceVersion": "99999", "continue": next}, "items": items});
    Full::new(Bytes::from(list.to_string()))
}

fn metadata(kind: &str, number: usize) -> Value {
    json!({
        "name": format!("service-{number}"),
        "namespace": "default",
        "uid": format!("{kind}-7c5e-4f0b-9d5d-{number:012}"),
        "resourceVersion": (1000 + number).to_string(),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": format!("service-{number}"), "kubernetes.io/service-name": format!("service-{number}")},
        "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:ports": {}, "f:selector": {}, "f:type": {}}}}],
    })
}

fn service(number: usize) -> Value {
    json!({
        "metadata": metadata("11111111", number),
        "spec": {
            "type": "ClusterIP", "clusterIP": ip(number), "clusterIPs": [ip(number)], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "selector": {"app": format!("service-{number}")},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {}},
    })
}

fn slice(number: usize) -> Value {
    let endpoint = |last: usize| {
        json!({
            "addresses": [format!("10.{}.{}.{last}", 64 + number / 250, number % 250)], "nodeName": "node",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("service-{number}-{last}")},
        })
    };
    let mut metadata = metadata("22222222", number);
    metadata["labels"]["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io".into();
    json!({
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": [endpoint(1), endpoint(2)],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}
