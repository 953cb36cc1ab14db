//! Carries actions to the API.

use std::collections::HashSet;

use futures::stream::{self, StreamExt as _};
use http::Method;
use kube::client::Body;
use plimsoll_client::{EventRecorder, EventType, Term};
use plimsoll_reconcile::action::{
    Action, Create, Delete, Failure, Living, Note, Patch, Propagation, Resource, Severity, Target,
};
use plimsoll_reconcile::expectation::Written;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::output::{self, Output};

/// Requests of one decision that may be under way at once.
const AT_ONCE: usize = 128;

/// Who writes, in `metadata.managedFields`.
const MANAGER: &str = "fieldManager=kube-controller-manager";

/// The outcome of a list of actions.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) written: Vec<Written>,
    pub(crate) again: Option<std::time::Duration>,
    pub(crate) failure: Option<Failure>,
}

/// Carries out actions in the name of one component.
#[derive(Clone)]
pub(crate) struct Executor {
    client: kube::Client,
    events: EventRecorder,
    name: &'static str,
    outputs: &'static [Output],
    term: Term,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    metadata: AnswerMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AnswerMeta {
    name: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
}

/// Why the server refused.
struct Refusal {
    code: u16,
    reason: String,
    message: String,
    causes: Vec<String>,
}

impl Executor {
    /// Acts for the controller `name`, which writes `outputs`; its Events come from `component`.
    pub(crate) fn new(
        client: kube::Client,
        component: &str,
        name: &'static str,
        outputs: &'static [Output],
    ) -> Self {
        let events = EventRecorder::new(client.clone(), component, None);
        Self { client, events, name, outputs, term: Term::default() }
    }

    /// Acts only while this holds.
    pub(crate) fn within(mut self, term: Term) -> Self {
        self.term = term;
        self
    }

    /// What it may write.
    pub(crate) fn outputs(&self) -> &'static [Output] {
        self.outputs
    }

    /// Takes all steps in order until one fails. Neighbours of one sort run side by side.
    pub(crate) async fn execute(&self, actions: Vec<Action>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut rest = actions.into_iter().peekable();
        while let Some(first) = rest.next() {
            let mut group = vec![first];
            while let Some(next) = rest.next_if(|next| side_by_side(&group[0], next)) {
                group.push(next);
            }
            self.execute_group(group, &mut outcome).await;
            if outcome.failure.is_some() {
                break;
            }
        }
        outcome
    }

    /// Creations start slowly, so that a quota that refuses all is asked once and not 500 times.
    async fn execute_group(&self, group: Vec<Action>, outcome: &mut Outcome) {
        let slow = matches!(group[0], Action::Create(_));
        let mut size = if slow { 1 } else { group.len() };
        let mut left = group.into_iter();
        loop {
            let batch: Vec<_> = left.by_ref().take(size).collect();
            if batch.is_empty() {
                return;
            }
            let mut results = stream::iter(batch).map(|action| self.step(action)).buffer_unordered(AT_ONCE);
            while let Some(result) = results.next().await {
                match result {
                    Ok(Done::Wrote(written)) => outcome.written.extend(written),
                    Ok(Done::Again(wait)) => {
                        outcome.again = Some(outcome.again.map_or(wait, |known| known.min(wait)));
                    }
                    Err(failure) => outcome.failure = outcome.failure.take().or(Some(*failure)),
                }
            }
            if outcome.failure.is_some() {
                return;
            }
            size *= 2;
        }
    }

    async fn step(&self, action: Action) -> Result<Done, Box<Failure>> {
        if let Some((reason, message)) = self.forbidden(&action) {
            let reason = reason.to_owned();
            return Err(Box::new(Failure { action, code: 0, reason, message, causes: Vec::new() }));
        }
        let result = match &action {
            Action::Create(create) => self.create(create).await,
            Action::Patch(patch) => self.patch(patch).await,
            Action::Replace { target, subresource, object } => {
                self.replace(target, *subresource, object).await
            }
            Action::Delete(delete) => self.delete(delete).await,
            Action::Event(note) => {
                self.tell(note, "");
                Ok(None)
            }
            Action::RequeueAfter(wait) => return Ok(Done::Again(*wait)),
        };
        result.map(Done::Wrote).map_err(|refusal| {
            let Refusal { code, reason, message, causes } = refusal;
            Box::new(Failure { action, code, reason, message, causes })
        })
    }

    /// Why it may not act: what it would do is not declared, or somebody else may lead.
    fn forbidden(&self, action: &Action) -> Option<(&'static str, String)> {
        if let Some(deed) = output::undeclared(self.outputs, action) {
            tracing::error!(controller = self.name, deed, "an action is refused, as it was not declared");
            return Some(("Undeclared", format!("{} does not declare that it {deed}", self.name)));
        }
        (!self.term.holds()).then(|| ("NotLeading", "somebody else may lead".to_owned()))
    }

    /// Deletes the object or the whole collection at `path`, for decisions that need to know what came of it.
    /// Nothing is wrong where nothing is, or where it cannot be asked for.
    ///
    /// # Errors
    /// Why not, in the server's words.
    pub(crate) async fn remove(&self, resource: &Resource, path: String) -> Result<(), String> {
        let target = Target { resource: resource.clone(), namespace: String::new(), name: String::new() };
        let delete = Delete { propagation: Some(Propagation::Background), ..Delete::of(target) };
        let options = options(&delete);
        if let Some((_, message)) = self.forbidden(&delete.into()) {
            return Err(message);
        }
        match self.send(Method::DELETE, path, "application/json", &options).await {
            Err(refusal) if !matches!(refusal.code, 404 | 405) => Err(refusal.message),
            _ => Ok(()),
        }
    }

