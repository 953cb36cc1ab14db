//! An API server of a few lines: objects in memory, watches, events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

type Answer = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>;

struct Watcher {
    plural: String,
    name: Option<String>,
    sender: mpsc::UnboundedSender<Value>,
}

#[derive(Default)]
struct State {
    version: u64,
    down: bool,
    /// A field of statuses that this server does not know.
    unknown: Option<&'static str>,
    objects: BTreeMap<(String, String), Value>,
    watchers: Vec<Watcher>,
}

#[derive(Clone, Default)]
pub(super) struct FakeApi {
    state: Arc<Mutex<State>>,
}

impl FakeApi {
    pub(super) fn client(&self) -> kube::Client {
        let api = self.clone();
        plimsoll_client::from_service(tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        }))
    }

    pub(super) fn leave_out(&self, field: &'static str) {
        self.state.lock().unwrap().unknown = Some(field);
    }

    pub(super) async fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
            let state = self.state.lock().unwrap();
            let pods: Vec<_> = state.objects.iter().filter(|((plural, _), _)| plural == "pods").collect();
            panic!("{what}: {pods:#?}");
        }
    }

    pub(super) fn pod(&self) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&("pods".into(), "web".into())).cloned()
    }

    /// Reason and message of one of the pod's conditions.
    pub(super) fn condition(&self, name: &str) -> Option<(String, String)> {
        let pod = self.pod()?;
        let found = pod["status"]["conditions"].as_array()?.iter().find(|it| it["type"] == name)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Some((text("reason"), text("message")))
    }

    pub(super) fn node(&self) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&("nodes".into(), "n1".into())).cloned()
    }

    /// Any object.
    pub(super) fn object(&self, plural: &str, name: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&(plural.into(), name.into())).cloned()
    }

    pub(super) fn node_is_ready(&self) -> bool {
        self.node_condition("Ready") == "True"
    }

    /// The status of one of the node's conditions.
    pub(super) fn node_condition(&self, name: &str) -> String {
        let state = self.state.lock().unwrap();
        let node = state.objects.get(&("nodes".into(), "n1".into()));
        let conditions = node.and_then(|node| node["status"]["conditions"].as_array());
        let found = conditions.into_iter().flatten().find(|it| it["type"] == name);
        found.and_then(|it| it["status"].as_str()).unwrap_or_default().to_owned()
    }

    /// An object as it is now.
    pub(super) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&(plural.into(), name.into())).cloned()
    }

    /// All objects of a kind.
    pub(super) fn all(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        let fits = state.objects.iter().filter(|((kind, _), _)| kind == plural);
        fits.map(|(_, object)| object.clone()).collect()
    }

    /// What events say.
    pub(super) fn messages(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let events = state.objects.iter().filter(|((plural, _), _)| plural == "events");
        events.map(|(_, event)| event["message"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let events = state.objects.iter().filter(|((plural, _), _)| plural == "events");
        events.map(|(_, event)| event["reason"].as_str().unwrap().to_owned()).collect()
    }

    /// The server goes, with every watch, or comes back.
    pub(super) fn set_down(&self, down: bool) {
        let mut state = self.state.lock().unwrap();
        state.down = down;
        state.watchers.clear();
    }

    /// The message of an event.
    pub(super) fn event(&self, reason: &str) -> String {
        let state = self.state.lock().unwrap();
        let found =
            state.objects.iter().find(|((plural, _), it)| plural == "events" && it["reason"] == reason);
        found.and_then(|(_, event)| event["message"].as_str()).unwrap_or_default().to_owned()
    }

    pub(super) fn put(&self, plural: &str, object: Value) {
        self.state.lock().unwrap().put(plural, object);
    }

    pub(super) fn remove(&self, plural: &str, name: &str) {
        self.state.lock().unwrap().remove(plural, name);
    }

    pub(super) fn mark_deleted(&self, name: &str, grace: i64) {
        let mut state = self.state.lock().unwrap();
        let mut pod = state.objects[&("pods".into(), name.into())].clone();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        state.put("pods", pod);
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().trim_start_matches("/apis/coordination.k8s.io/v1/").to_owned();
        let path = path.trim_start_matches("/apis/storage.k8s.io/v1/");
        let path = path.trim_start_matches("/apis/resource.k8s.io/v1/");
        let path = path.trim_start_matches("/apis/certificates.k8s.io/v1/");
        let path = path.trim_start_matches("/apis/discovery.k8s.io/v1/").trim_start_matches("/api/v1/");
        let words: Vec<&str> = match path.split('/').collect::<Vec<_>>().as_slice() {
            ["namespaces", _, rest @ ..] if !rest.is_empty() => rest.to_vec(),
            words => words.to_vec(),
        };
        let query = parts.uri.query().unwrap_or_default();
        if words.last() == Some(&"hangs") {
            std::future::pending::<()>().await;
        }
        let mut state = self.state.lock().unwrap();
        if state.down {
            let status = json!({"kind": "Status", "status": "Failure", "reason": "ServiceUnavailable", "code": 503, "message": "down"});
            return answer(503, &status);
        }
        match (parts.method, words.as_slice()) {
            (Method::GET, [plural]) if query.contains("watch=") => state.watch(plural, query),
            (Method::GET, [plural]) => state.list(plural, query),
            (Method::GET, [plural, name]) => state.get(plural, name),
            (Method::POST, [plural]) => {
                let mut body = body;
                if body["metadata"]["uid"].is_null() {
                    body["metadata"]["uid"] = json!(format!("made-{}", state.version));
                }
                if body["metadata"]["name"].is_null() {
                    let prefix = body["metadata"]["generateName"].as_str().unwrap();
                    body["metadata"]["name"] = json!(format!("{prefix}{}", state.version));
                }
                answer(201, &state.put(plural, body))
            }
            (Method::POST, ["serviceaccounts", name, "token"]) => {
                let audience = body["spec"]["audiences"][0].as_str().unwrap_or_default();
                let mut body = body.clone();
                body["status"] = json!({
                    "token": format!("token of {name} for {audience}"), "expirationTimestamp": "2126-01-01T00:00:00Z"});
                answer(201, &body)
            }
            (Method::PUT, [plural, _]) => answer(200, &state.put(plural, body)),
            (Method::PATCH, [plural, name, ..]) => state.patch(plural, name, &body),
            // Nobody offers devices here.
            (Method::DELETE, ["resourceslices"]) => answer(200, &json!({"metadata": {}, "items": []})),
            (Method::DELETE, [plural, name]) => {
                state.remove(plural, name);
                answer(200, &json!({"kind": "Status", "status": "Success"}))
            }
            (method, words) => panic!("{method} {words:?}"),
        }
    }
}

impl State {
    fn put(&mut self, plural: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let key = (plural.to_owned(), object["metadata"]["name"].as_str().unwrap().to_owned());
        let kind = if self.objects.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(plural, kind, &object);
        object
    }

    fn remove(&mut self, plural: &str, name: &str) {
        self.version += 1;
        if let Some(mut object) = self.objects.remove(&(plural.into(), name.into())) {
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.tell(plural, "DELETED", &object);
        }
    }

    fn tell(&self, plural: &str, kind: &str, object: &Value) {
        let event = json!({"type": kind, "object": object});
        let wants = |watcher: &&Watcher| {
            let name = watcher.name.as_ref();
            watcher.plural == plural && name.is_none_or(|name| object["metadata"]["name"] == *name)
        };
        for watcher in self.watchers.iter().filter(wants) {
            let _ = watcher.sender.send(event.clone());
        }
    }

    fn get(&self, plural: &str, name: &str) -> Answer {
        match self.objects.get(&(plural.into(), name.into())) {
            Some(object) => answer(200, object),
            None => answer(
                404,
                &json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}),
            ),
        }
    }

    fn list(&self, plural: &str, query: &str) -> Answer {
        let name = selected(query);
        let fits = |((kind, known), _): &(&(String, String), &Value)| {
            kind == plural && name.as_ref().is_none_or(|name| name == known)
        };
        let items: Vec<_> = self.objects.iter().filter(fits).map(|(_, object)| object).collect();
        answer(200, &json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items}))
    }

    fn watch(&mut self, plural: &str, query: &str) -> Answer {
        let (sender, receiver) = mpsc::unbounded_channel();
        // What came between the list and this watch is told again: informers know it by its version.
        let name = selected(query);
        let version = query.split('&').find_map(|it| it.strip_prefix("resourceVersion=")).unwrap();
        let version: u64 = version.parse().unwrap();
        for ((kind, known), object) in &self.objects {
            let own: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            if kind == plural && own > version && name.as_ref().is_none_or(|name| name == known) {
                sender.send(json!({"type": "ADDED", "object": object})).unwrap();
            }
        }
        self.watchers.push(Watcher { plural: plural.to_owned(), name, sender });
        let lines = UnboundedReceiverStream::new(receiver)
            .map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(StreamBody::new(lines).boxed_unsync())
    }

    fn patch(&mut self, plural: &str, name: &str, patch: &Value) -> Answer {
        let Some(mut object) = self.objects.get(&(plural.into(), name.into())).cloned() else {
            return self.get(plural, name);
        };
        let known = object.clone();
        merge(&mut object, patch);
        if let (Some(field), Some(status)) = (self.unknown, object["status"].as_object_mut()) {
            status.remove(field);
        }
        let is_news = object != known;
        answer(200, &if is_news { self.put(plural, object) } else { object })
    }
}

