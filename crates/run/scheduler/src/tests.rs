#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::convert::Infallible;

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// An API server with nodes, pods and namespaces that binds what it is told to.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: HashMap<(&'static str, String), Value>,
    watchers: HashMap<&'static str, Vec<mpsc::UnboundedSender<String>>>,
    version: u64,
    refuse_bindings: usize,
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
    fn put(&self, kind: &'static str, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        state.objects.insert((kind, name), object.clone());
        state.tell(kind, "MODIFIED", &object);
    }

    fn remove(&self, kind: &'static str, name: &str) {
        let mut state = self.0.lock().unwrap();
        let object = state.objects.remove(&(kind, name.to_owned())).unwrap();
        state.tell(kind, "DELETED", &object);
    }

    fn node_of(&self, pod: &str) -> Option<String> {
        let state = self.0.lock().unwrap();
        state.objects.get(&("pods", pod.to_owned()))?["spec"]["nodeName"].as_str().map(str::to_owned)
    }

    fn writes(&self, path: &str) -> Vec<Value> {
        let state = self.0.lock().unwrap();
        state.writes.iter().filter(|(line, _)| line.contains(path)).map(|(_, body)| body.clone()).collect()
    }

    /// Claims and volumes take what is written to them.
    fn patched(&self, path: &str, body: Value) -> Value {
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
    fn merged(&self, kind: &'static str, path: &str, body: Value) -> Value {
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

    fn object(&self, kind: &'static str, name: &str) -> Value {
        self.0.lock().unwrap().objects[&(kind, name.to_owned())].clone()
    }

    fn write(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        self.0.lock().unwrap().writes.push((format!("{method} {path}"), body.clone()));
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
        drop(state);
        assert!(pod["spec"].get("nodeName").is_none(), "bound twice");
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

fn node(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "100"}}})
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns", "uid": name},
        "spec": {"schedulerName": "default-scheduler",
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn start(api: &Api) -> CancellationToken {
    start_with(api, Config::default())
}

fn start_with(api: &Api, config: Config) -> CancellationToken {
    let client = plimsoll_client::from_service(api.clone());
    let shutdown = CancellationToken::new();
    let informers = Informers::new(client.clone());
    let ended = shutdown.clone();
    tokio::spawn(async move { run(config, informers, client, ended).await.unwrap() });
    shutdown
}

/// Waits for the condition in the runtime's own time, which jumps when everything is idle.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn binds_what_fits_and_says_why_not() {
    let api = Api::default();
    api.put("nodes", node("n0", "2"));
    api.put("nodes", node("n1", "2"));
    for name in ["a", "b"] {
        api.put("pods", pod(name, "2"));
    }
    let _shutdown = start(&api);
    eventually("both bound", || api.node_of("a").is_some() && api.node_of("b").is_some()).await;
    assert_ne!(api.node_of("a"), api.node_of("b"));

    api.put("pods", pod("c", "1"));
    eventually("condition", || !api.writes("/pods/c/status").is_empty()).await;
    let condition = &api.writes("/pods/c/status")[0]["status"]["conditions"][0];
    assert_eq!(
        (condition["type"].as_str(), condition["reason"].as_str()),
        (Some("PodScheduled"), Some("Unschedulable"))
    );
    let message = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert_eq!(condition["message"], message);
    eventually("events", || api.writes("/events").len() >= 3).await;
    let events = api.writes("/events");
    let has = |reason: &str, text: &str| {
        events.iter().any(|event| event["reason"] == reason && event["message"] == text)
    };
    assert!(has("FailedScheduling", message), "{events:?}");
    assert!(
        has("Scheduled", &format!("Successfully assigned ns/a to {}", api.node_of("a").unwrap())),
        "{events:?}"
    );

    let mut over = api.0.lock().unwrap().objects[&("pods", "a".to_owned())].clone();
    let freed = api.node_of("a");
    over["status"] = json!({"phase": "Succeeded"});
    api.put("pods", over);
    eventually("c bound", || api.node_of("c") == freed).await;
    assert_eq!(api.writes("/pods/c/status").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn room_is_made_for_what_matters_more() {
    let api = Api::default();
    api.put("nodes", node("n0", "2"));
    api.put("pods", pod("low", "2"));
    let _shutdown = start(&api);
    eventually("low bound", || api.node_of("low").is_some()).await;
    let mut high = pod("high", "2");
    high["spec"]["priority"] = json!(1000);
    api.put("pods", high);
    let ended = "DELETE /api/v1/namespaces/ns/pods/low";
    eventually("low ends", || !api.writes(ended).is_empty()).await;
    assert_eq!(api.writes(ended)[0]["preconditions"]["uid"], "low");
    let mark = &api.writes("/pods/low/status")[0]["status"]["conditions"][0];
    assert_eq!(
        (&mark["type"], &mark["reason"], &mark["message"]),
        (
            &json!("DisruptionTarget"),
            &json!("PreemptionByScheduler"),
            &json!("default-scheduler: preempting to accommodate a higher priority pod"),
        )
    );
    let statuses = api.writes("/pods/high/status");
    assert!(statuses.iter().any(|body| body["status"]["nominatedNodeName"] == "n0"), "{statuses:?}");
    let told = |text: &str| api.writes("/events").iter().any(|event| event["message"] == text);
    eventually("events", || {
        told("Preempted by pod high on node n0") && told("0/1 nodes are available: 1 Insufficient cpu.")
    })
    .await;
    // A pod that came later and is less important does not take the place.
    api.put("pods", pod("late", "2"));
    eventually("late waits", || !api.writes("/pods/late/status").is_empty()).await;
    api.remove("pods", "low");
    eventually("high bound", || api.node_of("high").is_some()).await;
    assert!(api.node_of("late").is_none());
    assert_eq!(api.writes("DELETE").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_bindings_are_retried() {
    let api = Api::default();
    api.put("nodes", node("n0", "2"));
    api.0.lock().unwrap().refuse_bindings = 2;
    api.put("pods", pod("a", "2"));
    let _shutdown = start(&api);
    eventually("bound at the third try", || api.node_of("a").is_some()).await;
    assert_eq!(api.writes("/binding").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn leaves_what_is_not_its_own() {
    let api = Api::default();
    api.put("nodes", node("n0", "8"));
    let mut other = pod("other", "1");
    other["spec"]["schedulerName"] = json!("mine");
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "wait"}]);
    let mut ending = pod("ending", "1");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for pod in [other, gated.clone(), ending] {
        api.put("pods", pod);
    }
    let shutdown = start(&api);
    api.put("pods", pod("a", "1"));
    eventually("a bound", || api.node_of("a").is_some()).await;
    assert_eq!(api.writes("/binding").len(), 1);
    gated["spec"].as_object_mut().unwrap().remove("schedulingGates");
    api.put("pods", gated);
    eventually("gate lifted", || api.node_of("gated").is_some()).await;

    // A new node helps a pod that waits; a pod that is gone is forgotten.
    api.put("pods", pod("big", "20"));
    api.put("pods", pod("gone", "20"));
    eventually("both wait", || api.writes("/status").len() == 2).await;
    api.remove("pods", "gone");
    api.put("nodes", node("n1", "40"));
    eventually("big bound", || api.node_of("big").as_deref() == Some("n1")).await;
    assert_eq!(api.writes("/binding").len(), 3);
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn many_pods() {
    let api = Api::default();
    for at in 0..20 {
        api.put("nodes", node(&format!("n{at}"), "64"));
    }
    for at in 0..500 {
        api.put("pods", pod(&format!("p{at}"), "1"));
    }
    let _shutdown = start(&api);
    eventually("all bound", || (0..500).all(|at| api.node_of(&format!("p{at}")).is_some())).await;
    assert_eq!(api.writes("/binding").len(), 500);
    let mut counts: HashMap<String, usize> = HashMap::new();
    for at in 0..500 {
        *counts.entry(api.node_of(&format!("p{at}")).unwrap()).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 25), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_after_their_claims() {
    let api = Api::default();
    api.put("nodes", node("n0", "8"));
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "later"},
        "provisioner": "csi.example", "volumeBindingMode": "WaitForFirstConsumer"});
    api.put("storageclasses", class);
    let claim = |name: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"storageClassName": "later", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let user = |name: &str, claim: &str| {
        let mut pod = pod(name, "1");
        pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]);
        pod
    };
    api.put("persistentvolumeclaims", claim("made"));
    api.put("pods", user("a", "made"));
    let _shutdown = start(&api);
    let selected = "volume.kubernetes.io/selected-node";
    let is_selected =
        || api.object("persistentvolumeclaims", "made")["metadata"]["annotations"][selected] == "n0";
    eventually("the node is told", is_selected).await;
    assert!(api.node_of("a").is_none(), "the claim is not bound yet");

    // Whoever makes volumes cannot: the node is taken away, and the scheduler tries again.
    api.put("persistentvolumeclaims", claim("made"));
    let failed =
        r#"running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "made""#;
    eventually("the failure is told", || {
        api.writes("/events").iter().any(|event| event["message"] == failed)
    })
    .await;
    eventually("the node is told again", is_selected).await;
    let mut bound = api.object("persistentvolumeclaims", "made");
    bound["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
    bound["spec"]["volumeName"] = json!("v");
    api.put("persistentvolumeclaims", bound);
    eventually("bound", || api.node_of("a").is_some()).await;

    // A volume that is there is taken first.
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "there"},
        "spec": {"storageClassName": "later", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}},
        "status": {"phase": "Available"}});
    api.put("persistentvolumes", volume);
    api.put("pods", user("b", "found"));
    eventually("it says what is missing", || !api.writes("/pods/b/status").is_empty()).await;
    let message = &api.writes("/pods/b/status")[0]["status"]["conditions"][0]["message"];
    let missing = "0/1 nodes are available: persistentvolumeclaim \"found\" not found.";
    assert!(message.as_str().unwrap().starts_with(missing), "{message}");
    api.put("persistentvolumeclaims", claim("found"));
    eventually("the volume is kept", || {
        api.object("persistentvolumes", "there")["spec"]["claimRef"]["uid"] == "found"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn claims_get_devices_before_their_pods_are_bound() {
    let api = Api::default();
    for name in ["n0", "n1"] {
        api.put("nodes", node(name, "8"));
    }
    let class = json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"},
        "spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}});
    api.put("deviceclasses", class);
    let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"},
        "spec": {"driver": "gpu.example.com", "nodeName": "n1", "devices": [{"name": "gpu-0"}],
            "pool": {"name": "n1", "generation": 1, "resourceSliceCount": 1}}});
    api.put("resourceslices", slice);
    let claim = |name: &str| {
        let exactly = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}})
    };
    let user = |name: &str, claim: &str| {
        let mut pod = pod(name, "1");
        pod["spec"]["resourceClaims"] = json!([{"name": "c", "resourceClaimName": claim}]);
        pod
    };
    api.put("resourceclaims", claim("one"));
    api.put("pods", user("a", "one"));
    let _shutdown = start(&api);
    eventually("bound where the device is", || api.node_of("a").as_deref() == Some("n1")).await;
    let one = api.object("resourceclaims", "one");
    assert_eq!(one["metadata"]["finalizers"], json!(["resource.kubernetes.io/delete-protection"]));
    let result = json!({"device": "gpu-0", "driver": "gpu.example.com", "pool": "n1", "request": "r"});
    assert_eq!(one["status"]["allocation"]["devices"]["results"], json!([result]));
    assert_eq!(one["status"]["reservedFor"], json!([{"resource": "pods", "name": "a", "uid": "a"}]));

    // A claim that is made for a pod is waited for.
    let mut later = pod("later", "1");
    later["spec"]["resourceClaims"] = json!([{"name": "c", "resourceClaimTemplateName": "t"}]);
    api.put("pods", later.clone());
    later["status"]["resourceClaimStatuses"] = json!([{"name": "c", "resourceClaimName": "one"}]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(api.writes("/pods/later/status").is_empty());
    api.put("pods", later);
    eventually("its claim is made", || api.node_of("later").as_deref() == Some("n1")).await;

    // The same claim serves another pod; another claim waits until the device is free.
    api.put("pods", user("b", "one"));
    eventually("the claim is shared", || api.node_of("b").as_deref() == Some("n1")).await;
    api.put("resourceclaims", claim("two"));
    api.put("pods", user("c", "two"));
    eventually("it says what is missing", || !api.writes("/pods/c/status").is_empty()).await;
    let message = &api.writes("/pods/c/status")[0]["status"]["conditions"][0]["message"];
    let missing = "0/2 nodes are available: 2 cannot allocate all claims.";
    assert!(message.as_str().unwrap().starts_with(missing), "{message}");
    api.remove("resourceclaims", "one");
    eventually("the device is free", || api.node_of("c").as_deref() == Some("n1")).await;
}

