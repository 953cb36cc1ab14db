//! StatefulSets with claims and DaemonSets, by the ways in which they may be told to make pods.

use plimsoll_e2e::Namespace;
use serde_json::Value;

use crate::pods::STAY;
use crate::{BUSYBOX, Shared};

/// A set of a kind whose pods have written the version they were made from, and are ready once told so.
fn set(kind: &str, name: &str, spec: &str, container: &str) -> String {
    let script = serde_json::to_string(&format!("echo $VERSION >> /tmp/versions; {STAY}")).unwrap();
    let lines: String = spec.split("; ").map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
{lines}  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: main, image: {BUSYBOX}, command: [sh, -c, {script}], env: [{{name: VERSION, value: one}}],
         readinessProbe: {{exec: {{command: [test, -e, /tmp/ready]}}, periodSeconds: 1}}{container}}}
---
"
    )
}

/// The pods of a set that are not on their way out: name, id, version.
fn pods(space: &Namespace<'_>, app: &str) -> Vec<[String; 3]> {
    let mut pods = space.list(&format!("pods?labelSelector=app%3D{app}"));
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = |pod: &Value| text(&pod["spec"]["containers"][0]["env"][0]["value"]);
    let row = |pod: &Value| [text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]), version(pod)];
    let mut rows: Vec<_> = pods.iter().map(row).collect();
    rows.sort();
    rows
}

fn names(space: &Namespace<'_>, app: &str) -> Vec<String> {
    pods(space, app).into_iter().map(|[name, ..]| name).collect()
}

fn make_ready(space: &Namespace<'_>, pod: &str) {
    space.wait_object("running", &format!("pods/{pod}"), |pod| pod["status"]["phase"] == "Running");
    space.sh(pod, "touch /tmp/ready");
    space.wait_ready(pod);
}

pub(crate) fn a_stateful_set_keeps_or_drops_its_claims(shared: &Shared) {
    let space = shared.cluster().namespace("stateful-claims");
    let claims = "volumeClaimTemplates: [{metadata: {name: tmp}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}]";
    let mount = ", volumeMounts: [{name: tmp, mountPath: /tmp}]";
    let drop = "persistentVolumeClaimRetentionPolicy: {whenScaled: Delete, whenDeleted: Delete}";
    let spec = format!(
        "replicas: 2; serviceName: drop; podManagementPolicy: Parallel; ordinals: {{start: 3}}; {drop}; {claims}"
    );
    let keep = format!("replicas: 2; serviceName: keep; {claims}");
    space.apply(&(set("StatefulSet", "drop", &spec, mount) + &set("StatefulSet", "keep", &keep, mount)));

    // Side by side, from the first ordinal on; the other one waits for its first.
    space.wait("both at once", || (names(&space, "drop") == ["drop-3", "drop-4"]).then_some(()));
    make_ready(&space, "keep-0");
    make_ready(&space, "keep-1");
    assert_eq!(space.ready_pods("drop"), [""; 0], "nobody waited for them");
    ["drop-3", "drop-4"].iter().for_each(|pod| make_ready(&space, pod));

    // What a pod wrote is there for the one that comes after it.
    space.kubectl(&["delete", "pod", "drop-3", "keep-0"]).ok();
    for pod in ["drop-3", "keep-0"] {
        space.wait_ready(pod);
        assert_eq!(space.sh(pod, "cat /tmp/versions"), "one\none\n", "{pod}");
    }
    let claim = |pod: &str| format!("persistentvolumeclaims/tmp-{pod}");
    space.kubectl(&["scale", "statefulset/drop", "statefulset/keep", "--replicas=1"]).ok();
    space.wait_gone(&claim("drop-4"));
    space.wait_gone("pods/keep-1");
    space.kubectl(&["scale", "statefulset/keep", "--replicas=2"]).ok();
    space.wait_ready("keep-1");
    assert_eq!(space.sh("keep-1", "cat /tmp/versions"), "one\none\n");

    space.kubectl(&["delete", "statefulset", "drop", "keep"]).ok();
    space.wait_gone(&claim("drop-3"));
    ["keep-0", "keep-1"].iter().for_each(|pod| space.wait_gone(&format!("pods/{pod}")));
    let kept = space.list("persistentvolumeclaims");
    assert_eq!(
        kept.iter().map(|claim| &claim["metadata"]["name"]).collect::<Vec<_>>(),
        ["tmp-keep-0", "tmp-keep-1"]
    );
}

pub(crate) fn a_daemon_set_surges_or_waits_to_be_asked(shared: &Shared) {
    let space = shared.cluster().namespace("daemon-ways");
    let surge = "updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}";
    let asked = "updateStrategy: {type: OnDelete}";
    space.apply(&(set("DaemonSet", "surge", surge, "") + &set("DaemonSet", "asked", asked, "")));
    let first = |app: &str| {
        let found = space.wait(app, || pods(&space, app).into_iter().next());
        make_ready(&space, &found[0]);
        found
    };
    let [surging, asked] = ["surge", "asked"].map(first);
    space.kubectl(&["set", "env", "daemonset/surge", "daemonset/asked", "VERSION=two"]).ok();

    // The new one comes beside the old one, which goes when the new one is ready.
    let new = space.wait("a second pod", || {
        let all = pods(&space, "surge");
        all.iter().any(|[name, ..]| *name == surging[0]).then_some(())?;
        all.into_iter().find(|[.., version]| version == "two")
    });
    assert_eq!(space.ready_pods("surge"), [surging[0].as_str()]);
    make_ready(&space, &new[0]);
    space.wait_gone(&format!("pods/{}", surging[0]));
    assert_eq!(pods(&space, "surge"), [new]);
    space.kubectl(&["rollout", "status", "daemonset/surge", "--timeout=60s"]).ok();

    let set =
        space.wait_object("seen", "apps/v1/daemonsets/asked", |set| set["status"]["observedGeneration"] == 2);
    assert!(set["status"].get("updatedNumberScheduled").is_none(), "{set}");
    assert_eq!(pods(&space, "asked"), std::slice::from_ref(&asked), "nobody asked for another");
    let text = space.kubectl(&["rollout", "status", "daemonset/asked"]).refused();
    assert!(text.contains("rollout status is only available for RollingUpdate strategy type"), "{text}");
    space.kubectl(&["delete", "pod", &asked[0]]).ok();
    space.wait("the new version", || {
        pods(&space, "asked").iter().any(|[.., version]| version == "two").then_some(())
    });
}
