//! Nodes that run pods without processes.

use std::process::Command;

use plimsoll_e2e::{Background, Cluster, program};
use serde_json::Value;

use crate::Shared;

pub(crate) fn pods_live_on_simulated_nodes_and_silent_nodes_are_noticed(_: &Shared) {
    let cluster = Cluster::prepare(&[
        "--no-node",
        "--simulated-nodes=20",
        "--simulated-zones=3",
        "--simulated-run-time=1s",
        "--simulated-capacity=pods=20",
        "--simulated-lease-duration=4s",
        "--node-monitor-grace-period=3s",
    ]);
    cluster.up();
    let space = cluster.namespace("simulated");

    space.kubectl(&["create", "deployment", "web", "--image=example.com/web:1", "--replicas=50"]).ok();
    space.rollout("web");
    let pods = space.list("pods");
    let text =
        |pod: &Value, path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut addresses: Vec<_> = pods.iter().map(|pod| text(pod, "/status/podIP")).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!((pods.len(), addresses.len()), (50, 50), "{addresses:?}");
    assert!(pods.iter().all(|pod| text(pod, "/spec/nodeName").starts_with("sim-")));

    space.kubectl(&["create", "job", "sum", "--image=example.com/sum:1"]).ok();
    space.kubectl(&["wait", "--for=condition=complete", "job/sum", "--timeout=60s"]).ok();
    space.kubectl(&["delete", "deployment", "web", "--timeout=60s"]).ok();
    space.wait("graceful deletion ends at once", || {
        space.list("pods").iter().all(|pod| text(pod, "/metadata/labels/app") != "web").then_some(())
    });

    let ready = |node: &str, wanted: &str| {
        cluster.wait(&format!("{node} is {wanted}"), || {
            let node = cluster.api(&format!("/api/v1/nodes/{node}"))?;
            let all = node["status"]["conditions"].as_array()?;
            all.iter().any(|it| it["type"] == "Ready" && it["status"] == wanted).then_some(())
        });
    };
    cluster.kubectl(&["annotate", "node", "sim-3", "plimsoll.io/silent=true"]).ok();
    ready("sim-3", "Unknown");
    ready("sim-4", "True");
    cluster.kubectl(&["annotate", "node", "sim-3", "plimsoll.io/silent-"]).ok();
    ready("sim-3", "True");

    let mut command = Command::new(program());
    command
        .arg("simulate")
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(["--nodes=2", "--name-prefix=more"]);
    let _more = Background::start(&mut command);
    ready("more-1", "True");
}
