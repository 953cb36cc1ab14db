//! A small API server in memory whose watches are late.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// How late watches tell.
const LATE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct State {
    version: u64,
    /// Objects by path.
    objects: BTreeMap<String, Value>,
    /// All changes: version, path, event.
    history: Vec<(u64, String, Value)>,
    watchers: Vec<(String, mpsc::UnboundedSender<Value>)>,
    log: Vec<String>,
}

/// The server. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    state: Arc<Mutex<State>>,
}

impl Memory {
    pub(crate) fn client(&self) -> kube::Client {
        plimsoll_client::from_service(self.clone())
    }

    /// Puts an object in place.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.state.lock().expect("unpoisoned").write(path, object);
    }

    /// Writes that were asked for, as `POST path`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().expect("unpoisoned").log.clone()
    }

    /// An object.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().expect("unpoisoned").objects.get(path).cloned()
    }

    /// Deletes an object; finalizers hold it.
    pub(crate) fn delete(&self, path: &str) {
        drop(self.state.lock().expect("unpoisoned").delete(path));
    }

    /// Paths of all objects of a collection.
    pub(crate) fn paths(&self, collection: &str) -> Vec<String> {
        let state = self.state.lock().expect("unpoisoned");
        state.objects.keys().filter(|path| belongs(path, collection)).cloned().collect()
    }
}

/// Whether an object is of a collection, in one namespace or in all.
fn belongs(path: &str, collection: &str) -> bool {
    let (root, plural) = collection.rsplit_once('/').unwrap_or_default();
    let (rest, _) = path.rsplit_once('/').unwrap_or_default();
    let (before, kind) = rest.rsplit_once('/').unwrap_or_default();
    kind == plural
        && (before == root || before.strip_prefix(root).is_some_and(|rest| rest.starts_with("/namespaces/")))
}

impl State {
    fn write(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        let known = self.objects.insert(path.to_owned(), object.clone()).is_some();
        self.tell(path, if known { "MODIFIED" } else { "ADDED" }, &object);
        object
    }

    fn tell(&mut self, path: &str, kind: &str, object: &Value) {
        let event = json!({"type": kind, "object": object});
        self.history.push((self.version, path.to_owned(), event.clone()));
        self.watchers
            .retain(|(collection, sender)| !belongs(path, collection) || sender.send(event.clone()).is_ok());
    }

    fn delete(&mut self, path: &str) -> Answer {
        let Some(mut object) = self.objects.get(path).cloned() else {
            return reply(404, &json!({"kind": "Status", "code": 404, "reason": "NotFound"}));
        };
        let held = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if held && object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
            object = self.write(path, object);
        }
        if !held {
            self.objects.remove(path);
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.tell(path, "DELETED", &object);
        }
        reply(200, &object)
    }

    fn list(&self, collection: &str) -> Value {
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(path, _)| belongs(path, collection))
            .map(|(_, object)| object)
            .collect();
        json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items})
    }

    fn watch(&mut self, collection: &str, from: u64) -> Answer {
        let (sender, receiver) = mpsc::unbounded_channel();
        let missed =
            self.history.iter().filter(|(version, path, _)| *version > from && belongs(path, collection));
        missed.for_each(|(_, _, event)| drop(sender.send(event.clone())));
        self.watchers.push((collection.to_owned(), sender));
        let lines = futures::stream::unfold(receiver, |mut receiver| async {
            let event = receiver.recv().await?;
            tokio::time::sleep(LATE).await;
            let frame = http_body::Frame::data(Bytes::from(format!("{event}\n")));
            Some((Ok::<_, Infallible>(frame), receiver))
        });
        Response::new(StreamBody::new(lines.boxed()).boxed_unsync())
    }

    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> Answer {
        if *method != Method::GET && !path.ends_with("/events") {
            self.log.push(format!("{method} {path}"));
        }
        let object = path.trim_end_matches("/status").to_owned();
        match *method {
            Method::GET if query.contains("watch=true") => {
                let from = query.split("resourceVersion=").nth(1).and_then(|text| text.parse().ok());
                self.watch(path, from.unwrap_or_default())
            }
            Method::GET => match self.objects.get(path) {
                Some(found) => reply(200, found),
                None if path.rsplit('/').next().is_some_and(|last| last.ends_with('s')) => {
                    reply(200, &self.list(path))
                }
                None => reply(404, &json!({"kind": "Status", "code": 404, "reason": "NotFound"})),
            },
            Method::POST => {
                let mut made = body.clone();
                if made["metadata"]["name"].is_null() {
                    let prefix = made["metadata"]["generateName"].as_str().unwrap_or_default();
                    made["metadata"]["name"] = json!(format!("{prefix}{}", self.version));
                }
                let path = format!("{path}/{}", made["metadata"]["name"].as_str().unwrap_or_default());
                if self.objects.contains_key(&path) {
                    return reply(409, &json!({"kind": "Status", "code": 409, "reason": "AlreadyExists"}));
                }
                reply(201, &self.write(&path, made))
            }
            Method::PUT => match self.objects.get(&object) {
                Some(found)
                    if found["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"] =>
                {
                    reply(200, &self.write(&object, body.clone()))
                }
                Some(_) => reply(409, &json!({"kind": "Status", "code": 409, "reason": "Conflict"})),
                None => reply(404, &json!({"kind": "Status", "code": 404, "reason": "NotFound"})),
            },
            Method::PATCH => match self.objects.get(&object).cloned() {
                Some(found) => {
                    let asked = &body["metadata"]["resourceVersion"];
                    if !asked.is_null() && *asked != found["metadata"]["resourceVersion"] {
                        return reply(409, &json!({"kind": "Status", "code": 409, "reason": "Conflict"}));
                    }
                    let written = self.write(&object, merged(found, body));
                    if !written["metadata"]["deletionTimestamp"].is_null() {
                        drop(self.delete(&object));
                    }
                    reply(200, &written)
                }
                None => reply(404, &json!({"kind": "Status", "code": 404, "reason": "NotFound"})),
            },
            _ => match self.objects.get(&object).cloned() {
                Some(pod) if object.contains("/pods/") && runs(&pod) && body["gracePeriodSeconds"] != 0 => {
                    reply(200, &self.ask_to_end(&object, pod))
                }
                _ => self.delete(&object),
            },
        }
    }

    /// A pod that runs somewhere is gone when its node says so.
    fn ask_to_end(&mut self, path: &str, mut pod: Value) -> Value {
        if pod["metadata"]["deletionTimestamp"].is_null() {
            pod["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
            pod = self.write(path, pod);
        }
        pod
    }
}

/// Whether a pod is bound to a node.
fn runs(pod: &Value) -> bool {
    !pod["spec"]["nodeName"].is_null()
}

fn reply(code: u16, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).expect("a known code");
    response
}

fn merged(mut old: Value, patch: &Value) -> Value {
    let Some(fields) = patch.as_object() else { return patch.clone() };
    if !old.is_object() {
        old = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            old.as_object_mut().map(|object| object.remove(key));
        } else {
            old[key] = merged(old[key].take(), value);
        }
    }
    old
}

impl tower::Service<Request<Body>> for Memory {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let state = self.state.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
            Ok(state.lock().expect("unpoisoned").answer(&parts.method, path, query, &body))
        })
    }
}
