//! Requests in, answers out.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;

use super::Server;

type Answer = Response<Full<Bytes>>;

/// Largest body that /echo gives back: 1 MiB.
const MAX_ECHO: usize = 1 << 20;
/// Longest time that a request may ask for: an hour.
const MAX_MILLIS: u64 = 3_600_000;

const HELP: &str = "/                  names of the pod and node
/healthz           200 when ready, else 503
/slow?ms=N         answers after N milliseconds
/status?code=N     answers with status N
/memory?mb=N       takes N more MiB of memory and keeps them
/cpu?ms=N          keeps a processor busy for N milliseconds
/echo              gives the request back
";

/// Who answers.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) pod: String,
    pub(super) node: String,
}

impl Identity {
    /// From the variables that a pod's downward API sets, else the host's name.
    pub(super) fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let host =
            || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            pod: variable("POD_NAME").or_else(|| variable("HOSTNAME")).unwrap_or_else(host),
            node: variable("NODE_NAME").unwrap_or_else(|| "unknown".into()),
        }
    }
}

/// Answers one request.
pub(super) async fn answer<B>(server: &Server, request: Request<B>) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut answer = route(server, request).await;
    if server.draining.load(Ordering::Relaxed) {
        // So that clients with kept connections go elsewhere.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn route<B>(server: &Server, request: Request<B>) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let query = request.uri().query().unwrap_or_default().to_owned();
    match request.uri().path() {
        "/" => {
            text(StatusCode::OK, &format!("pod: {}\nnode: {}\n", server.identity.pod, server.identity.node))
        }
        "/healthz" => health(server),
        "/slow" => match number(&query, "ms", 1000, MAX_MILLIS) {
            Ok(millis) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                text(StatusCode::OK, &format!("slept {millis} ms\n"))
            }
            Err(reason) => text(StatusCode::BAD_REQUEST, &reason),
        },
        "/status" => match number(&query, "code", 200, 599) {
            Ok(code) => status(code),
            Err(reason) => text(StatusCode::BAD_REQUEST, &reason),
        },
        "/memory" => match number(&query, "mb", 0, 1 << 20) {
            Ok(mebibytes) => memory(server, mebibytes).await,
            Err(reason) => text(StatusCode::BAD_REQUEST, &reason),
        },
        "/cpu" => match number(&query, "ms", 1000, MAX_MILLIS) {
            Ok(millis) => {
                server.load.burn(Duration::from_millis(millis)).await;
                text(StatusCode::OK, &format!("burned {millis} ms\n"))
            }
            Err(reason) => text(StatusCode::BAD_REQUEST, &reason),
        },
        "/echo" => echo(request).await,
        _ => text(StatusCode::NOT_FOUND, HELP),
    }
}

fn health(server: &Server) -> Answer {
    match (server.draining.load(Ordering::Relaxed), server.ready.load(Ordering::Relaxed)) {
        (true, _) => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        (false, false) => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        (false, true) => text(StatusCode::OK, "ok\n"),
    }
}

fn status(code: u64) -> Answer {
    // Below 200, a status is not the end of an answer.
    let code =
        u16::try_from(code).ok().filter(|code| *code >= 200).and_then(|code| StatusCode::from_u16(code).ok());
    match code {
        Some(code) => text(code, &format!("{code}\n")),
        None => text(StatusCode::BAD_REQUEST, "code must be between 200 and 599\n"),
    }
}

async fn memory(server: &Server, mebibytes: u64) -> Answer {
    match server.load.hold(mebibytes).await {
        Ok(held) => text(StatusCode::OK, &format!("holding {held} MiB\n")),
        Err(held) => text(StatusCode::INSUFFICIENT_STORAGE, &format!("no memory; holding {held} MiB\n")),
    }
}

async fn echo<B>(request: Request<B>) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let mut out = format!("{} {} {:?}\n", head.method, head.uri, head.version);
    for (name, value) in &head.headers {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    out.push('\n');
    let mut out = out.into_bytes();
    match Limited::new(body, MAX_ECHO).collect().await {
        Ok(body) => out.extend_from_slice(&body.to_bytes()),
        Err(_) => return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB\n"),
    }
    plain(StatusCode::OK, out.into())
}

/// A number of the query, or what is wrong with it.
fn number(query: &str, key: &str, default: u64, most: u64) -> Result<u64, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.into_iter().find(|(name, _)| *name == key) else { return Ok(default) };
    match value.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(format!("{key} must be a number up to {most}\n")),
    }
}

fn text(status: StatusCode, text: &str) -> Answer {
    plain(status, Bytes::copy_from_slice(text.as_bytes()))
}

fn plain(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use super::*;

    fn server() -> Server {
        Server {
            identity: Identity { pod: "web-1".into(), node: "n1".into() },
            ready: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            load: super::super::load::Load::default(),
        }
    }

    async fn get(server: &Server, path: &str, body: &str) -> (u16, String) {
        let request =
            Request::builder().uri(path).header("x-test", "1").body(Full::<Bytes>::from(body.to_owned()));
        let answer = answer(server, request.unwrap()).await;
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers_by_path() {
        let server = server();
        for (path, want, text) in [
            ("/", 200, "pod: web-1\nnode: n1\n"),
            ("/healthz", 200, "ok\n"),
            ("/slow?ms=1", 200, "slept 1 ms\n"),
            ("/slow?ms=x", 400, "ms must be a number up to 3600000\n"),
            ("/slow?ms=99999999", 400, "ms must be a number up to 3600000\n"),
            ("/status?code=503", 503, "503 Service Unavailable\n"),
            ("/status?code=404", 404, "404 Not Found\n"),
            ("/status?code=100", 400, "code must be between 200 and 599\n"),
            ("/memory?mb=2", 200, "holding 2 MiB\n"),
            ("/memory?mb=1", 200, "holding 3 MiB\n"),
            ("/memory", 200, "holding 3 MiB\n"),
            ("/cpu?ms=1", 200, "burned 1 ms\n"),
            ("/echo?a=b", 200, "GET /echo?a=b HTTP/1.1\nx-test: 1\n\nbody"),
            ("/nope", 404, HELP),
        ] {
            assert_eq!(get(&server, path, "body").await, (want, text.to_owned()), "{path}");
        }
        assert_eq!(get(&server, "/echo", &"x".repeat(MAX_ECHO + 1)).await.0, 413);
    }

    #[tokio::test]
    async fn health_follows_readiness_and_drain() {
        let server = server();
        server.ready.store(false, Ordering::Relaxed);
        assert_eq!(get(&server, "/healthz", "").await, (503, "not ready\n".into()));
        server.ready.store(true, Ordering::Relaxed);
        server.draining.store(true, Ordering::Relaxed);
        assert_eq!(get(&server, "/healthz", "").await, (503, "draining\n".into()));
        let answer = answer(&server, Request::new(Full::<Bytes>::default())).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()[CONNECTION].to_str().unwrap()),
            (200, "close")
        );
    }
}
