//! The scheduler against an API server that is played.

#![expect(clippy::unwrap_used, reason = "tests")]

mod api;
mod devices;
mod extenders;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use self::api::Api;
use super::*;

fn node(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "100"}}})
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns", "uid": name},
        "spec": {"schedulerName": "default-scheduler",
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn start(api: &Api) -> CancellationToken {
    start_with(api, Config::default())
}

fn start_with(api: &Api, config: Config) -> CancellationToken {
    let client = plimsoll_client::from_service(api.clone());
    let shutdown = CancellationToken::new();
    let informers = Informers::new(client.clone());
    let ended = shutdown.clone();
    tokio::spawn(async move { run(config, informers, client, ended).await.unwrap() });
    shutdown
}

/// Waits for the condition in the runtime's own time, which jumps when everything is idle.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn binds_what_fits_and_says_why_not() {
    let api = Api::default();
    api.put("nodes", node("n0", "2"));
    api.put("nodes", node("n1", "2"));
    for name in ["a", "b"] {
        api.put("pods", pod(name, "2"));
    }
    let _shutdown = start(&api);
    eventually("both bound", || api.node_of("a").is_some() && api.node_of("b").is_some()).await;
    assert_ne!(api.node_of("a"), api.node_of("b"));

    api.put("pods", pod("c", "1"));
    eventually("condition", || !api.writes("/pods/c/status").is_empty()).await;
    let condition = &api.writes("/pods/c/status")[0]["status"]["conditions"][0];
    assert_eq!(
        (condition["type"].as_str(), condition["reason"].as_str()),
        (Some("PodScheduled"), Some("Unschedulable"))
    );
    let message = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert_eq!(condition["message"], message);
    eventually("events", || api.writes("/events").len() >= 3).await;
    let events = api.writes("/events");
    let has = |reason: &str, text: &str| {
        events.iter().any(|event| event["reason"] == reason && event["message"] == text)
    };
    assert!(has("FailedScheduling", message), "{events:?}");
    assert!(
        has("Scheduled", &format!("Successfully assigned ns/a to {}", api.node_of("a").unwrap())),
        "{events:?}"
    );

    let mut over = api.object("pods", "a");
    let freed = api.node_of("a");
    over["status"] = json!({"phase": "Succeeded"});
    api.put("pods", over);
    eventually("c bound", || api.node_of("c") == freed).await;
    assert_eq!(api.writes("/pods/c/status").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn room_is_made_for_what_matters_more() {
    let api = Api::default();
    api.put("nodes", node("n0", "2"));
    api.put("pods", pod("low", "2"));
    let _shutdown = start(&api);
    eventually("low bound", || api.node_of("low").is_some()).await;
    let mut high = pod("high", "2");
    high["spec"]["priority"] = json!(1000);
    api.put("pods", high);
    let ended = "DELETE /api/v1/namespaces/ns/pods/low";
    eventually("low ends", || !api.writes(ended).is_empty()).await;
    assert_eq!(api.writes(ended)[0]["preconditions"]["uid"], "low");
    let mark = &api.writes("/pods/low/status")[0]["status"]["conditions"][0];
    assert_eq!(
        (&mark["type"], &mark["reason"], &mark["message"]),
        (
            &json!("DisruptionTarget"),
            &json!("PreemptionByScheduler"),
            &json!("default-scheduler: preempting to accommodate a higher priority pod"),
        )
    );
    let statuses = api.writes("/pods/high/status");
    assert!(statuses.iter().any(|body| body["status"]["nominatedNodeName"] == "n0"), "{statuses:?}");
    let told = |text: &str| api.writes("/events").iter().any(|event| event["message"] == text);
    eventually("events", || {
        told("Preempted by pod high on node n0") && told("0/1 nodes are available: 1 Insufficient cpu.")
    })
    .await;
    // A pod that came later and is less important does not take the place.
    api.put("pods", pod("late", "2"));
    eventually("late waits", || !api.writes("/pods/late/status").is_empty()).await;
    api.remove("pods", "low");
    eventually("high bound", || api.node_of("high").is_some()).await;
    assert!(api.node_of("late").is_none());
    assert_eq!(api.writes("DELETE").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_bindings_are_retried() {
    let api = Api::default();
    api.put("nodes", node("n0", "2"));
    api.refuse(2);
    api.put("pods", pod("a", "2"));
    let _shutdown = start(&api);
    eventually("bound at the third try", || api.node_of("a").is_some()).await;
    assert_eq!(api.writes("/binding").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn leaves_what_is_not_its_own() {
    let api = Api::default();
    api.put("nodes", node("n0", "8"));
    let mut other = pod("other", "1");
    other["spec"]["schedulerName"] = json!("mine");
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "wait"}]);
    let mut ending = pod("ending", "1");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for pod in [other, gated.clone(), ending] {
        api.put("pods", pod);
    }
    let shutdown = start(&api);
    api.put("pods", pod("a", "1"));
    eventually("a bound", || api.node_of("a").is_some()).await;
    assert_eq!(api.writes("/binding").len(), 1);
    gated["spec"].as_object_mut().unwrap().remove("schedulingGates");
    api.put("pods", gated);
    eventually("gate lifted", || api.node_of("gated").is_some()).await;

    // A new node helps a pod that waits; a pod that is gone is forgotten.
    api.put("pods", pod("big", "20"));
    api.put("pods", pod("gone", "20"));
    eventually("both wait", || api.writes("/status").len() == 2).await;
    api.remove("pods", "gone");
    api.put("nodes", node("n1", "40"));
    eventually("big bound", || api.node_of("big").as_deref() == Some("n1")).await;
    assert_eq!(api.writes("/binding").len(), 3);
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn many_pods() {
    let api = Api::default();
    for at in 0..20 {
        api.put("nodes", node(&format!("n{at}"), "64"));
    }
    for at in 0..500 {
        api.put("pods", pod(&format!("p{at}"), "1"));
    }
    let _shutdown = start(&api);
    eventually("all bound", || (0..500).all(|at| api.node_of(&format!("p{at}")).is_some())).await;
    assert_eq!((api.writes("/binding").len(), api.conflicts()), (500, 0));
    let mut counts: HashMap<String, usize> = HashMap::new();
    for at in 0..500 {
        *counts.entry(api.node_of(&format!("p{at}")).unwrap()).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 25), "{counts:?}");
}

/// Whoever is quicker: one binding counts, and the other scheduler takes the pod for placed where it is.
#[tokio::test(start_paused = true)]
async fn two_schedulers_of_one_name_bind_each_pod_once() {
    let api = Api::default();
    for at in 0..5 {
        api.put("nodes", node(&format!("n{at}"), "8"));
    }
    let _both = [start(&api), start(&api)];
    for at in 0..40 {
        api.put("pods", pod(&format!("p{at}"), "1"));
    }
    eventually("all bound", || (0..40).all(|at| api.node_of(&format!("p{at}")).is_some())).await;
    let settled = || api.writes("/binding").len();
    eventually("both are done", || settled() == 40 + api.conflicts()).await;
    let nodes: Vec<_> = (0..40).map(|at| api.node_of(&format!("p{at}"))).collect();
    // Nothing is tried again that is bound, however long they run.
    let tried = settled();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(settled(), tried);
    assert_eq!(nodes, (0..40).map(|at| api.node_of(&format!("p{at}"))).collect::<Vec<_>>());
    // Room that comes back is seen by both, and is given once.
    api.remove("pods", "p0");
    api.put("pods", pod("late", "1"));
    eventually("bound", || api.node_of("late").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn metrics_under_the_names_of_upstream() {
    let api = Api::default();
    api.put("nodes", node("n0", "2"));
    let config = Config::default();
    let metrics = config.metrics.clone();
    let _shutdown = start_with(&api, config);
    api.put("pods", pod("fits", "1"));
    api.put("pods", pod("large", "3"));
    let text = || metrics.text("*/*").1;
    let lines = [
        "scheduler_pending_pods{queue=\"active\"} 0",
        "scheduler_pending_pods{queue=\"unschedulable\"} 1",
        "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 1",
        "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"unschedulable\"} 1",
        "scheduler_unschedulable_pods{plugin=\"NodeResourcesFit\",profile=\"default-scheduler\"} 1",
        "scheduler_queue_incoming_pods_total{event=\"PodAdd\",queue=\"active\"} 2",
        "scheduler_queue_incoming_pods_total{event=\"ScheduleAttemptFailure\",queue=\"unschedulable\"} 1",
        "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} 1",
        "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"PreFilter\",profile=\"default-scheduler\",status=\"Success\"} 2",
        "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Filter\",profile=\"default-scheduler\",status=\"Success\"} 1",
        "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Filter\",profile=\"default-scheduler\",status=\"Unschedulable\"} 1",
        "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Score\",profile=\"default-scheduler\",status=\"Success\"} 1",
        "scheduler_plugin_execution_duration_seconds_count{extension_point=\"Bind\",plugin=\"DefaultBinder\",status=\"Success\"} 1",
    ];
    eventually("counted", || lines.iter().all(|line| text().contains(&format!("{line}\n")))).await;
    api.remove("pods", "large");
    eventually("not waiting", || {
        let text = text();
        text.contains("queue=\"unschedulable\"} 0") && !text.contains("scheduler_unschedulable_pods{")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_after_their_claims() {
    let api = Api::default();
    api.put("nodes", node("n0", "8"));
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "later"},
        "provisioner": "csi.example", "volumeBindingMode": "WaitForFirstConsumer"});
    api.put("storageclasses", class);
    let claim = |name: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"storageClassName": "later", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let user = |name: &str, claim: &str| {
        let mut pod = pod(name, "1");
        pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]);
        pod
    };
    api.put("persistentvolumeclaims", claim("made"));
    api.put("pods", user("a", "made"));
    let _shutdown = start(&api);
    let selected = "volume.kubernetes.io/selected-node";
    let is_selected =
        || api.object("persistentvolumeclaims", "made")["metadata"]["annotations"][selected] == "n0";
    eventually("the node is told", is_selected).await;
    assert!(api.node_of("a").is_none(), "the claim is not bound yet");

    // Whoever makes volumes cannot: the node is taken away, and the scheduler tries again.
    api.put("persistentvolumeclaims", claim("made"));
    let failed =
        r#"running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "made""#;
    eventually("the failure is told", || {
        api.writes("/events").iter().any(|event| event["message"] == failed)
    })
    .await;
    eventually("the node is told again", is_selected).await;
    let mut bound = api.object("persistentvolumeclaims", "made");
    bound["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
    bound["spec"]["volumeName"] = json!("v");
    api.put("persistentvolumeclaims", bound);
    eventually("bound", || api.node_of("a").is_some()).await;

    // A volume that is there is taken first.
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "there"},
        "spec": {"storageClassName": "later", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}},
        "status": {"phase": "Available"}});
    api.put("persistentvolumes", volume);
    api.put("pods", user("b", "found"));
    eventually("it says what is missing", || !api.writes("/pods/b/status").is_empty()).await;
    let message = &api.writes("/pods/b/status")[0]["status"]["conditions"][0]["message"];
    let missing = "0/1 nodes are available: persistentvolumeclaim \"found\" not found.";
    assert!(message.as_str().unwrap().starts_with(missing), "{message}");
    api.put("persistentvolumeclaims", claim("found"));
    eventually("the volume is kept", || {
        api.object("persistentvolumes", "there")["spec"]["claimRef"]["uid"] == "found"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn claims_get_devices_before_their_pods_are_bound() {
    let api = Api::default();
    for name in ["n0", "n1"] {
        api.put("nodes", node(name, "8"));
    }
    let class = json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"},
        "spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}});
    api.put("deviceclasses", class);
    let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"},
        "spec": {"driver": "gpu.example.com", "nodeName": "n1", "devices": [{"name": "gpu-0"}],
            "pool": {"name": "n1", "generation": 1, "resourceSliceCount": 1}}});
    api.put("resourceslices", slice);
    let claim = |name: &str| {
        let exactly = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}})
    };
    let user = |name: &str, claim: &str| {
        let mut pod = pod(name, "1");
        pod["spec"]["resourceClaims"] = json!([{"name": "c", "resourceClaimName": claim}]);
        pod
    };
    api.put("resourceclaims", claim("one"));
    api.put("pods", user("a", "one"));
    let _shutdown = start(&api);
    eventually("bound where the device is", || api.node_of("a").as_deref() == Some("n1")).await;
    let one = api.object("resourceclaims", "one");
    assert_eq!(one["metadata"]["finalizers"], json!(["resource.kubernetes.io/delete-protection"]));
    let result = json!({"device": "gpu-0", "driver": "gpu.example.com", "pool": "n1", "request": "r"});
    assert_eq!(one["status"]["allocation"]["devices"]["results"], json!([result]));
    assert_eq!(one["status"]["reservedFor"], json!([{"resource": "pods", "name": "a", "uid": "a"}]));

    // A claim that is made for a pod is waited for.
    let mut later = pod("later", "1");
    later["spec"]["resourceClaims"] = json!([{"name": "c", "resourceClaimTemplateName": "t"}]);
    api.put("pods", later.clone());
    later["status"]["resourceClaimStatuses"] = json!([{"name": "c", "resourceClaimName": "one"}]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(api.writes("/pods/later/status").is_empty());
    api.put("pods", later);
    eventually("its claim is made", || api.node_of("later").as_deref() == Some("n1")).await;

    // The same claim serves another pod; another claim waits until the device is free.
    api.put("pods", user("b", "one"));
    eventually("the claim is shared", || api.node_of("b").as_deref() == Some("n1")).await;
    api.put("resourceclaims", claim("two"));
    api.put("pods", user("c", "two"));
    eventually("it says what is missing", || !api.writes("/pods/c/status").is_empty()).await;
    let message = &api.writes("/pods/c/status")[0]["status"]["conditions"][0]["message"];
    let missing = "0/2 nodes are available: 2 cannot allocate all claims.";
    assert!(message.as_str().unwrap().starts_with(missing), "{message}");
    api.remove("resourceclaims", "one");
    eventually("the device is free", || api.node_of("c").as_deref() == Some("n1")).await;
}