/// Plays an extender: answers by the last part of the path, or never.
async fn extender(answer: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let (mut text, mut part) = (String::new(), [0; 4096]);
                loop {
                    let count = socket.read(&mut part).await.unwrap();
                    text.push_str(std::str::from_utf8(&part[..count]).unwrap());
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.to_lowercase();
                    let length =
                        length.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
                    if count == 0 || body.len() == length.parse::<usize>().unwrap() {
                        break;
                    }
                }
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let verb = head.split(' ').nth(1).unwrap().rsplit('/').next().unwrap();
                match answer(verb, &serde_json::from_str(body).unwrap()) {
                    Some(answer) => {
                        let answer = answer.to_string();
                        let text = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                            answer.len()
                        );
                        socket.write_all(text.as_bytes()).await.unwrap();
                    }
                    None => std::future::pending().await,
                }
            });
        }
    });
    format!("http://{address}")
}

fn with_extenders(fields: Value) -> Config {
    use plimsoll_schedule::configuration::{Configuration, KIND, VERSION};
    let document = json!({"apiVersion": VERSION, "kind": KIND, "extenders": fields});
    let configuration = Configuration::of(&document).unwrap();
    let extenders = configuration.extenders.iter().map(|one| Extender::new(one.clone()).unwrap()).collect();
    Config { profiles: configuration.profiles().unwrap(), extenders, ..Config::default() }
}

