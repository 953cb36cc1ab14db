//! Volumes of drivers and of claims, through the whole agent.

use std::fs;
use std::os::unix::fs::MetadataExt;

use plimsoll_podlife::volume::csi::Csi;
use serde_json::{Value, json};

use super::driver::{FakeDriver, NAME};
use super::{Rig, phase, pod};

fn claim(rig: &Rig, spec: Value) {
    rig.api.put(
        "persistentvolumeclaims",
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "ns", "uid": "cu"},
            "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"},
        }),
    );
    let mut spec = spec;
    spec["claimRef"] = json!({"name": "data", "namespace": "ns", "uid": "cu"});
    rig.api.put("persistentvolumes", json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv", "uid": "pu"}, "spec": spec,
    }));
}

fn user() -> Value {
    json!({
        "containers": [{"name": "c", "image": "demo:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_appears_shows_a_volume_and_takes_it_away() {
    let Some(mut rig) = Rig::new("csi").await else { return };
    let kubelet = rig.temp.path().join("kubelet");
    let (driver, serving) = FakeDriver::serve(&kubelet, rig.temp.path().join("disks"));
    rig.api.wait("it is registered", |_| driver.registered() == Some(Ok(()))).await;
    let named = rig.api.get("csinodes", "n1").unwrap()["spec"]["drivers"].clone();
    assert_eq!(
        named,
        json!([{"name": NAME, "nodeID": "node-one", "allocatable": {"count": 7},
            "topologyKeys": ["folder.example/rack"]}])
    );
    let node = rig.api.get("nodes", "n1").unwrap()["metadata"].clone();
    assert_eq!(node["annotations"]["csi.volume.kubernetes.io/nodeid"], "{\"folder.example\":\"node-one\"}");
    assert_eq!(node["labels"]["folder.example/rack"], "r1");

    rig.api.put(
        "csidrivers",
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": NAME},
            "spec": {"podInfoOnMount": true, "fsGroupPolicy": "File"},
        }),
    );
    claim(&rig, json!({"accessModes": ["ReadWriteOnce"], "csi": {"driver": NAME, "volumeHandle": "disk-1"}}));
    let mut spec = user();
    spec["securityContext"] = json!({"fsGroup": 4711});
    rig.api.put("pods", pod(spec));
    let name = format!("kubernetes.io/csi/{NAME}^disk-1");
    rig.api
        .wait("the node says that it uses the volume", |api| {
            api.get("nodes", "n1").unwrap()["status"]["volumesInUse"] == json!([name])
        })
        .await;
    assert!(driver.calls().is_empty(), "it is not attached yet");
    has_attached(&rig, &name);
    let source: k8s_openapi::api::core::v1::PersistentVolume =
        serde_json::from_value(rig.api.get("persistentvolumes", "pv").unwrap()).unwrap();
    let attachment = attachment(&source);
    rig.api.put(
        "volumeattachments",
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": attachment},
            "spec": {"attacher": NAME, "nodeName": "n1", "source": {"persistentVolumeName": "pv"}},
            "status": {"attached": true, "attachmentMetadata": {"slot": "3"}},
        }),
    );
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let told = driver.published();
    assert_eq!(told.publish_context["slot"], "3");
    assert_eq!(told.volume_context["csi.storage.k8s.io/pod.name"], "web");
    assert!(told.staging_target_path.ends_with("/globalmount"), "{}", told.staging_target_path);
    let config = rig.engine.container("c-0");
    let mount = config.mounts.iter().find(|mount| mount.container_path == "/data").unwrap();
    let folder = kubelet.join("pods/u-1/volumes/kubernetes.io~csi/pv/mount");
    assert_eq!(mount.host_path, folder.to_string_lossy());
    assert_eq!(fs::metadata(rig.temp.path().join("disks/disk-1")).unwrap().gid(), 4711);
    fs::write(folder.join("kept"), "x").unwrap();

    // The agent comes back, and undoes what the one before had done.
    rig.stop().await;
    rig.start().await;
    rig.api.mark_deleted("web", 1);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    let calls = driver.calls();
    assert_eq!(calls[..2], ["stage disk-1", "publish disk-1"]);
    assert_eq!(calls[calls.len() - 2..], ["unpublish disk-1", "unstage disk-1"], "{calls:?}");
    assert!(rig.temp.path().join("disks/disk-1/kept").exists());
    assert!(!kubelet.join("pods/u-1").exists());

    serving.abort();
    fs::remove_file(kubelet.join("plugins_registry/folder.example-reg.sock")).unwrap();
    rig.api
        .wait("it is named no more", |api| api.get("csinodes", "n1").unwrap()["spec"]["drivers"] == json!([]))
        .await;
    rig.end().await;
}

