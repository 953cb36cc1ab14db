//! Extension API servers behind this one.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_apiserver::User;
use plimsoll_pki::{Authority, Purpose};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::Cluster;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// An address of this machine that endpoints may have; none on a machine without a network.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the system only chooses the address it would send from.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

/// Answers discovery, and everything else with what the front proxy says about the client.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let header = |name: &str| -> Vec<&str> {
        request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    };
    let old = request
        .uri()
        .host()
        .or_else(|| header("host").first().copied())
        .is_some_and(|host| host.starts_with("old."));
    let body = match request.uri().path() {
        "/openapi/v3" if old => return Ok(coded(404, &json!({}))),
        "/openapi/v3" => json!({"paths": {
            "version": {"serverRelativeURL": "/openapi/v3/version?hash=A"},
            "apis/wardle.example.com/v1": {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1?hash=B"},
        }}),
        "/openapi/v2" if header("if-none-match").contains(&"\"one\"") => return Ok(coded(304, &Value::Null)),
        "/openapi/v2" => {
            let mut response =
                coded(200, &published(if old { "old.example.com" } else { "wardle.example.com" }));
            response.headers_mut().insert("etag", http::HeaderValue::from_static("\"one\""));
            return Ok(response);
        }
        "/apis/old.example.com/v1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "old.example.com/v1", "resources": [],
        }),
        "/apis/wardle.example.com/v1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1",
            "resources": [{"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"]}],
        }),
        path => json!({
            "path": path, "query": request.uri().query(), "method": request.method().as_str(),
            "user": header("x-remote-user"), "groups": header("x-remote-group"), "authorization": header("authorization"),
        }),
    };
    Ok(Response::new(Full::new(Bytes::from(body.to_string()))))
}

fn coded(code: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = http::StatusCode::from_u16(code).expect("a code");
    response
}

/// A document of version 2 whose `Status` is not this server's.
fn published(group: &str) -> Value {
    let schema = |name: &str| json!({"200": {"description": "OK", "schema": {"$ref": format!("#/definitions/{name}")}}});
    json!({
        "swagger": "2.0", "info": {"title": "wardle", "version": "1"},
        "paths": {
            format!("/apis/{group}/v1/flunders"): {"get": {"operationId": "listFlunder", "responses": schema("com.example.Flunder")}},
            format!("/apis/{group}/v1/flunders/{{name}}"): {"delete": {"responses": schema("io.k8s.apimachinery.pkg.apis.meta.v1.Status")}},
            "/version/": {"get": {"responses": schema("com.example.Other")}},
        },
        "definitions": {
            "com.example.Flunder": {"type": "object", "description": "Flunders of wardle."}, "com.example.Other": {},
            "io.k8s.apimachinery.pkg.apis.meta.v1.Status": {"type": "object", "description": "another"},
        },
    })
}

/// A server that only clients with a certificate of the front proxy's authority reach, and its authority.
async fn extension(cluster: &Cluster, address: IpAddr) -> (SocketAddr, String) {
    let folder = cluster.folder.path();
    let authority = Authority::ensure(folder, "wardle-ca", "wardle").expect("an authority");
    let request = plimsoll_pki::Request {
        purpose: Purpose::Server,
        dns_names: vec!["api.wardle.svc".to_owned(), "old.wardle.svc".to_owned()],
        ..plimsoll_pki::Request::client("wardle", &[])
    };
    let files = authority.ensure_issued(folder, "wardle", &request).expect("a certificate");
    let clients = folder.join("front-proxy-ca.crt");
    let tls = plimsoll_apiserver::server_tls(&files.certificate, &files.key, &clients).expect("TLS");
    let listener = TcpListener::bind((address, 0)).await.expect("a port");
    let bound = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(Arc::clone(&tls));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            if stream.get_ref().1.peer_certificates().is_none() {
                continue;
            }
            tokio::spawn(
                hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .into_owned(),
            );
        }
    });
    (bound, STANDARD.encode(authority.pem()))
}

