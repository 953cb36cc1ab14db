//! Probes against servers of the test's own.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use k8s_openapi::api::core::v1::HTTPGetAction;
use plimsoll_podlife::probe::Outcome;
use prost::Message;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{dial, grpc, http};

const SECOND: Duration = Duration::from_secs(1);

/// A server that sends one answer a connection, and tells the requests it got.
struct Server {
    address: String,
    requests: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.windows(4).any(|it| it == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                sender.send(String::from_utf8(request).unwrap()).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                if answer.is_empty() {
                    // Says nothing for as long as the test runs.
                    std::future::pending::<()>().await;
                }
            }
        });
        Self { address, requests }
    }

    async fn get(&self, action: Value) -> Outcome {
        let mut action = action;
        action["port"] = json!(1);
        let action: HTTPGetAction = serde_json::from_value(action).unwrap();
        match http::get(&action, &self.address, "kube-probe/1.37", SECOND).await {
            Ok(answer) => answer.outcome(),
            Err(outcome) => outcome,
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn chunks(body: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn failure(text: impl Into<String>) -> Outcome {
    Outcome::Failure(text.into())
}

#[tokio::test]
async fn statuses_and_what_they_mean() {
    let warning = |body: &str| Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"));
    let cases = [
        (answer("200 OK", "", "fine"), Outcome::Success),
        (answer("204 No Content", "", ""), Outcome::Success),
        (answer("304 Not Modified", "", ""), warning("")),
        (answer("302 Found", "Location: http://example.org/\r\n", "there"), warning("there")),
        (answer("302 Found", "", "nowhere"), warning("nowhere")),
        (answer("400 Bad Request", "", "secret"), failure("HTTP probe failed with statuscode: 400")),
        (answer("500 Internal Server Error", "", ""), failure("HTTP probe failed with statuscode: 500")),
        (answer("200 OK", "", &"x".repeat(1 << 20)), Outcome::Success),
        ("HTTP/1.0 307 Temporary Redirect\r\n\r\nto the end".into(), warning("to the end")),
        (chunks("3\r\none\r\n4;x=y\r\n two\r\n0\r\n\r\n"), warning("one two")),
        (chunks("3\r\none\r\n"), Outcome::Error("unexpected EOF".into())),
        (chunks("three\r\n"), Outcome::Error("malformed chunked encoding".into())),
        (
            answer("103 Early Hints", "", "").replace("Content-Length: 0\r\n", "")
                + &answer("200 OK", "", ""),
            Outcome::Success,
        ),
    ];
    for (answer, expected) in cases {
        let shown = answer.lines().next().unwrap().to_owned();
        let server = Server::new(vec![answer]).await;
        assert_eq!(server.get(json!({"path": "/"})).await, expected, "{shown}");
    }
    let long = answer("307 Temporary Redirect", "Location: //elsewhere/\r\n", &"x".repeat(20_000));
    let server = Server::new(vec![long]).await;
    assert_eq!(server.get(json!({})).await, warning(&"x".repeat(10_240)), "10 KB are read");
}

#[tokio::test]
async fn redirections_stay_on_the_host() {
    let to = |location: &str| answer("301 Moved Permanently", &format!("Location: {location}\r\n"), "");
    let mut server =
        Server::new(vec![to("/b/c?x=1"), to("../d"), answer("500 Internal Server Error", "", "")]).await;
    let outcome = server.get(json!({"path": "/a", "httpHeaders": [{"name": "X-Own", "value": "1"}]})).await;
    assert_eq!(outcome, failure("HTTP probe failed with statuscode: 500"));
    let paths = ["GET /a HTTP/1.1", "GET /b/c?x=1 HTTP/1.1", "GET /d HTTP/1.1"];
    for path in paths {
        let request = server.requests.recv().await.unwrap();
        assert_eq!(request.lines().next(), Some(path));
        assert!(request.contains("X-Own: 1"), "{request}");
    }
    let server = Server::new(vec![to("/again"); 11]).await;
    let outcome = server.get(json!({"path": "/"})).await;
    let url = format!("http://{}/again", server.address);
    assert_eq!(outcome, failure(format!("Get \"{url}\": stopped after 10 redirects")));
}

#[tokio::test]
async fn headers_are_the_users_before_ours() {
    let ok = || vec![answer("200 OK", "", "")];
    let mut server = Server::new(ok()).await;
    server.get(json!({"path": "/x y?z=1"})).await;
    let request = server.requests.recv().await.unwrap();
    let lines: Vec<_> = request.trim_end().lines().collect();
    let host = format!("Host: {}", server.address);
    let expected =
        ["GET /x%20y?z=1 HTTP/1.1", &host, "User-Agent: kube-probe/1.37", "Accept: */*", "Connection: close"];
    assert_eq!(lines, expected);
    let mut server = Server::new(ok()).await;
    let headers = json!([{"name": "Host", "value": "web"}, {"name": "User-Agent", "value": "mine"},
        {"name": "Accept", "value": ""}, {"name": "A", "value": "1"}, {"name": "a", "value": "2"}]);
    server.get(json!({"path": "/", "httpHeaders": headers})).await;
    let request = server.requests.recv().await.unwrap();
    let mut lines: Vec<_> = request.trim_end().lines().skip(1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A: 1", "A: 2", "Connection: close", "Host: web", "User-Agent: mine"]);
}

#[tokio::test]
async fn failures_are_worded_as_users_know_them() {
    let server = Server::new(vec![String::new()]).await;
    let url = format!("http://{}/", server.address);
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    assert_eq!(server.get(json!({"path": "/"})).await, failure(format!("Get \"{url}\": {late}")));

    let server =
        Server::new(vec!["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".into(), String::new()]).await;
    assert!(matches!(server.get(json!({})).await, Outcome::Error(_)), "an answer that breaks off counts not");

    let server = Server::new(vec!["HTTP/1.1 400 Bad Request\r\n\r\n".into()]).await;
    let url = format!("https://{}/", server.address);
    let plain = "http: server gave HTTP response to HTTPS client";
    let outcome = server.get(json!({"path": "/", "scheme": "HTTPS"})).await;
    // What comes instead of a greeting is read until there is an end of header lines.
    assert!(
        outcome == failure(format!("Get \"{url}\": {plain}"))
            || outcome == failure(format!("Get \"{url}\": {late}")),
        "{outcome:?}"
    );

    for (answer, why) in [
        ("HTTP/1.1 200", "unexpected EOF"),
        ("ok\r\n\r\n", "net/http: HTTP/1.x transport connection broken: malformed HTTP response"),
    ] {
        let server = Server::new(vec![answer.into()]).await;
        let outcome = server.get(json!({"path": "/"})).await;
        assert_eq!(outcome, failure(format!("Get \"http://{}/\": {why}", server.address)));
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap().to_string();
    assert_eq!(dial::open(&closed, SECOND).await, Ok(()));
    drop(listener);
    let refused = format!("dial tcp {closed}: connect: connection refused");
    assert_eq!(dial::dial(&closed, SECOND).await.unwrap_err(), refused);
    assert_eq!(dial::open(&closed, SECOND).await.unwrap_err(), refused);
    let action = HTTPGetAction { path: Some("/".into()), ..HTTPGetAction::default() };
    let outcome = http::get(&action, &closed, "x", SECOND).await.unwrap_err();
    assert_eq!(outcome, failure(format!("Get \"http://{closed}/\": {refused}")));
    let outcome = grpc::check(&closed, "", SECOND).await;
    let text =
        format!("timeout: failed to connect service \"{closed}\" within 1s: context deadline exceeded");
    assert_eq!(outcome, failure(text));
}

/// A gRPC server that answers any call in one way.
async fn health_server(
    headers: &'static [(&'static str, &'static str)],
    message: Option<Vec<u8>>,
) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        use http_body_util::{BodyExt, StreamBody};
        use hyper::body::{Bytes, Frame};
        use tokio_stream::iter;
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(|request: ::http::Request<hyper::body::Incoming>| {
            let (sender, message) = (sender.clone(), message.clone());
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let asked = grpc::HealthCheckRequest::decode(&body[5..]).unwrap();
                sender.send(format!("{path} {}", asked.service)).unwrap();
                let mut trailers = ::http::HeaderMap::new();
                for (name, value) in headers {
                    trailers.insert(*name, value.parse().unwrap());
                }
                let mut answer = ::http::Response::builder().header("content-type", "application/grpc");
                let mut frames = Vec::new();
                if let Some(message) = message {
                    let length = u8::try_from(message.len()).unwrap();
                    frames.push(Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(
                        [&[0, 0, 0, 0, length][..], &message].concat(),
                    ))));
                    frames.push(Ok(Frame::trailers(trailers)));
                } else {
                    answer.headers_mut().unwrap().extend(trailers);
                }
                answer.body(StreamBody::new(iter(frames)))
            }
        });
        let io = hyper_util::rt::TokioIo::new(stream);
        let server = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        // The client goes when it has its answer.
        let _ = server.serve_connection(io, service).await;
    });
    (address, asked)
}

