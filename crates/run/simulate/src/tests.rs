//! The loops against a server that has one node, and tells of pods by a watch.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Mutex;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::*;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Remembers writes, and sends what comes through its channels as watches.
struct Server {
    watches: Mutex<HashMap<&'static str, UnboundedReceiver<Value>>>,
    writes: UnboundedSender<String>,
    /// Whether writes are answered now.
    answers: watch::Receiver<bool>,
    /// The labels of the node, if all that is to be made is there.
    taken: Option<Value>,
}

impl Server {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Answer, Infallible> {
        let (method, uri) = (request.method().clone(), request.uri().to_string());
        let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
        if method != Method::GET {
            let body = request.into_body().collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let phase = body.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
            let _ = self.writes.send(format!("{method} {path} {phase}").trim_end().to_owned());
            if method == Method::POST && self.taken.is_some() {
                return Ok(exists());
            }
            let _ = self.answers.clone().wait_for(|answers| *answers).await;
            return Ok(whole(&json!({"metadata": {"uid": "u"}})));
        }
        if path == "/api/v1/nodes/sim-0" {
            return Ok(whole(&json!({"metadata": {"labels": self.taken}})));
        }
        if !query.contains("watch=true") {
            return Ok(whole(&json!({"metadata": {"resourceVersion": "1"}, "items": []})));
        }
        let kind = path.rsplit('/').next().unwrap_or_default();
        let Some(lines) = self.watches.lock().unwrap().remove(kind) else {
            return std::future::pending().await;
        };
        let lines = stream::unfold(lines, async |mut lines| {
            let line = lines.recv().await?;
            Some((Ok(Frame::data(Bytes::from(format!("{line}\n")))), lines))
        });
        Ok(Response::new(StreamBody::new(lines.boxed()).boxed_unsync()))
    }
}

fn whole(body: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync())
}

fn exists() -> Answer {
    let status = json!({"kind": "Status", "code": 409, "reason": "AlreadyExists"});
    let mut answer = whole(&status);
    *answer.status_mut() = http::StatusCode::CONFLICT;
    answer
}

fn config() -> Config {
    let fleet = Fleet { prefix: "sim".into(), count: 1, zones: 1, capacity: Fleet::usual_capacity() };
    Config { fleet, manner: Manner::default(), lease: Duration::from_secs(40), version: "v1.37.0" }
}

struct Scene {
    nodes: UnboundedSender<Value>,
    pods: UnboundedSender<Value>,
    writes: UnboundedReceiver<String>,
    answers: watch::Sender<bool>,
    _stop: tokio_util::sync::DropGuard,
}

impl Scene {
    /// One node, registered.
    async fn start() -> Self {
        let ((nodes, node_lines), (pods, pod_lines)) = (unbounded_channel(), unbounded_channel());
        let (writing, mut writes) = unbounded_channel();
        let watches = Mutex::new([("nodes", node_lines), ("pods", pod_lines)].into());
        let (answers, answering) = watch::channel(true);
        let server = Arc::new(Server { watches, writes: writing, answers: answering, taken: None });
        let client =
            plimsoll_client::from_service(tower::service_fn(move |request| server.clone().answer(request)));
        let simulation = Simulation::register(config(), Informers::new(client.clone()), client).await;
        for made in
            ["POST /api/v1/nodes", "POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"]
        {
            assert_eq!(writes.recv().await.unwrap(), made);
        }
        let stop = CancellationToken::new();
        tokio::spawn(simulation.run(stop.clone()));
        Self { nodes, pods, writes, answers, _stop: stop.drop_guard() }
    }

