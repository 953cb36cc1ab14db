//! Pages of containers: one request on a connection of its own, redirections on the same host.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use plimsoll_podlife::probe::Outcome;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use super::ANSWER;
use super::dial::{dial, join};
use crate::trust;

/// The end of the failure of a request for TLS that was answered without.
pub(crate) const PLAIN_ANSWER: &str = "http: server gave HTTP response to HTTPS client";
/// How many requests one probe makes.
const REQUESTS: usize = 10;
const TOO_LATE: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
const CUT_OFF: &str = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The last answer of a page.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: Bytes,
}

/// Why there is no answer.
enum Failure {
    /// The request failed.
    Request(String),
    /// The answer broke off.
    Body(String),
}

impl Answer {
    /// What it means to a probe (kubelet: pkg/probe/http, `DoHTTPProbe`).
    pub(crate) fn outcome(self) -> Outcome {
        match self.status.as_u16() {
            200..300 => Outcome::Success,
            300..400 => {
                let body = String::from_utf8_lossy(&self.body);
                Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"))
            }
            // The body may hold secrets of the container.
            status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        }
    }

    fn next(&self, from: &Url) -> Option<Url> {
        let follows = matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = self.location.as_ref().filter(|_| follows)?;
        from.join(location).ok()
    }
}

/// Fetches a page, all redirections within `timeout`.
pub(super) async fn get(
    action: &HTTPGetAction,
    authority: &str,
    agent: &str,
    timeout: Duration,
) -> Result<Answer, Outcome> {
    let scheme = action.scheme.as_deref().unwrap_or_default().to_lowercase();
    let scheme = if scheme.is_empty() { "http" } else { &scheme };
    let path = action.path.as_deref().unwrap_or_default();
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    let shown = format!("{scheme}://{authority}{slash}{path}");
    let url = Url::parse(&shown).map_err(|error| Outcome::Error(format!("parse \"{shown}\": {error}")))?;
    let mut request = Page { action, agent, url, host: authority.to_owned(), referer: None };
    let end = tokio::time::Instant::now() + timeout;
    for _ in 0..REQUESTS {
        let answer = match request.fetch(timeout, end).await {
            Ok(answer) => answer,
            Err(Failure::Request(why)) => return Err(Outcome::Failure(format!("Get \"{shown}\": {why}"))),
            Err(Failure::Body(why)) => return Err(Outcome::Error(why)),
        };
        match answer.next(&request.url) {
            // Another host's health is not this container's.
            Some(next) if next.host() == request.url.host() => {
                request.go_to(next, answer.location.as_deref())
            }
            _ => return Ok(answer),
        }
    }
    let last = request.url;
    Err(Outcome::Failure(format!("Get \"{last}\": stopped after {REQUESTS} redirects")))
}

/// One page that is asked for.
struct Page<'a> {
    action: &'a HTTPGetAction,
    agent: &'a str,
    url: Url,
    /// The header `Host`, unless the action names another one.
    host: String,
    referer: Option<String>,
}

impl Page<'_> {
    fn go_to(&mut self, next: Url, location: Option<&str>) {
        if location.is_some_and(|location| location.contains("//")) {
            let port = next.port().map(|port| format!(":{port}")).unwrap_or_default();
            self.host = format!("{}{port}", next.host_str().unwrap_or_default());
        }
        self.referer = Some(self.url.to_string());
        self.url = next;
    }

    /// Asks once. The time limit is one for headers and body.
    async fn fetch(&self, timeout: Duration, end: tokio::time::Instant) -> Result<Answer, Failure> {
        let late = || Failure::Request(TOO_LATE.to_owned());
        let stream = tokio::time::timeout_at(end, self.connect(timeout)).await.map_err(|_| late())??;
        let refused = |error: hyper::Error| Failure::Request(in_words(&error));
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(refused)?;
        let request = self.request().map_err(Failure::Request)?;
        let exchange = pin!(async {
            let sent = tokio::time::timeout_at(end, sender.send_request(request)).await;
            let answer = sent.map_err(|_| late())?.map_err(refused)?;
            let location = answer.headers().get(header::LOCATION).and_then(|it| it.to_str().ok());
            let (status, location) = (answer.status(), location.map(str::to_owned));
            let body = tokio::time::timeout_at(end, read_at_most(answer.into_body())).await;
            let body = body.map_err(|_| Failure::Body(CUT_OFF.to_owned()))?.map_err(Failure::Body)?;
            Ok(Answer { status, location, body })
        });
        // The connection is driven here: a task of its own would cost more than the exchange.
        match select(exchange, pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, exchange)) => exchange.await,
        }
    }

    async fn connect(&self, timeout: Duration) -> Result<Box<dyn Stream>, Failure> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.url.port_or_known_default().unwrap_or(80);
        let stream = dial(&join(host, port), timeout).await.map_err(Failure::Request)?;
        if self.url.scheme() != "https" {
            return Ok(Box::new(stream));
        }
        let stream = trust::anyone(stream, host).await;
        Ok(Box::new(stream.map_err(|error| Failure::Request(tls_in_words(&error)))?))
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, String> {
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut request = Request::builder().method(Method::GET).uri(format!("{}{query}", self.url.path()));
        let headers = request.headers_mut().ok_or("the request's path is none")?;
        for own in self.action.http_headers.iter().flatten() {
            let name = HeaderName::from_bytes(own.name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&own.value)) {
                headers.append(name, value);
            }
        }
        set_default(headers, header::HOST, &self.host);
        set_default(headers, header::USER_AGENT, self.agent);
        set_default(headers, header::ACCEPT, "*/*");
        // An empty one stands for none.
        if headers.get(header::ACCEPT).is_some_and(HeaderValue::is_empty) {
            headers.remove(header::ACCEPT);
        }
        if let Some(referer) = &self.referer {
            set_default(headers, header::REFERER, referer);
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        request.body(Empty::new()).map_err(|error| error.to_string())
    }
}

fn set_default(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.entry(name).or_insert(value);
    }
}

/// The beginning of a body; the rest is left to a server that does not mind.
async fn read_at_most(mut body: Incoming) -> Result<Bytes, String> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| in_words(&error))?;
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data[..data.len().min(ANSWER - read.len())]);
        }
        if read.len() == ANSWER {
            break;
        }
    }
    Ok(read.freeze())
}

fn in_words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    if error.is_parse() {
        return "net/http: HTTP/1.x transport connection broken: malformed HTTP response".to_owned();
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionReset) => "read: connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

fn tls_in_words(error: &std::io::Error) -> String {
    let source = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    match source {
        Some(rustls::Error::InvalidMessage(_)) => PLAIN_ANSWER.to_owned(),
        Some(error) => format!("tls: {error}"),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}
