//! The record of one request while it is served.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Request;
use http::header::USER_AGENT;
use http::{Response, header};
use http_body::Body;
use http_body_util::BodyExt;
use jiff::Timestamp;
use plimsoll_audit::{Decision, Event, Level, Stage, UserInfo, user_agent, without_managed_fields};
use serde_json::{Value, json};

use super::{Auditor, describe};
use crate::body::{self, Document, RequestBody, ResponseBody};
use crate::stages::Asked;
use crate::target::Target;

/// Answers up to this size are looked at: they may be a Status.
const SMALL: u64 = 1024;

/// The record of one request.
#[derive(Debug)]
pub(super) struct Record {
    auditor: Arc<Auditor>,
    id: String,
    uri: String,
    agent: String,
    source_ips: Vec<String>,
    received: String,
    /// None while it is not known whether anything is recorded, and when nothing is.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    event: Event,
    decision: Decision,
    course: Course,
}

/// Which events end the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// One when the answer is complete.
    Short,
    /// One when it begins and one when it is complete.
    LongRunning,
    /// One when it begins: the client was sent away.
    Unauthenticated,
}

impl Record {
    pub(super) fn new(auditor: Arc<Auditor>, request: &Request<RequestBody>) -> Self {
        let text =
            |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let id = match text(header::HeaderName::from_static("audit-id")) {
            "" => uuid::Uuid::new_v4().to_string(),
            given => given.to_owned(),
        };
        Self {
            auditor,
            id,
            uri: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            agent: user_agent(text(USER_AGENT)),
            source_ips: describe::source_ips(request),
            received: now(),
            open: Mutex::new(None),
        }
    }

    /// The request is not served because its event cannot be kept.
    pub(super) fn rejected(&self) {
        self.auditor.metrics.rejected();
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn state(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what is recorded, now that it is known who asks for what.
    pub(super) fn open(&self, asked: &Asked, target: &Target) {
        let verb = describe::verb(asked, target);
        let course = match describe::is_long_running(target, &verb) {
            true => Course::LongRunning,
            false => Course::Short,
        };
        self.begin(asked, target, verb, course);
    }

    /// The same for a client that nobody vouches for.
    pub(super) fn open_unauthenticated(&self, asked: &Asked, target: &Target) {
        self.begin(asked, target, describe::verb(asked, target), Course::Unauthenticated);
        let attempts = describe::attempts(&asked.headers, !asked.query.get("access_token").is_empty());
        self.change(|event| event.response_status = json!({"metadata": {}, "message": attempts}));
    }

    fn begin(&self, asked: &Asked, target: &Target, verb: String, course: Course) {
        let decision = self.auditor.policy.decide(&describe::attributes(asked, target, &verb));
        self.auditor.metrics.level(decision.level);
        if decision.level == Level::None {
            return;
        }
        let user = match course {
            Course::Unauthenticated => UserInfo::default(),
            _ => describe::user(&asked.user),
        };
        let mut event = Event::received(decision.level, self.id.clone(), user, self.received.clone());
        event.request_uri.clone_from(&self.uri);
        event.verb = verb;
        event.source_ips.clone_from(&self.source_ips);
        event.user_agent.clone_from(&self.agent);
        event.object_ref = describe::reference(target);
        *self.state() = Some(Open { event, decision, course });
    }

    /// Changes the event, if there is one.
    pub(super) fn change(&self, change: impl FnOnce(&mut Event)) {
        if let Some(open) = self.state().as_mut() {
            change(&mut open.event);
        }
    }

    pub(super) fn request_object(&self, object: &Value) {
        if let Some(Open { event, decision, .. }) = self.state().as_mut() {
            event.refer(object);
            if decision.level >= Level::Request {
                event.request_object = recorded(object.clone(), decision);
            }
        }
    }

    pub(super) fn request_patch(&self, bytes: &[u8]) {
        if let Some(Open { event, decision, .. }) = self.state().as_mut()
            && decision.level >= Level::Request
        {
            let text = || serde_saphyr::from_str(std::str::from_utf8(bytes).ok()?).ok();
            event.request_object = serde_json::from_slice(bytes).ok().or_else(text).unwrap_or_default();
        }
    }

    /// Takes from the answer what is recorded of it.
    pub(super) async fn responded(&self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        let code = response.status().as_u16();
        let Some(level) = self.state().as_mut().map(|open| {
            let message = open.event.response_status.get("message").cloned();
            open.event.response_status = json!({"metadata": {}, "code": code});
            if let Some(message) = message {
                open.event.response_status["message"] = message;
            }
            open.decision.level
        }) else {
            return response;
        };
        let small = response.body().size_hint().exact().is_some_and(|size| size <= SMALL);
        let read = level == Level::RequestResponse || code >= 400 || small;
        if response.extensions().get::<Document>().is_none() || !read {
            return response;
        }
        let (parts, body) = response.into_parts();
        // Documents are of one piece and in memory.
        let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
            self.response_object(value, code);
        }
        Response::from_parts(parts, body::full(bytes))
    }

    fn response_object(&self, value: Value, code: u16) {
        let mut state = self.state();
        let Some(Open { event, decision, course }) = state.as_mut() else { return };
        if value["kind"] == "Status" && value["apiVersion"] == "v1" && *course != Course::Unauthenticated {
            let mut status = json!({"metadata": {}, "code": code});
            for field in ["status", "message", "reason", "details"] {
                if let Some(part) = value.get(field) {
                    status[field] = part.clone();
                }
            }
            event.response_status = status;
        }
        if decision.level >= Level::RequestResponse {
            event.response_object = recorded(value, decision);
        }
    }

    /// How the record ends; none when nothing is recorded.
    pub(super) fn course(&self) -> Option<Course> {
        self.state().as_ref().map(|open| open.course)
    }

    pub(super) async fn panicked(&self) {
        self.change(|event| {
            event.response_status = json!({"metadata": {}, "status": "Failure", "reason": "InternalError",
                "message": "APIServer panic'd", "code": 500});
        });
        self.emit(Stage::Panic).await;
    }

    /// Writes the event of a stage; false when it must be kept and is not.
    pub(super) async fn emit(&self, stage: Stage) -> bool {
        match self.event(stage) {
            Some(event) => self.auditor.write(&event).await,
            None => true,
        }
    }

    /// The same without waiting.
    pub(super) fn offer(&self, stage: Stage) {
        if let Some(event) = self.event(stage) {
            self.auditor.offer(&event);
        }
    }

    fn event(&self, stage: Stage) -> Option<Event> {
        let mut state = self.state();
        let Open { event, decision, .. } = state.as_mut()?;
        if decision.omit_stages.contains(&stage) {
            return None;
        }
        event.stage = stage;
        if stage != Stage::RequestReceived {
            event.stage_timestamp = now();
        }
        Some(event.clone())
    }
}

fn recorded(body: Value, decision: &Decision) -> Value {
    if decision.omit_managed_fields { without_managed_fields(body) } else { body }
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
