//! A node that runs short of disk space: its data lies on a small file system of the test's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plimsoll_kernel::mount;
use serde_json::{Value, json};

use super::{Rig, phase, pod, web};

fn small_disk(config: &mut crate::Config) {
    std::fs::create_dir_all(&config.data_dir).unwrap();
    mount::tmpfs(&config.data_dir, "size=32m").unwrap();
    config.pressure_period = Duration::from_millis(20);
    config.eviction.hard = [("nodefs.available".to_owned(), "16Mi".to_owned())].into();
}

fn scratch(rig: &Rig) -> PathBuf {
    rig.temp.path().join("kubelet/pods/u-1/volumes/kubernetes.io~empty-dir/scratch")
}

fn write(folder: &Path, mebibytes: usize) {
    std::fs::write(folder.join("data"), vec![1; mebibytes << 20]).unwrap();
}

fn with_scratch(limit: Option<&str>) -> Value {
    let mut spec = web();
    spec["volumes"] = json!([{"name": "config", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}]);
    if let Some(limit) = limit {
        spec["volumes"][1]["emptyDir"]["sizeLimit"] = json!(limit);
    }
    pod(spec)
}

async fn running(name: &str, limit: Option<&str>) -> Option<Rig> {
    let rig = Rig::with(name, small_disk).await?;
    rig.api.put("pods", with_scratch(limit));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    Some(rig)
}

async fn end(rig: Rig) {
    let disk = rig.temp.path().join("kubelet");
    let temp = rig.end().await;
    mount::unmount_below(&disk).unwrap();
    drop(temp);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fills_the_disk_is_evicted_and_the_node_says_so() {
    let Some(rig) = running("disk", None).await else { return };
    write(&scratch(&rig), 24);
    rig.api.wait("the pod is evicted", |api| api.pod().is_some_and(|pod| phase(&pod) == "Failed")).await;
    let status = rig.api.pod().unwrap()["status"].clone();
    assert_eq!(status["reason"], "Evicted");
    let message = status["message"].as_str().unwrap();
    let start = "The node was low on resource: ephemeral-storage. Threshold quantity: 16Mi, available: ";
    assert!(message.starts_with(start), "{message}");
    let mut conditions = status["conditions"].as_array().unwrap().iter();
    assert!(conditions.any(|it| it["type"] == "DisruptionTarget" && it["reason"] == "TerminationByKubelet"));
    rig.api.wait("users are told", |api| !api.event("NodeHasDiskPressure").is_empty()).await;
    // No container gets less than two seconds.
    assert!(rig.engine.calls().contains(&"stop c-0 2".to_owned()), "{:?}", rig.engine.calls());
    rig.api.wait("the node is under pressure", |api| api.node_condition("DiskPressure") == "True").await;
    rig.api
        .wait("it is told", |api| {
            let reasons = api.reasons();
            ["EvictionThresholdMet", "Evicted"].iter().all(|it| reasons.iter().any(|known| known == it))
        })
        .await;
    // What comes now is not taken.
    let mut second = with_scratch(None);
    second["metadata"]["uid"] = json!("u-2");
    rig.api.remove("pods", "web");
    rig.api.put("pods", second);
    rig.api
        .wait("the next pod is refused", |api| {
            api.pod().is_some_and(|pod| {
                pod["status"]["message"] == "The node had condition: [DiskPressure]. "
                    && phase(&pod) == "Failed"
            })
        })
        .await;
    end(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_beyond_its_limit_ends_its_pod() {
    let Some(rig) = running("limit", Some("4Mi")).await else { return };
    write(&scratch(&rig), 3);
    assert_eq!(phase(&rig.api.pod().unwrap()), "Running");
    write(&scratch(&rig), 6);
    rig.api.wait("the pod is evicted", |api| api.pod().is_some_and(|pod| phase(&pod) == "Failed")).await;
    let status = rig.api.pod().unwrap()["status"].clone();
    assert_eq!(status["message"], "Usage of EmptyDir volume \"scratch\" exceeds the limit \"4Mi\". ");
    assert_eq!(rig.api.node_condition("DiskPressure"), "False");
    end(rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_images_go_before_any_pod() {
    let Some(rig) = running("images", None).await else { return };
    let file = rig.temp.path().join("kubelet/image");
    std::fs::write(&file, vec![1; 8 << 20]).unwrap();
    rig.engine.keep_image("sha256:2", file);
    // 32 MiB less 8 of the image and 10 of the pod are below 16; without the image they are above.
    write(&scratch(&rig), 10);
    rig.api.wait("it is told", |api| api.reasons().iter().any(|reason| reason == "NodeReclaimed")).await;
    assert!(rig.engine.calls().contains(&"remove image sha256:2".to_owned()));
    assert_eq!(phase(&rig.api.pod().unwrap()), "Running");
    let message = rig.api.event("NodeReclaimed");
    let disk = rig.temp.path().join("kubelet");
    let start = format!(
        "Removed 1 unused images (8Mi) and 0 ended containers from {}: nodefs.available was ",
        disk.display()
    );
    assert!(message.starts_with(&start), "{message}");
    // There is nothing more to remove: now it is the pod's turn.
    write(&scratch(&rig), 20);
    rig.api.wait("the pod is evicted", |api| api.pod().is_some_and(|pod| phase(&pod) == "Failed")).await;
    let status = rig.api.pod().unwrap()["status"].clone();
    assert_eq!(status["reason"], "Evicted");
    end(rig).await;
}
