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
async fn users_are_told_when_the_machine_has_no_memory_left() {
    let Some(mut rig) = Rig::new("oom").await else { return };
    rig.stop().await;
    // A pipe stands for the kernel's log.
    let log = rig.temp.path().join("kmsg");
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    rig.start().await;
    let text = "4,1,1,-;a invoked oom-killer: order=0\n SUBSYSTEM=none\n\
        4,2,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/pod,task_memcg=/pod/c,task=a,pid=7,uid=0\n\
        3,3,3,-;Memory cgroup out of memory: Killed process 7 (a) total-vm:8kB\n\
        4,4,4,-;b invoked oom-killer: order=0\n\
        4,5,5,-;oom-kill:constraint=CONSTRAINT_NONE,global_oom,task_memcg=/pod/c,task=b,pid=8,uid=0\n\
        3,6,6,-;Out of memory: Killed process 8 (b) total-vm:8kB\n";
    tokio::task::spawn_blocking(move || fs::write(log, text)).await.unwrap().unwrap();
    rig.api.wait("the event", |api| !api.event("SystemOOM").is_empty()).await;
    assert_eq!(rig.api.event("SystemOOM"), "System OOM encountered, victim process: b, pid: 8");
    assert_eq!(rig.api.reasons().iter().filter(|reason| *reason == "SystemOOM").count(), 1);
    rig.end().await;
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
