//! Several nodes, of which one is lost with its containers running, and comes back.

use plimsoll_e2e::{Agent, Cluster, Containerd, Namespace};
use serde_json::Value;

use crate::pods::STAY;
use crate::{BUSYBOX, Shared, make_images, standby};

/// Nodes tell of themselves every second, and count as lost after this long.
const GRACE: &str = "--node-monitor-grace-period=6s";

/// A set whose pods would like to be on the node that is lost, and leave it a second after it is.
fn wishing(kind: &str, name: &str, replicas: u32, more: &str) -> String {
    let script = serde_json::to_string(&format!("touch /tmp/ready; {STAY}")).unwrap();
    let count = if kind == "DaemonSet" { String::new() } else { format!("replicas: {replicas}") };
    let toleration = |taint: &str| {
        format!(
            "{{key: node.kubernetes.io/{taint}, operator: Exists, effect: NoExecute, tolerationSeconds: 1}}"
        )
    };
    format!(
        "apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  {count}
  selector: {{matchLabels: {{app: {name}}}}}
{more}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{}, {}]
      affinity: {{nodeAffinity: {{preferredDuringSchedulingIgnoredDuringExecution: [
        {{weight: 100, preference: {{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [lost]}}]}}}}]}}}}
      containers:
      - {{name: main, image: {BUSYBOX}, command: [sh, -c, {script}],
         readinessProbe: {{exec: {{command: [test, -e, /tmp/ready]}}, periodSeconds: 1}}}}
---
",
        toleration("not-ready"),
        toleration("unreachable")
    )
}

/// What a pod is, where, and what runs of it.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    name: String,
    uid: String,
    node: String,
    container: String,
    going: bool,
    ready: bool,
}

impl Seen {
    fn of(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (meta, status) = (&pod["metadata"], &pod["status"]);
        let ready = status["conditions"].as_array().into_iter().flatten();
        Self {
            name: text(&meta["name"]),
            uid: text(&meta["uid"]),
            node: text(&pod["spec"]["nodeName"]),
            container: text(&status["containerStatuses"][0]["containerID"]).replace("containerd://", ""),
            going: !meta["deletionTimestamp"].is_null(),
            ready: ready.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True"),
        }
    }
}

fn seen(space: &Namespace<'_>, app: &str) -> Vec<Seen> {
    space.list(&format!("pods?labelSelector=app%3D{app}")).iter().map(Seen::of).collect()
}

/// Waits until the living pods of a set are so many, ready, and on this node.
fn settled(space: &Namespace<'_>, app: &str, node: &str, count: usize) -> Vec<Seen> {
    space.wait(&format!("{count} pods {app} on {node}"), || {
        let mut pods = seen(space, app);
        pods.retain(|pod| !pod.going);
        let all = pods.len() == count && pods.iter().all(|pod| pod.ready && pod.node == node);
        all.then_some(pods)
    })
}

fn runs(engine: &Containerd, pod: &Seen) -> bool {
    engine.ctr(&["tasks", "list", "--quiet"]).ok().contains(&pod.container)
}

fn node(cluster: &Cluster, what: &str, wanted: impl Fn(&Value) -> bool) {
    cluster.wait(what, || cluster.api("/api/v1/nodes/lost").filter(|node| wanted(node)).map(|_| ()));
}

fn is_lost(node: &Value) -> bool {
    let taints = node["spec"]["taints"].to_string();
    let conditions = node["status"]["conditions"].to_string();
    taints.matches("node.kubernetes.io/unreachable").count() == 2 && conditions.contains("NodeStatusUnknown")
}