#[tokio::test]
async fn extenders_filter_score_and_bind() {
    let api = Api::default();
    for name in ["n0", "n1", "n2"] {
        api.put("nodes", node(name, "8"));
    }
    let bound = Arc::new(Mutex::new(Vec::new()));
    let (orders, other) = (bound.clone(), api.clone());
    let url = extender(move |verb, asked| match verb {
        "filter" if asked["Pod"]["metadata"]["name"] == "nowhere" => Some(json!({"NodeNames": [], "FailedNodes": {"n0": "no licence", "n1": "no licence", "n2": "no licence"}})),
        "filter" => Some(json!({"NodeNames": ["n1", "n2"]})),
        "prioritize" => Some(json!([{"Host": "n1", "Score": 1}, {"Host": "n2", "Score": 10}])),
        _ => {
            orders.lock().unwrap().push(asked.clone());
            other.write(&Method::POST, &format!("/api/v1/namespaces/ns/pods/{}/binding", asked["PodName"].as_str().unwrap()), json!({"target": {"name": asked["Node"]}}));
            Some(json!({}))
        }
    })
    .await;
    let fields = json!([{"urlPrefix": url, "filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 5, "bindVerb": "bind",
        "nodeCacheCapable": true}]);
    let _shutdown = start_with(&api, with_extenders(fields));
    api.put("pods", pod("a", "1"));
    eventually("bound where the extender likes it", || api.node_of("a").as_deref() == Some("n2")).await;
    assert_eq!(
        bound.lock().unwrap()[0],
        json!({"PodName": "a", "PodNamespace": "ns", "PodUID": "a", "Node": "n2"})
    );
    api.put("pods", pod("nowhere", "1"));
    eventually("it says why", || !api.writes("/pods/nowhere/status").is_empty()).await;
    let message = &api.writes("/pods/nowhere/status")[0]["status"]["conditions"][0]["message"];
    assert!(message.as_str().unwrap().starts_with("0/3 nodes are available: 3 no licence."), "{message}");
}

