//! Agents of their own: on containerd, alone and with an API server, killed and started again.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use plimsoll_e2e::{Agent, Cluster, Containerd, Outcome, run};
use serde_json::Value;

use crate::pods::{STAY, identity, pod};
use crate::{BUSYBOX, PATIENCE, SIGNALLED, Shared, make_images};

/// A containerd with the images of cases, and an agent on it that is not started yet.
pub(crate) fn guest(cluster: &Cluster) -> (Containerd, Agent) {
    let engine = Containerd::start(cluster, "ctrd");
    engine.import(cluster, &[BUSYBOX, SIGNALLED, "plimsoll.io/demo"]);
    let names = cluster.wait("the cluster's name server has an address", || {
        let service = cluster.api("/api/v1/namespaces/kube-system/services/kube-dns")?;
        Some(service["spec"]["clusterIP"].as_str()?.to_owned())
    });
    let config = format!(
        "rotateCertificates: true\nserverTLSBootstrap: true\nshutdownGracePeriod: 20s\n\
         shutdownGracePeriodCriticalPods: 10s\nclusterDNS: ['{names}']\npodPidsLimit: 60\n"
    );
    let agent = Agent::prepare(cluster, &engine, cluster.node(), &config);
    (engine, agent)
}

/// Approves what an agent asks for to serve its API with, and waits until it does.
pub(crate) fn approve_serving(cluster: &Cluster, agent: &Agent) {
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let name = cluster.wait("the agent asks for a certificate to serve with", || {
        let all = cluster.api(requests)?;
        let mut all = all["items"].as_array()?.iter();
        let request = all.find(|it| it["spec"]["signerName"] == "kubernetes.io/kubelet-serving")?;
        Some(request["metadata"]["name"].as_str()?.to_owned())
    });
    cluster.kubectl(&["certificate", "approve", &name]).ok();
    cluster.wait("it serves with a certificate of the cluster", || {
        let answer = unknown(cluster, agent);
        (answer.contains("401 Unauthorized") && answer.contains("Verify return code: 0 (ok)")).then_some(())
    });
}

/// Asks an agent directly as somebody without credentials: what openssl sees of the connection, and the answer.
fn unknown(cluster: &Cluster, agent: &Agent) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-ign_eof", "-connect", &agent.listen().to_string(), "-CAfile"]);
    command.arg(cluster.data().join("pki/ca.crt"));
    run(&mut command, b"GET /pods HTTP/1.0\r\nHost: node\r\n\r\n", PATIENCE).stdout
}

/// Asks an agent directly, as kubectl does with these options.
fn ask(cluster: &Cluster, agent: &Agent, options: &[&str], path: &str) -> Outcome {
    let mut command = Command::new("kubectl");
    command
        .env("KUBECONFIG", "/dev/null")
        .env("HOME", cluster.scratch())
        .arg(format!("--server=https://{}", agent.listen()))
        .arg(format!("--certificate-authority={}", cluster.data().join("pki/ca.crt").display()))
        .args(options)
        .args(["get", "--raw", path]);
    run(&mut command, b"", PATIENCE)
}

pub(crate) fn pods_outlive_the_agent(_: &Shared) {
    let cluster = Cluster::start();
    cluster.busybox(BUSYBOX);
    outlive(&cluster, || {
        cluster.kill();
        cluster.up();
    });
}

pub(crate) fn a_node_on_containerd_stands_alone_joins_and_goes_down(_: &Shared) {
    let cluster = Cluster::prepare(&["--no-node"]);
    cluster.up();
    make_images(&cluster);
    let (engine, agent) = guest(&cluster);
    let statics = Statics::new(&cluster, &agent);
    statics.run_alone(&engine);
    agent.join(&cluster);
    approve_serving(&cluster, &agent);
    statics.are_shown();
    strangers_are_refused(&cluster, &agent);
    forks_are_counted(&cluster);
    outlive(&cluster, || {
        agent.end("KILL");
        agent.join(&cluster);
    });
    statics.go();
    power_fails(&cluster, &agent);
}

