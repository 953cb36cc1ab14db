//! A pod's way through the whole agent, with an engine and an API of the test's own.
#![expect(clippy::unwrap_used, reason = "tests")]

mod admission;
mod api;
mod checkpoint;
mod claims;
mod devices;
mod driver;
mod engine;
mod faults;
mod figures;
mod images;
mod placement;
mod pressure;
mod resize;
mod statics;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::Informers;
use plimsoll_pki::{Authority, Request};
use plimsoll_podlife::eviction::threshold::Settings;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use api::FakeApi;
use engine::FakeEngine;

/// An agent with its surroundings in a scratch folder.
struct Rig {
    temp: tempfile::TempDir,
    api: FakeApi,
    engine: Arc<FakeEngine>,
    stop: CancellationToken,
    agent: Option<tokio::task::JoinHandle<()>>,
    root: String,
    configure: fn(&mut crate::Config),
}

impl Rig {
    async fn new(name: &str) -> Option<Self> {
        Self::with(name, |_| {}).await
    }

    async fn with(name: &str, configure: fn(&mut crate::Config)) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: control groups need root");
            return None;
        }
        let temp = tempfile::tempdir().unwrap();
        let engine = FakeEngine::serve(&temp.path().join("cri.sock"));
        let root = format!("/plimsoll-kubelet-test-{name}-{}", std::process::id());
        let (api, stop) = (FakeApi::default(), CancellationToken::new());
        let mut rig = Self { temp, api, engine, stop, agent: None, root, configure };
        rig.start().await;
        Some(rig)
    }

    async fn start(&mut self) {
        let (data, socket) = (self.temp.path().join("kubelet"), self.temp.path().join("cri.sock"));
        let mut config = crate::Config::new("n1", data, socket, "192.0.2.1".parse().unwrap());
        config.cgroup_root.clone_from(&self.root);
        config.cluster_dns = vec!["10.96.0.10".parse().unwrap()];
        config.kernel_log = self.temp.path().join("kmsg");
        // How full the test's own machine is, is none of its business.
        config.eviction = Settings::default();
        (self.configure)(&mut config);
        let client = self.api.client();
        let informers = Informers::new(client.clone());
        self.stop = CancellationToken::new();
        let stop = self.stop.clone();
        let running = async move { crate::run(config, client, informers, stop).await.unwrap() };
        self.agent = Some(tokio::spawn(running));
        self.api.wait("the node is ready", |api| api.node_is_ready()).await;
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        self.agent.take().unwrap().await.unwrap();
    }

    async fn end(mut self) -> tempfile::TempDir {
        self.stop().await;
        let hierarchy = plimsoll_kernel::cgroup::Hierarchy::detect().unwrap();
        hierarchy.group(&self.root).remove().unwrap();
        self.temp
    }
}

fn pod(spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "ns", "uid": "u-1", "labels": {"app": "web"}, "generation": 1},
        "spec": spec,
        "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    })
}

fn web() -> Value {
    json!({
        "nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 5,
        "hostname": "h", "dnsPolicy": "ClusterFirst",
        "containers": [{
            "name": "c", "image": "demo:1", "args": ["--name=$(NAME)"],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            ],
            "resources": {"requests": {"cpu": "100m"}},
            "volumeMounts": [
                {"name": "config", "mountPath": "/config"}, {"name": "scratch", "mountPath": "/scratch"}],
        }],
        "volumes": [{"name": "config", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}}],
    })
}

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

/// A pod that is given a minute to end.
fn patient() -> Value {
    let mut pod = pod(web());
    pod["spec"]["terminationGracePeriodSeconds"] = json!(60);
    pod["spec"]["volumes"] = json!(null);
    pod["spec"]["containers"][0]["volumeMounts"] = json!(null);
    pod
}

