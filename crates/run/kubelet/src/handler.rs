//! Asking a container how it is, or telling it something: HTTP, TCP, a command, gRPC.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use plimsoll_podlife::probe::Outcome;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::engine::{Engine, text};
use crate::trust;

/// Where a container is reached.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) engine: Engine,
    /// The run.
    pub(crate) id: String,
    /// The pod's address.
    pub(crate) ip: String,
    pub(crate) container: Arc<Container>,
}

/// How much of an answer is read, in bytes.
const ANSWER: usize = 10 * 1024;
/// How many redirections are followed.
const REDIRECTS: usize = 10;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Place {
    /// Runs a command; success is exit code 0.
    pub(crate) async fn exec(&self, command: Vec<String>, timeout: Duration) -> Outcome {
        let shown = command.join(" ");
        match self.engine.exec(&self.id, command, timeout).await {
            Ok((_, 0)) => Outcome::Success,
            Ok((output, _)) => Outcome::Failure(output),
            Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
                let seconds = timeout.as_secs();
                Outcome::Failure(format!("command timed out: \"{shown}\" timed out after {seconds}s"))
            }
            Err(status) => Outcome::Error(text(&status)),
        }
    }

    /// Opens a connection; success is that it opens.
    pub(crate) async fn tcp(&self, action: &TCPSocketAction, timeout: Duration) -> Outcome {
        let Some(port) = self.port(&action.port) else { return Outcome::Error(no_port(&action.port)) };
        let address = join(self.host(action.host.as_deref()), port);
        match dial(&address, timeout).await {
            Ok(_) => Outcome::Success,
            Err(why) => Outcome::Failure(why),
        }
    }

    /// Fetches a page; success is a status from 200 to 399.
    pub(crate) async fn http(&self, action: &HTTPGetAction, agent: &str, timeout: Duration) -> Outcome {
        let Some(port) = self.port(&action.port) else { return Outcome::Error(no_port(&action.port)) };
        let authority = join(self.host(action.host.as_deref()), port);
        let secure = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let path = action.path.as_deref().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        let scheme = if secure { "https" } else { "http" };
        let url = format!("{scheme}://{authority}{slash}{path}");
        let outcome = match tokio::time::timeout(timeout, self.follow(&url, action, agent, timeout)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into())
            }
        };
        match outcome {
            Ok(status) if (200..400).contains(&status.as_u16()) => Outcome::Success,
            Ok(status) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
            Err(why) => Outcome::Failure(format!("Get \"{url}\": {why}")),
        }
    }

    /// Asks gRPC's own health service.
    pub(crate) async fn grpc(&self, action: &GRPCAction, timeout: Duration) -> Outcome {
        let address = join(&self.ip, u16::try_from(action.port).unwrap_or_default());
        let stream = match dial(&address, timeout).await {
            Ok(stream) => stream,
            Err(why) => {
                let why =
                    format!("timeout: failed to connect service \"{address}\" within {timeout:?}: {why}");
                return Outcome::Failure(why);
            }
        };
        let service = action.service.as_deref().unwrap_or_default();
        match tokio::time::timeout(timeout, health(stream, &address, service)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {timeout:?}")),
        }
    }

    fn host<'a>(&'a self, named: Option<&'a str>) -> &'a str {
        named.filter(|host| !host.is_empty()).unwrap_or(&self.ip)
    }

    fn port(&self, port: &IntOrString) -> Option<u16> {
        match port {
            IntOrString::Int(number) => u16::try_from(*number).ok().filter(|port| *port > 0),
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                let named = ports.find(|port| port.name.as_deref() == Some(name));
                let number = named.map(|port| port.container_port).or_else(|| name.parse().ok());
                number.and_then(|number| u16::try_from(number).ok())
            }
        }
    }

    /// Follows redirections as long as they stay on the same host.
    async fn follow(
        &self,
        url: &str,
        action: &HTTPGetAction,
        agent: &str,
        timeout: Duration,
    ) -> Result<StatusCode, String> {
        let mut uri: Uri = url.parse().map_err(|error| format!("parse: {error}"))?;
        for _ in 0..REDIRECTS {
            let (status, location) = fetch(&uri, action, agent, timeout).await?;
            let Some(next) = location.filter(|_| status.is_redirection()) else { return Ok(status) };
            match redirect(&uri, &next) {
                Some(next) => uri = next,
                // Another host's health is not this container's.
                None => return Ok(status),
            }
        }
        Err(format!("stopped after {REDIRECTS} redirects"))
    }
}

fn no_port(port: &IntOrString) -> String {
    let port = match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    format!("couldn't find port: {port}")
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn dial(address: &str, timeout: Duration) -> Result<TcpStream, String> {
    let prefix = format!("dial tcp {address}: ");
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(format!("{prefix}connect: connection refused"))
        }
        Ok(Err(error)) => Err(format!("{prefix}{error}")),
        Err(_) => Err(format!("{prefix}i/o timeout")),
    }
}

