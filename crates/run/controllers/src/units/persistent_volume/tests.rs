use serde_json::{Value, json};

use crate::testing::Memory;
use crate::tests::play;

const BINDER: &str = "persistentvolume-binder-controller";
const PROTECTION: &str = "persistentvolumeclaim-protection-controller,persistentvolume-protection-controller";
const VOLUMES: &str = "/api/v1/persistentvolumes";

fn claim(server: &Memory, name: &str, class: Option<&str>) -> String {
    let path = format!("/api/v1/namespaces/ns/persistentvolumeclaims/{name}");
    server.put(
        &path,
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "ns"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class},
            "status": {"phase": "Pending"}}),
    );
    path
}

fn volume(server: &Memory, name: &str) -> String {
    let path = format!("{VOLUMES}/{name}");
    server.put(
        &path,
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain"}, "status": {"phase": "Pending"}}),
    );
    path
}

fn phase(server: &Memory, path: &str) -> Value {
    server.get(path).unwrap()["status"]["phase"].clone()
}

#[tokio::test(start_paused = true)]
async fn each_volume_gets_one_claim_and_rests() {
    let server = Memory::default();
    let claims: Vec<_> = ["a", "b", "c"].iter().map(|name| claim(&server, name, Some(""))).collect();
    let volumes = [volume(&server, "v"), volume(&server, "w")];
    play(&server, BINDER, 200).await;
    let bound = claims.iter().filter(|path| phase(&server, path) == "Bound");
    let named: std::collections::BTreeSet<_> =
        bound.map(|path| server.get(path).unwrap()["spec"]["volumeName"].to_string()).collect();
    assert_eq!(named.len(), 2, "both volumes are used, each once");
    assert!(volumes.iter().all(|path| phase(&server, path) == "Bound"));
    let writes = server.log().len();
    play(&server, BINDER, 600).await;
    assert_eq!(server.log().len(), writes, "at rest nothing is written");
}

#[tokio::test(start_paused = true)]
async fn classes_that_come_later_are_given_to_claims_without_one() {
    let server = Memory::default();
    let path = claim(&server, "c", None);
    play(&server, BINDER, 60).await;
    assert_eq!(phase(&server, &path), "Pending");
    server.put(
        "/apis/storage.k8s.io/v1/storageclasses/std",
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "csi.example",
            "metadata": {"name": "std", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "volumeBindingMode": "Immediate"}),
    );
    play(&server, BINDER, 60).await;
    let claim = server.get(&path).unwrap();
    assert_eq!(claim["spec"]["storageClassName"], "std");
    let annotations = &claim["metadata"]["annotations"];
    assert_eq!(annotations["volume.kubernetes.io/storage-provisioner"], "csi.example");
}

