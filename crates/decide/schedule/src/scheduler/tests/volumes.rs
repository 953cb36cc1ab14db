//! Pods with claims.

use super::*;
use crate::reservation::Progress;

fn storage(scheduler: &mut Scheduler, kind: &str, value: Value) {
    let storage = &mut scheduler.snapshot.storage;
    match kind {
        "claim" => storage.set_claim(Arc::new(serde_json::from_value(value).unwrap())),
        "volume" => storage.set_volume(Arc::new(serde_json::from_value(value).unwrap())),
        _ => storage.set_class(Arc::new(serde_json::from_value(value).unwrap())),
    }
}

fn claim(name: &str, class: &str, volume: Option<&str>) -> Value {
    let done = volume.map(|_| "yes");
    let mut claim = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "annotations": {}},
        "spec": {"storageClassName": class, "volumeName": volume, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}});
    if let Some(done) = done {
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!(done);
    }
    claim
}

fn volume(name: &str, class: &str, node: &str) -> Value {
    let here =
        json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]});
    json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {"storageClassName": class,
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}}}})
}

fn user(name: &str, claim: &str) -> Pod {
    pod(name, json!({}), json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}))
}

fn with_classes(count: usize) -> Scheduler {
    let mut scheduler = cluster(count);
    let class = |name: &str, provisioner: &str, mode: &str| json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
    storage(&mut scheduler, "class", class("now", "csi.example", "Immediate"));
    storage(&mut scheduler, "class", class("later", "csi.example", "WaitForFirstConsumer"));
    storage(&mut scheduler, "class", class("hand", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"));
    let mut zone = class("zone", "csi.example", "WaitForFirstConsumer");
    zone["allowedTopologies"] = json!([{"matchLabelExpressions": [{"key": "zone", "values": ["z1"]}]}]);
    storage(&mut scheduler, "class", zone);
    scheduler
}

#[test]
fn pods_go_where_their_volumes_are() {
    let mut scheduler = with_classes(3);
    storage(&mut scheduler, "claim", claim("bound", "now", Some("v")));
    storage(&mut scheduler, "volume", volume("v", "now", "n2"));
    assert_eq!(put(&mut scheduler, &user("a", "bound")), "n2");
    storage(&mut scheduler, "volume", volume("v", "now", "elsewhere"));
    let nowhere = |why: &str| {
        format!(
            "0/3 nodes are available: {why}. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        )
    };
    let conflict = nowhere("3 node(s) didn't match PersistentVolume's node affinity");
    assert_eq!(put(&mut scheduler, &user("b", "bound")), conflict);
    storage(&mut scheduler, "claim", claim("lost", "now", Some("gone")));
    let gone = "3 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
    assert_eq!(put(&mut scheduler, &user("c", "lost")), nowhere(gone));
    storage(&mut scheduler, "claim", claim("open", "now", None));
    let immediate = "pod has unbound immediate PersistentVolumeClaims";
    assert_eq!(put(&mut scheduler, &user("d", "open")), nowhere(immediate));
    let missing = "persistentvolumeclaim \"missing\" not found";
    assert_eq!(put(&mut scheduler, &user("e", "missing")), nowhere(missing));
    storage(&mut scheduler, "claim", claim("hand", "hand", None));
    let none = "3 node(s) didn't find available persistent volumes to bind";
    assert_eq!(put(&mut scheduler, &user("f", "hand")), nowhere(none));
}

#[test]
fn claims_that_wait_get_a_volume_for_the_node() {
    let mut scheduler = with_classes(4);
    for name in ["one", "two", "three"] {
        storage(&mut scheduler, "claim", claim(name, "hand", None));
    }
    storage(&mut scheduler, "volume", volume("v1", "hand", "n1"));
    storage(&mut scheduler, "volume", volume("v3", "hand", "n3"));
    let reserve = |scheduler: &mut Scheduler, name: &str, of: &str| {
        let pod = user(name, of);
        let node = put(scheduler, &pod);
        let info = scheduler.read(&pod);
        let kept = scheduler.reserve(&info, &node);
        let text = kept.iter().map(|one| match one {
            Reservation::Bind { volume, .. } => volume.metadata.name.clone().unwrap(),
            Reservation::Provision { node, .. } => format!("made for {node}"),
        });
        (text.collect::<Vec<_>>().join(","), node, kept)
    };
    let (first, node, kept) = reserve(&mut scheduler, "a", "one");
    assert_eq!(first, node.replace('n', "v"));
    let (second, _, _) = reserve(&mut scheduler, "b", "two");
    assert_ne!(first, second, "each volume is kept for one claim");
    assert!(
        put(&mut scheduler, &user("c", "three"))
            .contains("4 node(s) didn't find available persistent volumes")
    );
    let (again, other, _) = reserve(&mut scheduler, "d", "one");
    assert_eq!((again, other), (first.clone(), node), "who shares a claim goes to its volume");
    scheduler.snapshot.storage.release(&kept);
    assert_eq!(reserve(&mut scheduler, "c", "three").0, first, "what was given back is free");

    storage(&mut scheduler, "claim", claim("zonal", "zone", None));
    let (made, node, _) = reserve(&mut scheduler, "z", "zonal");
    assert!(["n1", "n3"].contains(&node.as_str()), "{node} is in the zone");
    assert_eq!(made, format!("made for {node}"));
    assert_eq!(reserve(&mut scheduler, "y", "zonal").1, node);
}

#[test]
fn drivers_say_where_they_have_room() {
    let mut scheduler = with_classes(2);
    let driver = json!({"metadata": {"name": "csi.example"}, "spec": {"storageCapacity": true}});
    scheduler.snapshot.storage.set_driver(Arc::new(serde_json::from_value(driver).unwrap()));
    storage(&mut scheduler, "claim", claim("c", "later", None));
    let full = put(&mut scheduler, &user("a", "c"));
    assert!(full.contains("2 node(s) did not have enough free storage"), "{full}");
    for (name, node, size) in [("small", "n0", "1Mi"), ("large", "n1", "9Gi")] {
        let room = json!({"metadata": {"name": name, "namespace": "d"}, "storageClassName": "later", "capacity": size,
            "nodeTopology": {"matchLabels": {"kubernetes.io/hostname": node}}});
        scheduler.snapshot.storage.set_room(Arc::new(serde_json::from_value(room).unwrap()));
    }
    assert_eq!(put(&mut scheduler, &user("a", "c")), "n1");
}

#[test]
fn reservations_are_followed_to_their_end() {
    let mut scheduler = with_classes(2);
    let mut open = claim("c", "later", None);
    open["metadata"]["resourceVersion"] = json!("4");
    storage(&mut scheduler, "claim", open.clone());
    let info = scheduler.read(&user("a", "c"));
    let kept: Vec<_> = scheduler.reserve(&info, "n0").into_iter().map(|one| (one, 5)).collect();
    let mut progress = |change: &dyn Fn(&mut Value)| {
        change(&mut open);
        storage(&mut scheduler, "claim", open.clone());
        scheduler.snapshot.progress(&kept, "n0")
    };
    assert_eq!(progress(&|_| {}), Progress::Waiting, "the cache is older than the write");
    let selected = "volume.kubernetes.io/selected-node";
    let written = |claim: &mut Value| {
        claim["metadata"]["resourceVersion"] = json!("5");
        claim["metadata"]["annotations"][selected] = json!("n0");
    };
    assert_eq!(progress(&written), Progress::Waiting);
    let failed = progress(&|claim| claim["metadata"]["annotations"] = json!({}));
    assert_eq!(failed, Progress::Failed("provisioning failed for PVC \"c\"".to_owned()));
    let bound = |claim: &mut Value| {
        claim["metadata"]["annotations"] = json!({selected: "n0", "pv.kubernetes.io/bind-completed": "yes"});
        claim["spec"]["volumeName"] = json!("v");
    };
    assert_eq!(progress(&bound), Progress::Bound);
}

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling.";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod.";

fn refused(count: usize, why: &str, preemption: &str) -> String {
    format!(
        "0/{count} nodes are available: {count} {why}. preemption: 0/{count} nodes are available: {count} {preemption}"
    )
}

#[test]
fn a_claim_of_one_pod_has_one_pod() {
    let mut scheduler = with_classes(2);
    let mut only = claim("only", "later", None);
    only["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    storage(&mut scheduler, "claim", only);
    let first = put(&mut scheduler, &user("a", "only"));
    assert!(first.starts_with('n'), "{first}");
    let why = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
    assert_eq!(put(&mut scheduler, &user("b", "only")), refused(2, why, NO_VICTIMS));
    scheduler.snapshot.remove_pod("a");
    assert!(put(&mut scheduler, &user("b", "only")).starts_with('n'));
}

#[test]
fn a_disk_is_written_by_one_pod_of_a_node() {
    let mut scheduler = cluster(1);
    let disk = |name: &str, only: bool| {
        let disk = json!({"name": "v", "gcePersistentDisk": {"pdName": "d", "readOnly": only}});
        pod(name, json!({}), json!({"volumes": [disk]}))
    };
    assert_eq!(put(&mut scheduler, &disk("a", true)), "n0");
    assert_eq!(put(&mut scheduler, &disk("b", true)), "n0");
    let why = "node(s) had no available disk";
    assert_eq!(put(&mut scheduler, &disk("c", false)), refused(1, why, NO_VICTIMS));
}

#[test]
fn drivers_attach_only_so_many_volumes() {
    let mut scheduler = with_classes(1);
    let driver = json!({"name": "csi.example", "nodeID": "n0", "allocatable": {"count": 3}});
    let node = json!({"metadata": {"name": "n0"}, "spec": {"drivers": [driver]}});
    scheduler.snapshot.storage.set_csi_node(Arc::new(serde_json::from_value(node).unwrap()));
    for name in ["one", "two", "left", "four"] {
        storage(&mut scheduler, "claim", claim(name, "now", Some(name)));
        let source = json!({"driver": "csi.example", "volumeHandle": name});
        let volume =
            json!({"metadata": {"name": name}, "spec": {"csi": source, "capacity": {"storage": "1Gi"}}});
        storage(&mut scheduler, "volume", volume);
    }
    storage(&mut scheduler, "claim", claim("new", "later", None));
    // What nobody uses any more counts as long as it is attached.
    let attachment: k8s_openapi::api::storage::v1::VolumeAttachment = serde_json::from_value(json!({
        "metadata": {"name": "csi-1"},
        "spec": {"attacher": "csi.example", "nodeName": "n0", "source": {"persistentVolumeName": "left"}},
    }))
    .unwrap();
    scheduler.snapshot.storage.set_attachment(Arc::new(attachment.clone()));
    assert_eq!(put(&mut scheduler, &user("a", "one")), "n0");
    assert_eq!(put(&mut scheduler, &user("b", "new")), "n0", "what is to be made counts, too");
    assert_eq!(put(&mut scheduler, &user("c", "one")), "n0", "a volume counts once");
    let full = refused(1, "node(s) exceed max volume count", NO_VICTIMS);
    assert_eq!(put(&mut scheduler, &user("d", "two")), full);
    assert_eq!(put(&mut scheduler, &user("e", "left")), "n0", "what is there needs no room");
    scheduler.snapshot.remove_pod("e");
    scheduler.snapshot.storage.remove_attachment(&attachment);
    assert_eq!(put(&mut scheduler, &user("d", "two")), "n0");
    assert_eq!(put(&mut scheduler, &user("f", "four")), full);
}

#[test]
fn volumes_are_used_in_the_zone_that_their_labels_name() {
    let mut scheduler = Scheduler::default();
    for (name, zone) in [("n0", "a"), ("n1", "b")] {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        scheduler.snapshot.set_node(&node(name, labels, json!({})));
    }
    storage(&mut scheduler, "claim", claim("c", "now", Some("v")));
    let mut in_zone = |label: &str, zone: &str| {
        let volume = json!({"metadata": {"name": "v", "labels": {label: zone}}, "spec": {"capacity": {"storage": "1Gi"}}});
        storage(&mut scheduler, "volume", volume);
        let answer = put(&mut scheduler, &user("p", "c"));
        scheduler.snapshot.remove_pod("p");
        answer
    };
    let nowhere = refused(2, "node(s) had no available volume zone", NOT_HELPFUL);
    for (label, zone, expected) in [
        ("topology.kubernetes.io/zone", "b", "n1"),
        ("failure-domain.beta.kubernetes.io/zone", "b", "n1"),
        ("topology.kubernetes.io/zone", "b__c", "n1"),
        ("topology.kubernetes.io/zone", "c", &nowhere),
        ("topology.kubernetes.io/region", "r", &nowhere),
        ("elsewhere", "c", "n0"),
    ] {
        let answer = in_zone(label, zone);
        let fits = answer == expected || (expected == "n0" && answer.starts_with('n'));
        assert!(fits, "{label}={zone}: {answer}");
    }
}
