//! Deployments, Jobs, and who owns what.

use plimsoll_e2e::Namespace;
use serde_json::json;

use crate::{BUSYBOX, Shared};

/// A Deployment of the demo server with a readiness probe.
pub(crate) fn web(replicas: u32, extra: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: plimsoll.io/demo
        imagePullPolicy: IfNotPresent
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}
{extra}"
    )
}

pub(crate) fn a_deployment_runs_scales_and_goes(shared: &Shared) {
    let space = shared.cluster().namespace("deployment");
    assert_eq!(space.apply(&web(3, "")).trim(), "deployment.apps/web created");
    assert!(space.rollout("web").contains("successfully rolled out"));
    assert_eq!(space.ready_pods("web").len(), 3);
    let deployment = space.object("apps/v1/deployments/web").unwrap();
    assert_eq!(
        (&deployment["metadata"]["generation"], &deployment["status"]["observedGeneration"]),
        (&json!(1), &json!(1))
    );
    let table = space.kubectl(&["get", "deployment", "web"]).ok();
    assert!(table.lines().nth(1).unwrap().contains("3/3"), "{table}");
    let text = space.kubectl(&["describe", "deployment", "web"]).ok();
    for line in [
        "3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
        "ScalingReplicaSet",
        "NewReplicaSetAvailable",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    for (replicas, option) in [(5, "--replicas=5"), (1, "--replicas=1")] {
        space.kubectl(&["scale", "deployment/web", option]).ok();
        space.wait(option, || {
            (space.list("pods").len() == replicas && space.ready_pods("web").len() == replicas).then_some(())
        });
    }
    assert!(space.apply(&web(3, "")).contains("configured"));
    space.rollout("web");
    assert!(space.apply(&web(3, "")).contains("unchanged"));
    space.kubectl(&["delete", "deployment", "web"]).ok();
    space.wait("no pod is left", || space.list("pods").is_empty().then_some(()));
    assert!(space.list("apps/v1/replicasets").is_empty());
}

pub(crate) fn a_rollout_can_be_undone(shared: &Shared) {
    let space = shared.cluster().namespace("rollout");
    space.apply(&web(2, "        env: [{name: VERSION, value: one}]\n"));
    space.rollout("web");
    space.kubectl(&["set", "env", "deployment/web", "VERSION=two"]).ok();
    space.rollout("web");
    assert_eq!(version(&space), "two");
    let history = space.kubectl(&["rollout", "history", "deployment/web"]).ok();
    assert_eq!(
        history.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).count(),
        2,
        "{history}"
    );

    // A version that cannot start takes nothing away.
    let broken = r#"[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"plimsoll.test/missing:1"},
        {"op":"add","path":"/spec/template/spec/containers/0/imagePullPolicy","value":"Never"}]"#;
    space.kubectl(&["patch", "deployment", "web", "--type=json", "-p", broken]).ok();
    space.wait("a pod lacks its image", || {
        let waits = |pod: &serde_json::Value| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImageNeverPull"
        };
        space.list("pods").iter().any(waits).then_some(())
    });
    assert_eq!(space.ready_pods("web").len(), 2);

    space.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    space.rollout("web");
    assert_eq!(version(&space), "two");
    space.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1"]).ok();
    space.rollout("web");
    assert_eq!(version(&space), "one");
    space.kubectl(&["rollout", "restart", "deployment/web"]).ok();
    space.rollout("web");
}

fn version(space: &Namespace<'_>) -> String {
    let path = "jsonpath={.spec.template.spec.containers[0].env[0].value}";
    space.kubectl(&["get", "deployment", "web", "-o", path]).ok()
}

pub(crate) fn a_deleted_pod_is_replaced(shared: &Shared) {
    let space = shared.cluster().namespace("replaced");
    space.apply(&web(2, ""));
    space.rollout("web");
    let before = space.ready_pods("web");
    space.kubectl(&["delete", "pod", &before[0]]).ok();
    let after = space.wait("two ready pods", || Some(space.ready_pods("web")).filter(|pods| pods.len() == 2));
    assert!(after.contains(&before[1]), "the other pod was touched: {before:?} {after:?}");
    assert!(!after.contains(&before[0]), "the deleted pod is still there");
}

pub(crate) fn a_job_runs_to_completion(shared: &Shared) {
    let space = shared.cluster().namespace("job");
    space.apply(&format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: sum}}