/// Who hangs or lies holds up the pods that it has a say about, and no others; who may be left out is.
#[tokio::test]
async fn extenders_that_hang_or_lie() {
    let api = Api::default();
    api.put("nodes", node("n0", "8"));
    let hangs = extender(|_, _| None).await;
    let lies = extender(|_, _| Some(json!({"NodeNames": ["elsewhere"]}))).await;
    let one = |url: &str, resource: &str, ignorable: bool| {
        json!({"urlPrefix": url, "filterVerb": "filter", "nodeCacheCapable": true,
        "httpTimeout": "200ms", "ignorable": ignorable, "managedResources": [{"name": resource, "ignoredByScheduler": true}]})
    };
    let fields = json!([
        one(&hangs, "x.io/hangs", false),
        one(&lies, "x.io/lies", false),
        one(&lies, "x.io/left-out", true)
    ]);
    let _shutdown = start_with(&api, with_extenders(fields));
    for resource in ["hangs", "lies", "left-out"] {
        let mut asks = pod(resource, "1");
        asks["spec"]["containers"][0]["resources"]["requests"][format!("x.io/{resource}")] = json!("1");
        api.put("pods", asks);
    }
    api.put("pods", pod("plain", "1"));
    eventually("others are bound", || api.node_of("plain").is_some() && api.node_of("left-out").is_some())
        .await;
    let told = |text: &str| {
        api.writes("/events").iter().any(|event| event["message"].as_str().unwrap().contains(text))
    };
    eventually("both are told", || {
        told("/filter\": context deadline exceeded")
            && told("claims a filtered node \"elsewhere\" which is not found in the input node list")
    })
    .await;
    assert!(api.node_of("hangs").is_none() && api.node_of("lies").is_none());
}

