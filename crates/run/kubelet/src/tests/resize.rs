//! A pod whose resources change while it runs.

use serde_json::{Value, json};

use super::{Rig, phase, pod, web};

/// The pod with other resources, as if a user had written them.
fn wish(rig: &Rig, cpu: &str, memory: &str) {
    let mut pod = rig.api.pod().unwrap();
    pod["spec"]["containers"][0]["resources"] = resources(cpu, memory);
    pod["metadata"]["generation"] = json!(pod["metadata"]["generation"].as_i64().unwrap() + 1);
    rig.api.put("pods", pod);
}

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": "16Mi"}, "limits": {"memory": memory}})
}

fn shown(pod: &Value) -> (Value, Value) {
    let status = &pod["status"]["containerStatuses"][0];
    (status["allocatedResources"]["cpu"].clone(), status["resources"]["limits"]["memory"].clone())
}

async fn told(rig: &Rig, condition: &str, expected: (&str, &str)) {
    let expected = (expected.0.to_owned(), expected.1.to_owned());
    rig.api.wait(condition, |api| api.condition(condition).as_ref() == Some(&expected)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_resized_in_place() {
    let Some(mut rig) = Rig::new("resize").await else { return };
    let mut spec = web();
    spec["volumes"] = json!([{"name": "config", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}]);
    spec["containers"][0]["resources"] = resources("100m", "64Mi");
    rig.api.put("pods", pod(spec));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let kept = rig.temp.path().join("kubelet/pods/u-1/allocation.json");
    assert!(!kept.exists(), "nothing is written before it is needed");

    wish(&rig, "200m", "128Mi");
    rig.api.wait("it has more", |api| shown(&api.pod().unwrap()) == (json!("200m"), json!("128Mi"))).await;
    rig.api.wait("it is over", |api| api.condition("PodResizeInProgress").is_none()).await;
    assert_eq!(rig.engine.calls()[3..], ["update c-0 memory 128Mi", "update c-0 shares 204"]);
    let hierarchy = plimsoll_kernel::cgroup::Hierarchy::detect().unwrap();
    let group = hierarchy.group(&format!("{}/kubepods/burstable/podu-1", rig.root));
    assert_eq!(group.stats().unwrap().memory.limit, Some(128 << 20));

    // The container uses 32 MiB.
    wish(&rig, "200m", "16Mi");
    let why = "cannot decrease memory limits: attempting to set container \"c\" memory limit (16777216) below current \
               usage (33554432)";
    told(&rig, "PodResizeInProgress", ("Error", why)).await;
    assert_eq!(shown(&rig.api.pod().unwrap()), (json!("200m"), json!("128Mi")));
    // The next agent knows what was granted, and what the kernel has.
    rig.stop().await;
    rig.start().await;
    told(&rig, "PodResizeInProgress", ("Error", why)).await;
    assert_eq!(group.stats().unwrap().memory.limit, Some(128 << 20));

    wish(&rig, "900", "64Mi");
    rig.api
        .wait("it cannot be", |api| {
            api.condition("PodResizePending").is_some_and(|(reason, message)| {
                reason == "Infeasible"
                    && message.starts_with("Node didn't have enough capacity: cpu, requested: 900000,")
            })
        })
        .await;
    wish(&rig, "200m", "64Mi");
    rig.api.wait("it has less", |api| shown(&api.pod().unwrap()) == (json!("200m"), json!("64Mi"))).await;
    rig.api
        .wait("it is over", |api| {
            api.condition("PodResizePending").is_none() && api.condition("PodResizeInProgress").is_none()
        })
        .await;
    assert_eq!(group.stats().unwrap().memory.limit, Some(64 << 20));
    let reasons = rig.api.reasons();
    for reason in ["ResizeStarted", "ResizeCompleted", "ResizeError", "ResizeInfeasible"] {
        assert!(reasons.iter().any(|known| known == reason), "{reason} in {reasons:?}");
    }
    rig.api.mark_deleted("web", 0);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    rig.end().await;
}
