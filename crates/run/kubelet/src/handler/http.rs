//! Pages of containers: one request on a connection of its own, redirections on the same host.

use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::HTTPGetAction;
use plimsoll_podlife::probe::Outcome;
use tokio::io::AsyncWriteExt;
use url::Url;

use super::answer::Answer;
use super::dial::{dial, join, send};
use crate::trust;

/// The end of the failure of a request for TLS that was answered without.
pub(crate) const PLAIN_ANSWER: &str = "http: server gave HTTP response to HTTPS client";
/// A server that breaks off.
pub(super) const RESET: &str = "read: connection reset by peer";
/// How many requests one probe makes.
const REQUESTS: usize = 10;
const TOO_LATE: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
const CUT_OFF: &str = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

/// Why there is no answer.
pub(super) enum Failure {
    /// The request failed.
    Request(String),
    /// The answer broke off.
    Body(String),
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
            Some((location, next)) if next.host() == request.url.host() => request.go_to(next, location),
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
    fn go_to(&mut self, next: Url, location: &str) {
        if location.contains("//") {
            let port = next.port().map(|port| format!(":{port}")).unwrap_or_default();
            self.host = format!("{}{port}", next.host_str().unwrap_or_default());
        }
        self.referer = Some(self.url.to_string());
        self.url = next;
    }

    /// Asks once. The time limit is one for headers and body.
    async fn fetch(&self, timeout: Duration, end: tokio::time::Instant) -> Result<Answer, Failure> {
        let headed = AtomicBool::new(false);
        let exchange = tokio::time::timeout_at(end, self.exchange(timeout, &headed)).await;
        exchange.unwrap_or_else(|_| match headed.into_inner() {
            true => Err(Failure::Body(CUT_OFF.to_owned())),
            false => Err(Failure::Request(TOO_LATE.to_owned())),
        })
    }

    async fn exchange(&self, timeout: Duration, headed: &AtomicBool) -> Result<Answer, Failure> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let address = join(host, self.url.port_or_known_default().unwrap_or(80));
        let request = self.request();
        if self.url.scheme() != "https" {
            let mut stream = send(&address, request.as_bytes()).await.map_err(Failure::Request)?;
            return Answer::read(&mut stream, headed).await;
        }
        let stream = dial(&address, timeout).await.map_err(Failure::Request)?;
        let failed = |error| Failure::Request(tls_in_words(&error));
        let mut stream = trust::anyone(stream, host).await.map_err(failed)?;
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        Answer::read(&mut stream, headed).await
    }

    fn request(&self) -> String {
        let mut headers = HeaderMap::new();
        for own in self.action.http_headers.iter().flatten() {
            let name = HeaderName::from_bytes(own.name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&own.value)) {
                headers.append(name, value);
            }
        }
        set_default(&mut headers, header::HOST, &self.host);
        set_default(&mut headers, header::USER_AGENT, self.agent);
        set_default(&mut headers, header::ACCEPT, "*/*");
        // An empty one stands for none.
        if headers.get(header::ACCEPT).is_some_and(HeaderValue::is_empty) {
            headers.remove(header::ACCEPT);
        }
        if let Some(referer) = &self.referer {
            set_default(&mut headers, header::REFERER, referer);
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        in_lines(&self.url, &headers)
    }
}

fn set_default(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.entry(name).or_insert(value);
    }
}

/// A request as it is sent.
fn in_lines(url: &Url, headers: &HeaderMap) -> String {
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut text = format!("GET {}{query} HTTP/1.1\r\n", url.path());
    for (name, value) in headers {
        // Values of other than visible text were left out.
        let value = value.to_str().unwrap_or_default();
        // Writing to text does not fail.
        let _ = write!(text, "{}: {value}\r\n", canonical(name.as_str()));
    }
    text.push_str("\r\n");
    text
}

/// `X-Forwarded-For`: not all servers know that names are the same however they are written.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_uppercase() + rest,
        None => String::new(),
    });
    words.collect::<Vec<_>>().join("-")
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
