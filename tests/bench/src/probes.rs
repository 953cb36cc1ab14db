//! What probing costs the agent: a thousand HTTP probes a second.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use plimsoll_e2e::Cluster;

use crate::process::processor_time;
use crate::report;

const PODS: usize = 50;
const CONTAINERS: usize = 10;
/// Processor use is taken over this time.
const SPAN: Duration = Duration::from_secs(30);

/// Takes the difference that probes make to pods which run anyway.
pub(crate) fn run() {
    let cluster = Cluster::prepare(&[]);
    cluster.up();
    let quiet = measure(&cluster, "quiet", "");
    let probe =
        "httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 30";
    let probes = format!(", livenessProbe: {{{probe}}}, readinessProbe: {{{probe}}}");
    let busy = measure(&cluster, "probed", &probes);
    report(
        "1,000 HTTP probes a second, processor use",
        &format!("{:.1} %", (busy - quiet) * 100.0),
        "under 10 % of a core",
    );
}

/// The part of a core that the program uses while pods run whose containers have `probes`.
fn measure(cluster: &Cluster, name: &str, probes: &str) -> f64 {
    let space = cluster.namespace(name);
    space.apply(&(0..PODS).map(|number| pod(number, probes)).collect::<String>());
    cluster.wait_for("all pods are ready", Duration::from_secs(300), || {
        let pods = space.list("pods");
        let ready = |pod: &serde_json::Value| {
            let statuses = pod["status"]["containerStatuses"].as_array();
            statuses.is_some_and(|list| list.len() == CONTAINERS && list.iter().all(|it| it["ready"] == true))
        };
        (pods.len() == PODS && pods.iter().all(ready)).then_some(())
    });
    // What starting leaves to do is done.
    thread::sleep(Duration::from_secs(5));
    let before = processor_time(cluster.process_id());
    thread::sleep(SPAN);
    let used = processor_time(cluster.process_id()) - before;
    space.kubectl(&["delete", "pods", "--all", "--grace-period=1"]).ok();
    cluster.wait_for("the pods are gone", Duration::from_secs(120), || {
        space.list("pods").is_empty().then_some(())
    });
    used / SPAN.as_secs_f64()
}

/// A pod with one server; the probes of its other containers ask that one, too.
fn pod(number: usize, probes: &str) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n"
    );
    for container in 0..CONTAINERS {
        let image = if container == 0 { "demo" } else { "pause" };
        writeln!(
            text,
            "  - {{name: c{container}, image: plimsoll.io/{image}, imagePullPolicy: IfNotPresent{probes}}}"
        )
        .expect("strings take all");
    }
    text
}