/// The next address, when it is on the same host.
fn redirect(from: &Uri, location: &str) -> Option<Uri> {
    let (host, scheme) = (from.authority()?, from.scheme_str()?);
    if location.contains("://") || location.starts_with("//") {
        let next: Uri = location.parse().ok()?;
        return (next.host() == Some(host.host()) && next.scheme().is_some()).then_some(next);
    }
    let path = from.path();
    let folder = if location.starts_with('/') { "" } else { &path[..path.rfind('/')? + 1] };
    format!("{scheme}://{host}{folder}{location}").parse().ok()
}

async fn fetch(
    uri: &Uri,
    action: &HTTPGetAction,
    agent: &str,
    timeout: Duration,
) -> Result<(StatusCode, Option<String>), String> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = dial(&join(&host, port), timeout).await?;
    let stream: Box<dyn Stream> = if secure {
        Box::new(trust::anyone(stream, &host).await.map_err(|error| error.to_string())?)
    } else {
        Box::new(stream)
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request(uri, action, agent)?).await;
    let result = match answer {
        Ok(answer) => {
            let location = answer.headers().get(header::LOCATION).and_then(|it| it.to_str().ok());
            let (status, location) = (answer.status(), location.map(str::to_owned));
            // The body is read so that the server does not see a broken connection.
            let _ = Limited::new(answer.into_body(), ANSWER).collect().await;
            Ok((status, location))
        }
        Err(error) => Err(if error.is_incomplete_message() { "EOF".into() } else { error.to_string() }),
    };
    connection.abort();
    result
}

fn request(uri: &Uri, action: &HTTPGetAction, agent: &str) -> Result<Request<Empty<Bytes>>, String> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(Method::GET).uri(path);
    let headers = request.headers_mut().ok_or("the request's path is none")?;
    let mut set = |name: &str, value: &str| {
        let name = header::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, header::HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    };
    set("host", uri.authority().map_or("", |host| host.as_str()));
    set("user-agent", agent);
    set("accept", "*/*");
    set("connection", "close");
    for own in action.http_headers.iter().flatten() {
        set(&own.name, &own.value);
    }
    request.body(Empty::new()).map_err(|error| error.to_string())
}

/// One call of `grpc.health.v1.Health/Check`, whose two messages have one field each.
async fn health(stream: TcpStream, address: &str, service: &str) -> Outcome {
    let failed = |why: String| Outcome::Failure(format!("error: health rpc probe failed: {why}"));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = match handshake {
        Ok(pair) => pair,
        Err(error) => return failed(error.to_string()),
    };
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(health_request(service)));
    let request = match request {
        Ok(request) => request,
        Err(error) => return failed(error.to_string()),
    };
    let outcome = match sender.send_request(request).await {
        Ok(answer) => {
            let early = answer.headers().get("grpc-status").cloned();
            match Limited::new(answer.into_body(), ANSWER).collect().await {
                Ok(body) => {
                    let late = body.trailers().and_then(|it| it.get("grpc-status")).cloned();
                    health_answer(early.or(late).as_ref(), &body.to_bytes())
                }
                Err(error) => failed(error.to_string()),
            }
        }
        Err(error) => failed(error.to_string()),
    };
    connection.abort();
    outcome
}

fn health_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, text. A service's name is shorter than 128 bytes or its length takes more of them.
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).expect("less than 128"));
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend(message);
    Bytes::from(frame)
}

fn health_answer(status: Option<&header::HeaderValue>, body: &[u8]) -> Outcome {
    let code = status.and_then(|status| status.to_str().ok()).unwrap_or_default();
    match (code, body.get(5..)) {
        ("12", _) => Outcome::Failure(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into(),
        ),
        ("0", Some([0x08, 1, ..])) => Outcome::Success,
        ("0", answer) => {
            let name = match answer {
                Some([0x08, 2, ..]) => "NOT_SERVING",
                Some([0x08, 3, ..]) => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            };
            Outcome::Failure(format!("service unhealthy (responded with \"{name}\")"))
        }
        (code, _) => Outcome::Failure(format!("error: health rpc probe failed: status {code}")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn redirections_stay_on_the_host() {
        let from: Uri = "http://10.0.0.1:8080/a/b".parse().unwrap();
        let cases = [
            ("/c", Some("http://10.0.0.1:8080/c")),
            ("c", Some("http://10.0.0.1:8080/a/c")),
            ("http://10.0.0.1:9/x", Some("http://10.0.0.1:9/x")),
            ("http://example.org/", None),
            ("//example.org/", None),
        ];
        for (location, expected) in cases {
            let next = redirect(&from, location).map(|uri| uri.to_string());
            assert_eq!(next.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn health_messages() {
        assert_eq!(&health_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&health_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let ok = header::HeaderValue::from_static("0");
        assert_eq!(health_answer(Some(&ok), &[0, 0, 0, 0, 2, 8, 1]), Outcome::Success);
        let failure = |text: &str| Outcome::Failure(text.into());
        assert_eq!(
            health_answer(Some(&ok), &[0, 0, 0, 0, 2, 8, 2]),
            failure("service unhealthy (responded with \"NOT_SERVING\")")
        );
        assert_eq!(
            health_answer(Some(&ok), &[0, 0, 0, 0, 0]),
            failure("service unhealthy (responded with \"UNKNOWN\")")
        );
    }
}
