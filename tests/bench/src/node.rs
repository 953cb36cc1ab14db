//! A node: how quickly pods come and go, what they cost while they are there, and what it costs to look at them.
//!
//! With `--kubeconfig` how quickly pods come and go on whatever cluster that leads to, so that several can be
//! compared on one machine. Its image has to be there before.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use plimsoll_e2e::{Agent, Cluster, Containerd};
use serde_json::{Value, json};

use crate::api::connection::{Call, Endpoint};
use crate::api::lines::Lines;
use crate::process::{processor_time, proportional, resident};
use crate::report;

/// Pods at rest.
const MANY: usize = 500;
/// More than a node usually takes, and a range with addresses for them.
const SETTINGS: &str =
    "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 600\n";
const RANGE: &str = "22";
/// Processor use at rest is taken over this time.
const REST: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(300);
const PODS: &str = "/api/v1/namespaces/default/pods";
/// The pods that are made here: others on the cluster are left alone.
const OWN: &str = "/api/v1/namespaces/default/pods?labelSelector=plimsoll.io%2Fbench";

/// The demo server ends promptly when it is told to.
pub(crate) const IMAGE: &str = "plimsoll.io/demo";

/// Takes and prints the figures of a node that is there, whoever runs it.
pub(crate) fn run_on(kubeconfig: &str, image: &str) -> anyhow::Result<()> {
    let endpoint = Endpoint::of_kubeconfig(kubeconfig)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = Node::open(endpoint, image).await?;
        ready_for_pods(&node).await?;
        come_and_go(&node).await
    })
}

/// Takes and prints every figure of a node.
pub(crate) fn run() -> anyhow::Result<()> {
    let settings = tempfile::NamedTempFile::new()?;
    fs::write(&settings, SETTINGS)?;
    let path = settings.path().to_str().context("a path that is text")?;
    let cluster = Cluster::prepare(&["--node-cidr-mask-size", RANGE, "--kubelet-config", path]);
    cluster.up();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(all(&cluster))
}

async fn all(cluster: &Cluster) -> anyhow::Result<()> {
    let endpoint = Endpoint::new(cluster.listen(), cluster.data().join("pki"), "admin")?;
    let node = Node::open(endpoint, IMAGE).await?;
    ready_for_pods(&node).await?;
    // First, while the program holds no memory of pods that are gone.
    at_rest(cluster, &node).await?;
    come_and_go(&node).await
}

/// Takes and prints what the agent and the rest of the program hold of memory for each pod, each in a process of
/// its own; containers are containerd's.
///
/// The first pods that come at once bring in code, threads, connections and the allocator's own room, which stay
/// and serve all that come later: what one more pod costs is the difference between many pods and some.
pub(crate) fn run_apart() -> anyhow::Result<()> {
    const SOME: usize = 50;
    const MANY: usize = 250;
    let cluster = Cluster::prepare(&["--no-node"]);
    cluster.up();
    let engine = Containerd::start(&cluster, "containerd");
    engine.import(&cluster, &[IMAGE]);
    let agent = Agent::prepare(&cluster, &engine, "node", "maxPods: 300\n");
    agent.join(&cluster);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let endpoint = Endpoint::new(cluster.listen(), cluster.data().join("pki"), "admin")?;
        let node = Node::open(endpoint, IMAGE).await?;
        ready_for_pods(&node).await?;
        let parts = [("agent", agent.process_id(), "under 100 kB"), ("rest", cluster.process_id(), "none")];
        let held = || parts.map(|(_, id, _)| resident(id));
        let none = held();
        node.create(SOME).await?;
        tokio::time::sleep(REST).await;
        let some = held();
        node.create_all(SOME..MANY).await?;
        tokio::time::sleep(REST).await;
        let many = held();
        for (at, (name, _, aim)) in parts.into_iter().enumerate() {
            let each = (many[at] - some[at]) / (MANY - SOME) as f64;
            let what = format!("memory of the {name} for each of {} more pods", MANY - SOME);
            report(&what, &format!("{:.0} kB", each / 1e3), aim);
            let grown = format!("{:.1} to {:.1} MB", none[at] / 1e6, some[at] / 1e6);
            report(&format!("memory of the {name} by the first {SOME} pods"), &grown, "none");
        }
        node.delete_all(MANY).await.map(drop)
    })
}

async fn come_and_go(node: &Node) -> anyhow::Result<()> {
    one_by_one(node).await?;
    for (count, aim) in [(30, "under 1000 ms"), (100, "under 4000 ms")] {
        let created = node.create(count).await?;
        let what = format!("{count} pods at once, created to all Running");
        report(&what, &millis(created), aim);
        let gone = node.delete_all(count).await?;
        let aim = if count == 100 { "under 3000 ms" } else { "none" };
        report(&format!("{count} prompt pods deleted to gone"), &millis(gone), aim);
    }
    Ok(())
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// The first pod pays for what all later ones find.
async fn ready_for_pods(node: &Node) -> anyhow::Result<()> {
    node.create(1).await?;
    node.delete_all(1).await.map(drop)
}

async fn one_by_one(node: &Node) -> anyhow::Result<()> {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        starts.push(node.create(1).await?);
        ends.push(node.delete_all(1).await?);
    }
    for (what, times, aims) in [
        ("one pod, created to Running", &mut starts, ["under 100 ms", "under 250 ms"]),
        ("one prompt pod, deleted to gone", &mut ends, ["under 200 ms", "none"]),
    ] {
        times.sort_unstable();
        report(&format!("{what} (median of 50)"), &millis(times[times.len() / 2]), aims[0]);
        report(&format!("{what} (99 of 100)"), &millis(times[times.len() - 1]), aims[1]);
    }
    Ok(())
}