/// Pods start and say what they do; killing the agent changes none of them.
fn outlive(cluster: &Cluster, kill_the_agent: impl FnOnce()) {
    let space = cluster.namespace("outlive");
    let count = "i=0; while :; do i=$((i+1)); echo $i; usleep 50000; done";
    let dies = "    livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1}";
    space.apply(
        &[pod("stays", STAY, "", ""), pod("counts", count, "", ""), pod("dies", STAY, dies, "")]
            .join("---\n"),
    );
    space.wait_object("a probe restarts it", "pods/dies", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    });
    space.wait_ready("counts");
    let before = [identity(&space, "stays"), identity(&space, "counts")];
    let since = |name: &str| space.object(&format!("pods/{name}")).unwrap()["status"]["startTime"].clone();
    let started = since("stays");

    kill_the_agent();
    space.apply(&pod("later", STAY, "", ""));
    space.wait_ready("later");
    assert_eq!([identity(&space, "stays"), identity(&space, "counts")], before, "adopted, not replaced");
    assert_eq!(since("stays"), started);
    let log = space.kubectl(&["logs", "counts"]).ok();
    let expected: String = (1..=log.lines().count()).map(|i| format!("{i}\n")).collect();
    assert!(log == expected, "lines are missing or doubled");
    let all = ["stays", "counts", "dies", "later"];
    space.kubectl(&[&["delete", "pod", "--wait=false"], &all[..]].concat()).ok();
    all.iter().for_each(|name| space.wait_gone(&format!("pods/{name}")));
}

/// Static pods of a folder and of an address.
struct Statics<'a> {
    cluster: &'a Cluster,
    agent: &'a Agent,
    served: Arc<Mutex<String>>,
}

impl<'a> Statics<'a> {
    fn new(cluster: &'a Cluster, agent: &'a Agent) -> Self {
        fs::write(agent.manifests().join("filed.yaml"), pod("filed", STAY, "", "")).unwrap();
        let served = Arc::new(Mutex::new(pod("fetched", STAY, "", "")));
        let address = serve(served.clone());
        let file = agent.root().join("kubelet.yaml");
        let text = fs::read_to_string(&file).unwrap() + &format!("staticPodURL: http://{address}/pods\n");
        fs::write(file, text).unwrap();
        Self { cluster, agent, served }
    }

