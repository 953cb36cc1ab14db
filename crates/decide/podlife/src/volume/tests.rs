//! Tables of volumes and what they are.
#![expect(clippy::unwrap_used, reason = "tests")]

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::{Value, json};

use super::csi::{Csi, access_mode};
use super::{Kind, Medium, Mode, Reference, claim, inline, persistent, reference};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(resources: Value) -> Pod {
    read(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"serviceAccountName": "sa", "containers": [
            {"name": "c", "resources": resources, "volumeMounts": [{"name": "m", "mountPath": "/m"}],
             "volumeDevices": [{"name": "d", "devicePath": "/d"}]}]}}))
}

#[test]
fn empty_folders() {
    let limited = json!({"limits": {"memory": "64Mi"}});
    let pages = json!({"limits": {"memory": "1Gi", "hugepages-2Mi": "4Mi"}});
    let both = json!({"limits": {"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}});
    let mib = 1 << 20;
    let cases = [
        (json!({}), json!({}), Ok(Medium::Disk)),
        (json!({"medium": "Memory"}), json!({}), Ok(Medium::Memory(Some(1000 * mib)))),
        (json!({"medium": "Memory", "sizeLimit": "8Mi"}), json!({}), Ok(Medium::Memory(Some(8 * mib)))),
        (json!({"medium": "Memory", "sizeLimit": "0"}), json!({}), Ok(Medium::Memory(Some(1000 * mib)))),
        (json!({"medium": "Memory"}), limited.clone(), Ok(Medium::Memory(Some(64 * mib)))),
        (json!({"medium": "Memory", "sizeLimit": "1Gi"}), limited, Ok(Medium::Memory(Some(64 * mib)))),
        (json!({"medium": "HugePages"}), pages.clone(), Ok(Medium::HugePages(2 * mib))),
        (json!({"medium": "HugePages-2Mi"}), both.clone(), Ok(Medium::HugePages(2 * mib))),
        (
            json!({"medium": "HugePages-1Gi"}),
            pages,
            Err(
                "medium HugePages-1Gi: hugePages storage requested, but there is no resource request for huge pages",
            ),
        ),
        (
            json!({"medium": "HugePages"}),
            both,
            Err("medium: HugePages can't be used if container requests multiple huge page sizes"),
        ),
        (json!({"medium": "Tape"}), json!({}), Err("unknown storage medium \"Tape\"")),
    ];
    for (source, resources, expected) in cases {
        let volume: Volume = read(json!({"name": "v", "emptyDir": source}));
        let found = inline(&pod(resources), &volume, Some(1000 * mib)).map(|source| source.kind);
        assert_eq!(found, expected.map(Kind::EmptyDir).map_err(str::to_owned), "{source}");
    }
}

#[test]
fn kinds_and_their_folders() {
    let cases = [
        (json!({"configMap": {"name": "x"}}), "configmap", true),
        (json!({"secret": {"secretName": "x"}}), "secret", true),
        (json!({"downwardAPI": {}}), "downward-api", true),
        (json!({"projected": {}}), "projected", true),
        (json!({}), "empty-dir", false),
        (json!({"hostPath": {"path": "/x"}}), "host-path", false),
        (json!({"nfs": {"server": "s", "path": "/x"}}), "nfs", false),
        (json!({"nfs": {"server": "s", "path": "/x", "readOnly": true}}), "nfs", true),
        (json!({"image": {"reference": "x"}}), "image", true),
        (json!({"csi": {"driver": "d"}}), "csi", false),
    ];
    for (mut volume, plugin, read_only) in cases {
        volume["name"] = json!("v");
        let volume: Volume = read(volume);
        let source = inline(&pod(json!({})), &volume, None).unwrap();
        assert_eq!((source.kind.plugin(&volume), source.read_only), (plugin, read_only));
    }
    let volume: Volume = read(json!({"name": "v", "iscsi": {"iqn": "i", "lun": 0, "targetPortal": "t"}}));
    assert_eq!(inline(&pod(json!({})), &volume, None).unwrap_err(), "no volume plugin matched");
}

#[test]
fn claims_lead_to_volumes_or_tell_why_not() {
    let bound = json!({"metadata": {"name": "c", "uid": "cu", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]},
        "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
    let changed = |pointer: &str, value: Value| {
        let mut claim = bound.clone();
        *claim.pointer_mut(pointer).unwrap() = value;
        claim
    };
    let deleted =
        changed("/metadata", json!({"name": "c", "uid": "cu", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
    let cases = [
        (bound.clone(), true, Ok("pv")),
        (deleted, false, Err("error processing PVC ns/c: PVC is being deleted")),
        (
            changed("/status/phase", json!("Pending")),
            false,
            Err("error processing PVC ns/c: PVC is not bound"),
        ),
        (
            changed("/spec/volumeName", json!("")),
            false,
            Err("error processing PVC ns/c: PVC has empty pvc.Spec.VolumeName"),
        ),
        (
            changed("/metadata/ownerReferences", json!([])),
            true,
            Err("PVC ns/c was not created for pod ns/p (pod is not owner)"),
        ),
        (changed("/metadata/ownerReferences", json!([])), false, Ok("pv")),
    ];
    for (claim, owned, expected) in cases {
        let claim: PersistentVolumeClaim = read(claim);
        let reference = Reference { claim: "c".into(), read_only: false, owned };
        let found = claim::bound(&pod(json!({})), &reference, &claim);
        assert_eq!(found, expected.map_err(str::to_owned));
    }
    let (pod, claim): (Pod, PersistentVolumeClaim) = (pod(json!({})), read(bound));
    let reference = Reference { claim: "c".into(), read_only: false, owned: false };
    for (owner, expected) in [
        (json!({"uid": "cu"}), Ok(())),
        (
            json!({"uid": "other"}),
            Err(
                "error processing PVC ns/c: found PV object pv but its pv.Spec.ClaimRef.UID other does not point to claim.UID cu",
            ),
        ),
        (
            Value::Null,
            Err(
                "error processing PVC ns/c: found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim",
            ),
        ),
    ] {
        let volume: PersistentVolume = read(json!({"metadata": {"name": "pv"}, "spec": {"claimRef": owner}}));
        assert_eq!(claim::belongs(&pod, &reference, &claim, &volume), expected.map_err(str::to_owned));
    }
}

#[test]
fn volumes_are_used_as_what_they_are() {
    let volume = |mode: &str| -> PersistentVolume {
        read(json!({"metadata": {"name": "pv"}, "spec": {"volumeMode": mode, "local": {"path": "/x"}}}))
    };
    let cases = [
        ("m", "Filesystem", Ok(())),
        ("m", "Block", Err("volume m has volumeMode Block, but is specified in volumeMounts")),
        ("d", "Block", Ok(())),
        ("d", "Filesystem", Err("volume d has volumeMode Filesystem, but is specified in volumeDevices")),
    ];
    for (name, mode, expected) in cases {
        let source = persistent(&volume(mode), false).unwrap();
        assert_eq!(source.mode == Mode::Block, mode == "Block");
        assert_eq!(
            claim::fits(&pod(json!({})), name, &source),
            expected.map_err(str::to_owned),
            "{name} {mode}"
        );
    }
}

#[test]
fn ephemeral_volumes_have_claims_of_their_own() {
    let volume: Volume = read(json!({"name": "v", "ephemeral": {}}));
    let expected = Reference { claim: "p-v".into(), read_only: false, owned: true };
    assert_eq!(reference(&pod(json!({})), &volume), Some(expected));
}

fn csi() -> Csi {
    let volume: PersistentVolume = read(json!({"metadata": {"name": "pv"}, "spec": {
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "d.example", "volumeHandle": "h", "fsType": "ext4", "volumeAttributes": {"a": "b"}}}}));
    match persistent(&volume, false).unwrap().kind {
        Kind::Csi(csi) => *csi,
        other => panic!("{other:?}"),
    }
}

#[test]
fn drivers_say_what_they_want() {
    let driver =
        |spec: Value| -> CSIDriver { read(json!({"metadata": {"name": "d.example"}, "spec": spec})) };
    let csi = csi();
    let inline = Csi { life: super::csi::Life::Ephemeral, fs_type: String::new(), ..csi.clone() };
    assert_eq!(csi.unique_name(), "kubernetes.io/csi/d.example^h");
    assert_eq!(csi.attachment("n1"), "csi-e454859dd4276370791d83835a554a1c35250abcee0bdcbcb3aafd02f429da02");
    let both = driver(json!({"volumeLifecycleModes": ["Persistent", "Ephemeral"], "attachRequired": false}));
    let only = driver(json!({}));
    assert!(csi.is_attached(None) && csi.is_attached(Some(&only)) && !csi.is_attached(Some(&both)));
    assert_eq!(csi.check_life(None), Ok(()));
    assert_eq!(inline.check_life(Some(&both)), Ok(()));
    assert_eq!(
        inline.check_life(Some(&only)).unwrap_err(),
        "volume mode \"Ephemeral\" not supported by driver d.example (only supports [\"Persistent\"])"
    );
    assert_eq!(
        inline.check_life(None).unwrap_err(),
        "volume mode \"Ephemeral\" not supported by driver d.example (no CSIDriver object)"
    );
    for (policy, persistent, ephemeral) in [
        (json!(null), true, false),
        (json!("ReadWriteOnceWithFSType"), true, false),
        (json!("File"), true, true),
        (json!("None"), false, false),
    ] {
        let driver = driver(json!({"fsGroupPolicy": policy}));
        assert_eq!(csi.takes_group(Some(&driver), false), persistent, "{policy}");
        assert_eq!(inline.takes_group(Some(&driver), false), ephemeral, "{policy}");
    }
    assert!(!csi.takes_group(None, true), "what is read only keeps its groups");
    let told = driver(json!({"podInfoOnMount": true}));
    let attributes = csi.publish_attributes(&pod(json!({})), Some(&told), Some("{}"));
    let lines: Vec<_> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        lines,
        [
            "a=b",
            "csi.storage.k8s.io/ephemeral=false",
            "csi.storage.k8s.io/pod.name=p",
            "csi.storage.k8s.io/pod.namespace=ns",
            "csi.storage.k8s.io/pod.uid=u",
            "csi.storage.k8s.io/serviceAccount.name=sa",
            "csi.storage.k8s.io/serviceAccount.tokens={}",
        ]
    );
    let quiet = driver(json!({"serviceAccountTokenInSecrets": true}));
    assert_eq!(csi.publish_attributes(&pod(json!({})), Some(&quiet), Some("{}")).len(), 1);
}

#[test]
fn access_modes_have_the_interfaces_numbers() {
    let cases = [
        ("ReadWriteOnce", false, 1),
        ("ReadWriteOnce", true, 7),
        ("ReadWriteOncePod", false, 1),
        ("ReadWriteOncePod", true, 6),
        ("ReadOnlyMany", true, 3),
        ("ReadWriteMany", false, 5),
    ];
    for (word, single, number) in cases {
        assert_eq!(access_mode(&[word.to_owned()], single), number, "{word} {single}");
    }
}
