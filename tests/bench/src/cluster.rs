//! A whole cluster: starts, pods, idleness.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_e2e::{Cluster, Namespace, run as run_command};
use serde_json::Value;

use crate::process::{processor_time, resident};
use crate::report;

/// Idle processor use is taken over this time.
const IDLE: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(120);

/// Takes and prints every figure of a cluster.
pub(crate) fn run() {
    let cluster = Cluster::prepare(&[]);
    report("first start to node ready", &format!("{} ms", cluster.up()), "under 2000 ms");
    cluster.stop();
    report("restart to node ready", &format!("{} ms", cluster.up()), "under 1000 ms");
    let space = cluster.namespace("bench");
    idle(&cluster);
    single_pods(&space);
    many_pods(&space);
    large_list(&cluster);
}

fn manifest(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: bench}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers: [{{name: main, image: plimsoll.io/demo, imagePullPolicy: IfNotPresent}}]\n"
    )
}

/// From the moment that a watcher sees the new pod to the one that it sees it Running.
fn single_pods(space: &Namespace<'_>) {
    let mut times: Vec<u128> = (0..20)
        .map(|number| {
            let name = format!("one-{number}");
            let mut watch = space.follow(&[
                "get",
                "pods",
                "--watch-only",
                "--field-selector",
                &format!("metadata.name={name}"),
                "--output=jsonpath={.metadata.name} {.status.phase}{\"\\n\"}",
            ]);
            // The watch is there when another object's change would be seen; its start has no sign of its own.
            thread::sleep(Duration::from_millis(300));
            let manifest = manifest(&name);
            thread::scope(|scope| {
                scope.spawn(|| space.apply(&manifest));
                watch.line(LIMIT, |line| line.ends_with(" Pending"));
                let created = Instant::now();
                watch.line(LIMIT, |line| line.ends_with(" Running"));
                created.elapsed().as_millis()
            })
        })
        .collect();
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    report("one pod, created to Running (median of 20)", &format!("{median} ms"), "under 150 ms");
    report("one pod, created to Running (worst of 20)", &format!("{worst} ms"), "none");
    space.kubectl(&["delete", "pods", "--all", "--force", "--grace-period=0"]).ok();
    space.wait("the pods are gone", || space.list("pods").is_empty().then_some(()));
}

/// A Deployment of 30, from its creation to the last pod Running.
fn many_pods(space: &Namespace<'_>) {
    space.kubectl(&["create", "deployment", "many", "--image=plimsoll.io/demo", "--replicas=0"]).ok();
    let patch =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"demo","imagePullPolicy":"IfNotPresent"}]}}}}"#;
    space.kubectl(&["patch", "deployment", "many", "-p", patch]).ok();
    let mut watch = space.follow(&[
        "get",
        "pods",
        "--watch-only",
        "--output=jsonpath={.metadata.name} {.status.phase}{\"\\n\"}",
    ]);
    thread::sleep(Duration::from_millis(500));
    let elapsed = thread::scope(|scope| {
        scope.spawn(|| space.kubectl(&["scale", "deployment/many", "--replicas=30"]).ok());
        watch.line(LIMIT, |line| line.ends_with(" Pending"));
        let created = Instant::now();
        let mut running = std::collections::BTreeSet::new();
        while running.len() < 30 {
            let line = watch.line(LIMIT, |line| line.ends_with(" Running"));
            running.insert(line);
        }
        created.elapsed().as_millis()
    });
    report("30 pods at once, created to all Running", &format!("{elapsed} ms"), "under 1500 ms");
    space.kubectl(&["delete", "deployment", "many"]).ok();
    space.wait("the pods are gone", || space.list("pods").is_empty().then_some(()));
}

fn idle(cluster: &Cluster) {
    let before = processor_time(cluster.process_id());
    thread::sleep(IDLE);
    let used = processor_time(cluster.process_id()) - before;
    report(
        "idle processor use over 20 s",
        &format!("{:.2} %", used / IDLE.as_secs_f64() * 100.0),
        "under 1 % of a core",
    );
    let memory = resident(cluster.process_id());
    report("idle resident memory, node and all", &format!("{:.1} MB", memory / 1e6), "under 80 MB");
}

/// `kubectl get pods` of 1,000 pods: the table as the server makes it, without kubectl's own time.
fn large_list(cluster: &Cluster) {
    let control = Cluster::prepare(&["--no-node"]);
    control.up();
    let text: String =
        (0..1000).map(|number| format!("---\n{}", manifest(&format!("pod-{number}")))).collect();
    control.kubectl_with(&["create", "-f", "-"], text.as_bytes()).ok();
    let pods = control
        .api("/api/v1/namespaces/default/pods?limit=1")
        .map(|list| list["metadata"]["remainingItemCount"].clone());
    assert_eq!(pods, Some(Value::from(999)), "1,000 pods are there");
    let mut times: Vec<f64> = (0..11).map(|_| timed(&control)).collect();
    times.sort_unstable_by(f64::total_cmp);
    report("table of 1,000 pods (median of 11)", &format!("{:.1} ms", times[5] * 1000.0), "under 100 ms");
    drop(control);
    report(
        "resident memory after all of it",
        &format!("{:.1} MB", resident(cluster.process_id()) / 1e6),
        "none",
    );
}

/// Seconds from the end of the TLS handshake to the last byte of the table.
fn timed(cluster: &Cluster) -> f64 {
    let pki = cluster.data().join("pki");
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--insecure",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code} %{time_appconnect} %{time_total}",
    ]);
    curl.arg("--header").arg("Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
    curl.arg("--cert").arg(pki.join("admin.crt")).arg("--key").arg(pki.join("admin.key"));
    curl.arg(format!("https://{}/api/v1/namespaces/default/pods", cluster.listen()));
    let text = run_command(&mut curl, b"", LIMIT).ok();
    let fields: Vec<f64> = text.split(' ').filter_map(|text| text.parse().ok()).collect();
    assert_eq!(fields[0] as u32, 200, "{text}");
    fields[2] - fields[1]
}
