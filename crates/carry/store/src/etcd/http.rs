//! What is answered over plain HTTP on the same port: version, health, metrics.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use prometheus_client::registry::Registry;
use serde_json::json;
use tonic::body::Body;

use super::{CLUSTER_VERSION, Etcd, VERSION, metrics};

const JSON: &str = "application/json";

pub(super) fn answer<B>(etcd: &Etcd, request: &Request<B>) -> Response<Body> {
    match request.uri().path() {
        "/version" => {
            let told = json!({"etcdserver": VERSION, "etcdcluster": CLUSTER_VERSION});
            respond(StatusCode::OK, JSON, told.to_string())
        }
        "/health" => health(etcd),
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let mut registry = Registry::default();
            metrics::register(etcd, &mut registry);
            let (kind, text) = plimsoll_metrics::write(&[&registry], accept.unwrap_or_default());
            respond(StatusCode::OK, kind, text)
        }
        _ => respond(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
    }
}

fn health(etcd: &Etcd) -> Response<Body> {
    let reason = if !etcd.store.is_healthy() {
        "STORE FAILED"
    } else if !etcd.alarms().is_empty() {
        "ALARM NOSPACE"
    } else {
        ""
    };
    let (status, health) = match reason {
        "" => (StatusCode::OK, "true"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "false"),
    };
    respond(status, JSON, json!({"health": health, "reason": reason}).to_string())
}

fn respond(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
