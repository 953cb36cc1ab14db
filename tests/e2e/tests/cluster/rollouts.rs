//! How templates reach pods: paused and resumed, in order, node by node, back again.

use plimsoll_e2e::Namespace;
use serde_json::Value;

use crate::Shared;
use crate::workloads::web;

fn count(space: &Namespace<'_>, path: &str, field: &str) -> i64 {
    space.object(path).and_then(|object| object["status"][field].as_i64()).unwrap_or_default()
}

pub(crate) fn a_paused_deployment_collects_changes(shared: &Shared) {
    let space = shared.cluster().namespace("paused");
    space.apply(&web(2, "        env: [{name: VERSION, value: one}]\n"));
    space.rollout("web");
    assert!(space.kubectl(&["rollout", "pause", "deployment/web"]).ok().contains("paused"));
    space.kubectl(&["set", "env", "deployment/web", "VERSION=two"]).ok();
    space.kubectl(&["set", "resources", "deployment/web", "--requests=cpu=1m,memory=1Mi"]).ok();
    space.kubectl(&["scale", "deployment/web", "--replicas=3"]).ok();
    let deployment = space.wait_object("scaled though paused", "apps/v1/deployments/web", |deployment| {
        deployment["status"]["availableReplicas"] == 3
    });
    assert!(deployment["status"]["conditions"].to_string().contains("DeploymentPaused"), "{deployment}");
    assert!(deployment["status"].get("updatedReplicas").is_none(), "{deployment}");
    assert_eq!(space.list("apps/v1/replicasets").len(), 1, "nothing rolls while paused");
    space.kubectl(&["rollout", "resume", "deployment/web"]).ok();
    assert!(space.rollout("web").contains("successfully rolled out"));
    assert_eq!(space.list("apps/v1/replicasets").len(), 2, "both changes are one rollout");
    let event = space.wait_event("web", "ScalingReplicaSet");
    let message = event["message"].as_str().unwrap();
    assert!(message.starts_with("Scaled ") && message.contains(" replica set web-"), "{message}");
}

fn store(replicas: u32, extra: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: store}}
spec:
  replicas: {replicas}
  serviceName: store
  selector: {{matchLabels: {{app: store}}}}
{extra}
  template:
    metadata: {{labels: {{app: store}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: web, image: plimsoll.io/demo, env: [{{name: VERSION, value: one}}]}}
"
    )
}

const STORE: &str = "apps/v1/statefulsets/store";

/// What the pods of the set were made from, in order.
fn versions(space: &Namespace<'_>) -> Vec<String> {
    let mut pods: Vec<_> = space.list("pods?labelSelector=app%3Dstore");
    pods.sort_by_key(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned());
    let version =
        |pod: &Value| pod["spec"]["containers"][0]["env"][0]["value"].as_str().unwrap_or_default().to_owned();
    pods.iter().map(version).collect()
}

pub(crate) fn a_stateful_set_keeps_order_and_goes_back(shared: &Shared) {
    let space = shared.cluster().namespace("stateful");
    space.apply(&store(2, ""));
    let told = space.kubectl(&["rollout", "status", "statefulset/store", "--timeout=60s"]).ok();
    assert!(told.contains("roll out complete: 2 new pods have been updated"), "{told}");
    let first = space.object("pods/store-0").unwrap();
    let second = space.object("pods/store-1").unwrap();
    assert_eq!(second["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(second["spec"]["hostname"], "store-1");
    assert_eq!(second["spec"]["subdomain"], "store");
    let ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().unwrap().clone();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap();
        ready["lastTransitionTime"].as_str().unwrap().to_owned()
    };
    let made = second["metadata"]["creationTimestamp"].as_str().unwrap();
    assert!(made >= ready(&first).as_str(), "the second was made before the first was ready");

    // A canary: only what is at or above the partition.
    let canary = r#"{"spec":{"updateStrategy":{"rollingUpdate":{"partition":1}}}}"#;
    space.kubectl(&["patch", "statefulset", "store", "-p", canary]).ok();
    space.kubectl(&["set", "env", "statefulset/store", "VERSION=two"]).ok();
    space.kubectl(&["rollout", "status", "statefulset/store", "--timeout=60s"]).ok();
    assert_eq!(versions(&space), ["one", "two"]);
    assert_eq!((count(&space, STORE, "currentReplicas"), count(&space, STORE, "updatedReplicas")), (1, 1));
    // Below the partition a pod comes back as it was.
    space.kubectl(&["delete", "pod", "store-0"]).ok();
    space.wait_object("store-0 is back", STORE, |set| set["status"]["readyReplicas"] == 2);
    assert_eq!(versions(&space), ["one", "two"]);

    let history = space.kubectl(&["rollout", "history", "statefulset/store"]).ok();
    assert!(history.contains("1  ") && history.contains("2  "), "{history}");
    space.kubectl(&["rollout", "undo", "statefulset/store"]).ok();
    space.wait("the canary is taken back", || (versions(&space) == ["one", "one"]).then_some(()));
    space.kubectl(&["rollout", "status", "statefulset/store", "--timeout=60s"]).ok();
    let revisions = space.list("apps/v1/controllerrevisions");
    let mut numbers: Vec<_> = revisions.iter().filter_map(|revision| revision["revision"].as_i64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3], "the old revision has a new number");

    // Pods that are left behind are taken over, not doubled.
    let uid = |name: &str| space.object(&format!("pods/{name}")).map(|pod| pod["metadata"]["uid"].clone());
    let before = uid("store-1");
    space.kubectl(&["delete", "statefulset", "store", "--cascade=orphan"]).ok();
    space.wait_gone(STORE);
    space.apply(&store(1, ""));
    space.wait("one is left", || (space.list("pods").len() == 1).then_some(()));
    assert!(before.is_some() && uid("store-0").is_some());
    space.kubectl(&["delete", "statefulset", "store", "--cascade=foreground"]).ok();
    assert!(space.list("pods").is_empty(), "foreground means that the pods went first");
}