pub(crate) fn its_pods_are_replaced_but_never_doubled(_: &Shared) {
    let cluster = Cluster::prepare(&["--no-node", "--controllers=*,-node-lifecycle-controller"]);
    cluster.up();
    make_images(&cluster);
    let own = ["--controllers=node-lifecycle-controller", "--leader-elect=false", "--secure-port=0", GRACE];
    let _watch = standby::controllers(&cluster, &own);
    let [(_stays, _survivor), (engine, agent)] = ["stays", "lost"].map(|name| {
        let engine = Containerd::start(&cluster, name);
        engine.import(&cluster, &[BUSYBOX]);
        let agent = Agent::prepare(&cluster, &engine, name, "nodeLeaseDurationSeconds: 4\n");
        agent.join(&cluster);
        (engine, agent)
    });
    let space = cluster.namespace("lost");
    is_drained(&cluster, &space);

    let one = "  serviceName: none";
    let sets = ["kept", "forced"].map(|name| wishing("StatefulSet", name, 1, one)).concat();
    space.apply(&(sets + &wishing("DaemonSet", "everywhere", 0, "")));
    let kept = settled(&space, "kept", "lost", 1).remove(0);
    let forced = settled(&space, "forced", "lost", 1).remove(0);
    let web = settled(&space, "web", "lost", 2);
    let daemon = || seen(&space, "everywhere").into_iter().find(|pod| pod.node == "lost" && pod.ready);
    let before = space.wait("its pod of the DaemonSet", daemon);

    agent.end("KILL");
    node(&cluster, "the node is given up", is_lost);
    assert!(cluster.kubectl(&["get", "node", "lost"]).ok().contains(" NotReady "));
    settled(&space, "web", "stays", 2);
    let stuck = |pod: &Seen| {
        let of = |it: &Seen| it.uid == pod.uid && it.going && !it.ready;
        space.wait("it is told to go", || {
            seen(&space, pod.name.trim_end_matches("-0")).iter().any(of).then_some(())
        });
        assert!(runs(&engine, pod), "nobody ended {pod:?}");
    };
    [&kept, &forced].into_iter().for_each(stuck);
    space.kubectl(&["delete", "pod", "forced-0", "--force"]).ok();
    settled(&space, "forced", "stays", 1);
    assert_eq!(seen(&space, "kept").len(), 1, "nobody knows that it has ended");
    assert_eq!(seen(&space, "kept")[0].uid, kept.uid);

    // Back, the node ends what is no longer its business, and goes on with the rest.
    agent.join(&cluster);
    node(&cluster, "its taints go", |node| node["spec"].get("taints").is_none());
    let gone = [vec![kept.clone(), forced], web].concat();
    cluster.wait("what is gone ends", || gone.iter().all(|pod| !runs(&engine, pod)).then_some(()));
    space.wait("another kept-0", || {
        seen(&space, "kept").iter().any(|pod| pod.uid != kept.uid && pod.ready).then_some(())
    });
    assert_eq!(space.wait("the same pod of the DaemonSet", daemon), before);

    // Known to be off, it is not waited for.
    space.kubectl(&["delete", "pod", "kept-0"]).ok();
    let kept = settled(&space, "kept", "lost", 1).remove(0);
    agent.end("KILL");
    node(&cluster, "the node is given up", is_lost);
    stuck(&kept);
    let off = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
    cluster.kubectl(&["taint", "node", "lost", off]).ok();
    assert_ne!(settled(&space, "kept", "stays", 1)[0].uid, kept.uid);
    cluster.kubectl(&["taint", "node", "lost", &format!("{off}-")]).ok();
    agent.join(&cluster);
    cluster.wait("what is gone ends", || (!runs(&engine, &kept)).then_some(()));
}

/// A drain waits for those who replace the pods that it evicts.
fn is_drained(cluster: &Cluster, space: &Namespace<'_>) {
    space.apply(&wishing("Deployment", "web", 2, "  strategy: {type: Recreate}"));
    settled(space, "web", "lost", 2);
    space.kubectl(&["create", "pdb", "web", "--selector=app=web", "--min-available=1"]).ok();
    space.wait_object("counted", "policy/v1/poddisruptionbudgets/web", |pdb| {
        pdb["status"]["disruptionsAllowed"] == 1
    });
    let drained = cluster.kubectl(&["drain", "lost", "--ignore-daemonsets", "--timeout=60s"]);
    let told = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert!(drained.stderr.contains(told) && drained.stderr.contains("will retry after 5s"), "{drained:?}");
    assert!(drained.ok().contains("node/lost drained"));
    settled(space, "web", "stays", 2);
    cluster.kubectl(&["uncordon", "lost"]).ok();
    space.kubectl(&["rollout", "restart", "deployment/web"]).ok();
    settled(space, "web", "lost", 2);
}
