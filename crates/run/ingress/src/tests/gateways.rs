//! Listeners of Gateways, and what filters do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use k8s_openapi::api::core::v1::Service;
use plimsoll_route::SecretKey;
use plimsoll_route::gateway::{CONTROLLER, Plan, Ports, RouteDraft, World, plan};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::stage::{Client, Stage, ask, get, ingress, pod, telling, whole};
use super::tls::{connect, encrypted, secret};
use crate::connection::Kind;

fn read<T: DeserializeOwned>(values: &[Value]) -> Vec<Arc<T>> {
    values.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap())).collect()
}

/// What a Gateway with these listeners and one route with these rules asks for, where all Services but `none` are there.
pub(super) fn planned(stage: &Stage, listeners: &Value, rules: &Value) -> Plan {
    let class = json!({"metadata": {"name": "ours"}, "spec": {"controllerName": CONTROLLER}});
    let gateway = json!({"metadata": {"namespace": "ns", "name": "gw"},
        "spec": {"gatewayClassName": "ours", "listeners": listeners}});
    let kind = match listeners[0]["protocol"].as_str() {
        Some("TLS") => "TLSRoute",
        _ if rules[0]["matches"][0]["method"].is_object() => "GRPCRoute",
        _ => "HTTPRoute",
    };
    let route = json!({"metadata": {"namespace": "ns", "name": "r"},
        "spec": {"parentRefs": [{"name": "gw"}], "hostnames": ["g.com"], "rules": rules}});
    let service = |_: &str, name: &str| {
        let port =
            json!([{"port": 80, "appProtocol": if name == "h2c" { "kubernetes.io/h2c" } else { "http" }}]);
        let read = || serde_json::from_value::<Service>(json!({"metadata": {}, "spec": {"ports": port}}));
        (name != "none").then(|| Arc::new(read().unwrap()))
    };
    plan(&World {
        classes: &read(&[class]),
        definitions: &[],
        gateways: &read(&[gateway]),
        routes: &[Arc::new(match kind {
            "TLSRoute" => RouteDraft::of_tls(&serde_json::from_value(route).unwrap()),
            "GRPCRoute" => RouteDraft::of_grpc(&serde_json::from_value(route).unwrap()),
            _ => RouteDraft::of_http(&serde_json::from_value(route).unwrap()),
        })],
        grants: &[],
        labels: &|_| Default::default(),
        service: &service,
        certificate: &|_| Ok(None),
        port: &|_| Some(Ok(())),
        ingress: Ports { http: stage.http.port(), https: stage.https.port() },
        addresses: &[],
        now: k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
    })
}

pub(super) fn listener(port: SocketAddr, protocol: &str) -> Value {
    let tls = json!({"certificateRefs": [{"name": "s"}]});
    let mut one = json!({"name": "a", "port": port.port(), "protocol": protocol});
    if protocol == "HTTPS" {
        one["tls"] = tls;
    }
    json!([one])
}

fn rule(path: &str, filters: Value, backends: Value) -> Value {
    json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "filters": filters, "backendRefs": backends})
}

pub(super) fn to(service: &str) -> Value {
    json!([{"name": service, "port": 80}])
}

#[tokio::test]
async fn a_port_of_its_own_serves_its_routes_only() {
    let mut stage = Stage::start(|_| {});
    let own = stage.open(Kind::Plain);
    let rules = json!([
        rule("/", json!([]), json!([{"name": "one", "port": 80}, {"name": "none", "port": 80, "weight": 0}])),
        rule("/broken", json!([]), to("none")),
        rule("/nobody", json!([]), to("empty")),
        rule(
            "/moved",
            json!([{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]),
            json!([])
        ),
        rule(
            "/old",
            json!([
                {"type": "URLRewrite", "urlRewrite": {"hostname": "inner",
                    "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}}},
                {"type": "RequestHeaderModifier", "requestHeaderModifier":
                    {"set": [{"name": "cookie", "value": "set"}], "remove": ["x-gone"]}},
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "x-more", "value": "1"}]}},
            ]),
            to("one")
        ),
        rule(
            "/cors",
            json!([{"type": "CORS", "cors": {"allowOrigins": ["http://o.com"], "allowMethods": ["PUT"]}}]),
            to("one")
        ),
    ]);
    let plan = planned(&stage, &listener(own, "HTTP"), &rules);
    assert_eq!(plan.ports.keys().copied().collect::<Vec<_>>(), [own.port()]);
    stage.take(&[], &plan);
    stage.pods("one", &[telling("one").await]);
    let mut client = stage.client_at(own).await;
    let (status, text) = ask(&mut client, get("g.com", "/x", &[])).await;
    assert!(status == 200 && text.starts_with("one GET /x host=g.com"), "{text}");
    for (target, expected) in [("/broken", 500), ("/nobody", 503)] {
        assert_eq!(ask(&mut client, get("g.com", target, &[])).await.0, expected, "{target}");
    }
    assert_eq!(ask(&mut client, get("h.com", "/", &[])).await.0, 404);
    let (status, headers, _) = answered(&mut client, get("g.com", "/moved/x?q", &[])).await;
    assert_eq!((status, headers["location"].as_str()), (301, Some("https://g.com/moved/x?q")));
    let (_, headers, text) =
        answered(&mut client, get("g.com", "/old/x", &[("x-gone", "1"), ("cookie", "a=b")])).await;
    assert!(text.starts_with("one GET /new/x host=inner") && text.ends_with("cookie=set"), "{text}");
    assert_eq!(headers["x-more"], "1");
    let (_, headers, _) = answered(&mut client, get("g.com", "/cors", &[("origin", "http://o.com")])).await;
    assert_eq!(headers["access-control-allow-origin"], "http://o.com");
    let mut asking =
        get("g.com", "/cors", &[("origin", "http://o.com"), ("access-control-request-method", "PUT")]);
    *asking.method_mut() = Method::OPTIONS;
    let (status, headers, _) = answered(&mut client, asking).await;
    assert_eq!((status, headers["access-control-allow-methods"].as_str()), (204, Some("PUT")));
    // The ingress' port knows nothing of it.
    let mut other = stage.client().await;
    assert_eq!(ask(&mut other, get("g.com", "/x", &[])).await.0, 404);
}

