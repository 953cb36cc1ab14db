//! A pod that gets a processor for itself, and one that does not.

use plimsoll_plugins::resources as wire;
use plimsoll_plugins::resources::pod_resources_lister_client::PodResourcesListerClient;
use serde_json::json;

use super::{Rig, phase, pod, web};

fn whole(config: &mut crate::Config) {
    config.cpu_manager_policy = crate::config::CpuManagerPolicy::Static;
    config.reserved_system_cpus = "0".parse().unwrap();
}

fn firm(cpu: &str) -> serde_json::Value {
    let mut spec = web();
    spec["volumes"] = json!([{"name": "config", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}]);
    let list = json!({"cpu": cpu, "memory": "16Mi"});
    spec["containers"][0]["resources"] = json!({"requests": list, "limits": list});
    pod(spec)
}

fn memory(config: &mut crate::Config) {
    config.memory_manager_policy = crate::MemoryManagerPolicy::Static;
    config.system_reserved = [("memory".to_owned(), "64Mi".parse().unwrap())].into();
    let limits = config.system_reserved.clone();
    config.reserved_memory = vec![plimsoll_podlife::placement::memory::Reservation { node: 0, limits }];
    config.topology_manager.policy = plimsoll_podlife::placement::hints::Policy::SingleNode;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_lies_on_a_node_and_the_next_agent_knows() {
    let Some(mut rig) = Rig::with("memory", memory).await else { return };
    rig.api.put("pods", firm("100m"));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let resources = rig.engine.container("c-0").linux.unwrap().resources.unwrap();
    assert_eq!((resources.cpuset_cpus.as_str(), resources.cpuset_mems.as_str()), ("", "0"));
    let record = rig.temp.path().join("kubelet/memory_manager_state");
    let kept = std::fs::read_to_string(&record).unwrap();
    let socket = rig.temp.path().join("kubelet/pod-resources/kubelet.sock");
    let mut monitor = PodResourcesListerClient::new(plimsoll_cri::connect(&socket));
    let list = monitor.list(wire::ListPodResourcesRequest {}).await.unwrap().into_inner();
    let own = &list.pod_resources[0].containers[0].memory[0];
    assert_eq!(
        (own.memory_type.as_str(), own.size, own.topology.as_ref().unwrap().nodes[0].id),
        ("memory", 16 << 20, 0)
    );
    let all = monitor.get_allocatable_resources(wire::AllocatableResourcesRequest {}).await.unwrap();
    assert!(
        all.into_inner().memory.iter().any(|block| block.memory_type == "memory" && block.size > own.size)
    );
    let entries = r#""entries":{"u-1":{"c":[{"numaAffinity":[0],"type":"memory","size":16777216}]}}"#;
    assert!(kept.contains(entries), "{kept}");
    rig.stop().await;
    rig.start().await;
    assert_eq!(std::fs::read_to_string(&record).unwrap(), kept);
    rig.api.mark_deleted("web", 0);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    let is_free = |_: &super::FakeApi| !std::fs::read_to_string(&record).unwrap().contains("u-1");
    rig.api.wait("it is given back", is_free).await;
    rig.end().await;
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_processors_are_given_and_known_to_the_next_agent() {
    if processors() != 2 {
        return;
    }
    let Some(mut rig) = Rig::with("cpus", whole).await else { return };
    rig.api.put("pods", firm("1"));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let resources = rig.engine.container("c-0").linux.unwrap().resources.unwrap();
    let socket = rig.temp.path().join("kubelet/pod-resources/kubelet.sock");
    let mut monitor = PodResourcesListerClient::new(plimsoll_cri::connect(&socket));
    let list = monitor.list(wire::ListPodResourcesRequest {}).await.unwrap().into_inner();
    assert_eq!(list.pod_resources[0].containers[0].cpu_ids, [1]);
    let all = monitor.get_allocatable_resources(wire::AllocatableResourcesRequest {}).await.unwrap();
    assert_eq!(all.into_inner().cpu_ids, [1]);
    // Its own processor is never taken from it, so there is no quota.
    assert_eq!((resources.cpuset_cpus.as_str(), resources.cpu_quota), ("1", 0));
    let record = rig.temp.path().join("kubelet/cpu_manager_state");
    let kept = std::fs::read_to_string(&record).unwrap();
    assert!(
        kept.starts_with(
            "{\"policyName\":\"static\",\"defaultCpuSet\":\"0\",\"entries\":{\"u-1\":{\"c\":\"1\"}}"
        ),
        "{kept}"
    );
    rig.stop().await;
    rig.start().await;
    assert_eq!(std::fs::read_to_string(&record).unwrap(), kept);
    rig.api.mark_deleted("web", 0);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    rig.api
        .wait("it is given back", |_| {
            std::fs::read_to_string(&record)
                .unwrap()
                .starts_with("{\"policyName\":\"static\",\"defaultCpuSet\":\"0-1\"")
        })
        .await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_asks_for_more_than_is_free_is_not_taken() {
    if processors() != 2 {
        return;
    }
    let Some(rig) = Rig::with("cpus-refused", whole).await else { return };
    rig.api.put("pods", firm("2"));
    rig.api.wait("the pod is refused", |api| api.pod().is_some_and(|pod| phase(&pod) == "Failed")).await;
    let status = rig.api.pod().unwrap()["status"].clone();
    assert_eq!(status["reason"], "UnexpectedAdmissionError");
    assert_eq!(
        status["message"],
        "Pod was rejected: Allocate failed due to not enough cpus available to satisfy request: requested=2, \
         available=1, which is unexpected"
    );
    assert!(status["containerStatuses"].is_null(), "{status}");
    let begun = |call: &String| call.starts_with("create") || call.starts_with("sandbox");
    assert!(!rig.engine.calls().iter().any(begun), "{:?}", rig.engine.calls());
    rig.end().await;
}
