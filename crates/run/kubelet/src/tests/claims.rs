//! A pod with a claim, its driver, and a device on its way to a container.

use plimsoll_plugins::dra_health::HealthStatus;
use plimsoll_plugins::resources as wire;
use plimsoll_plugins::resources::pod_resources_lister_client::PodResourcesListerClient;
use serde_json::{Value, json};

use super::{Rig, phase, pod, web};
use crate::claims::fake::{DRIVER, Log, start};

fn claim(reserved: Value) -> Value {
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": "gpus", "namespace": "ns", "uid": "c-1"},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}},
        "status": {
            "allocation": {"devices": {"results": [
                {"request": "gpu", "driver": DRIVER, "pool": "n1", "device": "g0"}]}},
            "reservedFor": reserved,
        },
    })
}

fn asking() -> Value {
    let mut spec = web();
    spec["volumes"] = json!([{"name": "config", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}]);
    spec["resourceClaims"] = json!([{"name": "g", "resourceClaimName": "gpus"}]);
    spec["containers"][0]["resources"]["claims"] = json!([{"name": "g", "request": "gpu"}]);
    pod(spec)
}

/// How the device is, as its driver says it and for as long as it says.
async fn health_is_told(rig: &Rig, log: &Log) {
    let shows = async |health: &str, message: Value| {
        let of = |pod: Value| pod["status"]["containerStatuses"][0]["allocatedResourcesStatus"].clone();
        let mut device = json!({"health": health, "resourceID": "example.com/gpu=g0"});
        if message != Value::Null {
            device["message"] = message;
        }
        let expected = json!([{"name": "claim:g/gpu", "resources": [device]}]);
        rig.api.wait("its health shows", |api| api.pod().is_some_and(|pod| of(pod) == expected)).await;
    };
    shows("Healthy", Value::Null).await;
    log.say(HealthStatus::Unhealthy, "too hot", 60);
    shows("Unhealthy", json!("too hot")).await;
    // The driver falls silent, and is not believed for ever.
    log.say(HealthStatus::Healthy, "", 1);
    shows("Healthy", Value::Null).await;
    shows("Unknown", Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claimed_devices_are_prepared_and_taken_back() {
    let Some(mut rig) = Rig::new("claims").await else { return };
    let log = Log::default();
    let folder = rig.temp.path().join("kubelet/plugins_registry");
    rig.api.put("resourceclaims", claim(json!([])));
    rig.api.put("pods", asking());
    let message = |api: &super::FakeApi| api.event("FailedPrepareDynamicResources");
    rig.api.wait("it waits", |api| !message(api).is_empty()).await;
    assert_eq!(
        message(&rig.api),
        "Failed to prepare dynamic resources: prepare dynamic resources: pod web (u-1) is not allowed to use \
         ResourceClaim gpus (c-1)"
    );
    rig.api.put("resourceclaims", claim(json!([{"resource": "pods", "name": "web", "uid": "u-1"}])));
    // The driver comes, and the pod need not wait for its next try.
    let driver = start(&folder, &log);
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    assert_eq!(rig.engine.container("c-0").cdi_devices[0].name, "example.com/gpu=g0");
    rig.api.wait("it is told", |_| log.calls().contains(&"registered true ".to_owned())).await;
    assert_eq!(log.calls().iter().filter(|call| *call == "prepare ns/gpus").count(), 1);
    let socket = rig.temp.path().join("kubelet/pod-resources/kubelet.sock");
    let mut monitor = PodResourcesListerClient::new(plimsoll_cri::connect(&socket));
    let list = monitor.list(wire::ListPodResourcesRequest {}).await.unwrap().into_inner();
    let told = &list.pod_resources[0].containers[0].dynamic_resources[0];
    assert_eq!((told.claim_namespace.as_str(), told.claim_name.as_str()), ("ns", "gpus"));
    let device = &told.claim_resources[0];
    assert_eq!((device.driver_name.as_str(), device.pool_name.as_str()), (DRIVER, "n1"));
    assert_eq!(
        (device.device_name.as_str(), device.cdi_devices[0].name.as_str()),
        ("g0", "example.com/gpu=g0")
    );
    health_is_told(&rig, &log).await;
    log.say(HealthStatus::Unhealthy, "too hot", 3600);
    let record = rig.temp.path().join("kubelet/dra_health_state");
    let said = |record: &std::path::Path| std::fs::read_to_string(record).unwrap_or_default();
    rig.api.wait("its health is kept", |_| said(&record).contains("\"Unhealthy\"")).await;
    assert!(said(&record).contains("\"Message\":\"too hot\""), "{}", said(&record));
    let record = rig.temp.path().join("kubelet/dra_manager_state");
    let kept = std::fs::read_to_string(&record).unwrap();
    assert!(kept.contains("u-1") && kept.contains("example.com/gpu=g0"), "{kept}");

    // The next agent knows of it. What it cannot have taken back keeps the pod.
    rig.stop().await;
    log.set_broken(true);
    rig.start().await;
    rig.api.mark_deleted("web", 0);
    rig.api.wait("it is asked for", |_| log.calls().contains(&"unprepare ns/gpus".to_owned())).await;
    assert!(rig.api.pod().is_some());
    log.set_broken(false);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    assert!(!std::fs::read_to_string(&record).unwrap().contains("u-1"));

    // A pod that went while nobody was there.
    let mut again = asking();
    again["metadata"]["uid"] = json!("u-2");
    rig.api.put("resourceclaims", claim(json!([{"resource": "pods", "name": "web", "uid": "u-2"}])));
    rig.api.put("pods", again);
    rig.api.wait("it runs, too", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    rig.stop().await;
    rig.api.remove("pods", "web");
    rig.start().await;
    let is_free = |_: &super::FakeApi| !std::fs::read_to_string(&record).unwrap().contains("u-2");
    rig.api.wait("what it had is taken back", is_free).await;
    driver.cancel();
    rig.end().await;
}