async fn condition(cluster: &Cluster, name: &str, wanted: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let service = cluster.get(&format!("{SERVICES}/{name}")).await.json();
        let condition = service["status"]["conditions"][0].clone();
        if condition["reason"] == wanted {
            return condition;
        }
        assert!(Instant::now() < until, "still {condition} and not {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_group_version_of_this_server_has_an_api_service() {
    let cluster = Cluster::start().await;
    let apps = cluster.get(&format!("{SERVICES}/v1.apps")).await.json();
    assert_eq!(apps["spec"]["groupPriorityMinimum"], 17800);
    assert_eq!(apps["status"]["conditions"][0]["reason"], "Local");
    assert_eq!(apps["status"]["conditions"][0]["status"], "True");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_served_by_another_server_once_that_answers() {
    let Some(address) = own_address() else { return };
    let cluster = Cluster::start().await;
    let (bound, bundle) = extension(&cluster, address).await;
    cluster.post("/api/v1/namespaces", json!({"metadata": {"name": "wardle"}})).await;
    let service = json!({"metadata": {"name": "v1.wardle.example.com"}, "spec": {
        "group": "wardle.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10,
        "caBundle": bundle, "service": {"namespace": "wardle", "name": "api"},
    }});
    let made = cluster.post(SERVICES, service).await;
    assert_eq!(made.code, 201, "{made:?}");
    let missing = condition(&cluster, "v1.wardle.example.com", "ServiceNotFound").await;
    assert_eq!(missing["message"], "service/api in \"wardle\" is not present");
    let path = "/apis/wardle.example.com/v1/namespaces/a/flunders/x?pretty=1";
    let refused = cluster.get(path).await;
    assert_eq!((refused.code, &refused.body[..]), (503, &b"service unavailable\n"[..]));
    assert_eq!(refused.headers["content-type"], "text/plain; charset=utf-8");

    let spec =
        json!({"metadata": {"name": "api"}, "spec": {"ports": [{"port": 443, "targetPort": bound.port()}]}});
    assert_eq!(cluster.post("/api/v1/namespaces/wardle/services", spec).await.code, 201);
    condition(&cluster, "v1.wardle.example.com", "MissingEndpoints").await;
    let slice = json!({
        "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": bound.port()}], "endpoints": [{"addresses": [address.to_string()]}],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/wardle/endpointslices";
    assert_eq!(cluster.post(slices, slice).await.code, 201);
    condition(&cluster, "v1.wardle.example.com", "Passed").await;
    // The server follows its own verdicts.
    cluster.until(async || cluster.get(path).await.code == 200).await;

    let ann = User::authenticated("ann", &["system:masters"]);
    let headers = [("x-remote-user", "eve"), ("authorization", "Bearer x")];
    let answer = cluster.ask_as(ann, Method::GET, path, &headers, None).await;
    assert_eq!(
        answer.json(),
        json!({
            "path": "/apis/wardle.example.com/v1/namespaces/a/flunders/x", "query": "pretty=1", "method": "GET",
            "user": ["ann"], "groups": ["system:masters", "system:authenticated"], "authorization": [],
        })
    );
    let nobody = cluster.ask_as(User::authenticated("bob", &[]), Method::GET, path, &[], None).await;
    assert_eq!(nobody.code, 403);

    let groups = cluster.get("/apis").await.json();
    let names: Vec<&str> =
        groups["groups"].as_array().expect("groups").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.ends_with(&["wardle.example.com", "metrics.k8s.io"]), "{names:?}");
    let group = cluster.get("/apis/wardle.example.com").await.json();
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.example.com/v1");
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let all = cluster.ask_as(crate::support::admin(), Method::GET, "/apis", &accept, None).await.json();
    let found = all["items"]
        .as_array()
        .expect("items")
        .iter()
        .find(|one| one["metadata"]["name"] == "wardle.example.com");
    let version = &found.expect("the group")["versions"][0];
    assert_eq!(
        (&version["freshness"], &version["resources"][0]["resource"]),
        (&json!("Current"), &json!("flunders"))
    );

    // What is behind it is watched: nobody waits for the next round of checks, half a minute away.
    let begun = Instant::now();
    assert_eq!(cluster.delete(&format!("{slices}/api-1")).await.code, 200);
    let gone = condition(&cluster, "v1.wardle.example.com", "MissingEndpoints").await;
    assert_eq!(gone["status"], "False");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    cluster.until(async || cluster.get(path).await.code == 503).await;
}

/// An APIService of the extension server under a name of its own, with all that it needs, once it answers.
async fn register(cluster: &Cluster, (bound, bundle): &(SocketAddr, String), service: &str, group: &str) {
    let name = format!("v1.{group}");
    let object = json!({"metadata": {"name": name}, "spec": {
        "group": group, "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10,
        "caBundle": bundle, "service": {"namespace": "wardle", "name": service},
    }});
    assert_eq!(cluster.post(SERVICES, object).await.code, 201);
    let spec = json!({"metadata": {"name": service}, "spec": {"ports": [{"port": 443, "targetPort": bound.port()}]}});
    assert_eq!(cluster.post("/api/v1/namespaces/wardle/services", spec).await.code, 201);
    let slice = json!({
        "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": bound.port()}], "endpoints": [{"addresses": [bound.ip().to_string()]}],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/wardle/endpointslices";
    assert_eq!(cluster.post(slices, slice).await.code, 201);
    condition(cluster, &name, "Passed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_other_servers_are_part_of_this_ones() {
    let Some(address) = own_address() else { return };
    let cluster = Cluster::start().await;
    let server = extension(&cluster, address).await;
    cluster.post("/api/v1/namespaces", json!({"metadata": {"name": "wardle"}})).await;
    register(&cluster, &server, "api", "wardle.example.com").await;
    register(&cluster, &server, "old", "old.example.com").await;
    // One that never answers is no harm to the others.
    let dead = json!({"metadata": {"name": "v1.dead.example.com"}, "spec": {"group": "dead.example.com", "version": "v1",
        "groupPriorityMinimum": 2000, "versionPriority": 10, "insecureSkipTLSVerify": true, "service": {"namespace": "wardle", "name": "dead"}}});
    assert_eq!(cluster.post(SERVICES, dead).await.code, 201);

    let (new, old) = ("apis/wardle.example.com/v1", "apis/old.example.com/v1");
    let index = async || cluster.get("/openapi/v3").await.json()["paths"].clone();
    cluster
        .until(async || {
            let paths = index().await;
            paths[new].is_object() && paths[old].is_object()
        })
        .await;
    let paths = index().await;
    assert_eq!(paths[new]["serverRelativeURL"], "/openapi/v3/apis/wardle.example.com/v1?hash=B");
    assert!(paths["version"]["serverRelativeURL"].as_str().is_some_and(|address| !address.ends_with("=A")));
    let proxied = cluster.get("/openapi/v3/apis/wardle.example.com/v1?hash=B").await.json();
    assert_eq!(
        (&proxied["path"], &proxied["user"]),
        (&json!("/openapi/v3/apis/wardle.example.com/v1"), &json!(["admin"]))
    );
    let converted = cluster.get(paths[old]["serverRelativeURL"].as_str().expect("an address")).await.json();
    let answer = &converted["paths"]["/apis/old.example.com/v1/flunders"]["get"]["responses"]["200"];
    assert_eq!(answer["content"]["*/*"]["schema"]["$ref"], "#/components/schemas/com.example.Flunder");

    let two = cluster.get("/openapi/v2").await.json();
    let (definitions, status) = (&two["definitions"], "io.k8s.apimachinery.pkg.apis.meta.v1.Status");
    assert_eq!(definitions["com.example.Flunder"]["description"], "Flunders of wardle.");
    assert_eq!(definitions[format!("{status}_v2")]["description"], "another");
    assert!(definitions[status]["properties"].is_object() && definitions["com.example.Other"].is_null());
    let deletion = &two["paths"]["/apis/wardle.example.com/v1/flunders/{name}"]["delete"];
    assert_eq!(deletion["responses"]["200"]["schema"]["$ref"], format!("#/definitions/{status}_v2"));

    // What was published stays while the server is away, and goes with its APIService.
    assert_eq!(cluster.delete("/api/v1/namespaces/wardle/services/api").await.code, 200);
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let version = async || {
        let all = cluster.ask_as(crate::support::admin(), Method::GET, "/apis", &accept, None).await.json();
        let items = all["items"].as_array().cloned().unwrap_or_default();
        items
            .into_iter()
            .find(|one| one["metadata"]["name"] == "wardle.example.com")
            .map(|one| one["versions"][0].clone())
    };
    condition(&cluster, "v1.dead.example.com", "ServiceNotFound").await;
    // All are checked again soon as long as one of them is not there.
    cluster.until(async || version().await.is_some_and(|one| one["freshness"] == "Stale")).await;
    assert_eq!(version().await.expect("the version")["resources"][0]["resource"], "flunders");
    assert!(index().await[new].is_object());
    for name in ["v1.wardle.example.com", "v1.old.example.com"] {
        assert_eq!(cluster.delete(&format!("{SERVICES}/{name}")).await.code, 200);
    }
    cluster
        .until(async || {
            let paths = index().await;
            paths[new].is_null() && paths[old].is_null()
        })
        .await;
    assert!(cluster.get("/openapi/v2").await.json()["definitions"]["com.example.Flunder"].is_null());
}