/// Nobody ends whom an extender does not name.
#[tokio::test]
async fn extenders_say_who_may_end() {
    let api = Api::default();
    api.put("nodes", node("n0", "2"));
    let url = extender(|_, asked| {
        let allowed = asked["Pod"]["metadata"]["name"] == "high";
        Some(json!({"NodeNameToMetaVictims": if allowed { asked["NodeNameToMetaVictims"].clone() } else { json!({}) }}))
    })
    .await;
    let fields = json!([{"urlPrefix": url, "preemptVerb": "preempt", "nodeCacheCapable": true}]);
    let _shutdown = start_with(&api, with_extenders(fields));
    api.put("pods", pod("low", "2"));
    eventually("low bound", || api.node_of("low").is_some()).await;
    for (name, priority) in [("refused", 2000), ("high", 1000)] {
        let mut asks = pod(name, "2");
        asks["spec"]["priority"] = json!(priority);
        api.put("pods", asks);
        let path = format!("/pods/{name}/status");
        eventually("it waits", || !api.writes(&path).is_empty()).await;
        assert!(name == "high" || api.writes("DELETE").is_empty());
        if name == "refused" {
            api.remove("pods", name);
        }
    }
    eventually("low ends", || !api.writes("DELETE /api/v1/namespaces/ns/pods/low").is_empty()).await;
}
