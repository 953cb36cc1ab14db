//! What pods get of a plugin.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use plimsoll_plugins::{DEVICE_VERSION, SOCKET};
use plimsoll_podlife::placement::hints::Hint;
use serde_json::json;

use super::fake::{GPU, Running, register};
use super::*;

/// The agent's side.
struct Desk {
    devices: Arc<Devices>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Desk {
    async fn open(folder: &Path) -> Self {
        let devices = Arc::new(Devices::open(folder, Arc::new(Metrics::new("n1"))));
        let stop = CancellationToken::new();
        let task = tokio::spawn(devices.clone().run(stop.clone()));
        while tokio::net::UnixStream::connect(folder.join(SOCKET)).await.is_err() {
            tokio::task::yield_now().await;
        }
        Self { devices, stop, task }
    }

    async fn until(&self, holds: impl Fn(&Devices) -> bool) {
        let mut changes = self.devices.subscribe();
        let wait = async {
            while !holds(&self.devices) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
    }

    /// Gives a pod its devices, wherever they are.
    async fn admit(&self, pod: &Pod, is_active: impl Fn(&str) -> bool) -> Result<(), String> {
        let mut giving = self.devices.turn(pod, is_active).await;
        let spec = pod.spec.as_ref().unwrap();
        let init = spec.init_containers.iter().flatten().map(|it| (it, true));
        let anywhere = Hint { nodes: None, preferred: false };
        let mut result = Ok(());
        for (container, leaves) in init.chain(spec.containers.iter().map(|it| (it, false))) {
            result = match giving.check(container) {
                Ok(()) => giving.give(container, &anywhere, leaves).await,
                Err(why) => Err(why),
            };
            if result.is_err() {
                break;
            }
        }
        giving.end(result.is_err());
        result
    }

    async fn close(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn pod(uid: &str, init: i64, main: i64) -> Pod {
    let container =
        |name: &str, count: i64| json!({"name": name, "resources": {"limits": {GPU: count.to_string()}}});
    let init = if init > 0 { json!([container("init", init)]) } else { json!([]) };
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "ns", "uid": uid},
        "spec": {"initContainers": init, "containers": [container("main", main)]},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_given_lost_and_known_again() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("device-plugins");
    let desk = Desk::open(&folder).await;
    for (endpoint, resource, version, expected) in [
        (
            "a.sock",
            GPU,
            "v1alpha",
            "requested API version \"v1alpha\" is not supported by kubelet. Supported version is [\"v1beta1\"]",
        ),
        ("a.sock", "gpu", DEVICE_VERSION, "the ResourceName \"gpu\" is invalid"),
        ("../a.sock", GPU, DEVICE_VERSION, "invalid endpoint \"../a.sock\""),
    ] {
        let refused = register(&folder, endpoint, resource, version).await.unwrap_err();
        assert_eq!(refused.message(), expected);
    }
    let plugin = Running::start(&folder, "gpu.sock").await;
    plugin.tell(&[("a", true), ("b", true), ("c", false)]);
    desk.until(|devices| devices.capacity().get(GPU) == Some(&(3, 2))).await;

    let all = |_: &str| true;
    desk.admit(&pod("u1", 1, 1), all).await.unwrap();
    // The init container's device goes on to the one behind it.
    assert_eq!(*plugin.calls.lock().unwrap(), ["allocate b", "allocate b"]);
    let grant = desk.devices.grant("u1", "main").await.unwrap();
    assert_eq!(plugin.calls.lock().unwrap().last().unwrap(), "start b");
    assert_eq!(grant.env, [("GPUS".to_owned(), "b".to_owned())]);
    assert_eq!((grant.mounts[0].host_path.as_str(), grant.mounts[0].readonly), ("/opt/gpu", true));
    assert_eq!(
        (grant.devices[0].container_path.as_str(), grant.devices[0].permissions.as_str()),
        ("/dev/gpu", "rw")
    );
    assert_eq!(grant.cdi_devices[0].name, "example.com/gpu=b");
    assert_eq!(desk.devices.grant("u1", "other").await.unwrap(), Grant::default());
    let refused = desk.admit(&pod("u2", 0, 2), all).await.unwrap_err();
    assert_eq!(
        refused,
        "requested number of devices unavailable for example.com/gpu. Requested: 2, Available: 1"
    );
    let status = |devices: &Devices| devices.status("u1", "main").unwrap()[0]["resources"][0].clone();
    assert_eq!(status(&desk.devices), json!({"resourceID": "b", "health": "Healthy"}));
    plugin.tell(&[("a", true), ("b", false), ("bad", true)]);
    desk.until(|devices| status(devices)["health"] == "Unhealthy").await;
    let refused = desk.admit(&pod("u2", 0, 1), all).await.unwrap_err();
    assert_eq!(refused, "rpc error: code = Internal desc = it burns");
    assert_eq!(desk.devices.status("u2", "main"), None);

    // Another agent knows what was given; the plugin sees a new socket and comes again.
    desk.close().await;
    let desk = Desk::open(&folder).await;
    assert!(!folder.join("gpu.sock").exists());
    assert_eq!(desk.devices.capacity().get(GPU), Some(&(0, 0)));
    assert_eq!(desk.devices.grant("u1", "main").await.unwrap(), grant);
    let again = Running::start(&folder, "gpu.sock").await;
    again.tell(&[("a", true), ("b", true)]);
    desk.until(|devices| devices.capacity().get(GPU) == Some(&(2, 2))).await;
    assert_eq!(status(&desk.devices)["health"], "Healthy");
    desk.admit(&pod("u1", 1, 1), all).await.unwrap();
    assert!(again.calls.lock().unwrap().is_empty(), "it has its devices already");
    // The pod has ended: its device is free.
    desk.admit(&pod("u3", 0, 2), |uid| uid != "u1").await.unwrap();
    assert_eq!(desk.devices.status("u1", "main"), None);

    // A plugin that is gone has no device that can be used.
    again.stop.cancel();
    drop(again);
    desk.until(|devices| devices.capacity().get(GPU) == Some(&(2, 0))).await;
    let refused = desk.admit(&pod("u4", 0, 1), all).await.unwrap_err();
    assert_eq!(refused, "no healthy devices present; cannot allocate unhealthy devices example.com/gpu");
    desk.close().await;
}