#[tokio::test(start_paused = true)]
async fn claims_stay_while_pods_use_them_and_volumes_while_they_are_bound() {
    let server = Memory::default();
    let (claim, volume) = (claim(&server, "c", Some("")), volume(&server, "v"));
    let pod = "/api/v1/namespaces/ns/pods/p";
    server.put(
        pod,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"nodeName": "n", "containers": [], "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]}}),
    );
    let all = format!("{BINDER},{PROTECTION}");
    play(&server, &all, 60).await;
    let held = |path: &str| server.get(path).unwrap()["metadata"]["finalizers"][0].clone();
    assert_eq!(
        (held(&claim), held(&volume)),
        (json!("kubernetes.io/pvc-protection"), json!("kubernetes.io/pv-protection"))
    );
    server.delete(&claim);
    server.delete(&volume);
    play(&server, &all, 60).await;
    assert!(server.get(&claim).is_some() && phase(&server, &volume) == "Bound", "both are used");
    server.delete(pod);
    play(&server, &all, 60).await;
    assert!(server.get(&claim).is_none() && server.get(&volume).is_none(), "nobody uses them any more");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_deleted_in_the_middle_of_a_binding_goes_and_the_claim_gets_another() {
    let server = Memory::default();
    let (claim, volume_path) = (claim(&server, "c", Some("")), volume(&server, "v"));
    let mut half = server.get(&volume_path).unwrap();
    half["metadata"]["finalizers"] = json!(["kubernetes.io/pv-protection"]);
    half["metadata"]["annotations"] = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
    half["spec"]["claimRef"] =
        json!({"name": "c", "namespace": "ns", "uid": server.get(&claim).unwrap()["metadata"]["uid"]});
    half["status"] = json!({"phase": "Bound"});
    server.put(&volume_path, half);
    server.delete(&volume_path);
    assert!(server.get(&volume_path).is_some(), "it is held");
    let all = format!("{BINDER},{PROTECTION}");
    play(&server, &all, 60).await;
    assert!(server.get(&volume_path).is_none(), "nothing holds it any more");
    assert_eq!(phase(&server, &claim), "Pending");
    let other = volume(&server, "w");
    play(&server, &all, 60).await;
    assert_eq!((phase(&server, &claim), phase(&server, &other)), (json!("Bound"), json!("Bound")));
}

#[tokio::test(start_paused = true)]
async fn volumes_are_attached_and_detached() {
    const ATTACHER: &str = "persistentvolume-attach-detach-controller";
    let server = Memory::default();
    let (claim, volume) = (claim(&server, "c", Some("")), volume(&server, "v"));
    let change = |path: &str, change: &dyn Fn(&mut Value)| {
        let mut object = server.get(path).unwrap();
        change(&mut object);
        server.put(path, object);
    };
    change(&volume, &|volume| volume["spec"]["csi"] = json!({"driver": "d", "volumeHandle": "h"}));
    let node = "/api/v1/nodes/n";
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    server.put(node, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": ready}));
    let pod = "/api/v1/namespaces/ns/pods/p";
    let put_pod = || {
        server.put(
            pod,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"},
                "spec": {"nodeName": "n", "containers": [], "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]}}),
        );
    };
    put_pod();
    // First the driver says that its volumes need not be attached.
    let driver = |attaches: bool| {
        server.put(
            "/apis/storage.k8s.io/v1/csidrivers/d",
            json!({"metadata": {"name": "d"}, "spec": {"attachRequired": attaches}}),
        );
    };
    driver(false);
    play(&server, &format!("{BINDER},{ATTACHER}"), 60).await;
    assert_eq!(phase(&server, &claim), "Bound");
    assert!(server.paths("/apis/storage.k8s.io/v1/volumeattachments").is_empty());
    driver(true);
    play(&server, ATTACHER, 60).await;
    let attachments = || server.paths("/apis/storage.k8s.io/v1/volumeattachments");
    let [attachment] = &attachments()[..] else { panic!("one attachment: {:?}", attachments()) };
    let spec = &server.get(attachment).unwrap()["spec"];
    assert_eq!((&spec["attacher"], &spec["source"]["persistentVolumeName"]), (&json!("d"), &json!("v")));

    change(attachment, &|attachment| attachment["status"] = json!({"attached": true}));
    play(&server, ATTACHER, 60).await;
    let on_node = || server.get(node).unwrap()["status"]["volumesAttached"].clone();
    assert_eq!(on_node()[0]["name"], "kubernetes.io/csi/d^h");

    // While the node uses it, it stays.
    change(node, &|node| node["status"]["volumesInUse"] = json!(["kubernetes.io/csi/d^h"]));
    server.delete(pod);
    play(&server, ATTACHER, 60).await;
    assert_eq!(attachments().len(), 1);
    change(node, &|node| node["status"]["volumesInUse"] = json!([]));
    play(&server, ATTACHER, 60).await;
    assert_eq!((attachments().len(), on_node()), (0, json!([])));

    // A node that says nothing any more: only after a while, or at once when it is given up, is it taken away.
    for (taints, waits) in [
        (json!([]), true),
        (json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]), false),
    ] {
        put_pod();
        change(node, &|node| node["status"]["conditions"] = ready["conditions"].clone());
        change(node, &|node| node["spec"]["taints"] = json!([]));
        play(&server, ATTACHER, 60).await;
        let [attachment] = &attachments()[..] else { panic!("one attachment: {:?}", attachments()) };
        change(attachment, &|attachment| attachment["status"] = json!({"attached": true}));
        play(&server, ATTACHER, 60).await;
        change(node, &|node| node["status"]["volumesInUse"] = json!(["kubernetes.io/csi/d^h"]));
        change(node, &|node| node["status"]["conditions"][0]["status"] = json!("Unknown"));
        change(node, &|node| node["spec"]["taints"] = taints.clone());
        server.delete(pod);
        play(&server, ATTACHER, 300).await;
        assert_eq!(attachments().len(), usize::from(waits), "{taints}");
        change(node, &|node| node["status"]["volumesInUse"] = json!([]));
        play(&server, ATTACHER, 60).await;
        assert_eq!(attachments().len(), 0, "{taints}");
    }
}
