//! Schedulers beside each other, devices for claims, and why a pod waits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use plimsoll_e2e::{Background, Cluster, Namespace, program};
use serde_json::Value;

use crate::Shared;

/// Puts pods close together, unlike the default scheduler.
const PACKER: &str = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: true, resourceName: packer}
profiles:
- schedulerName: packer
  pluginConfig:
  - {name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}
  plugins:
    score: {disabled: [{name: NodeResourcesBalancedAllocation}, {name: PodTopologySpread}]}
";

/// A scheduler that nobody keeps from running twice.
const RIVAL: &str = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
profiles: [{schedulerName: rival}]
";

/// A device of one node, and pods that want it.
const DEVICES: &str = "
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: sim-2-gpus}
spec:
  driver: gpu.example.com
  nodeName: sim-2
  pool: {name: sim-2, generation: 1, resourceSliceCount: 1}
  devices:
  - {name: gpu-0, attributes: {model: {string: small}}, capacity: {memory: {value: 8Gi}}}
  - {name: gpu-1, attributes: {model: {string: big}}, capacity: {memory: {value: 80Gi}}}
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: \"device.driver == 'gpu.example.com'\"}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: big}
spec:
  spec:
    devices:
      requests:
      - name: one
        exactly:
          deviceClassName: gpu
          selectors: [{cel: {expression: \"device.attributes['gpu.example.com'].model == 'big'\"}}]
";

fn deployment(name: &str, scheduler: &str, replicas: usize) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      schedulerName: {scheduler}
      containers: [{{name: c, image: example.com/c:1, resources: {{requests: {{cpu: 100m}}}}}}]
"
    )
}

fn user(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  resourceClaims: [{{name: gpu, resourceClaimTemplateName: big}}]
  containers: [{{name: c, image: example.com/c:1, resources: {{claims: [{{name: gpu}}]}}}}]
"
    )
}

pub(crate) fn two_schedulers_place_pods_and_say_why_they_wait(_: &Shared) {
    let cluster =
        Cluster::prepare(&["--no-node", "--simulated-nodes=4", "--simulated-capacity=cpu=4,pods=50"]);
    cluster.up();
    let space = cluster.namespace("schedulers");
    let start = || scheduler(&cluster, PACKER);
    let _both = [start(), start()];

    space.apply(&deployment("packed", "packer", 8));
    space.apply(&deployment("spread", "default-scheduler", 4));
    for (app, count) in [("packed", 1), ("spread", 4)] {
        space.rollout(app);
        assert_eq!(nodes(&space, app).len(), count, "{app} is on {:?}", nodes(&space, app));
    }
    let lease = cluster.api("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/packer").unwrap();
    assert!(lease["spec"]["holderIdentity"].is_string(), "{lease}");
    let events = space.kubectl(&["get", "events", "-o", "jsonpath={.items[*].source.component}"]).ok();
    assert!(events.contains("packer") && events.contains("default-scheduler"), "{events}");

    space.apply(DEVICES);
    space.apply(&user("first"));
    let first =
        space.wait_object("the first one runs", "pods/first", |pod| pod["status"]["phase"] == "Running");
    assert_eq!(first["spec"]["nodeName"], "sim-2");
    let claims = space.list("resource.k8s.io/v1/resourceclaims");
    let results = &claims[0]["status"]["allocation"]["devices"]["results"][0];
    assert_eq!((&results["device"], &results["request"]), (&Value::from("gpu-1"), &Value::from("one")));
    assert_eq!(claims[0]["status"]["reservedFor"][0]["name"], "first");
    space.apply(&user("second"));
    let message = "0/4 nodes are available: 4 cannot allocate all claims.";
    space.wait_object("the second one waits", "pods/second", |pod| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|one| one["message"].as_str().is_some_and(|text| text.starts_with(message)))
    });
    let why = why(&cluster, &space, "second");
    for words in [message, "DynamicResources", "devices there that its claims ask for"] {
        assert!(why.contains(words), "no {words} in {why}");
    }
    space.kubectl(&["delete", "pod", "first"]).ok();
    space.wait_object("the device is free", "pods/second", |pod| pod["status"]["phase"] == "Running");
}

pub(crate) fn schedulers_of_one_name_never_bind_a_pod_twice(_: &Shared) {
    let cluster =
        Cluster::prepare(&["--no-node", "--simulated-nodes=4", "--simulated-capacity=cpu=4,pods=50"]);
    cluster.up();
    let space = cluster.namespace("rivals");
    let _both = [scheduler(&cluster, RIVAL), scheduler(&cluster, RIVAL)];
    // Pods for all but 500m of the processors of all nodes: each wants what the others see as free, too.
    let (contested, other) = (135, 20);
    space.apply(&deployment("contested", "rival", contested));
    space.apply(&deployment("other", "default-scheduler", other));
    for app in ["contested", "other"] {
        space.rollout(app);
    }
    let pods = space.list("pods");
    let live: Vec<&Value> = pods.iter().filter(|pod| pod["status"]["phase"] == "Running").collect();
    assert_eq!(live.len(), contested + other);
    let mut taken = BTreeMap::<&str, usize>::new();
    for pod in &live {
        *taken.entry(pod["spec"]["nodeName"].as_str().unwrap()).or_default() += 1;
    }
    assert!(taken.values().all(|pods| *pods <= 40), "nodes of 40 pods have {taken:?}");
    // Each pod was bound once, and whoever came second knows it.
    let fields = "jsonpath={range .items[?(@.reason=='Scheduled')]}{.involvedObject.uid}{'\\n'}{end}";
    space.wait("an event of each binding", || {
        let events = space.kubectl(&["get", "events", "-o", fields]).ok();
        let told: Vec<&str> = events.lines().collect();
        let once: BTreeSet<&str> = told.iter().copied().collect();
        assert_eq!(told.len(), once.len(), "a pod was bound twice");
        live.iter().all(|pod| once.contains(pod["metadata"]["uid"].as_str().unwrap())).then_some(())
    });
}

/// A scheduler of its own process.
fn scheduler(cluster: &Cluster, configuration: &str) -> Background {
    let file = cluster.scratch().join(format!("scheduler-{}.yaml", configuration.len()));
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new(program());
    command.arg("scheduler").arg("--kubeconfig").arg(cluster.kubeconfig()).arg("--config").arg(&file);
    Background::start(command.arg("--secure-port=0"))
}

/// The nodes of an application's pods.
fn nodes(space: &Namespace<'_>, app: &str) -> BTreeSet<String> {
    let pods = space.list("pods");
    let of = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app);
    of.map(|pod| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned()).collect()
}

fn why(cluster: &Cluster, space: &Namespace<'_>, pod: &str) -> String {
    let mut command = Command::new(program());
    command.args(["why", pod, "--namespace", space.name(), "--kubeconfig"]).arg(cluster.kubeconfig());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