/// Status, headers and text.
async fn answered(client: &mut Client, request: Request<super::stage::Sent>) -> (u16, Value, String) {
    client.ready().await.unwrap();
    let response = client.send_request(request).await.unwrap();
    let named = response.headers().iter();
    let headers = named.map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap()))).collect();
    let (status, text) = super::stage::told(response).await;
    (status, headers, text)
}

#[tokio::test]
async fn a_shared_port_goes_by_host_and_nothing_is_closed() {
    let mut stage = Stage::start(|_| {});
    let rules = json!([rule("/", json!([]), to("two"))]);
    let plan = planned(&stage, &listener(stage.http, "HTTP"), &rules);
    let read = |rule: Value| Arc::new(plimsoll_route::Draft::of(&serde_json::from_value(rule).unwrap()));
    let drafts = [read(ingress("a", &[], "a.com", "/", "one"))];
    stage.take(&drafts, &plan);
    stage.pods("one", &[telling("one").await]);
    stage.pods("two", &[telling("two").await]);
    let mut client = stage.client().await;
    assert!(ask(&mut client, get("a.com", "/", &[])).await.1.starts_with("one "));
    assert!(ask(&mut client, get("g.com", "/", &[])).await.1.starts_with("two "));
    // An Ingress of the same host has it; the connection stays.
    let drafts = [read(ingress("a", &[], "g.com", "/", "one"))];
    stage.take(&drafts, &plan);
    assert!(ask(&mut client, get("g.com", "/", &[])).await.1.starts_with("one "));
    let text = stage.shared.metrics.text("").1;
    assert!(text.contains("ingress=\"r\""), "{text}");
}

#[tokio::test]
async fn pods_may_speak_http2_and_be_late() {
    let mut stage = Stage::start(|_| {});
    let own = stage.open(Kind::Plain);
    let mut late = rule("/late", json!([]), to("late"));
    late["timeouts"] = json!({"request": "50ms"});
    let rules = json!([rule("/two", json!([]), to("h2c")), late]);
    let plan = planned(&stage, &listener(own, "HTTP"), &rules);
    stage.take(&[], &plan);
    let version = pod(|request: Request<Incoming>| async move {
        let two = request.version() == Version::HTTP_2;
        Response::new(whole(Bytes::from(two.to_string())))
    });
    stage.pods("h2c", &[version.await]);
    stage.pods("late", &[pod(|_| std::future::pending()).await]);
    let mut client = stage.client_at(own).await;
    assert_eq!(ask(&mut client, get("g.com", "/two", &[])).await, (200, "true".to_owned()));
    assert_eq!(ask(&mut client, get("g.com", "/late", &[])).await.0, 504);
}

/// Host, method, path and length of the body of a copy; none of one that was broken off.
type Copy = (String, Method, String, Option<usize>);

