//! Devices of a plugin on their way to a container.

use plimsoll_plugins::resources as wire;
use plimsoll_plugins::resources::pod_resources_lister_client::PodResourcesListerClient;
use serde_json::json;

use super::{Rig, phase, pod, web};
use crate::devices::fake::{GPU, Running};

/// Waits until the node has so many devices.
async fn node_has(rig: &Rig, capacity: &str, allocatable: &str) {
    let has = |node: &serde_json::Value| {
        node["status"]["capacity"][GPU] == capacity && node["status"]["allocatable"][GPU] == allocatable
    };
    rig.api.wait("the node has devices", |api| api.node().is_some_and(|node| has(&node))).await;
}

fn asking() -> serde_json::Value {
    let mut spec = web();
    spec["volumes"] = json!([{"name": "config", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}]);
    spec["containers"][0]["resources"]["limits"] = json!({GPU: "1"});
    spec["containers"][0]["env"] = json!([{"name": "NAME", "value": "web"}]);
    spec
}

async fn monitoring_is_told(rig: &Rig) {
    let socket = rig.temp.path().join("kubelet/pod-resources/kubelet.sock");
    let mut client = PodResourcesListerClient::new(plimsoll_cri::connect(&socket));
    let device = wire::ContainerDevices {
        resource_name: GPU.into(),
        device_ids: vec!["a".into()],
        topology: Some(wire::TopologyInfo { nodes: vec![wire::NumaNode { id: 0 }] }),
    };
    let container =
        wire::ContainerResources { name: "c".into(), devices: vec![device.clone()], ..Default::default() };
    let pod = wire::PodResources { name: "web".into(), namespace: "ns".into(), containers: vec![container] };
    let list = client.list(wire::ListPodResourcesRequest {}).await.unwrap().into_inner();
    assert_eq!(list.pod_resources, std::slice::from_ref(&pod));
    let all = client.get_allocatable_resources(wire::AllocatableResourcesRequest {}).await.unwrap();
    assert_eq!(all.into_inner().devices, [device]);
    let ask = |name: &str| wire::GetPodResourcesRequest {
        pod_name: name.to_owned(),
        pod_namespace: "ns".to_owned(),
    };
    let one = client.get(ask("web")).await.unwrap().into_inner();
    assert_eq!(one.pod_resources, Some(pod));
    let refused = client.get(ask("none")).await.unwrap_err();
    assert_eq!(refused.message(), "pod none in namespace ns not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_gets_its_device_and_shows_how_it_is() {
    let Some(rig) = Rig::new("devices").await else { return };
    let folder = rig.temp.path().join("kubelet/device-plugins");
    let plugin = Running::start(&folder, "gpu.sock").await;
    plugin.tell(&[("a", true), ("b", false)]);
    node_has(&rig, "2", "1").await;
    rig.api.put("pods", pod(asking()));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let config = rig.engine.container("c-0");
    assert_eq!((config.devices[0].host_path.as_str(), config.cdi_devices.len()), ("/dev/null", 1));
    assert_eq!(config.annotations["gpu"], "a");
    let env: Vec<_> = config.envs.iter().map(|env| format!("{}={}", env.key, env.value)).collect();
    assert_eq!(env, ["GPUS=a", "NAME=web"]);
    let told = |pod: &serde_json::Value| {
        pod["status"]["containerStatuses"][0]["allocatedResourcesStatus"][0]["resources"][0].clone()
    };
    rig.api
        .wait("its device shows", |api| {
            told(&api.pod().unwrap()) == json!({"resourceID": "a", "health": "Healthy"})
        })
        .await;
    monitoring_is_told(&rig).await;
    plugin.tell(&[("a", false), ("b", false)]);
    rig.api.wait("it shows that it broke", |api| told(&api.pod().unwrap())["health"] == "Unhealthy").await;
    node_has(&rig, "2", "0").await;
    rig.end().await;
}

fn one_node(config: &mut crate::Config) {
    config.topology_manager.policy = plimsoll_podlife::placement::hints::Policy::SingleNode;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_on_no_node_of_the_machine_is_not_close() {
    let Some(rig) = Rig::with("faraway", one_node).await else { return };
    let plugin = Running::start(&rig.temp.path().join("kubelet/device-plugins"), "gpu.sock").await;
    plugin.tell_on(7, &[("a", true)]);
    node_has(&rig, "1", "1").await;
    rig.api.put("pods", pod(asking()));
    rig.api.wait("the pod is refused", |api| api.pod().is_some_and(|pod| phase(&pod) == "Failed")).await;
    let status = rig.api.pod().unwrap()["status"].clone();
    assert_eq!(status["reason"], "TopologyAffinityError");
    assert_eq!(status["message"], "Pod was rejected: Resources cannot be allocated with Topology locality");
    assert!(plugin.calls.lock().unwrap().is_empty());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_device_is_refused() {
    let Some(rig) = Rig::new("nodevice").await else { return };
    let plugin = Running::start(&rig.temp.path().join("kubelet/device-plugins"), "gpu.sock").await;
    plugin.tell(&[("a", false)]);
    node_has(&rig, "1", "0").await;
    rig.api.put("pods", pod(asking()));
    rig.api.wait("the pod is refused", |api| api.pod().is_some_and(|pod| phase(&pod) == "Failed")).await;
    let status = rig.api.pod().unwrap()["status"].clone();
    assert_eq!(status["reason"], "UnexpectedAdmissionError");
    assert_eq!(
        status["message"],
        "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy \
         devices example.com/gpu, which is unexpected"
    );
    assert!(!rig.engine.calls().iter().any(|call| call.starts_with("start")), "{:?}", rig.engine.calls());
    assert!(rig.api.reasons().iter().any(|reason| reason == "UnexpectedAdmissionError"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_advertise_becomes_allocatable() {
    let Some(rig) = Rig::new("advertised").await else { return };
    const DONGLE: &str = "example.com/dongle";
    rig.api.wait("the node is ready", |api| api.node_is_ready()).await;
    let mut node = rig.api.node().expect("the node");
    node["status"]["capacity"][DONGLE] = json!("4");
    rig.api.put("nodes", node);
    let usable = |api: &super::FakeApi| api.node().map(|node| node["status"]["allocatable"][DONGLE].clone());
    rig.api.wait("it is allocatable", |api| usable(api) == Some(json!("4"))).await;
    let mut node = rig.api.node().expect("the node");
    node["status"]["capacity"].as_object_mut().expect("amounts").remove(DONGLE);
    rig.api.put("nodes", node);
    rig.api.wait("it is not any longer", |api| usable(api).is_some_and(|it| it.is_null())).await;
}