    async fn create(&self, create: &Create) -> Result<Option<Written>, Refusal> {
        let path = format!("{}?{MANAGER}", create.resource.path(&create.namespace));
        match self.send(Method::POST, path, "application/json", &create.object).await {
            Ok(answer) => {
                self.tell_some(&create.made, &answer.metadata.name);
                Ok(written(&create.resource, &answer))
            }
            Err(refusal) => {
                if !refusal.causes.iter().any(|cause| cause == "NamespaceTerminating") {
                    self.tell_some(&create.refused, &refusal.message);
                }
                Err(refusal)
            }
        }
    }

    async fn patch(&self, patch: &Patch) -> Result<Option<Written>, Refusal> {
        if let Some(guard) = &patch.guard {
            self.check(guard).await?;
        }
        let path = format!("{}{}?{MANAGER}", patch.target.path(), door(patch.subresource));
        let answer = self.send(Method::PATCH, path, "application/merge-patch+json", &patch.body).await?;
        Ok(written(&patch.target.resource, &answer))
    }

    async fn replace(
        &self,
        target: &Target,
        subresource: Option<&str>,
        object: &Value,
    ) -> Result<Option<Written>, Refusal> {
        let path = format!("{}{}?{MANAGER}", target.path(), door(subresource));
        let answer = self.send(Method::PUT, path, "application/json", object).await?;
        Ok(written(&target.resource, &answer))
    }

    async fn delete(&self, delete: &Delete) -> Result<Option<Written>, Refusal> {
        let result =
            self.send(Method::DELETE, delete.target.path(), "application/json", &options(delete)).await;
        match result {
            Err(refusal) if refusal.code == 404 => Ok(None),
            Err(refusal) => {
                self.tell_some(&delete.refused, &refusal.message);
                Err(refusal)
            }
            Ok(_) => {
                self.tell_some(&delete.done, &delete.target.name);
                let living = |uid: &String| Living { target: delete.target.clone(), uid: uid.clone() };
                Ok(delete.uid.as_ref().map(living).map(Written::Gone))
            }
        }
    }

    /// Asks the server, not a cache, whether an owner may still take something.
    async fn check(&self, guard: &Living) -> Result<(), Refusal> {
        let answer = self.send(Method::GET, guard.target.path(), "application/json", &Value::Null).await?;
        if answer.metadata.uid == guard.uid && answer.metadata.deletion_timestamp.is_none() {
            return Ok(());
        }
        let message = format!("{} {} is gone or going", guard.target.resource.kind, guard.target.name);
        Err(Refusal { code: 409, reason: "Conflict".to_owned(), message, causes: Vec::new() })
    }

    async fn send(&self, method: Method, path: String, kind: &str, body: &Value) -> Result<Answer, Refusal> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap_or_default() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, kind)
            .header(http::header::ACCEPT, "application/json")
            .body(Body::from(body))
            .map_err(|error| Refusal::unreachable(&error))?;
        let response = self.client.send(request).await.map_err(|error| Refusal::unreachable(&error))?;
        let code = response.status();
        let body =
            response.into_body().collect_bytes().await.map_err(|error| Refusal::unreachable(&error))?;
        if code.is_success() {
            return serde_json::from_slice(&body).map_err(|error| Refusal::unreachable(&error));
        }
        Err(Refusal::read(code.as_u16(), &body))
    }

    fn tell_some(&self, note: &Option<Note>, more: &str) {
        note.iter().for_each(|note| self.tell(note, more));
    }

    fn tell(&self, note: &Note, more: &str) {
        let kind = match note.severity {
            Severity::Normal => EventType::Normal,
            Severity::Warning => EventType::Warning,
        };
        self.events.event(&note.about, kind, note.reason, note.sentence(more));
    }
}

/// What a step did.
enum Done {
    Wrote(Option<Written>),
    Again(std::time::Duration),
}

impl Refusal {
    fn unreachable(error: &dyn std::error::Error) -> Self {
        Self { code: 0, reason: "Unreachable".to_owned(), message: error.to_string(), causes: Vec::new() }
    }

    fn read(code: u16, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        let causes = status["details"]["causes"].as_array().into_iter().flatten();
        let causes: HashSet<_> =
            causes.filter_map(|cause| cause["reason"].as_str()).map(str::to_owned).collect();
        let message = text("message");
        let message = if message.is_empty() { String::from_utf8_lossy(body).into_owned() } else { message };
        Self { code, reason: text("reason"), message, causes: causes.into_iter().collect() }
    }
}

fn door(subresource: Option<&str>) -> String {
    subresource.map(|door| format!("/{door}")).unwrap_or_default()
}

fn written(resource: &Resource, answer: &Answer) -> Option<Written> {
    let version = answer.metadata.resource_version.parse().ok()?;
    Some(Written::Version(resource.clone(), version))
}

fn options(delete: &Delete) -> Value {
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(uid) = &delete.uid {
        options["preconditions"]["uid"] = json!(uid);
    }
    if let Some(version) = &delete.resource_version {
        options["preconditions"]["resourceVersion"] = json!(version);
    }
    if let Some(grace) = delete.grace {
        options["gracePeriodSeconds"] = json!(grace);
    }
    if let Some(propagation) = delete.propagation {
        options["propagationPolicy"] = json!(match propagation {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        });
    }
    options
}

/// Whether two steps do not depend on each other's order.
fn side_by_side(one: &Action, two: &Action) -> bool {
    match (one, two) {
        (Action::Create(one), Action::Create(two)) => one.resource == two.resource,
        (Action::Delete(one), Action::Delete(two)) => one.target.resource == two.target.resource,
        (Action::Patch(one), Action::Patch(two)) => {
            one.target.resource == two.target.resource
                && one.subresource == two.subresource
                && one.target != two.target
        }
        _ => false,
    }
}
