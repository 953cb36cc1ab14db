//! Events for a server: in lists, and again when it does not take them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use plimsoll_remote::{Remote, RemoteError, SystemNames, client_tls};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::place::Place;
use super::queue::{Entry, Sink};
use super::{AuditMode, AuditWebhook};
use crate::metrics::Audits;
use crate::safeguards::wrong;
use crate::server::StartError;

/// How often a list is sent at most.
const ATTEMPTS: u32 = 5;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of an answer is read.
const ANSWER: usize = 64 << 10;

/// Reads where the server is and starts the task that sends.
pub(super) fn start(
    options: &AuditWebhook,
    metrics: &Audits,
    shutdown: CancellationToken,
) -> Result<Sink, StartError> {
    let errors = metrics.errors("webhook");
    let (sink, entries) = Sink::new("webhook", options.mode, options.buffer, options.truncation, errors);
    let place = Place::read(&options.configuration)?;
    let tls = client_tls(&place.authorities, place.identity.as_ref())
        .map_err(|error| wrong(&options.configuration, error))?;
    let remote = Remote::new(tls, Arc::new(SystemNames), ANSWER);
    let sender = Sender { remote, place, initial_backoff: options.initial_backoff };
    let options = options.clone();
    tokio::spawn(async move { sender.run(entries, &options, shutdown).await });
    Ok(sink)
}

struct Sender {
    remote: Remote,
    place: Place,
    initial_backoff: Duration,
}

impl Sender {
    async fn run(
        &self,
        mut entries: mpsc::Receiver<Entry>,
        options: &AuditWebhook,
        shutdown: CancellationToken,
    ) {
        let (size, wait) = match options.mode {
            AuditMode::Batch => (options.batch_size.max(1), options.batch_wait),
            // Requests wait for these.
            AuditMode::Blocking | AuditMode::BlockingStrict => (1, Duration::ZERO),
        };
        let bytes = options.truncation.map_or(usize::MAX, |limit| limit.batch);
        let now = Instant::now();
        let mut tokens = options.throttle.map(|(rate, burst)| Tokens { left: burst, rate, burst, at: now });
        let mut kept_back = None;
        loop {
            let next = match kept_back.take() {
                Some(entry) => Some(entry),
                None => entries.recv().await,
            };
            let Some(first) = next else { return };
            let bounds = Bounds { size, bytes, wait };
            let (group, rest) = gather(first, &mut entries, bounds, &shutdown).await;
            kept_back = rest;
            if let (AuditMode::Batch, Some(tokens)) = (options.mode, &mut tokens) {
                tokens.take().await;
            }
            let kept = self.deliver(list(&group)).await;
            for waiting in group.into_iter().filter_map(|entry| entry.kept) {
                // Whoever has gone away does not mind.
                let _ = waiting.send(kept);
            }
        }
    }

    /// Sends a list until it is taken; false when it is given up.
    async fn deliver(&self, list: Bytes) -> bool {
        let mut pause = self.initial_backoff;
        for attempt in 1..=ATTEMPTS {
            match self.send(list.clone()).await {
                Ok(code) if code.is_success() => return true,
                Ok(code) if !again(code) => {
                    tracing::error!(%code, "audit webhook refuses events");
                    return false;
                }
                Ok(code) => tracing::warn!(%code, attempt, "audit webhook does not take events now"),
                Err(error) => tracing::warn!(%error, attempt, "audit webhook cannot be asked"),
            }
            if attempt < ATTEMPTS {
                sleep(pause).await;
                pause = pause.mul_f64(1.5);
            }
        }
        false
    }

    async fn send(&self, list: Bytes) -> Result<StatusCode, RemoteError> {
        let mut request = Request::new(list);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.place.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.place.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Ok(self.remote.send(request, PATIENCE).await?.status())
    }
}

/// Answers after which another attempt makes sense.
fn again(code: StatusCode) -> bool {
    code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS
}

/// How large a list may be, and how long an event waits for company.
#[derive(Clone, Copy)]
struct Bounds {
    size: usize,
    bytes: usize,
    wait: Duration,
}

/// Waits for company, for as long as a list may wait. The second is an event that was too much.
async fn gather(
    first: Entry,
    entries: &mut mpsc::Receiver<Entry>,
    bounds: Bounds,
    shutdown: &CancellationToken,
) -> (Vec<Entry>, Option<Entry>) {
    let until = Instant::now() + bounds.wait;
    let mut bytes = first.line.len();
    let mut group = vec![first];
    while group.len() < bounds.size {
        let next = tokio::select! {
            next = timeout_at(until, entries.recv()) => next.ok().flatten(),
            () = shutdown.cancelled() => entries.try_recv().ok(),
        };
        let Some(next) = next else { break };
        bytes = bytes.saturating_add(next.line.len());
        if bytes > bounds.bytes {
            return (group, Some(next));
        }
        group.push(next);
    }
    (group, None)
}

/// An `EventList` of events that are JSON already.
fn list(group: &[Entry]) -> Bytes {
    let mut list =
        BytesMut::from(&br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#[..]);
    for (number, entry) in group.iter().enumerate() {
        if number > 0 {
            list.extend_from_slice(b",");
        }
        list.extend_from_slice(&entry.line);
    }
    list.extend_from_slice(b"]}");
    list.freeze()
}

/// Lists that may be sent now.
struct Tokens {
    left: f64,
    rate: f64,
    burst: f64,
    at: Instant,
}

impl Tokens {
    async fn take(&mut self) {
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * self.rate).min(self.burst);
        self.at = now;
        if self.left < 1.0 {
            let missing = Duration::from_secs_f64((1.0 - self.left) / self.rate);
            sleep_until(now + missing).await;
            self.at = now + missing;
            self.left = 1.0;
        }
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &'static str) -> Entry {
        Entry { line: Bytes::from_static(line.as_bytes()), kept: None }
    }

    #[tokio::test(start_paused = true)]
    async fn events_wait_for_company_but_not_long() {
        let (queue, mut entries) = mpsc::channel(8);
        for line in ["2", "3", "4"] {
            queue.try_send(entry(line)).expect("room");
        }
        let shutdown = CancellationToken::new();
        let wait = Duration::from_secs(30);
        let bounds = Bounds { size: 3, bytes: usize::MAX, wait };
        let (group, _) = gather(entry("1"), &mut entries, bounds, &shutdown).await;
        let text = list(&group);
        assert_eq!(
            text,
            r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[1,2,3]}"#
        );
        let begun = Instant::now();
        let first = entries.recv().await.expect("one");
        assert_eq!(gather(first, &mut entries, bounds, &shutdown).await.0.len(), 1);
        assert_eq!(begun.elapsed(), wait);
        shutdown.cancel();
        assert_eq!(gather(entry("5"), &mut entries, bounds, &shutdown).await.0.len(), 1);
        assert_eq!(begun.elapsed(), wait, "nobody waits at the end");
        queue.try_send(entry("67")).expect("room");
        let narrow = Bounds { bytes: 2, ..bounds };
        let (group, rest) = gather(entry("6"), &mut entries, narrow, &shutdown).await;
        assert_eq!((group.len(), rest.expect("too much").line), (1, Bytes::from_static(b"67")));
    }

    #[tokio::test(start_paused = true)]
    async fn lists_keep_to_the_rate() {
        let mut tokens = Tokens { left: 15.0, rate: 10.0, burst: 15.0, at: Instant::now() };
        let begun = Instant::now();
        for _ in 0..25 {
            tokens.take().await;
        }
        let passed = begun.elapsed().as_millis();
        assert!((990..=1010).contains(&passed), "{passed}");
    }
}
