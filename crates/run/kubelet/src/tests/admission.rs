//! Pods that a node has no room for, and one that is so important that others end for it.

use serde_json::{Value, json};

use super::{Rig, phase, pod, web};

/// A pod of the name and UID that asks for memory, and for a port of the node.
fn asking(name: &str, memory: &str, port: Option<u16>) -> Value {
    let mut spec = web();
    spec["volumes"] = json!(null);
    spec["containers"][0]["volumeMounts"] = json!(null);
    spec["containers"][0]["resources"] = json!({"requests": {"memory": memory}});
    if let Some(port) = port {
        spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": port, "protocol": "TCP"}]);
    }
    let mut pod = pod(spec);
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["uid"] = json!(format!("u-{name}"));
    pod
}

async fn reaches(rig: &Rig, name: &str, wanted: &str) -> Value {
    let there = |api: &super::FakeApi| api.get("pods", name).filter(|pod| phase(pod) == wanted);
    rig.api.wait(&format!("{name} is {wanted}"), |api| there(api).is_some()).await;
    there(&rig.api).unwrap()["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_port_is_taken_is_refused_until_the_port_is_free() {
    let Some(rig) = Rig::new("ports").await else { return };
    rig.api.put("pods", asking("first", "1Mi", Some(21017)));
    reaches(&rig, "first", "Running").await;
    rig.api.put("pods", asking("second", "1Mi", Some(21017)));
    let status = reaches(&rig, "second", "Failed").await;
    assert_eq!(status["reason"], "NodePorts");
    assert_eq!(
        status["message"],
        "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    );
    // Nothing else is told of it, as upstream does.
    let told: Vec<_> = status.as_object().unwrap().keys().collect();
    assert_eq!(
        told,
        ["conditions", "message", "observedGeneration", "phase", "qosClass", "reason", "startTime"],
        "{status}"
    );
    assert_eq!(status["conditions"], json!([]));
    rig.api.mark_deleted("first", 0);
    rig.api.wait("the first is gone", |api| api.get("pods", "first").is_none()).await;
    rig.api.put("pods", asking("third", "1Mi", Some(21017)));
    reaches(&rig, "third", "Running").await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_others_asked_for_is_not_given_twice_but_to_a_critical_pod() {
    let Some(rig) = Rig::new("room").await else { return };
    let node = rig.api.node().unwrap();
    let all = node["status"]["allocatable"]["memory"].as_str().unwrap().to_owned();
    rig.api.put("pods", asking("first", &all, None));
    reaches(&rig, "first", "Running").await;
    rig.api.put("pods", asking("second", "1Mi", None));
    let status = reaches(&rig, "second", "Failed").await;
    assert_eq!(status["reason"], "OutOfmemory");
    let message = status["message"].as_str().unwrap();
    let start = "Pod was rejected: Node didn't have enough resource: memory, requested: 1048576, used: ";
    assert!(message.starts_with(start), "{message}");
    let mut critical = asking("third", "1Mi", None);
    critical["spec"]["priority"] = json!(2_000_000_000);
    rig.api.put("pods", critical);
    let ended = reaches(&rig, "first", "Failed").await;
    assert_eq!(ended["reason"], "Preempting");
    assert_eq!(ended["message"], "Preempted in order to admit critical pod");
    assert_ne!(phase(&rig.api.get("pods", "third").unwrap()), "Failed", "it is taken");
    rig.end().await;
}