/// A slice that sends to the pod, unless it says otherwise.
fn slice(conditions: Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "ns", "uid": "e-1"},
        "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "uid": "u-1"}, "conditions": conditions}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_waits_until_nobody_sends_to_the_pod() {
    let Some(rig) = Rig::new("drain").await else { return };
    rig.api.put("endpointslices", slice(json!({"ready": true})));
    rig.api.put("pods", patient());
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    rig.api.mark_deleted("web", 60);
    rig.api.wait("the end is told", |api| api.reasons().contains(&"Killing".to_owned())).await;
    // Long enough for a signal that does not wait.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!rig.engine.calls().iter().any(|call| call.starts_with("stop c-")), "{:?}", rig.engine.calls());
    rig.api.put("endpointslices", slice(json!({"ready": false, "serving": true, "terminating": true})));
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    assert!(rig.engine.calls().iter().any(|call| call.starts_with("stop c-")));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_waits_until_other_nodes_answer() {
    let known = |config: &mut crate::Config| {
        let folder = config.data_dir.join("pki");
        let request = Request::client("system:node:n1", &["system:nodes"]);
        let authority = Authority::ensure(&folder, "ca", "ca").unwrap();
        let own = authority.ensure_issued(&folder, "kubelet", &request).unwrap();
        config.peers = Some(crate::PeerIdentity { certificate: own.certificate, key: own.key });
    };
    let Some(rig) = Rig::with("peers", known).await else { return };
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.api.put(
        "nodes",
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2", "uid": "n-2"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": other.local_addr().unwrap().port()}},
            },
        }),
    );
    rig.api.put("endpointslices", slice(json!({"ready": true})));
    rig.api.put("pods", patient());
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    rig.api.mark_deleted("web", 60);
    let (question, _) = other.accept().await.unwrap();
    rig.api.put("endpointslices", slice(json!({"ready": false, "serving": true, "terminating": true})));
    // Long enough for a signal that waits for this node alone, and shorter than anybody waits for an answer.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!rig.engine.calls().iter().any(|call| call.starts_with("stop c-")), "{:?}", rig.engine.calls());
    drop((question, other));
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    assert!(rig.engine.calls().iter().any(|call| call.starts_with("stop c-")));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_created_runs_is_adopted_and_deleted() {
    let Some(mut rig) = Rig::new("life").await else { return };
    rig.api.put("configmaps", json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "ns", "uid": "m"},
        "data": {"key": "1"},
    }));
    rig.api.put("pods", pod(web()));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let status = rig.api.pod().unwrap()["status"].clone();
    assert_eq!(status["podIP"], "10.0.0.1");
    assert_eq!(status["hostIP"], "192.0.2.1");
    assert_eq!(status["qosClass"], "Burstable");
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["containerStatuses"][0]["containerID"], "fake://c-0");
    let ready = status["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Ready").unwrap();
    assert_eq!(ready["status"], "True");

    let config = rig.engine.container("c-0");
    assert_eq!(config.args, ["--name=web"]);
    let env: Vec<_> = config.envs.iter().map(|env| format!("{}={}", env.key, env.value)).collect();
    assert_eq!(env, ["NAME=web", "IP=10.0.0.1"]);
    assert_eq!(config.labels["io.kubernetes.pod.uid"], "u-1");
    let mount = |path: &str| {
        let mounts = &config.mounts;
        mounts.iter().find(|mount| mount.container_path == path).unwrap().host_path.clone()
    };
    let key = std::path::Path::new(&mount("/config")).join("key");
    assert_eq!(std::fs::read_to_string(&key).unwrap(), "1");
    let hosts = std::fs::read_to_string(mount("/etc/hosts")).unwrap();
    assert!(hosts.ends_with("10.0.0.1\th\n"), "{hosts}");
    let sandbox = rig.engine.sandbox();
    assert_eq!(sandbox.hostname, "h");
    assert_eq!(sandbox.dns_config.unwrap().searches[0], "ns.svc.cluster.local");
    assert_eq!(sandbox.linux.unwrap().cgroup_parent, format!("{}/kubepods/burstable/podu-1", rig.root));

    rig.api.put("configmaps", json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "ns", "uid": "m"},
        "data": {"key": "2"},
    }));
    rig.api.wait("the file follows", |_| std::fs::read_to_string(&key).unwrap() == "2").await;

    rig.stop().await;
    rig.start().await;
    rig.engine.exit("c-0", 3).await;
    rig.api
        .wait("it runs again", |api| {
            let pod = api.pod().unwrap();
            pod["status"]["containerStatuses"][0]["restartCount"] == 1 && phase(&pod) == "Running"
        })
        .await;
    let calls = rig.engine.calls();
    assert_eq!(
        calls,
        ["sandbox 0", "create c 0", "start c-0", "create c 1", "start c-1"],
        "adopted, not restarted"
    );
    let last = rig.api.pod().unwrap()["status"]["containerStatuses"][0]["lastState"]["terminated"].clone();
    assert_eq!((last["exitCode"].clone(), last["reason"].clone()), (json!(3), json!("Error")));

    rig.api.mark_deleted("web", 5);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    let calls = rig.engine.calls();
    assert_eq!(calls[5..], ["stop c-1 5", "stop sandbox", "remove sandbox"]);
    assert!(!rig.temp.path().join("kubelet/pods/u-1").exists());
    let reasons = rig.api.reasons();
    for reason in [
        "Pulled",
        "Created",
        "Started",
        "Killing",
        "Starting",
        "NodeReady",
        "NodeHasSufficientMemory",
        "NodeHasNoDiskPressure",
        "NodeHasSufficientPID",
    ] {
        assert!(reasons.iter().any(|known| known == reason), "{reason} in {reasons:?}");
    }
    assert_eq!(rig.api.event("NodeReady"), "Node n1 status is now: NodeReady");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_ends_on_a_server_that_leaves_out_what_it_does_not_know() {
    let Some(rig) = Rig::new("older").await else { return };
    rig.api.leave_out("observedGeneration");
    let mut spec = web();
    spec["volumes"] = json!(null);
    spec["containers"][0]["volumeMounts"] = json!(null);
    rig.api.put("pods", pod(spec));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    rig.api.mark_deleted("web", 1);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_stays_half_made_is_replaced() {
    let Some(rig) = Rig::new("half-made").await else { return };
    rig.engine.break_sandbox();
    let mut spec = web();
    spec["volumes"] = json!(null);
    spec["containers"][0]["volumeMounts"] = json!(null);
    rig.api.put("pods", pod(spec));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    assert!(rig.api.event("FailedCreatePodSandBox").contains("failed to setup network"));
    assert_eq!(rig.engine.calls()[..2], ["sandbox 0", "sandbox 1"]);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_rotated_compressed_and_removed() {
    let configure = |config: &mut crate::Config| {
        (config.container_log_max_size, config.container_log_max_files) = (1000, 3);
    };
    let Some(rig) = Rig::with("rotation", configure).await else { return };
    let mut spec = web();
    spec["volumes"] = json!(null);
    spec["containers"][0]["volumeMounts"] = json!(null);
    rig.api.put("pods", pod(spec));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let folder = rig.temp.path().join("kubelet/logs/ns_web_u-1/c");
    let files = || {
        let entries = std::fs::read_dir(&folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    let reopened = || rig.engine.calls().iter().filter(|call| *call == "reopen c-0").count();
    for round in 1..=4 {
        rig.engine.say("c-0", &format!("{round}\n").repeat(600));
        rig.api.wait("the log is rotated", |_| reopened() == round).await;
    }
    let compressed = |names: &[String]| names.iter().filter(|name| name.ends_with(".gz")).count();
    rig.api
        .wait("the older one is compressed", |_| {
            let names = files();
            names.len() == 3 && compressed(&names) == 1
        })
        .await;
    let names = files();
    assert_eq!(names[0], "0.log");
    let plain = names[1..].iter().find(|name| !name.ends_with(".gz")).unwrap();
    assert_eq!(std::fs::read_to_string(folder.join(plain)).unwrap(), "4\n".repeat(600));
    // A log that was silent for long is noticed when it speaks again.
    rig.engine.say("c-0", &"5\n".repeat(600));
    rig.api.wait("the log is rotated", |_| reopened() == 5).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_stays_bounded() {
    let Some(rig) = Rig::with("flood", |config| config.container_log_max_size = 1_000_000).await else {
        return;
    };
    let mut spec = web();
    spec["volumes"] = json!(null);
    spec["containers"][0]["volumeMounts"] = json!(null);
    rig.api.put("pods", pod(spec));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let folder = rig.temp.path().join("kubelet/logs/ns_web_u-1/c");
    let size = || -> u64 {
        let entries = std::fs::read_dir(&folder).unwrap().flatten();
        // A file may go between the look at its name and the one at it.
        entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    };
    let reopened = || rig.engine.calls().iter().filter(|call| *call == "reopen c-0").count();
    let lines = ("x".repeat(99) + "\n").repeat(12_000);
    // Far more comes than the agent can have looked at meanwhile; it catches up, whenever that was.
    for _ in 0..40 {
        rig.engine.say("c-0", &lines);
    }
    rig.api.wait("the flood is noticed", |_| reopened() > 0).await;
    for _ in 0..3 {
        let before = reopened();
        rig.engine.say("c-0", &lines);
        rig.api.wait("the log is rotated", |_| reopened() > before).await;
    }
    rig.api.wait("what was read is compressed", |_| size() < 4_000_000).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_live_on_while_the_api_is_away() {
    let Some(rig) = Rig::new("away").await else { return };
    let mut spec = web();
    spec["volumes"] = json!([{"name": "config", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}]);
    rig.api.put("pods", pod(spec));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    rig.api.set_down(true);
    rig.engine.exit("c-0", 3).await;
    rig.api.wait("it runs again", |_| rig.engine.calls().last().is_some_and(|it| it == "start c-1")).await;
    assert_eq!(rig.api.pod().unwrap()["status"]["containerStatuses"][0]["restartCount"], 0);
    rig.api.set_down(false);
    rig.api
        .wait("it is told afterwards", |api| {
            let status = api.pod().unwrap()["status"].clone();
            let container = &status["containerStatuses"][0];
            container["restartCount"] == 1 && container["lastState"]["terminated"]["exitCode"] == 3
        })
        .await;
    // What changed meanwhile is seen, too.
    rig.api.mark_deleted("web", 1);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_hangs_is_told_and_holds_nothing_else_up() {
    let rig = Rig::with("hangs", |config| config.volume_mount_timeout = Duration::from_millis(300)).await;
    let Some(rig) = rig else { return };
    let mut spec = web();
    spec["volumes"] = json!([{"name": "config", "persistentVolumeClaim": {"claimName": "hangs"}},
        {"name": "scratch", "emptyDir": {}}]);
    rig.api.put("pods", pod(spec));
    rig.api.wait("it is told", |api| api.reasons().contains(&"FailedMount".to_owned())).await;
    let calls = rig.engine.calls();
    assert!(!calls.iter().any(|call| call.starts_with("create")), "{calls:?}");
    // The pod can be ended all the same.
    rig.api.mark_deleted("web", 1);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_and_used_when_it_comes() {
    let Some(rig) = Rig::new("missing").await else { return };
    let mut spec = web();
    spec["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "late"}}]);
    spec["volumes"] =
        json!([{"name": "config", "emptyDir": {}}, {"name": "scratch", "emptyDir": {"medium": "Memory"}}]);
    rig.api.put("pods", pod(spec));
    rig.api
        .wait("the reason shows", |api| {
            let state = api.pod().unwrap()["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            state["reason"] == "CreateContainerConfigError"
                && state["message"] == "configmap \"late\" not found"
        })
        .await;
    rig.api.put("configmaps", json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late", "namespace": "ns", "uid": "l"},
        "data": {"KEY": "value"},
    }));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    rig.api.remove("pods", "web");
    rig.api.wait("it is ended", |_| rig.engine.calls().last().is_some_and(|it| it == "remove sandbox")).await;
    tokio::time::timeout(Duration::from_secs(10), async {
        while rig.temp.path().join("kubelet/pods/u-1").exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    rig.end().await;
}