async fn copied(copies: &mut mpsc::UnboundedReceiver<Copy>) -> Copy {
    tokio::time::timeout(Duration::from_secs(20), copies.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn copies_have_the_bodies_and_nobody_waits_for_them() {
    let mut stage = Stage::start(|_| {});
    let own = stage.open(Kind::Plain);
    let mirror = |name: &str| json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name, "port": 80}}});
    let filters = json!([mirror("copy"), mirror("h2c"), mirror("stuck"), mirror("empty")]);
    stage.take(&[], &planned(&stage, &listener(own, "HTTP"), &json!([rule("/", filters, to("one"))])));
    let (tell, mut copies) = mpsc::unbounded_channel();
    let keeping = async |version: Version| {
        let tell = tell.clone();
        pod(move |request: Request<Incoming>| {
            let tell = tell.clone();
            async move {
                assert_eq!(request.version(), version);
                let (parts, body) = request.into_parts();
                let host = parts.uri.authority().map(ToString::to_string);
                let host = host.or_else(|| Some(parts.headers.get("host")?.to_str().unwrap().to_owned()));
                // Whoever is broken off is not asked any more.
                let told = tokio::spawn(async move {
                    let mut copy = (host.unwrap(), parts.method, parts.uri.path().to_owned(), None);
                    if copy.2 == "/off" {
                        tell.send(copy.clone()).unwrap();
                    }
                    copy.3 = body.collect().await.map(|body| body.to_bytes().len()).ok();
                    tell.send(copy).unwrap();
                });
                told.await.unwrap();
                Response::builder().status(500).body(whole("dropped")).unwrap()
            }
        })
        .await
    };
    stage.pods("copy", &[keeping(Version::HTTP_11).await]);
    stage.pods("h2c", &[keeping(Version::HTTP_2).await]);
    stage.pods("stuck", &[pod(|_| std::future::pending()).await]);
    let count = pod(|request: Request<Incoming>| async move {
        let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
        Response::new(whole(length.to_string()))
    });
    stage.pods("one", &[count.await]);
    let mut client = stage.client_at(own).await;
    // No body, one with a length, one in pieces.
    for (path, pieces, chunked) in [("/none", 0, false), ("/whole", 1, false), ("/pieces", 20, true)] {
        let data = Bytes::from(vec![b'x'; 1000]);
        let body = match chunked {
            true => StreamBody::new(futures::stream::iter(
                (0..pieces).map(move |_| Ok(Frame::data(data.clone()))),
            ))
            .boxed(),
            false => Full::new(data.slice(..1000 * pieces)).boxed(),
        };
        let request = Request::post(path).header("host", "g.com").body(body).unwrap();
        let length = 1000 * pieces;
        assert_eq!(ask(&mut client, request).await, (200, length.to_string()), "{path}");
        for _ in 0..2 {
            let expected = ("g.com".to_owned(), Method::POST, path.to_owned(), Some(length));
            assert_eq!(copied(&mut copies).await, expected);
        }
    }
    // What is broken off by the client is so for copies.
    let mut stream = TcpStream::connect(own).await.unwrap();
    stream.write_all(b"POST /off HTTP/1.1\r\nhost: g.com\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    let both = async |copies: &mut _| [copied(copies).await.3, copied(copies).await.3];
    assert_eq!(both(&mut copies).await, [None, None], "they have begun");
    drop(stream);
    assert_eq!(both(&mut copies).await, [None, None], "they have ended");
}

#[tokio::test]
async fn a_listener_has_its_own_certificate() {
    let mut stage = Stage::start(|_| {});
    let own = stage.open(Kind::Encrypted);
    let plan = planned(&stage, &listener(own, "HTTPS"), &json!([rule("/", json!([]), to("one"))]));
    stage.take(&[], &plan);
    let key = SecretKey { namespace: "ns".to_owned(), name: "s".to_owned() };
    assert!(plan.secrets.contains(&key));
    let (given, expected) = secret(&["g.com"]);
    stage.shared.certificates.set(&key, &given).unwrap();
    assert_eq!(connect(own, "g.com").await.1, expected);
    assert_ne!(connect(stage.https, "g.com").await.1, expected, "the ingress' port has others");
}

#[tokio::test]
async fn streams_end_here_or_in_the_pod() {
    let mut stage = Stage::start(|_| {});
    let own = stage.open(Kind::Encrypted);
    let key = SecretKey { namespace: "ns".to_owned(), name: "s".to_owned() };
    let (given, expected) = secret(&["g.com"]);
    stage.shared.certificates.set(&key, &given).unwrap();
    // The pod that ends TLS itself is a port of another stage.
    let mut other = Stage::start(|_| {});
    let inner = other.open(Kind::Encrypted);
    let web = planned(&other, &listener(inner, "HTTPS"), &json!([rule("/", json!([]), to("one"))]));
    other.take(&[], &web);
    other.pods("one", &[telling("one").await]);
    let (given, of_pod) = secret(&["g.com"]);
    other.shared.certificates.set(&key, &given).unwrap();
    for (mode, shown, name, pod) in
        [("Passthrough", of_pod, "one", inner), ("Terminate", expected, "two", telling("two").await)]
    {
        let mut tls = listener(own, "TLS");
        tls[0]["tls"] = json!({"mode": mode, "certificateRefs": [{"name": "s"}]});
        let streams = planned(&stage, &tls, &json!([{"backendRefs": to("two")}]));
        stage.take(&[], &streams);
        stage.pods("two", &[pod]);
        let mut stream = encrypted(own, "g.com", &[]).await.unwrap();
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        assert_eq!(certificate, shown, "{mode}");
        stream.write_all(b"GET /x HTTP/1.0\r\nhost: g.com\r\n\r\n").await.unwrap();
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains(" 200 ") && text.contains(&format!("{name} GET /x")), "{mode}: {text}");
        assert!(encrypted(own, "h.com", &[]).await.is_err(), "nobody serves that name");
    }
}