async fn at_rest(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let id = cluster.process_id();
    let empty = resident(id);
    let created = node.create(MANY).await?;
    report(&format!("{MANY} pods at once, created to all Running"), &millis(created), "none");
    // What is left over from the start is done.
    tokio::time::sleep(REST).await;
    let before = processor_time(id);
    tokio::time::sleep(REST).await;
    let used = (processor_time(id) - before) / REST.as_secs_f64();
    report(
        &format!("{MANY} pods at rest, processor use"),
        &format!("{:.2} %", used * 100.0),
        "under 3 % of a core",
    );
    let each = (resident(id) - empty) / MANY as f64;
    report("memory of the whole program for each pod", &format!("{:.0} kB", each / 1e3), "none");
    let (processes, bytes) = helpers(id)?;
    let each = bytes / MANY as f64;
    report("shim and pause for each pod", &format!("{:.2} MB", each / 1e6), "under 3 MB");
    ensure!(processes >= 2 * MANY, "{processes} helpers of {MANY} pods");
    let mut calls = node.endpoint.connect().await?;
    for path in ["metrics/cadvisor", "metrics/resource", "stats/summary"] {
        let before = processor_time(id);
        let begun = Instant::now();
        let mut bytes = 0;
        for _ in 0..5 {
            let path = format!("/api/v1/nodes/{}/proxy/{path}", cluster.node());
            bytes = calls.call(&Call::get(path)).await?.len();
        }
        let (took, used) = (begun.elapsed() / 5, (processor_time(id) - before) / 5.0);
        let figure = format!("{} ms, {:.0} ms cpu", took.as_millis(), used * 1e3);
        report(&format!("{path} of {MANY} pods ({:.1} MB)", bytes as f64 / 1e6), &figure, "none");
    }
    let gone = node.delete_all(MANY).await?;
    report(&format!("{MANY} prompt pods deleted to gone"), &millis(gone), "none");
    Ok(())
}

/// The processes of the program's pods beside their own, and what they hold of memory: what several share is
/// shared out.
fn helpers(main: u32) -> anyhow::Result<(usize, f64)> {
    let program = fs::read_link(format!("/proc/{main}/exe")).context("the program")?;
    let (mut count, mut bytes) = (0, 0.0);
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let is_its = fs::read_link(entry.path().join("exe")).is_ok_and(|found| found == program);
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // The demo server is the same program, and the pods' own business.
        let word = command.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        let helps = word == b"shim" || command.starts_with(b"/pause");
        if id != main && is_its && helps {
            count += 1;
            bytes += proportional(id);
        }
    }
    Ok((count, bytes))
}

/// The API of the cluster, and a watch of pods.
struct Node {
    endpoint: Endpoint,
    image: String,
    watch: tokio::sync::Mutex<Lines>,
}

impl Node {
    async fn open(endpoint: Endpoint, image: &str) -> anyhow::Result<Self> {
        let mut watching = endpoint.connect().await?;
        let watch = watching.watch(&format!("{OWN}&watch=true")).await?;
        let watch = tokio::sync::Mutex::new(Lines::new(watch, watching));
        Ok(Self { watch, image: image.to_owned(), endpoint })
    }

    /// Creates pods, and waits until all of them run; from the first request on.
    async fn create(&self, count: usize) -> anyhow::Result<Duration> {
        self.create_all(0..count).await
    }

    async fn create_all(&self, numbers: Range<usize>) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        // As many at a time as clients usually have.
        let (count, each) = (numbers.len(), numbers.len().div_ceil(8));
        let names: BTreeSet<_> = numbers.clone().map(name).collect();
        let parts: Vec<usize> = numbers.collect();
        let creating = parts.chunks(each).map(|part| async move {
            let mut connection = self.endpoint.connect().await?;
            for number in part {
                let body = pod(&name(*number), &self.image).to_string();
                connection.call(&Call::post(PODS, body)).await?;
            }
            anyhow::Ok(())
        });
        let creating = futures::future::try_join_all(creating);
        let running = self.until(count, |kind, pod| {
            let is_one = pod["metadata"]["name"].as_str().is_some_and(|name| names.contains(name));
            is_one && kind != "DELETED" && pod["status"]["phase"] == "Running"
        });
        tokio::try_join!(creating, running)?;
        Ok(begun.elapsed())
    }

    /// Deletes all pods, and waits until they are gone.
    async fn delete_all(&self, count: usize) -> anyhow::Result<Duration> {
        // A connection that has been idle for long is closed by the server.
        let mut calls = self.endpoint.connect().await?;
        let begun = Instant::now();
        let delete = Call { method: "DELETE", ..Call::get(OWN) };
        let deleting = calls.call(&delete);
        let gone = self.until(count, |kind, _| kind == "DELETED");
        tokio::try_join!(deleting, gone)?;
        Ok(begun.elapsed())
    }

    /// Waits until the watch has told of so many pods what is waited for.
    async fn until(&self, count: usize, is: impl Fn(&str, &Value) -> bool) -> anyhow::Result<()> {
        let mut watch = self.watch.lock().await;
        let mut seen = BTreeSet::new();
        let waiting = async {
            while seen.len() < count {
                let event: Value = serde_json::from_slice(&watch.next().await?)?;
                let object = &event["object"];
                if is(event["type"].as_str().unwrap_or_default(), object) {
                    seen.insert(object["metadata"]["name"].to_string());
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LIMIT, waiting).await.context("pods take too long")?
    }
}

fn name(number: usize) -> String {
    format!("bench-{number}")
}

fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"plimsoll.io/bench": ""}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"}],
        },
    })
}