#[tokio::test]
async fn grpc_statuses_and_what_they_mean() {
    let status = |status: grpc::ServingStatus| {
        Some(grpc::HealthCheckResponse { status: status as i32 }.encode_to_vec())
    };
    let ok: &[_] = &[("grpc-status", "0")];
    let cases: [(&'static [(&str, &str)], _, _); 7] = [
        (ok, status(grpc::ServingStatus::Serving), Outcome::Success),
        (
            ok,
            status(grpc::ServingStatus::NotServing),
            failure("service unhealthy (responded with \"NOT_SERVING\")"),
        ),
        (ok, Some(Vec::new()), failure("service unhealthy (responded with \"UNKNOWN\")")),
        (
            ok,
            status(grpc::ServingStatus::ServiceUnknown),
            failure("service unhealthy (responded with \"SERVICE_UNKNOWN\")"),
        ),
        (
            &[("grpc-status", "12"), ("grpc-message", "unknown service")],
            None,
            failure(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service",
            ),
        ),
        (
            &[("grpc-status", "5"), ("grpc-message", "unknown%20service")],
            None,
            failure("error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"),
        ),
        (&[("grpc-status", "4")], None, failure("timeout: health rpc did not complete within 1s")),
    ];
    for (headers, message, expected) in cases {
        let (address, mut asked) = health_server(headers, message).await;
        assert_eq!(grpc::check(&address, "web", SECOND).await, expected);
        assert_eq!(asked.recv().await.unwrap(), "/grpc.health.v1.Health/Check web");
    }
}

#[tokio::test]
async fn a_grpc_server_may_come_late_within_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let check = tokio::spawn(async move { grpc::check(&address.to_string(), "", 2 * SECOND).await });
    let silent = async {
        // The port is taken once a try has been refused.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let _held = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = check => outcome.unwrap(),
        () = silent => unreachable!("pending"),
    };
    assert_eq!(outcome, failure("timeout: health rpc did not complete within 2s"));
}