/// Strategic merge as far as statuses need it: conditions by type, other lists as a whole.
fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else { return *object = patch.clone() };
    for (name, value) in fields {
        match (name.as_str(), value) {
            (_, Value::Null) => drop(object.as_object_mut().unwrap().remove(name)),
            ("conditions", Value::Array(conditions)) => {
                let mut list = object[name].as_array().cloned().unwrap_or_default();
                for condition in conditions {
                    if condition["$patch"] == "delete" {
                        list.retain(|known| known["type"] != condition["type"]);
                        continue;
                    }
                    match list.iter_mut().find(|known| known["type"] == condition["type"]) {
                        Some(known) => merge(known, condition),
                        None => list.push(condition.clone()),
                    }
                }
                object[name] = json!(list);
            }
            (_, Value::Array(items)) => {
                object[name] = items.iter().filter(|item| item["$patch"].is_null()).cloned().collect();
            }
            (_, Value::Object(_)) => {
                if object[name].is_null() {
                    object[name] = json!({});
                }
                merge(&mut object[name], value);
            }
            _ => object[name] = value.clone(),
        }
    }
}

fn selected(query: &str) -> Option<String> {
    let fields = query.split('&').find_map(|it| it.strip_prefix("fieldSelector="))?;
    let fields = percent_encoding::percent_decode_str(fields).decode_utf8().unwrap();
    fields.strip_prefix("metadata.name=").map(str::to_owned)
}

fn answer(code: u16, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}