    fn node(&self, version: u32, silent: bool) {
        let annotations = json!({"plimsoll.io/silent": silent.to_string()});
        let metadata = json!({"name": "sim-0", "uid": "u", "resourceVersion": version.to_string(), "annotations": annotations,
            "labels": {"plimsoll.io/simulated": "true"}});
        let status = json!({"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}});
        let node = json!({"metadata": metadata, "status": status});
        self.nodes.send(json!({"type": "ADDED", "object": node})).unwrap();
    }

    fn pod(&self, version: u32, node: &str, change: impl FnOnce(&mut Value)) {
        let metadata =
            json!({"namespace": "ns", "name": "web", "uid": node, "resourceVersion": version.to_string()});
        let spec = json!({"nodeName": node, "containers": [{"name": "main", "image": "app:1"}]});
        let mut pod = json!({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}});
        change(&mut pod);
        self.pods.send(json!({"type": "ADDED", "object": pod})).unwrap();
    }

    /// The next write that is no sign of life.
    async fn write(&mut self) -> String {
        loop {
            let write = self.writes.recv().await.unwrap();
            if !write.contains("/leases") && !write.contains("/nodes") {
                return write;
            }
        }
    }
}

const POD: &str = "/api/v1/namespaces/ns/pods/web";

#[tokio::test(start_paused = true)]
async fn a_pod_runs_once_and_goes_when_it_is_deleted() {
    let mut scene = Scene::start().await;
    scene.node(2, false);
    scene.pod(3, "elsewhere", |_| {});
    scene.pod(4, "sim-0", |_| {});
    assert_eq!(scene.write().await, format!("PATCH {POD}/status Running"));
    // What is known already is not told again, though the API does not show it yet.
    scene.pod(5, "sim-0", |pod| pod["metadata"]["labels"] = json!({"a": "b"}));
    scene.pod(6, "sim-0", |pod| {
        pod["status"]["phase"] = json!("Running");
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    });
    assert_eq!(scene.write().await, format!("PATCH {POD}/status Succeeded"));
    assert_eq!(scene.write().await, format!("DELETE {POD}"));
}

#[tokio::test(start_paused = true)]
async fn steps_of_one_pod_are_told_one_after_the_other() {
    let mut scene = Scene::start().await;
    scene.node(2, false);
    scene.answers.send(false).unwrap();
    scene.pod(3, "sim-0", |_| {});
    assert_eq!(scene.write().await, format!("PATCH {POD}/status Running"));
    // It would run again for those who learn of its end first.
    scene.pod(4, "sim-0", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    });
    let nothing = tokio::time::timeout(Duration::from_secs(60), scene.write()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    scene.answers.send(true).unwrap();
    assert_eq!(scene.write().await, format!("PATCH {POD}/status Failed"));
    assert_eq!(scene.write().await, format!("DELETE {POD}"));
}

#[tokio::test(start_paused = true)]
async fn nothing_happens_on_a_silent_node_until_it_speaks_again() {
    let mut scene = Scene::start().await;
    scene.node(2, true);
    scene.pod(3, "sim-0", |_| {});
    let nothing = tokio::time::timeout(Duration::from_secs(60), scene.writes.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    scene.node(4, false);
    assert_eq!(scene.write().await, format!("PATCH {POD}/status Running"));
}

#[tokio::test(start_paused = true)]
async fn a_node_takes_no_more_than_it_has() {
    let mut scene = Scene::start().await;
    scene.node(2, false);
    let asks = |uid: &'static str, cpu: &'static str| {
        move |pod: &mut Value| {
            pod["metadata"]["uid"] = json!(uid);
            pod["metadata"]["name"] = json!(uid);
            pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(cpu);
        }
    };
    let status = |uid: &str, phase: &str| format!("PATCH /api/v1/namespaces/ns/pods/{uid}/status {phase}");
    scene.pod(3, "sim-0", asks("first", "600m"));
    assert_eq!(scene.write().await, status("first", "Running"));
    scene.pod(4, "sim-0", asks("second", "500m"));
    assert_eq!(scene.write().await, status("second", "Failed"));
    scene.pod(5, "sim-0", asks("third", "400m"));
    assert_eq!(scene.write().await, status("third", "Running"));
    // What has ended leaves room.
    scene.pod(6, "sim-0", |pod| {
        asks("first", "600m")(pod);
        pod["status"]["phase"] = json!("Succeeded");
    });
    scene.pod(7, "sim-0", asks("fourth", "600m"));
    assert_eq!(scene.write().await, status("fourth", "Running"));
}

/// What is written where the node is there already, with these labels.
async fn takeover(labels: Value) -> Vec<String> {
    let (writing, mut writes) = unbounded_channel();
    let (_answers, answers) = watch::channel(true);
    let server =
        Arc::new(Server { watches: Mutex::default(), writes: writing, answers, taken: Some(labels) });
    let client =
        plimsoll_client::from_service(tower::service_fn(move |request| server.clone().answer(request)));
    let _simulation = Simulation::register(config(), Informers::new(client.clone()), client).await;
    std::iter::from_fn(|| writes.try_recv().ok()).collect()
}

#[tokio::test]
async fn nodes_that_are_there_are_taken_over_but_not_those_of_others() {
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let expected = [
        "POST /api/v1/nodes".to_owned(),
        "PATCH /api/v1/nodes/sim-0".to_owned(),
        "PATCH /api/v1/nodes/sim-0/status".to_owned(),
        format!("POST {leases}"),
        format!("PATCH {leases}/sim-0"),
    ];
    assert_eq!(takeover(json!({"plimsoll.io/simulated": "true"})).await, expected);
    assert_eq!(takeover(json!({})).await, expected[..1]);
}
