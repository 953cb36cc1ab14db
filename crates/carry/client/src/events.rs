//! Telling users what happened: `core/v1` Events.
//!
//! Callers never wait. Repeats are counted in one Event instead of making new ones, floods of similar
//! messages are combined, and an object that is told about without end is told about less
//! (client-go: tools/record, v1.37).

mod correlate;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use correlate::{Correlator, Outcome, Repeats};

/// Events that may wait to be posted; more are dropped.
const WAITING: usize = 1000;

/// Attempts to post an event before it is dropped.
const ATTEMPTS: usize = 5;

/// Whether an event tells of the usual or of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Things go as they should.
    Normal,
    /// Somebody may have to look.
    Warning,
}

impl EventType {
    /// The word that the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened to what. Identical occurrences are repeats.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Occurrence {
    pub(crate) object: ObjectReference,
    pub(crate) kind: EventType,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Posts events in the name of one component. Clones share the queue.
#[derive(Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<(Timestamp, Occurrence)>,
}

impl EventRecorder {
    /// A recorder that names `component` (and `host`) as the source. Must be made inside a runtime.
    pub fn new(client: kube::Client, component: &str, host: Option<&str>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Timestamp, Occurrence)>(WAITING);
        let source = EventSource { component: Some(component.to_owned()), host: host.map(str::to_owned) };
        tokio::spawn(async move {
            let mut correlator = Correlator::default();
            while let Some((at, occurrence)) = receiver.recv().await {
                let Some(outcome) = correlator.see(occurrence, at) else { continue };
                post(&client, &source, &mut correlator, outcome, at).await;
            }
        });
        Self { sender }
    }

    /// Tells that something happened to `object`. Returns at once; under a flood the event is dropped.
    pub fn event(&self, object: &ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        self.annotated(object, kind, reason, message, BTreeMap::new());
    }

    /// As [`Self::event`], with facts for programs in the annotations of the event.
    pub fn annotated(
        &self,
        object: &ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
        annotations: BTreeMap<String, String>,
    ) {
        let (reason, message) = (reason.to_owned(), message.into());
        let occurrence = Occurrence { object: object.clone(), kind, reason, message, annotations };
        if self.sender.try_send((Timestamp::now(), occurrence)).is_err() {
            tracing::debug!(object = ?object.name, "event dropped: too many are waiting");
        }
    }
}

/// Creates the Event, or counts on in the one that exists.
async fn post(
    client: &kube::Client,
    source: &EventSource,
    correlator: &mut Correlator,
    outcome: Outcome,
    at: Timestamp,
) {
    let namespace = outcome.occurrence.object.namespace.as_deref().unwrap_or("default");
    let events = Api::<Event>::namespaced(client.clone(), namespace);
    let mut known = outcome.repeats.clone();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    for _ in 0..ATTEMPTS {
        let posted = match &known {
            Some(repeats) => count(&events, &outcome, repeats, at).await,
            None => events.create(&PostParams::default(), &event(source, namespace, &outcome, at)).await,
        };
        match posted {
            Ok(event) => {
                let name = event.metadata.name.unwrap_or_default();
                return correlator.posted(&outcome, name, event.count.unwrap_or(1));
            }
            // The Event expired: begin a new one.
            Err(kube::Error::Api(status)) if known.is_some() && status.code == 404 => known = None,
            // The namespace ends, or the event is refused for good.
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
                return tracing::debug!(message = status.message, "event refused");
            }
            Err(error) => {
                tracing::debug!(%error, "event not posted yet");
                tokio::time::sleep(backoff.delay()).await;
            }
        }
    }
}

async fn count(
    events: &Api<Event>,
    outcome: &Outcome,
    repeats: &Repeats,
    at: Timestamp,
) -> Result<Event, kube::Error> {
    let change = serde_json::json!({
        "count": repeats.count + 1,
        "lastTimestamp": Time(at),
        "message": outcome.message,
    });
    events.patch(&repeats.name, &PatchParams::default(), &Patch::Merge(change)).await
}

fn event(source: &EventSource, namespace: &str, outcome: &Outcome, at: Timestamp) -> Event {
    let Occurrence { object, kind, reason, annotations, .. } = &outcome.occurrence;
    let unique = format!("{}.{:x}", object.name.as_deref().unwrap_or_default(), at.as_nanosecond());
    Event {
        metadata: ObjectMeta {
            name: Some(unique),
            namespace: Some(namespace.to_owned()),
            annotations: Some(annotations.clone()).filter(|all| !all.is_empty()),
            ..ObjectMeta::default()
        },
        involved_object: object.clone(),
        type_: Some(kind.as_str().to_owned()),
        reason: Some(reason.clone()),
        message: Some(outcome.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        source: Some(source.clone()),
        reporting_component: source.component.clone(),
        reporting_instance: Some(source.host.clone().unwrap_or_default()),
        ..Event::default()
    }
}
