//! The audit log: what is recorded of each request, and where the records go.
//!
//! A request that is audited carries its [`Record`] along its task, so that each stage can tell what it
//! knows; without a policy there is no record and nothing of this costs anything. How much is recorded
//! is decided by `plimsoll-audit`.

mod describe;
mod ending;
mod log;
mod options;
mod place;
mod queue;
mod record;
mod webhook;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use plimsoll_audit::{AuthenticationMetadata, Event, Level, Policy, Stage};
use plimsoll_meta::name;
use plimsoll_meta::status::Status;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::body::{RequestBody, ResponseBody};
use crate::metrics::Audits;
use crate::safeguards::{document, wrong};
use crate::server::StartError;
use crate::stages::Asked;
use crate::target::Target;
use crate::user::User;

pub use options::{AuditLog, AuditMode, AuditOptions, AuditWebhook, Compression, Truncation};
use queue::Sink;
use record::Record;

tokio::task_local! {
    static RECORD: Arc<Record>;
}

/// The address that a connection comes from, as an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(pub(crate) SocketAddr);

/// The policy and the places where events go.
#[derive(Debug)]
pub(crate) struct Auditor {
    policy: Policy,
    metrics: Audits,
    sinks: Vec<Sink>,
}

impl Auditor {
    /// Reads the policy and opens the places; none when nothing is recorded.
    pub(crate) fn start(
        options: &AuditOptions,
        metrics: &Audits,
        shutdown: &CancellationToken,
    ) -> Result<Option<Arc<Self>>, StartError> {
        let Some(path) = &options.policy else { return Ok(None) };
        let policy = Policy::read(&document(path)?).map_err(|error| wrong(path, error))?;
        let mut sinks = Vec::new();
        if let Some(options) = &options.log {
            sinks.push(log::start(options, metrics)?);
        }
        if let Some(options) = &options.webhook {
            sinks.push(webhook::start(options, metrics, shutdown.clone())?);
        }
        Ok((!sinks.is_empty()).then(|| Arc::new(Self { policy, metrics: metrics.clone(), sinks })))
    }

    /// Hands an event to every place; false when one that must have it does not.
    async fn write(&self, event: &Event) -> bool {
        self.metrics.event();
        let line = encoded(event);
        let mut kept = true;
        for sink in &self.sinks {
            kept &= match sink.fitting(event, &line) {
                Some(line) => sink.send(line).await,
                None => sink.is_lenient(),
            };
        }
        kept
    }

    /// Hands an event on without waiting for anything.
    fn offer(&self, event: &Event) {
        self.metrics.event();
        let line = encoded(event);
        for sink in &self.sinks {
            if let Some(line) = sink.fitting(event, &line) {
                sink.offer(line);
            }
        }
    }
}

fn encoded(event: &Event) -> Bytes {
    serde_json::to_vec(event).expect("an event has text keys only").into()
}

/// Serves a request with a record of it.
pub(crate) async fn observe<F>(
    auditor: &Arc<Auditor>,
    request: Request<RequestBody>,
    serve: impl FnOnce(Request<RequestBody>) -> F,
) -> Response<ResponseBody>
where
    F: Future<Output = Response<ResponseBody>>,
{
    let record = Arc::new(Record::new(Arc::clone(auditor), &request));
    let served = RECORD.scope(Arc::clone(&record), serve(request));
    match AssertUnwindSafe(served).catch_unwind().await {
        Ok(response) => ending::end(record, response).await,
        Err(panic) => {
            record.panicked().await;
            std::panic::resume_unwind(panic)
        }
    }
}

/// The unique id of the request that this task serves.
pub(crate) fn id() -> Option<String> {
    with(|record| record.id().to_owned())
}

/// A request of a known user has come. Fails when it may not be served without being recorded.
pub(crate) async fn received(asked: &Asked, target: &Target) -> Result<(), Status> {
    let Some(record) = with(Arc::clone) else { return Ok(()) };
    record.open(asked, target);
    match record.emit(Stage::RequestReceived).await {
        true => Ok(()),
        false => {
            record.rejected();
            Err(Status::internal("failed to store audit event"))
        }
    }
}

/// A request has come whose user nobody vouches for.
pub(crate) fn unauthenticated(asked: &Asked, target: &Target) {
    with(|record| record.open_unauthenticated(asked, target));
}

/// The request is done in another name.
pub(crate) fn impersonated(user: &User, constraint: &str) {
    with(|record| {
        record.change(|event| {
            event.impersonated_user = Some(describe::user(user));
            event.authentication_metadata = (!constraint.is_empty())
                .then(|| AuthenticationMetadata { impersonation_constraint: constraint.to_owned() });
        });
    });
}

/// The body of the request.
pub(crate) fn request_object(object: &Value) {
    with(|record| record.request_object(object));
}

/// The patch that is the body of the request.
pub(crate) fn request_patch(bytes: &[u8]) {
    with(|record| record.request_patch(bytes));
}

/// A note in the events of the request that this task serves.
pub(crate) fn annotate(key: impl Into<String>, value: impl Into<String>) {
    with(|record| record.change(|event| drop(event.annotations.insert(key.into(), value.into()))));
}

/// What admission notes, in events of at least `level`. Keys are qualified names with a prefix; what was noted
/// first stays.
pub(crate) fn note(key: impl Into<String>, value: impl Into<String>, level: Level) {
    let key = key.into();
    if !key.contains('/') || name::is_qualified_name(&key).is_err() {
        tracing::warn!(key, "admission notes under a key that is no qualified name");
        return;
    }
    with(|record| {
        record.change(|event| {
            if event.level >= level {
                event.annotations.entry(key).or_insert_with(|| value.into());
            }
        });
    });
}

/// The answer, before it is put into the form that the client reads.
pub(crate) async fn responded(response: Response<ResponseBody>) -> Response<ResponseBody> {
    match with(Arc::clone) {
        Some(record) => record.responded(response).await,
        None => response,
    }
}

fn with<T>(look: impl FnOnce(&Arc<Record>) -> T) -> Option<T> {
    RECORD.try_with(look).ok()
}