    /// Without an API server they run, and go on when the agent is killed.
    fn run_alone(&self, engine: &Containerd) {
        self.agent.start(&[]);
        let tasks = || {
            let list = engine.ctr(&["tasks", "list"]).stdout;
            let mut lines: Vec<String> = list.lines().skip(1).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        // Two pods with a pause process each.
        let runs =
            || Some(tasks()).filter(|it| it.len() == 4 && it.iter().all(|line| line.ends_with("RUNNING")));
        let before = self.cluster.wait("static pods run alone", runs);
        self.agent.end("KILL");
        self.agent.start(&[]);
        let server = self.agent.listen();
        self.cluster.wait("the agent is back", || std::net::TcpStream::connect(server).ok());
        assert_eq!(tasks(), before);
        self.agent.end("TERM");
        assert_eq!(tasks(), before);
    }

    fn shown(&self, name: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/default/pods/{name}-{}", self.cluster.node());
        self.cluster.api(&path)
    }

    fn runs(&self, name: &str) -> Option<Value> {
        self.shown(name).filter(|pod| pod["status"]["containerStatuses"][0]["state"]["running"].is_object())
    }

    /// With one they are shown there, whatever is done to what shows them.
    fn are_shown(&self) {
        for (name, source) in [("filed", "file"), ("fetched", "http")] {
            let pod = self.cluster.wait("the static pod is shown", || self.runs(name));
            let annotation =
                |name: &str| pod["metadata"]["annotations"][format!("kubernetes.io/config.{name}")].clone();
            assert_eq!(annotation("mirror"), annotation("hash"), "{pod}");
            assert_eq!(annotation("source"), source, "{pod}");
            assert!(annotation("seen").is_string(), "{pod}");
            let owner = &pod["metadata"]["ownerReferences"][0];
            assert_eq!((&owner["kind"], &owner["name"]), (&"Node".into(), &self.cluster.node().into()));
        }
        let before = self.runs("filed").unwrap();
        self.cluster
            .kubectl(&["delete", "pod", "-n", "default", &format!("filed-{}", self.cluster.node())])
            .ok();
        let after = self.cluster.wait("it is shown again", || {
            self.runs("filed").filter(|pod| pod["metadata"]["uid"] != before["metadata"]["uid"])
        });
        self.same(&before, &after);
        self.agent.end("KILL");
        self.agent.join(self.cluster);
        self.same(&before, &self.runs("filed").unwrap());
    }

    /// The same container, which started when it did.
    #[track_caller]
    fn same(&self, before: &Value, after: &Value) {
        for path in [
            "/status/containerStatuses/0/containerID",
            "/status/containerStatuses/0/state",
            "/status/startTime",
        ] {
            assert_eq!(after.pointer(path), before.pointer(path), "{path}");
        }
    }

    /// Whatever is no longer told of ends.
    fn go(&self) {
        let before = self.runs("fetched").unwrap();
        *self.served.lock().unwrap() = pod("fetched", &format!("echo other; {STAY}"), "", "");
        self.cluster.wait("another one takes its place", || {
            self.runs("fetched").filter(|pod| pod["metadata"]["uid"] != before["metadata"]["uid"])
        });
        fs::remove_file(self.agent.manifests().join("filed.yaml")).unwrap();
        self.cluster.wait("nothing is shown any more", || self.shown("filed").is_none().then_some(()));
    }
}

/// Serves a text to whoever asks for anything, as long as the test runs.
fn serve(text: Arc<Mutex<String>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let body = text.lock().map(|text| text.clone()).unwrap_or_default();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    address
}

/// The agent serves whom the API server knows, as far as it lets them.
fn strangers_are_refused(cluster: &Cluster, agent: &Agent) {
    let space = cluster.namespace("strangers");
    let token = space.kubectl(&["create", "token", "default"]).ok();
    let token = format!("--token={}", token.trim());
    let nobody = unknown(cluster, agent);
    assert!(nobody.contains("401 Unauthorized"), "{nobody}");
    let forged = ask(cluster, agent, &["--token=abc"], "/pods").refused();
    assert!(forged.contains("must be logged in"), "{forged}");
    let known = ask(cluster, agent, &[&token], "/pods").refused();
    let why = "Forbidden (user=system:serviceaccount:strangers:default, verb=get, resource=nodes, subresource=[pods,proxy])";
    assert!(known.contains(why), "{known}");
    let names = ["--clusterrole=system:kubelet-api-admin", "--serviceaccount=strangers:default"];
    cluster.kubectl(&[&["create", "clusterrolebinding", "e2e-stranger"], &names[..]].concat()).ok();
    // Another path: that something is refused is remembered for a while.
    let metrics = cluster.wait("the role lets it", || {
        Some(ask(cluster, agent, &[&token], "/metrics")).filter(|it| it.code == 0)
    });
    assert!(metrics.stdout.contains("kubelet_running_pods"));
    let [certificate, key] = ["admin.crt", "admin.key"].map(|name| cluster.data().join("pki").join(name));
    let certificate = format!("--client-certificate={}", certificate.display());
    let key = format!("--client-key={}", key.display());
    let pods = ask(cluster, agent, &[&certificate, &key], "/pods").ok();
    assert!(pods.contains("filed"), "{pods}");
}

/// A pod has so many processes as the settings say, all its containers together, and others do not feel it.
fn forks_are_counted(cluster: &Cluster) {
    let space = cluster.namespace("forks");
    let script = format!("i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done; {STAY}");
    // A shell that cannot fork ends.
    let spec = "  restartPolicy: Never";
    space.apply(&[pod("forks", &script, "", spec), pod("other", STAY, "", "")].join("---\n"));
    let ended = space.wait_ended("forks");
    assert_eq!(ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 2, "{ended}");
    let said = space.kubectl(&["logs", "forks"]).ok();
    assert!(said.contains("can't fork: Resource temporarily unavailable"), "{said}");
    space.wait_ready("other");
    assert_eq!(space.sh("other", "for i in 1 2 3; do sleep 0 & done; wait; echo well").trim(), "well");
}

/// The node goes down: pods end with a reason, and the agent after them.
fn power_fails(cluster: &Cluster, agent: &Agent) {
    let space = cluster.namespace("power");
    space.apply(&pod("last", STAY, "", ""));
    space.wait_ready("last");
    assert!(agent.end("PWR").success());
    let last = space.wait_ended("last");
    assert_eq!(
        (&last["status"]["phase"], &last["status"]["reason"]),
        (&"Failed".into(), &"Terminated".into())
    );
    let node = cluster.api(&format!("/api/v1/nodes/{}", cluster.node())).unwrap();
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|it| it["type"] == "Ready").unwrap();
    assert_eq!((&ready["status"], &ready["message"]), (&"False".into(), &"node is shutting down".into()));
}
