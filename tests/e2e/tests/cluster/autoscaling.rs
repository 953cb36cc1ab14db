//! As many replicas as the load, or the size of the cluster, asks for; what is used.

use std::time::Duration;

use crate::{BUSYBOX, Shared};

/// Samples are taken every 15 seconds, and an autoscaler looks as often.
const ROUNDS: Duration = Duration::from_secs(150);

/// Burns a processor's limit until a file tells it to rest.
const BUSY: &str = "while [ ! -e /tmp/rest ]; do :; done; sleep 9999";

fn workload(name: &str, script: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: {BUSYBOX}
        command: [sh, -c, '{script}']
        resources: {{requests: {{cpu: 20m, memory: 16Mi}}, limits: {{cpu: 60m}}}}
"
    )
}

pub(crate) fn a_busy_deployment_grows_and_shrinks(shared: &Shared) {
    let space = shared.cluster().namespace("autoscaling");
    space.apply(&workload("busy", BUSY));
    space.rollout("busy");
    let told =
        space.kubectl(&["autoscale", "deployment", "busy", "--cpu-percent=80", "--min=1", "--max=2"]).ok();
    assert_eq!(told.trim(), "horizontalpodautoscaler.autoscaling/busy autoscaled");
    let window = r#"{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":10}}}}"#;
    space.kubectl(&["patch", "hpa", "busy", "--patch", window]).ok();
    let ready = || space.list("pods?labelSelector=app%3Dbusy").len();
    space.cluster().wait_for("it grows to its maximum", ROUNDS, || (ready() == 2).then_some(()));
    space.wait_object("told", "autoscaling/v2/horizontalpodautoscalers/busy", |hpa| {
        hpa["status"]["desiredReplicas"] == 2
    });
    space.wait_event("busy", "SuccessfulRescale");

    let row = space.kubectl(&["get", "hpa", "busy", "--no-headers"]).ok();
    assert!(row.contains("Deployment/busy") && row.contains("cpu: ") && row.contains("%/80%"), "{row}");
    let told = space.kubectl(&["describe", "hpa", "busy"]).ok();
    for line in [
        "resource cpu on pods  (as a percentage of request):",
        "ScalingActive   True    ValidMetricFound",
        "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)",
        "SuccessfulRescale",
        "New size: 2; reason: cpu resource utilization (percentage of request) above target",
    ] {
        assert!(told.contains(line), "no {line} in\n{told}");
    }
    usage_is_told(shared, space.name());

    for pod in space.list("pods?labelSelector=app%3Dbusy") {
        space.sh(pod["metadata"]["name"].as_str().unwrap(), "touch /tmp/rest");
    }
    space.cluster().wait_for("it shrinks again", ROUNDS, || (ready() == 1).then_some(()));
    let event = space.cluster().wait("the event of it", || {
        let mut events = space.list("events").into_iter();
        events.find(|event| event["message"].as_str().is_some_and(|text| text.starts_with("New size: 1")))
    });
    assert_eq!(event["message"], "New size: 1; reason: All metrics below target");
}

/// `kubectl top` in its ways, while somebody asks for metrics anyway.
fn usage_is_told(shared: &Shared, namespace: &str) {
    let cluster = shared.cluster();
    let top = |words: &[&str]| cluster.kubectl(&[&["top"], words].concat()).ok();
    let of = |table: &str, column: usize| -> Vec<String> {
        table.lines().filter_map(|line| line.split_whitespace().nth(column).map(str::to_owned)).collect()
    };
    let nodes = top(&["node"]);
    assert_eq!(
        nodes.split_whitespace().take(5).collect::<Vec<_>>(),
        ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    );
    assert!(nodes.contains(cluster.node()), "{nodes}");
    assert!(top(&["node", cluster.node(), "--no-headers", "--sort-by=memory"]).starts_with(cluster.node()));
    let pods = top(&["pod", "-n", namespace, "-l", "app=busy", "--sort-by=cpu"]);
    assert_eq!(of(&pods, 0)[0], "NAME");
    assert!(pods.lines().count() > 1 && pods.lines().skip(1).all(|line| line.starts_with("busy-")), "{pods}");
    let containers = top(&["pod", "-n", namespace, "--containers", "--no-headers"]);
    assert!(of(&containers, 1).iter().all(|name| name == "main"), "{containers}");
    let sum = top(&["pod", "-n", namespace, "--sum"]);
    assert!(sum.lines().last().is_some_and(|line| line.trim_end().ends_with("Mi")), "{sum}");
    assert!(of(&top(&["pod", "-A"]), 0).iter().any(|name| name == namespace));
    let table = cluster.kubectl(&["get", "pods.metrics.k8s.io", "-n", namespace]).ok();
    let headers: Vec<_> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(headers, ["NAME", "CPU", "MEMORY", "WINDOW"], "{table}");
    let explained = ["explain", "pods.containers.usage", "--api-version=metrics.k8s.io/v1beta1"];
    let explained = cluster.kubectl(&explained).ok();
    assert!(explained.contains("PodMetrics") && explained.contains("map[string]"), "{explained}");
}

pub(crate) fn replicas_follow_the_size_of_the_cluster(shared: &Shared) {
    let space = shared.cluster().namespace("proportional");
    space.apply(&workload("names", "sleep 9999"));
    space.apply(
        "apiVersion: autoscaling.plimsoll.io/v1
kind: ProportionalAutoscaler
metadata: {name: names}
spec:
  scaleTargetRef: {kind: Deployment, name: names}
  nodeSelector: {matchLabels: {names: here}}
  linear: {nodesPerReplica: 0.5, max: 3}
",
    );
    let replicas = |wanted: i64| {
        space.wait_object("scaled", "apps/v1/deployments/names", |one| one["spec"]["replicas"] == wanted);
    };
    let node = shared.cluster().node();
    shared.cluster().kubectl(&["label", "node", node, "names=here"]).ok();
    replicas(2);
    space.kubectl(&["scale", "deployment/names", "--replicas=5"]).ok();
    replicas(2);
    space.wait("the columns", || {
        let table = space.kubectl(&["get", "pa"]).ok();
        let shown: Vec<_> = table.split_whitespace().collect();
        let heads = ["NAME", "KIND", "TARGET", "NODES", "CORES", "DESIRED", "REPLICAS", "AGE"];
        let is_row = shown.len() == 16
            && shown[8..12] == ["names", "Deployment", "names", "1"]
            && shown[13..15] == ["2", "2"];
        (shown[..8] == heads && is_row).then_some(())
    });
    shared.cluster().kubectl(&["label", "node", node, "names-"]).ok();
    replicas(1);
    let told = space.kubectl(&["describe", "pa", "names"]).ok();
    for line in ["SuccessfulRescale", "New size: 1; reason: 0 nodes with 0 cores", "ScalingLimited"] {
        assert!(told.contains(line), "no {line} in\n{told}");
    }
    let explained = space.kubectl(&["explain", "pa.spec.linear.preventSinglePointFailure"]).ok();
    assert!(explained.contains("At least two replicas where there is more than one node."), "{explained}");
}