spec:
  completions: 3
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers:
      - {{name: sum, image: {BUSYBOX}, command: [sh, -c, 'echo $((40 + 2))']}}
"
    ));
    space.kubectl(&["wait", "--for=condition=complete", "job/sum", "--timeout=90s"]).ok();
    let job = space.object("batch/v1/jobs/sum").unwrap();
    assert_eq!(job["status"]["succeeded"], 3, "{job}");
    assert!(job["status"]["completionTime"].is_string(), "{job}");
    assert_eq!(space.kubectl(&["logs", "job/sum"]).ok().trim(), "42");
    let table = space.kubectl(&["get", "job", "sum"]).ok();
    assert!(table.contains("Complete") && table.contains("3/3"), "{table}");
    assert_eq!(space.list("pods?labelSelector=job-name%3Dsum").len(), 3);
    space.kubectl(&["delete", "job", "sum"]).ok();
    space.wait("no pod is left", || space.list("pods").is_empty().then_some(()));
}

pub(crate) fn a_failing_job_gives_up(shared: &Shared) {
    let space = shared.cluster().namespace("failing-job");
    space.apply(&format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: fail}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {{name: fail, image: {BUSYBOX}, command: [sh, -c, 'exit 3']}}
"
    ));
    let job = space.wait_object("failed", "batch/v1/jobs/fail", |job| {
        job["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["type"] == "Failed"))
    });
    let text = job["status"]["conditions"].to_string();
    assert!(text.contains("BackoffLimitExceeded"), "{text}");
    assert!(text.contains("Job has reached the specified backoff limit"), "{text}");
    assert_eq!(job["status"]["failed"], 1, "{job}");
    let pods = space.list("pods");
    assert_eq!(pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3, "{pods:?}");
}

pub(crate) fn orphans_stay_and_dependents_go(shared: &Shared) {
    let space = shared.cluster().namespace("orphans");
    space.apply(&web(1, ""));
    space.rollout("web");
    let pods = space.ready_pods("web");
    space.kubectl(&["delete", "deployment", "web", "--cascade=orphan"]).ok();
    space.wait_gone("apps/v1/deployments/web");
    let set = space.wait("the replica set has no owner", || {
        let sets = space.list("apps/v1/replicasets");
        let set = sets.first()?;
        set["metadata"]["ownerReferences"]
            .as_array()
            .is_none_or(Vec::is_empty)
            .then(|| set["metadata"]["name"].clone())
    });
    assert_eq!(space.ready_pods("web"), pods);
    space.kubectl(&["delete", "replicaset", set.as_str().unwrap(), "--cascade=foreground"]).ok();
    space.wait_gone(&format!("apps/v1/replicasets/{}", set.as_str().unwrap()));
    assert!(space.list("pods").is_empty(), "foreground means that the pods went first");
}

pub(crate) fn what_cannot_be_scheduled_says_why(shared: &Shared) {
    let space = shared.cluster().namespace("unschedulable");
    // what the pod asks for, what the scheduler says
    let table = [
        (
            "big",
            "containers: [{name: a, image: plimsoll.io/demo, resources: {requests: {cpu: '1000'}}}]",
            "1 Insufficient cpu",
        ),
        (
            "picky",
            "nodeSelector: {disk: ssd}, containers: [{name: a, image: plimsoll.io/demo}]",
            "1 node(s) didn't match Pod's node affinity/selector",
        ),
    ];
    for (name, spec, reason) in table {
        space.apply(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{spec}}}}}"));
        let event = space.wait_event(name, "FailedScheduling");
        let message = event["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("0/1 nodes are available: {reason}.")), "{message}");
        let pod = space.object(&format!("pods/{name}")).unwrap();
        assert_eq!(pod["status"]["phase"], "Pending", "{pod}");
        assert!(pod["status"]["conditions"].to_string().contains("Unschedulable"), "{pod}");
    }
    // It is placed as soon as it can be.
    let node = shared.cluster().node();
    shared.cluster().kubectl(&["label", "node", node, "disk=ssd"]).ok();
    space.wait_object("placed", "pods/picky", |pod| pod["spec"]["nodeName"] == node);
    shared.cluster().kubectl(&["label", "node", node, "disk-"]).ok();
}
