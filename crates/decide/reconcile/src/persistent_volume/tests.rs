use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::*;
use crate::testing::{object, summary};

const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

fn merged(mut base: Value, change: Value) -> Value {
    match change {
        Value::Object(changes) => {
            for (key, value) in changes {
                base[&key] = merged(base[&key].take(), value);
            }
            base
        }
        other => other,
    }
}

fn claim(change: Value) -> PersistentVolumeClaim {
    let base = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u", "resourceVersion": "1"},
        "status": {"phase": "Pending"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}});
    object(merged(base, change))
}

fn volume(change: Value) -> PersistentVolume {
    let base = json!({"metadata": {"name": "v", "uid": "vu", "resourceVersion": "2"}, "status": {"phase": "Available"},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "6Gi"}, "persistentVolumeReclaimPolicy": "Retain"}});
    object(merged(base, change))
}

fn class(name: &str, provisioner: &str, mode: &str) -> Arc<StorageClass> {
    Arc::new(object(
        json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode}),
    ))
}

/// What is decided about a claim where there are these volumes.
fn about_claim(
    claim: &PersistentVolumeClaim,
    volumes: &[PersistentVolume],
    default: Option<&str>,
) -> Vec<String> {
    let volumes: Vec<_> = volumes.iter().cloned().map(Arc::new).collect();
    let classes = [
        class("now", "csi.example", "Immediate"),
        class("later", "csi.example", "WaitForFirstConsumer"),
        class("own", "plimsoll.io/local", "WaitForFirstConsumer"),
        class("none", "kubernetes.io/no-provisioner", "Immediate"),
    ];
    let find =
        |name: &str| classes.iter().find(|class| class.metadata.name.as_deref() == Some(name)).cloned();
    let waiting = claim.metadata.labels.iter().flatten().map(|(pod, _)| pod.clone());
    decide_claim(&Claim {
        claim,
        volume: &|name| volumes.iter().find(|one| one.metadata.name.as_deref() == Some(name)).cloned(),
        free: &|| volumes.clone(),
        class: &find,
        default: &|| default.and_then(find),
        waiting: &|| waiting.clone().collect(),
    })
    .iter()
    .map(summary)
    .collect()
}

fn reference(uid: &str) -> Value {
    json!({"spec": {"claimRef": {"namespace": "ns", "name": "c", "uid": uid}}})
}

/// The status of the claim once it is bound.
const CLAIM_BOUND: &str = r#"patch PersistentVolumeClaim/status c {"status":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"6Gi"},"phase":"Bound"}}"#;
const VOLUME_BOUND: &str = r#"patch PersistentVolume/status v {"status":{"phase":"Bound"}}"#;

#[test]
fn a_binding_has_four_steps() {
    let steps = about_claim(&claim(json!({})), &[volume(json!({}))], None);
    let expected = [
        r#"patch PersistentVolume v {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"c","namespace":"ns","resourceVersion":"1","uid":"u"}}}"#,
        VOLUME_BOUND,
        r#"patch PersistentVolumeClaim c {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"v"}}"#,
        CLAIM_BOUND,
    ];
    assert_eq!(steps, expected);
}

#[test]
fn bindings_are_completed_from_anywhere() {
    let completed = r#"patch PersistentVolumeClaim c {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes"}}}"#;
    let both = r#"patch PersistentVolumeClaim c {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"v"}}"#;
    let kept = r#"patch PersistentVolume v {"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"c","namespace":"ns","resourceVersion":"1","uid":"u"}}}"#;
    let asks = || json!({"spec": {"volumeName": "v"}});
    let complete = || json!({"spec": {"volumeName": "v"}, "metadata": {"annotations": {COMPLETED: "yes"}}});
    let bound = || json!({"status": {"phase": "Bound"}});
    let at_rest = json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "6Gi"}}});
    let cases = [
        (
            "kept by its user",
            claim(json!({})),
            volume(reference("")),
            vec![kept, VOLUME_BOUND, both, CLAIM_BOUND],
        ),
        (
            "only the volume knows",
            claim(json!({})),
            volume(reference("u")),
            vec![VOLUME_BOUND, both, CLAIM_BOUND],
        ),
        (
            "only the claim lacks the mark",
            claim(asks()),
            volume(merged(reference("u"), bound())),
            vec![completed, CLAIM_BOUND],
        ),
        (
            "only the phase is missing",
            claim(complete()),
            volume(merged(reference("u"), bound())),
            vec![CLAIM_BOUND],
        ),
        ("at rest", claim(merged(complete(), at_rest)), volume(merged(reference("u"), bound())), vec![]),
    ];
    for (what, claim, volume, expected) in cases {
        assert_eq!(about_claim(&claim, &[volume], None), expected, "{what}");
    }
}

