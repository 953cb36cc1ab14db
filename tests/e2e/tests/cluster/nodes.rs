//! What administrators do to nodes.

use plimsoll_e2e::{Cluster, Namespace};

use crate::Shared;
use crate::workloads::web;

pub(crate) fn a_node_is_emptied_and_used_again(_: &Shared) {
    // Of its own: nobody else's pods are to be evicted.
    let cluster = Cluster::start();
    let node = cluster.node();
    let space = cluster.namespace("drained");
    space.apply(&web(1, ""));
    space.kubectl(&["create", "pdb", "web", "--selector=app=web", "--min-available=1"]).ok();
    space.kubectl(&["run", "naked", "--image=plimsoll.io/demo"]).ok();
    space.rollout("web");
    space.kubectl(&["wait", "pod/naked", "--for=condition=Ready", "--timeout=60s"]).ok();
    space.wait_object("counted", "policy/v1/poddisruptionbudgets/web", |pdb| {
        pdb["status"]["currentHealthy"] == 1
    });

    assert_eq!(cluster.kubectl(&["cordon", node]).ok().trim(), format!("node/{node} cordoned"));
    assert!(cluster.kubectl(&["get", "node", node]).ok().contains("Ready,SchedulingDisabled"));
    let text = cluster.kubectl(&["drain", node, "--timeout=5s"]).refused();
    assert!(
        text.contains("Pods that declare no controller (use --force to override): drained/naked"),
        "{text}"
    );
    let text = cluster.kubectl(&["drain", node, "--force", "--timeout=2s"]).refused();
    assert!(text.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{text}");
    space.kubectl(&["delete", "pdb", "web"]).ok();
    let text = cluster.kubectl(&["drain", node, "--force", "--timeout=60s"]).ok();
    assert!(text.contains(&format!("node/{node} drained")), "{text}");
    assert!(space.object("pods/naked").is_none() && space.ready_pods("web").is_empty());
    unschedulable(&space, "1 node(s) were unschedulable");
    cluster.kubectl(&["uncordon", node]).ok();
    space.rollout("web");

    // A taint that nobody tolerates sends everybody away.
    cluster.kubectl(&["taint", "node", node, "repair=now:NoExecute"]).ok();
    let text = cluster.kubectl(&["taint", "node", node, "repair=now:NoExecute"]).refused();
    assert!(
        text.contains("already has repair taint(s) with same effect(s) and --overwrite is false"),
        "{text}"
    );
    space.wait("the pods go", || space.ready_pods("web").is_empty().then_some(()));
    unschedulable(&space, "1 node(s) had untolerated taint");
    cluster.kubectl(&["taint", "node", node, "repair:NoExecute-"]).ok();
    space.rollout("web");
    let text = cluster.kubectl(&["label", "node", node, "node-role.kubernetes.io/worker="]).ok();
    assert!(text.contains("labeled"), "{text}");
    assert!(cluster.kubectl(&["get", "node", node]).ok().contains(" worker "));
}

/// Waits until the scheduler gave this cause.
fn unschedulable(space: &Namespace<'_>, cause: &str) {
    space.wait(cause, || {
        let said = |pod: &serde_json::Value| pod["status"]["conditions"].to_string().contains(cause);
        space.list("pods").iter().any(said).then_some(())
    });
}
