//! The API server of the tests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// An API server with nodes, pods and namespaces that binds what it is told to.
#[derive(Clone, Default)]
pub(super) struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: HashMap<(&'static str, String), Value>,
    watchers: HashMap<&'static str, Vec<mpsc::UnboundedSender<String>>>,
    version: u64,
    refuse_bindings: usize,
    /// Bindings of pods that were bound already.
    conflicts: usize,
    /// Method, path and body of every write.
    writes: Vec<(String, Value)>,
}

const KINDS: [&str; 19] = [
    "poddisruptionbudgets",
    "pods",
    "nodes",
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "storageclasses",
    "csidrivers",
    "csistoragecapacities",
    "csinodes",
    "volumeattachments",
    "services",
    "replicationcontrollers",
    "replicasets",
    "statefulsets",
    "resourceslices",
    "deviceclasses",
    "resourceclaims",
    "devicetaintrules",
];

impl Api {
    /// Refuses so many bindings to come.
    pub(super) fn refuse(&self, bindings: usize) {
        self.0.lock().unwrap().refuse_bindings = bindings;
    }

    pub(super) fn put(&self, kind: &'static str, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        state.objects.insert((kind, name), object.clone());
        state.tell(kind, "MODIFIED", &object);
    }

    pub(super) fn remove(&self, kind: &'static str, name: &str) {
        let mut state = self.0.lock().unwrap();
        let object = state.objects.remove(&(kind, name.to_owned())).unwrap();
        state.tell(kind, "DELETED", &object);
    }

    /// How many pods were to be bound again.
    pub(super) fn conflicts(&self) -> usize {
        self.0.lock().unwrap().conflicts
    }

    pub(super) fn node_of(&self, pod: &str) -> Option<String> {
        let state = self.0.lock().unwrap();
        state.objects.get(&("pods", pod.to_owned()))?["spec"]["nodeName"].as_str().map(str::to_owned)
    }

    pub(super) fn writes(&self, path: &str) -> Vec<Value> {
        let state = self.0.lock().unwrap();
        state.writes.iter().filter(|(line, _)| line.contains(path)).map(|(_, body)| body.clone()).collect()
    }

    /// Claims and volumes take what is written to them.
    pub(super) fn patched(&self, path: &str, body: Value) -> Value {
        if let Some(path) = path.strip_suffix("/status") {
            return match path.contains("/resourceclaims/") {
                true => self.merged("resourceclaims", path, body),
                false => body,
            };
        }
        if path.contains("/resourceclaims/") {
            return self.merged("resourceclaims", path, body);
        }
        let mut parts = path.rsplit('/');
        let (name, plural) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let Some(kind) =
            ["persistentvolumeclaims", "persistentvolumes"].into_iter().find(|kind| *kind == plural)
        else {
            return body;
        };
        let mut object = self.object(kind, name);
        for (key, value) in body["metadata"]["annotations"].as_object().unwrap() {
            object["metadata"]["annotations"][key] = value.clone();
        }
        if !body["spec"]["claimRef"].is_null() {
            object["spec"]["claimRef"] = body["spec"]["claimRef"].clone();
        }
        self.put(kind, object);
        self.object(kind, name)
    }

    /// An object with what is written laid over it.
    pub(super) fn merged(&self, kind: &'static str, path: &str, body: Value) -> Value {
        let name = path.rsplit('/').next().unwrap();
        let mut object = self.object(kind, name);
        for part in ["metadata", "status"] {
            for (key, value) in body[part].as_object().into_iter().flatten() {
                object[part][key] = value.clone();
            }
        }
        self.put(kind, object);
        self.object(kind, name)
    }

    /// A new claim with a name of its own.
    fn made(&self, mut claim: Value) -> Value {
        let name = format!("{}1", claim["metadata"]["generateName"].as_str().unwrap());
        claim["metadata"]["name"] = json!(name);
        claim["metadata"]["uid"] = json!(name);
        self.put("resourceclaims", claim);
        self.object("resourceclaims", &name)
    }

    pub(super) fn object(&self, kind: &'static str, name: &str) -> Value {
        self.0.lock().unwrap().objects[&(kind, name.to_owned())].clone()
    }

    pub(super) fn write(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        self.0.lock().unwrap().writes.push((format!("{method} {path}"), body.clone()));
        if *method == Method::POST && path.ends_with("/resourceclaims") {
            return (201, self.made(body));
        }
        let Some(name) = path.strip_suffix("/binding").and_then(|path| path.rsplit('/').next()) else {
            return (200, self.patched(path, body));
        };
        let mut state = self.0.lock().unwrap();
        if state.refuse_bindings > 0 {
            state.refuse_bindings -= 1;
            return (
                500,
                json!({"kind": "Status", "status": "Failure", "code": 500, "message": "no", "reason": ""}),
            );
        }
        let mut pod = state.objects[&("pods", name.to_owned())].clone();
        if pod["spec"].get("nodeName").is_some() {
            let message = format!(
                "Operation cannot be fulfilled on pods/binding \"{name}\": pod {name} is already assigned to node"
            );
            state.conflicts += 1;
            return (
                409,
                json!({"kind": "Status", "status": "Failure", "code": 409, "message": message, "reason": "Conflict"}),
            );
        }
        drop(state);
        pod["spec"]["nodeName"] = body["target"]["name"].clone();
        self.put("pods", pod);
        (201, json!({"kind": "Status", "status": "Success"}))
    }
}

impl State {
    fn tell(&mut self, kind: &'static str, event: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": event, "object": object}));
        self.watchers.entry(kind).or_default().retain(|watcher| watcher.send(line.clone()).is_ok());
    }
}

impl tower::Service<Request<Body>> for Api {
    type Response = Answer;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path().to_owned();
            if parts.method != Method::GET {
                let body = body.collect().await.unwrap().to_bytes();
                let (code, answer) = api.write(&parts.method, &path, serde_json::from_slice(&body).unwrap());
                return Ok(respond(code, &answer));
            }
            let kind = KINDS.into_iter().find(|kind| path.rsplit('/').next() == Some(*kind)).unwrap();
            let mut state = api.0.lock().unwrap();
            if parts.uri.query().is_some_and(|query| query.contains("watch=")) {
                let (sender, receiver) = mpsc::unbounded_channel();
                state.watchers.entry(kind).or_default().push(sender);
                return Ok(stream(receiver));
            }
            let items: Vec<&Value> =
                state.objects.iter().filter(|(key, _)| key.0 == kind).map(|(_, object)| object).collect();
            let list = json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items});
            Ok(respond(200, &list))
        })
    }
}

fn respond(code: u16, body: &Value) -> Answer {
    Response::builder().status(code).body(Full::new(Bytes::from(body.to_string())).boxed_unsync()).unwrap()
}

fn stream(receiver: mpsc::UnboundedReceiver<String>) -> Answer {
    let lines = futures::stream::unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        Some((Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(line))), receiver))
    });
    Response::new(StreamBody::new(lines.boxed()).boxed_unsync())
}