#[test]
fn claims_without_a_volume_say_what_they_wait_for() {
    let class = |name: &str| json!({"spec": {"storageClassName": name}});
    let pods = |names: &[&str]| {
        names.iter().fold(json!({}), |all, name| merged(all, json!({"metadata": {"labels": {*name: ""}}})))
    };
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n"}}});
    let call = |name: &str| {
        format!(
            r#"patch PersistentVolumeClaim c {{"metadata":{{"annotations":{{"volume.beta.kubernetes.io/storage-provisioner":"{name}","volume.kubernetes.io/storage-provisioner":"{name}"}}}}}}"#
        )
    };
    let waits = "event ExternalProvisioning Waiting for a volume to be created either by the external provisioner 'csi.example' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.";
    let cases = [
        (
            claim(json!({})),
            None,
            vec!["event FailedBinding no persistent volumes available for this claim and no storage class is set".to_owned()],
        ),
        (
            claim(json!({})),
            Some("now"),
            vec![r#"patch PersistentVolumeClaim c {"spec":{"storageClassName":"now"}}"#.to_owned()],
        ),
        (
            claim(class("")),
            Some("now"),
            vec!["event FailedBinding no persistent volumes available for this claim and no storage class is set".to_owned()],
        ),
        (claim(class("now")), None, vec![call("csi.example"), waits.to_owned()]),
        (
            claim(class("later")),
            None,
            vec!["event WaitForFirstConsumer waiting for first consumer to be created before binding".to_owned()],
        ),
        (
            claim(merged(class("later"), pods(&["a"]))),
            None,
            vec!["event WaitForPodScheduled waiting for pod a to be scheduled".to_owned()],
        ),
        (
            claim(merged(class("later"), pods(&["b", "a"]))),
            None,
            vec!["event WaitForPodScheduled waiting for pods a,b to be scheduled".to_owned()],
        ),
        (claim(merged(class("later"), selected.clone())), None, vec![call("csi.example"), waits.to_owned()]),
        (claim(merged(class("own"), selected)), None, vec![call("plimsoll.io/local")]),
        (
            claim(class("gone")),
            None,
            vec![r#"event ProvisioningFailed storageclass.storage.k8s.io "gone" not found"#.to_owned()],
        ),
        (
            claim(class("none")),
            None,
            vec!["event ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner".to_owned()],
        ),
    ];
    for (claim, default, expected) in cases {
        assert_eq!(about_claim(&claim, &[], default), expected, "{claim:?}");
    }
}

#[test]
fn claims_that_name_a_volume_get_this_one_or_none() {
    let asks = json!({"spec": {"volumeName": "v"}});
    let cases = [
        (asks.clone(), None, vec![]),
        (
            merged(asks.clone(), json!({"spec": {"storageClassName": "now"}})),
            Some(json!({})),
            vec![
                r#"event VolumeMismatch Cannot bind to requested volume "v": storageClassName does not match"#,
            ],
        ),
        (
            asks.clone(),
            Some(reference("other")),
            vec![r#"event FailedBinding volume "v" already bound to a different claim."#],
        ),
        (
            merged(asks, json!({"metadata": {"annotations": {COMPLETED: "yes"}}})),
            None,
            vec![
                r#"patch PersistentVolumeClaim/status c {"status":{"phase":"Lost"}}"#,
                "event ClaimLost Bound claim has lost its PersistentVolume. Data on the volume is lost!",
            ],
        ),
        (
            json!({"metadata": {"annotations": {COMPLETED: "yes"}}}),
            None,
            vec![
                r#"patch PersistentVolumeClaim/status c {"status":{"phase":"Lost"}}"#,
                "event ClaimLost Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
            ],
        ),
        (
            json!({"spec": {"volumeName": "v"}, "metadata": {"annotations": {COMPLETED: "yes"}}}),
            Some(reference("other")),
            vec![
                r#"patch PersistentVolumeClaim/status c {"status":{"phase":"Lost"}}"#,
                "event ClaimMisbound Two claims are bound to the same volume, this one is bound incorrectly",
            ],
        ),
    ];
    for (change, there, expected) in cases {
        let volumes: Vec<_> = there.into_iter().map(volume).collect();
        assert_eq!(about_claim(&claim(change), &volumes, None), expected);
    }
}

#[test]
fn volumes_follow_their_claims() {
    let to = |name: &str| claim(json!({"spec": {"volumeName": name}}));
    let phase = |phase: &str| json!({"status": {"phase": phase}});
    let owned = |change: Value| volume(merged(reference("u"), change));
    let policy = |policy: &str| json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
    let by = |name: &str| json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": name}}});
    let ours = json!({"metadata": {"annotations": {BY_CONTROLLER: "yes"}}});
    let going = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}});
    let released = r#"patch PersistentVolume/status v {"status":{"phase":"Released"}}"#;
    let available = r#"patch PersistentVolume/status v {"status":{"phase":"Available"}}"#;
    let failed = |why: &str| {
        format!(r#"patch PersistentVolume/status v {{"status":{{"message":{why:?},"phase":"Failed"}}}}"#)
    };
    let no_recycler = "No recycler plugin found for the volume!";
    let no_deleter = r#"error getting deleter volume plugin for volume "v": no volume plugin matched"#;
    let cases: Vec<(PersistentVolume, Option<PersistentVolumeClaim>, Vec<String>)> = vec![
        (volume(phase("Pending")), None, vec![available.to_owned()]),
        (volume(json!({})), None, vec![]),
        (volume(merged(reference(""), phase("Pending"))), None, vec![available.to_owned()]),
        (owned(json!({})), Some(to("v")), vec![VOLUME_BOUND.to_owned()]),
        (owned(json!({})), Some(claim(json!({}))), vec![]),
        (
            owned(json!({"spec": {"volumeMode": "Block"}})),
            Some(claim(json!({}))),
            vec![
                r#"event VolumeMismatch Cannot bind PersistentVolume to requested PersistentVolumeClaim "c" due to incompatible volumeMode."#.to_owned(),
                r#"event VolumeMismatch Cannot bind PersistentVolume "v" to requested PersistentVolumeClaim due to incompatible volumeMode."#.to_owned(),
            ],
        ),
        (
            owned(merged(ours, phase("Bound"))),
            Some(to("w")),
            vec![
                format!(r#"patch PersistentVolume v {{"metadata":{{"annotations":{{"{BY_CONTROLLER}":null}}}},"spec":{{"claimRef":null}}}}"#),
                available.to_owned(),
            ],
        ),
        (
            owned(phase("Bound")),
            Some(to("w")),
            vec![r#"patch PersistentVolume v {"spec":{"claimRef":{"uid":null}}}"#.to_owned(), available.to_owned()],
        ),
        (owned(merged(by("d"), policy("Delete"))), Some(to("w")), vec![released.to_owned()]),
        // It was deleted before its claim came to name it.
        (
            owned(merged(going.clone(), phase("Bound"))),
            Some(claim(json!({}))),
            vec![r#"patch PersistentVolume v {"spec":{"claimRef":{"uid":null}}}"#.to_owned(), available.to_owned()],
        ),
        (
            owned(merged(merged(by("d"), policy("Delete")), merged(going.clone(), phase("Bound")))),
            Some(claim(json!({}))),
            vec![released.to_owned()],
        ),
        (owned(going.clone()), Some(claim(json!({}))), vec![]),
        (owned(merged(going, phase("Bound"))), Some(to("v")), vec![]),
        (owned(phase("Bound")), None, vec![released.to_owned()]),
        (owned(phase("Released")), None, vec![]),
        (owned(merged(merged(by("d"), policy("Delete")), phase("Bound"))), None, vec![released.to_owned()]),
        (
            owned(merged(policy("Recycle"), phase("Bound"))),
            None,
            vec![released.to_owned(), failed(no_recycler), format!("event VolumeFailedRecycle {no_recycler}")],
        ),
        (owned(merged(policy("Recycle"), phase("Failed"))), None, vec![]),
        (
            owned(merged(policy("Delete"), phase("Released"))),
            None,
            vec![failed(no_deleter), format!("event VolumeFailedDelete {no_deleter}")],
        ),
    ];
    for (volume, claim, expected) in cases {
        let found = decide_volume(&Volume { volume: &volume, claim: claim.as_ref() });
        assert_eq!(found.iter().map(summary).collect::<Vec<_>>(), expected, "{volume:?}");
    }
}
