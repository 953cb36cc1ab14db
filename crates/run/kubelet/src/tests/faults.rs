//! What is broken beside the agent: a disk without room.

use std::fs;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use super::api::FakeApi;
use super::{Rig, phase, pod};

fn runs(api: &FakeApi) -> bool {
    api.pod().is_some_and(|pod| phase(&pod) == "Running")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_room_on_the_disk() {
    let Some(rig) = Rig::new("no-room").await else { return };
    let pods = rig.temp.path().join("kubelet/pods");
    fs::create_dir_all(&pods).unwrap();
    let sized = |flags, size: &str| mount(Some("tmpfs"), &pods, Some("tmpfs"), flags, Some(size)).unwrap();
    sized(MsFlags::empty(), "size=64k");
    rig.api.put(
        "configmaps",
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "ns", "uid": "m"},
            "data": {"key": "x".repeat(200_000)},
        }),
    );
    rig.api.put(
        "pods",
        pod(json!({
            "nodeName": "n1", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "demo:1", "volumeMounts": [{"name": "config", "mountPath": "/c"}]}],
            "volumes": [{"name": "config", "configMap": {"name": "settings"}}],
        })),
    );
    let told = |api: &FakeApi| api.messages().iter().any(|it| it.contains("No space left on device"));
    rig.api.wait("that there is no room", told).await;
    assert!(!runs(&rig.api));
    sized(MsFlags::MS_REMOUNT, "size=4m");
    rig.api.wait("the pod runs", runs).await;
    rig.api.mark_deleted("web", 1);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    umount2(&pods, MntFlags::MNT_DETACH).unwrap();
    rig.end().await;
}
