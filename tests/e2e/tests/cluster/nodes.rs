//! What administrators do to nodes.

use plimsoll_e2e::{Cluster, Namespace};

use crate::Shared;
use crate::pods::{STAY, pod};
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

pub(crate) fn its_figures_are_those_of_its_pods(shared: &Shared) {
    let cluster = shared.cluster();
    let space = cluster.namespace("figures");
    let limits = "    resources: {limits: {cpu: 200m, memory: 64Mi}}";
    space.apply(&pod("busy", "i=0; while :; do i=$((i+1)); done", limits, ""));
    space.apply(&pod("still", STAY, limits, ""));
    for name in ["busy", "still"] {
        space.kubectl(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=60s"]).ok();
    }
    let path = |part: &str| format!("/api/v1/nodes/{}/proxy/{part}", cluster.node());
    let raw = |part: &str| cluster.kubectl(&["get", "--raw", &path(part)]).ok();
    let value = |text: &str, name: &str, labels: &[&str]| -> Option<f64> {
        let fits = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        };
        let (_, value) = text.lines().find(fits)?.rsplit_once("} ")?;
        value.split(' ').next()?.parse().ok()
    };
    let own = ["namespace=\"figures\"", "pod=\"busy\"", "container=\"main\""];
    let text = space.wait("the busy container is throttled", || {
        let text = raw("metrics/cadvisor");
        value(&text, "container_cpu_cfs_throttled_periods_total", &own).filter(|count| *count > 1.0)?;
        value(&text, "container_cpu_usage_seconds_total", &own).filter(|used| *used > 0.1)?;
        Some(text)
    });
    let amount = |name: &str, labels: &[&str]| {
        value(&text, name, labels).unwrap_or_else(|| panic!("{name} {labels:?} in {text}"))
    };
    assert_eq!(amount("container_spec_memory_limit_bytes", &own), 67_108_864.0);
    assert_eq!(amount("container_spec_cpu_quota", &own), 20_000.0);
    let (most, used) =
        (amount("container_memory_usage_bytes", &own), amount("container_memory_working_set_bytes", &own));
    assert!(used > 0.0 && used <= most && most < 67_108_864.0, "{used} of {most}");
    assert!(amount("container_network_receive_bytes_total", &["pod=\"busy\"", "interface=\"eth0\""]) >= 0.0);
    assert!(amount("container_cpu_usage_seconds_total", &["id=\"/\""]) > 0.0);

    let text = raw("metrics/resource");
    assert!(value(&text, "container_cpu_usage_seconds_total", &own).is_some_and(|used| used > 0.1), "{text}");
    assert!(text.contains("\nresource_scrape_error 0\n"), "{text}");
    let text = raw("metrics");
    assert!(text.contains("kubelet_running_pods ") && text.contains("kubelet_started_pods_total "), "{text}");
    assert!(text.contains("kubelet_runtime_operations_total{operation_type=\"run_podsandbox\"} "), "{text}");

    let summary: serde_json::Value = serde_json::from_str(&raw("stats/summary")).expect("JSON");
    let pods = summary["pods"].as_array().expect("pods");
    let still = pods.iter().find(|pod| pod["podRef"]["name"] == "still").expect("the still pod");
    assert!(still["containers"][0]["memory"]["workingSetBytes"].as_u64() > Some(0), "{still:#}");
    assert!(still["ephemeral-storage"]["usedBytes"].as_u64().is_some(), "{still:#}");
    assert!(still["network"]["interfaces"][0]["rxBytes"].as_u64().is_some(), "{still:#}");
    let tokens = still["volume"].as_array().expect("volumes");
    assert!(tokens.iter().any(|it| it["name"].as_str().is_some_and(|it| it.starts_with("kube-api-access"))));
    let node = &summary["node"];
    for part in ["fs", "rlimit", "runtime", "memory", "cpu", "network", "systemContainers"] {
        assert!(!node[part].is_null(), "{part} in {node:#}");
    }
    let stranger = ["get", "--raw", &path("metrics/cadvisor"), "--as=nobody"];
    let text = cluster.kubectl(&stranger).refused();
    assert!(text.contains("Forbidden") || text.contains("forbidden"), "{text}");
}

/// Waits until the scheduler gave this cause.
fn unschedulable(space: &Namespace<'_>, cause: &str) {
    space.wait(cause, || {
        let said = |pod: &serde_json::Value| pod["status"]["conditions"].to_string().contains(cause);
        space.list("pods").iter().any(said).then_some(())
    });
}
