//! Quotas, limits and priorities as kubectl shows them.

use serde_json::Value;

use crate::{BUSYBOX, Shared};

/// A Deployment of a PriorityClass whose pods ask for 50m of processor each.
fn of_class(name: &str, class: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      priorityClassName: {class}
      terminationGracePeriodSeconds: 0
      containers:
      - {{name: main, image: {BUSYBOX}, command: [sleep, '3600'],
         resources: {{requests: {{cpu: 50m}}, limits: {{cpu: 100m, memory: 32Mi}}}}}}
---
"
    )
}

/// What stays of a text when blanks are told as one.
fn squeezed(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

pub(crate) fn each_priority_has_a_quota_of_its_own(shared: &Shared) {
    let space = shared.cluster().namespace("priority-quotas");
    let class = |name: &str, value: u32| {
        format!(
            "{{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {{name: {name}}}, value: {value}}}\n---\n"
        )
    };
    let quota = |class: &str, hard: &str| {
        format!(
            "apiVersion: v1
kind: ResourceQuota
metadata: {{name: {class}}}
spec:
  hard: {hard}
  scopeSelector: {{matchExpressions: [{{scopeName: PriorityClass, operator: In, values: [{class}]}}]}}
---
"
        )
    };
    space.apply(
        &(class("guaranteed", 1000)
            + &class("burstable", 100)
            + &quota("guaranteed", "{pods: '2', requests.cpu: 100m}")
            + &quota("burstable", "{pods: '3', limits.memory: 64Mi}")),
    );
    for name in ["guaranteed", "burstable"] {
        space.wait_object("in force", &format!("resourcequotas/{name}"), |quota| {
            quota["status"]["hard"] == quota["spec"]["hard"]
        });
    }
    space.apply(&(of_class("vital", "guaranteed", 2) + &of_class("spare", "burstable", 3)));
    space.rollout("vital");
    let spare = space.wait_object("short of memory", "apps/v1/deployments/spare", |deployment| {
        deployment["status"]["readyReplicas"] == 2
            && deployment["status"]["conditions"].to_string().contains("ReplicaFailure")
    });
    let told = spare["status"]["conditions"].to_string();
    let wanted = "exceeded quota: burstable, requested: limits.memory=32Mi, used: limits.memory=64Mi, limited: limits.memory=64Mi";
    assert!(told.contains(wanted), "{told}");

    let described = squeezed(&space.kubectl(&["describe", "quota"]).ok());
    let wanted = "Name: burstable
Namespace: priority-quotas
Resource Used Hard
-------- ---- ----
limits.memory 64Mi 64Mi
pods 2 3


Name: guaranteed
Namespace: priority-quotas
Resource Used Hard
-------- ---- ----
pods 2 2
requests.cpu 100m 100m
";
    assert_eq!(described, wanted);
    space.kubectl(&["scale", "deployment/vital", "--replicas=1"]).ok();
    space.wait_object("given back", "resourcequotas/guaranteed", |quota| {
        quota["status"]["used"]["requests.cpu"] == "50m"
    });
    space.kubectl(&["delete", "deployment", "vital", "spare"]).ok();
    space.wait_object("nothing left", "resourcequotas/burstable", |quota| {
        quota["status"]["used"]["limits.memory"] == "0"
    });
    space.kubectl(&["delete", "priorityclass", "guaranteed", "burstable"]).ok();
}

pub(crate) fn limits_fill_in_and_hold(shared: &Shared) {
    let space = shared.cluster().namespace("limits");
    space.apply(
        "apiVersion: v1
kind: LimitRange
metadata: {name: bounds}
spec:
  limits:
  - {type: Container, default: {cpu: 200m, memory: 64Mi}, defaultRequest: {cpu: 50m}, min: {cpu: 10m},
     max: {cpu: 400m, memory: 128Mi}, maxLimitRequestRatio: {cpu: '4'}}
  - {type: Pod, max: {memory: 160Mi}}
  - {type: PersistentVolumeClaim, min: {storage: 1Mi}, max: {storage: 1Gi}}
---
{apiVersion: v1, kind: ResourceQuota, metadata: {name: all}, spec: {hard: {limits.cpu: 300m, pods: '5', persistentvolumeclaims: '1'}}}
",
    );
    space.wait_object("in force", "resourcequotas/all", |quota| quota["status"]["hard"]["pods"] == "5");
    let described = squeezed(&space.kubectl(&["describe", "limits"]).ok());
    // kubectl has no order of resources.
    let mut rows: Vec<&str> = described.lines().collect();
    rows[4..].sort_unstable();
    let wanted = [
        "Name: bounds",
        "Namespace: limits",
        "Type Resource Min Max Default Request Default Limit Max Limit/Request Ratio",
        "---- -------- --- --- --------------- ------------- -----------------------",
        "Container cpu 10m 400m 50m 200m 4",
        "Container memory - 128Mi 64Mi 64Mi -",
        "PersistentVolumeClaim storage 1Mi 1Gi - - -",
        "Pod memory - 160Mi - - -",
    ];
    assert_eq!(rows, wanted);

    let image = format!("--image={BUSYBOX}");
    space.kubectl(&["run", "filled", &image, "--", "sleep", "3600"]).ok();
    let pod = space.object("pods/filled").unwrap();
    let resources = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(
        *resources,
        serde_json::json!({"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"}})
    );
    space.wait_ready("filled");
    let resize = |limit: &str| {
        let patch = format!(
            r#"{{"spec":{{"containers":[{{"name":"filled","resources":{{"requests":{{"cpu":"100m"}},"limits":{{"cpu":"{limit}"}}}}}}]}}}}"#
        );
        space.kubectl(&["patch", "pod", "filled", "--subresource=resize", "-p", &patch])
    };
    let refused = resize("500m").refused();
    assert!(refused.contains("maximum cpu usage per Container is 400m, but limit is 500m"), "{refused}");
    let refused = resize("350m").refused();
    assert!(
        refused.contains(
            "exceeded quota: all, requested: limits.cpu=150m, used: limits.cpu=200m, limited: limits.cpu=300m"
        ),
        "{refused}"
    );
    resize("300m").ok();
    let used = |quota: &Value| quota["status"]["used"]["limits.cpu"].clone();
    assert_eq!(used(&space.object("resourcequotas/all").unwrap()), "300m");

    let described = squeezed(&space.kubectl(&["describe", "namespace", "limits"]).ok());
    for wanted in [
        "Resource Quotas\nName: all\nResource Used Hard\n-------- --- ---\nlimits.cpu 300m 300m\npersistentvolumeclaims 0 1\npods 1 5\n",
        "Resource Limits\nType Resource Min Max Default Request Default Limit Max Limit/Request Ratio\n",
        "Container cpu 10m 400m 50m 200m 4\n",
    ] {
        assert!(described.contains(wanted), "{described}");
    }
}