pub(crate) fn a_daemon_set_rolls_and_goes_back(shared: &Shared) {
    let space = shared.cluster().namespace("daemons");
    space.apply(
        "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: plimsoll.io/demo, env: [{name: VERSION, value: one}]}
",
    );
    let status = |told: &str| {
        let text = space.kubectl(&["rollout", "status", "daemonset/agent", "--timeout=60s"]).ok();
        assert!(text.contains("successfully rolled out"), "{told}: {text}");
    };
    let version = || {
        let pods = space.list("pods");
        let alive = pods.iter().find(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        alive.map(|pod| pod["spec"]["containers"][0]["env"][0]["value"].clone())
    };
    status("made");
    space.kubectl(&["set", "env", "daemonset/agent", "VERSION=two"]).ok();
    status("changed");
    assert_eq!(version(), Some("two".into()));
    space.kubectl(&["rollout", "undo", "daemonset/agent"]).ok();
    status("undone");
    assert_eq!(version(), Some("one".into()));
    let history = space.kubectl(&["rollout", "history", "daemonset/agent"]).ok();
    assert!(history.contains("2  ") && history.contains("3  "), "{history}");
    space.kubectl(&["rollout", "restart", "daemonset/agent"]).ok();
    status("restarted");
    // A node that no longer fits loses its pod.
    let elsewhere = r#"{"spec":{"template":{"spec":{"nodeSelector":{"none":"such"}}}}}"#;
    space.kubectl(&["patch", "daemonset", "agent", "-p", elsewhere]).ok();
    space.wait("no pod is left", || space.list("pods").is_empty().then_some(()));
    let set = space.wait_object("counted", "apps/v1/daemonsets/agent", |set| {
        set["status"]["desiredNumberScheduled"] == 0 && set["status"]["currentNumberScheduled"] == 0
    });
    assert_eq!(set["status"]["numberMisscheduled"], 0, "{set}");
}

pub(crate) fn a_quota_is_told_and_lifted(shared: &Shared) {
    let space = shared.cluster().namespace("replica-quota");
    space.kubectl(&["create", "quota", "few", "--hard=pods=1"]).ok();
    space.wait_object("in force", "resourcequotas/few", |quota| quota["status"]["hard"]["pods"] == "1");
    space.apply(&web(2, ""));
    let deployment = space.wait_object("refused", "apps/v1/deployments/web", |deployment| {
        deployment["status"]["conditions"].to_string().contains("ReplicaFailure")
    });
    let text = deployment["status"]["conditions"].to_string();
    assert!(text.contains("FailedCreate") && text.contains("exceeded quota: few"), "{text}");
    space.kubectl(&["patch", "quota", "few", "-p", r#"{"spec":{"hard":{"pods":"3"}}}"#]).ok();
    assert!(space.rollout("web").contains("successfully rolled out"));
    space.wait_object("forgotten", "apps/v1/deployments/web", |deployment| {
        !deployment["status"]["conditions"].to_string().contains("ReplicaFailure")
    });
}

pub(crate) fn a_stalled_rollout_is_told_and_sized(shared: &Shared) {
    let space = shared.cluster().namespace("stalled");
    space.apply(
        &web(2, "").replace("  replicas:", "  progressDeadlineSeconds: 2\n  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}\n  replicas:"),
    );
    space.rollout("web");
    let never = r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","imagePullPolicy":"Never"}]}}}}"#;
    space.kubectl(&["rollout", "pause", "deployment/web"]).ok();
    space.kubectl(&["patch", "deployment", "web", "-p", never]).ok();
    space.kubectl(&["set", "image", "deployment/web", "web=plimsoll.test/missing:1"]).ok();
    space.kubectl(&["rollout", "resume", "deployment/web"]).ok();
    let text = space.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).refused();
    assert!(text.contains("error: deployment \"web\" exceeded its progress deadline"), "{text}");
    let deployment = space.object("apps/v1/deployments/web").unwrap();
    let text = deployment["status"]["conditions"].to_string();
    assert!(
        text.contains("ProgressDeadlineExceeded") && text.contains("has timed out progressing."),
        "{text}"
    );

    // What is added meanwhile is shared among the versions by their sizes.
    let sizes = || {
        let mut sizes: Vec<_> = space
            .list("apps/v1/replicasets")
            .iter()
            .filter_map(|set| set["spec"]["replicas"].as_i64())
            .collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(), [1, 2]);
    for (replicas, wanted) in [("--replicas=5", [2, 4]), ("--replicas=2", [1, 2])] {
        space.kubectl(&["scale", "deployment/web", replicas]).ok();
        space.wait(replicas, || (sizes() == wanted).then_some(()));
    }
    let text = space.kubectl(&["rollout", "history", "deployment/web", "--revision=2"]).ok();
    assert!(text.contains("plimsoll.test/missing:1"), "{text}");
    space.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    assert!(space.rollout("web").contains("successfully rolled out"));
    assert_eq!(sizes(), [0, 2]);
}