/// The node says that it has a volume.
fn has_attached(rig: &Rig, name: &str) {
    let mut node = rig.api.get("nodes", "n1").unwrap();
    node["status"]["volumesAttached"] = json!([{"name": name, "devicePath": ""}]);
    rig.api.put("nodes", node);
}

/// A pod with a volume of the driver, which nobody has to attach.
pub(super) async fn provided(rig: &Rig, driver: Value) -> (FakeDriver, tokio::task::JoinHandle<()>) {
    let kubelet = rig.temp.path().join("kubelet");
    let mut spec = json!({"attachRequired": false});
    spec.as_object_mut().unwrap().extend(driver.as_object().unwrap().clone());
    rig.api.put(
        "csidrivers",
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": NAME}, "spec": spec}),
    );
    let (driver, serving) = FakeDriver::serve(&kubelet, rig.temp.path().join("disks"));
    rig.api.wait("it is registered", |_| driver.registered() == Some(Ok(()))).await;
    claim(
        rig,
        json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "csi": {"driver": NAME, "volumeHandle": "disk-1"}}),
    );
    resize(rig, "1Gi", json!({"capacity": {"storage": "1Gi"}, "phase": "Bound"}));
    rig.api.put("pods", pod(user()));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    (driver, serving)
}

/// The volume has this size now, and the claim this status.
fn resize(rig: &Rig, size: &str, status: Value) {
    let mut volume = rig.api.get("persistentvolumes", "pv").unwrap();
    volume["spec"]["capacity"]["storage"] = json!(size);
    let mut claim = rig.api.get("persistentvolumeclaims", "data").unwrap();
    claim["status"] = status;
    rig.api.put("persistentvolumeclaims", claim);
    rig.api.put("persistentvolumes", volume);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_grows_while_a_pod_uses_it() {
    let often = |config: &mut crate::Config| config.sync_frequency = std::time::Duration::from_millis(20);
    let Some(rig) = Rig::with("grow", often).await else { return };
    let (driver, _serving) = provided(&rig, json!({})).await;
    let waits = |state: &str| {
        json!({
            "phase": "Bound", "capacity": {"storage": "1Gi"}, "allocatedResources": {"storage": "2Gi"},
            "allocatedResourceStatuses": {"storage": state},
            "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
        })
    };
    // First the driver will not, for good; then somebody asks for it once more.
    driver.refuse(Some(tonic::Status::out_of_range("too large")));
    resize(&rig, "2Gi", waits("NodeResizePending"));
    let status = |api: &super::FakeApi| api.get("persistentvolumeclaims", "data").unwrap()["status"].clone();
    let state = |api: &super::FakeApi| status(api)["allocatedResourceStatuses"]["storage"].clone();
    rig.api.wait("it will not", |api| state(api) == "NodeResizeInfeasible").await;
    let why = "Expander.NodeExpand failed to expand the volume rpc error: code = OutOfRange desc = too large";
    let conditions = status(&rig.api)["conditions"].clone();
    assert_eq!(conditions[1]["type"], "NodeResizeError");
    assert_eq!(conditions[1]["message"], format!("failed to expand pvc with {why}"));
    let message = format!("NodeExpandVolume.NodeExpandVolume failed for volume \"pv\" : {why}");
    rig.api.wait("users are told", |api| api.event("VolumeResizeFailed") == message).await;

    driver.refuse(None);
    resize(&rig, "2Gi", waits("NodeResizePending"));
    rig.api.wait("it has grown", |api| status(api)["capacity"]["storage"] == "2Gi").await;
    let ended = status(&rig.api);
    assert_eq!(
        (&ended["allocatedResourceStatuses"]["storage"], &ended["conditions"]),
        (&json!(null), &json!([]))
    );
    let asked = driver.expanded();
    assert_eq!(asked.capacity_range.unwrap().required_bytes, 2 << 30);
    assert!(asked.volume_path.ends_with("/volumes/kubernetes.io~csi/pv/mount"), "{}", asked.volume_path);
    assert!(asked.staging_target_path.ends_with("/globalmount"), "{}", asked.staging_target_path);
    rig.api
        .wait("users are told", |api| {
            api.event("FileSystemResizeSuccessful")
                == "MountVolume.NodeExpandVolume succeeded for volume \"pv\" n1"
        })
        .await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_wants_it_is_asked_again() {
    let often = |config: &mut crate::Config| config.sync_frequency = std::time::Duration::from_millis(20);
    let Some(rig) = Rig::with("again", often).await else { return };
    let (driver, _serving) = provided(&rig, json!({"requiresRepublish": true})).await;
    let count = |what: &str| driver.calls().iter().filter(|call| *call == what).count();
    rig.api.wait("it is asked again", |_| count("publish disk-1") >= 3).await;
    assert_eq!(count("stage disk-1"), 1, "what is prepared stays");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_and_images_are_passed_as_they_are() {
    let Some(rig) = Rig::new("device").await else { return };
    let kubelet = rig.temp.path().join("kubelet");
    rig.api.put(
        "csidrivers",
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": NAME},
            "spec": {"attachRequired": false}}),
    );
    let (driver, _serving) = FakeDriver::serve(&kubelet, rig.temp.path().join("disks"));
    rig.api.wait("it is registered", |_| driver.registered() == Some(Ok(()))).await;
    claim(
        &rig,
        json!({"accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
        "csi": {"driver": NAME, "volumeHandle": "disk-1"}}),
    );
    let mut spec = user();
    spec["containers"][0]["volumeMounts"] = json!([{"name": "files", "mountPath": "/files"}]);
    spec["containers"][0]["volumeDevices"] = json!([{"name": "data", "devicePath": "/dev/xvda"}]);
    let image = json!({"name": "files", "image": {"reference": "demo:1", "pullPolicy": "IfNotPresent"}});
    spec["volumes"].as_array_mut().unwrap().push(image);
    rig.api.put("pods", pod(spec));
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let config = rig.engine.container("c-0");
    let device = config.devices.iter().find(|device| device.container_path == "/dev/xvda").unwrap();
    let path = kubelet.join("pods/u-1/volumeDevices/kubernetes.io~csi/pv/dev");
    assert_eq!((device.host_path.as_str(), device.permissions.as_str()), (path.to_str().unwrap(), "mrw"));
    let mount = config.mounts.iter().find(|mount| mount.container_path == "/files").unwrap();
    assert_eq!(mount.image.as_ref().unwrap().image, "demo:1");
    assert!(mount.host_path.is_empty() && mount.readonly);
    rig.api.mark_deleted("web", 1);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    assert!(!path.exists());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_a_certificate_of_its_own_and_another_before_it_ends() {
    let Some(rig) = Rig::new("certificate").await else { return };
    rig.api.put(
        "serviceaccounts",
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "ns", "uid": "au"}}),
    );
    let mut spec = user();
    spec["nodeName"] = json!("n1");
    spec["serviceAccountName"] = json!("a");
    spec["volumes"] = json!([{"name": "data", "projected": {"sources": [{"podCertificate": {
        "signerName": "example.com/s", "keyType": "ECDSAP256", "maxExpirationSeconds": 3600,
        "credentialBundlePath": "bundle.pem", "userAnnotations": {"example.com/a": "b"}}}]}}]);
    rig.api.put("pods", pod(spec));
    let requests = |api: &super::FakeApi| api.all("podcertificaterequests");
    rig.api.wait("it is asked for", |api| requests(api).len() == 1).await;
    let request = requests(&rig.api)[0].clone();
    let asked = &request["spec"];
    assert_eq!(
        (&asked["podName"], &asked["podUID"], &asked["nodeName"]),
        (&json!("web"), &json!("u-1"), &json!("n1"))
    );
    assert_eq!((&asked["serviceAccountUID"], &asked["maxExpirationSeconds"]), (&json!("au"), &json!(3600)));
    assert_eq!(asked["unverifiedUserAnnotations"]["example.com/a"], "b");
    assert_eq!(request["metadata"]["ownerReferences"][0]["uid"], "u-1");
    let told = |text: &str| rig.api.messages().iter().any(|message| message.contains(text));
    rig.api.wait("users are told", |_| told("credential bundle is not issued yet")).await;

    let issue = |mut request: Value, body: &str, renew: &str| {
        request["status"] = json!({
            "certificateChain": format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"),
            "notBefore": "2026-01-01T00:00:00Z", "beginRefreshAt": renew, "notAfter": "2999-01-02T00:00:00Z",
            "conditions": [{"type": "Issued", "status": "True", "reason": "R", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        });
        rig.api.put("podcertificaterequests", request);
    };
    // It is to be renewed at once, however long one may wait beside that.
    issue(request, "AAAA", "2020-01-01T00:00:00Z");
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let config = rig.engine.container("c-0");
    let mount = config.mounts.iter().find(|mount| mount.container_path == "/data").unwrap().clone();
    let file = std::path::Path::new(&mount.host_path).join("bundle.pem");
    let shown = || fs::read_to_string(&file).unwrap();
    let before = shown();
    assert!(before.starts_with("-----BEGIN PRIVATE KEY-----\n") && before.contains("\nAAAA\n"), "{before}");
    rig.api.wait("another is asked for", |api| requests(api).len() >= 2).await;
    for request in requests(&rig.api).into_iter().filter(|it| it["status"].is_null()) {
        issue(request, "BBBB", "2999-01-01T00:00:00Z");
    }
    rig.api.wait("it is shown", |_| shown().contains("\nBBBB\n")).await;
    assert_ne!(shown().lines().nth(1), before.lines().nth(1), "the key is another one");
    rig.end().await;
}

fn attachment(volume: &k8s_openapi::api::core::v1::PersistentVolume) -> String {
    let source = plimsoll_podlife::volume::persistent(volume, false).unwrap();
    let plimsoll_podlife::volume::Kind::Csi(csi) = source.kind else { panic!("another kind") };
    let csi: Csi = *csi;
    csi.attachment("n1")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_driver_refuses_is_told_and_others_go_on() {
    let Some(rig) = Rig::new("csi-no").await else { return };
    let kubelet = rig.temp.path().join("kubelet");
    rig.api.put(
        "csidrivers",
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": NAME},
            "spec": {"volumeLifecycleModes": ["Ephemeral"], "attachRequired": false},
        }),
    );
    let mut spec = user();
    spec["volumes"] = json!([{"name": "data", "csi": {"driver": NAME, "volumeAttributes": {"fail": "yes"}}}]);
    rig.api.put("pods", pod(spec));
    let told = |text: &str| rig.api.messages().iter().any(|message| message.contains(text));
    rig.api
        .wait("that it is not there", |_| {
            told("driver name folder.example not found in the list of registered CSI drivers")
        })
        .await;
    let (driver, _serving) = FakeDriver::serve(&kubelet, rig.temp.path().join("disks"));
    rig.api
        .wait("why not", |_| {
            told("MountVolume.SetUp failed for volume \"data\" : rpc error: code = Internal desc = no such disk")
        })
        .await;
    assert!(driver.calls().iter().all(|call| call.starts_with("publish csi-")), "nothing is staged");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_folders_and_what_is_wrong_with_them() {
    let Some(rig) = Rig::new("claims").await else { return };
    let disk = rig.temp.path().join("disk");
    rig.api.put("pods", pod(user()));
    let told = |text: &str| rig.api.messages().iter().any(|message| message == text);
    let unable = "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], \
                  failed to process volumes=[data]: error processing PVC ns/data: ";
    rig.api
        .wait("the claim is missing", |_| {
            told(&format!("{unable}failed to fetch PVC from API server: not found"))
        })
        .await;
    claim(&rig, json!({"accessModes": ["ReadWriteOnce"], "local": {"path": disk.to_string_lossy()}}));
    let missing =
        format!("MountVolume.SetUp failed for volume \"pv\" : path \"{}\" does not exist", disk.display());
    rig.api.wait("the folder is missing", |_| told(&missing)).await;
    fs::create_dir(&disk).unwrap();
    fs::write(disk.join("kept"), "x").unwrap();
    rig.api.wait("the pod runs", |api| api.pod().is_some_and(|pod| phase(&pod) == "Running")).await;
    let config = rig.engine.container("c-0");
    let mount = config.mounts.iter().find(|mount| mount.container_path == "/data").unwrap().clone();
    let folder = rig.temp.path().join("kubelet/pods/u-1/volumes/kubernetes.io~local-volume/pv");
    assert_eq!(mount.host_path, folder.to_string_lossy());
    assert!(folder.join("kept").exists());
    rig.api.mark_deleted("web", 1);
    rig.api.wait("the pod is gone", |api| api.pod().is_none()).await;
    assert!(!folder.exists() && disk.join("kept").exists(), "the data stays");
    rig.end().await;
}
