//! The built-in provisioner: a claim gets a folder of the node that its first pod goes to.
//!
//! The provisioner makes and deletes the API's objects only. A finalizer keeps a volume until the agent of its node
//! has removed the folder, or until the node itself is no more.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use plimsoll_volume::annotation::{BOUND_BY_CONTROLLER, PROVISIONED_BY, SELECTED_NODE, STORAGE_PROVISIONER};
use plimsoll_volume::local::{FINALIZER, FOLDER, NODE, PROVISIONER};
use plimsoll_volume::{delays, is_local, modes, reclaim_policy, requested, volume_phase};
use serde_json::{Value, json};

use crate::action::{Action, Create, Note, Resource, Severity, reference};

/// A claim, and what its folder depends on.
pub struct Claim<'a> {
    /// The claim.
    pub claim: &'a PersistentVolumeClaim,
    /// Its class.
    pub class: Option<&'a StorageClass>,
    /// The node that was chosen for it, if there is such a node.
    pub node: Option<&'a Node>,
    /// Whether its volume was made before.
    pub is_made: bool,
}

/// Whether the provisioner is called on for a claim.
pub fn is_called(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    annotation(claim, STORAGE_PROVISIONER) == Some(PROVISIONER)
        && named.is_empty()
        && claim.metadata.deletion_timestamp.is_none()
}

/// The name of a claim's volume, and of its folder.
pub fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// The node that was chosen for a claim.
pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(claim, SELECTED_NODE)
}

fn annotation<'a>(claim: &'a PersistentVolumeClaim, key: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// What to do about a claim.
pub fn decide_claim(observed: &Claim<'_>) -> Vec<Action> {
    let Claim { claim, class: Some(class), .. } = observed else { return Vec::new() };
    if !is_called(claim) || observed.is_made {
        return Vec::new();
    }
    let Some(selected) = selected_node(claim) else {
        if delays(class) {
            // It was asked to choose again.
            return Vec::new();
        }
        let why = "folders of nodes are made where a pod goes: the class needs volumeBindingMode WaitForFirstConsumer";
        return vec![failed(claim, class, why)];
    };
    if let Err(why) = suits(claim) {
        return vec![failed(claim, class, &why)];
    }
    let folder = observed.node.and_then(|node| node.metadata.annotations.as_ref()?.get(FOLDER));
    match (observed.node, folder) {
        (Some(node), Some(folder)) => vec![make(claim, class, node, folder).into()],
        // The scheduler is asked to choose again.
        (node, _) => {
            let why = match node {
                Some(_) => format!("node {selected:?} keeps no local volumes"),
                None => format!("node {selected:?} not found"),
            };
            let forget = json!({"metadata": {"annotations": {SELECTED_NODE: null}}});
            vec![failed(claim, class, &why), Action::patch(*claim, forget)]
        }
    }
}

/// What a folder cannot do.
fn suits(claim: &PersistentVolumeClaim) -> Result<(), String> {
    let spec = claim.spec.as_ref();
    if spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block") {
        return Err("folders of nodes are no block devices".to_owned());
    }
    if spec.is_some_and(|spec| spec.data_source.is_some() || spec.data_source_ref.is_some()) {
        return Err("folders of nodes begin empty: a data source is not supported".to_owned());
    }
    let near = ["ReadWriteOnce", "ReadWriteOncePod"];
    match modes(claim).iter().find(|mode| !near.contains(&mode.as_str())) {
        Some(mode) => Err(format!(
            "folders of nodes are used on one node only (ReadWriteOnce, ReadWriteOncePod): {mode} is not supported"
        )),
        None => Ok(()),
    }
}

fn failed(claim: &PersistentVolumeClaim, class: &StorageClass, why: &str) -> Action {
    let class = class.metadata.name.as_deref().unwrap_or_default();
    let message = format!("failed to provision volume with StorageClass {class:?}: {why}");
    Action::event(claim, Severity::Warning, "ProvisioningFailed", message)
}

fn make(claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node, folder: &str) -> Create {
    let (name, meta) = (volume_name(claim), &claim.metadata);
    let node_name = node.metadata.name.as_deref().unwrap_or_default();
    let label = node.metadata.labels.as_ref().and_then(|all| all.get(HOSTNAME));
    let host = label.map_or(node_name, String::as_str);
    let here = json!({"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [host]}]});
    let volume: Value = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": name, "labels": {NODE: node_name}, "finalizers": [FINALIZER],
            "annotations": {PROVISIONED_BY: PROVISIONER, BOUND_BY_CONTROLLER: "yes"},
        },
        "spec": {
            "accessModes": modes(claim),
            "capacity": {"storage": requested(claim).to_string()},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace,
                "name": meta.name, "uid": meta.uid, "resourceVersion": meta.resource_version},
            "local": {"path": format!("{}/{name}", folder.trim_end_matches('/'))},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.metadata.name,
            "volumeMode": "Filesystem",
        },
    });
    let note =
        |severity, reason, message: String| Note { about: reference(claim), severity, reason, message };
    let class = class.metadata.name.as_deref().unwrap_or_default();
    Create {
        resource: Resource::of::<PersistentVolume>(),
        namespace: String::new(),
        object: volume,
        made: Some(note(
            Severity::Normal,
            "ProvisioningSucceeded",
            "Successfully provisioned volume ".to_owned(),
        )),
        refused: Some(note(
            Severity::Warning,
            "ProvisioningFailed",
            format!("failed to provision volume with StorageClass {class:?}: "),
        )),
    }
}

/// The label by which nodes are told apart.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The node that has a volume's folder.
pub fn node_of(volume: &PersistentVolume) -> Option<&str> {
    volume.metadata.labels.as_ref()?.get(NODE).map(String::as_str)
}

/// What to do about a volume; whether its node is there still.
pub fn decide_volume(volume: &PersistentVolume, has_node: bool) -> Vec<Action> {
    let meta = &volume.metadata;
    if !is_local(volume) {
        return Vec::new();
    }
    if meta.deletion_timestamp.is_none() {
        let over = volume_phase(volume) == "Released" && reclaim_policy(volume) == "Delete";
        return if over { vec![Action::delete(volume).into()] } else { Vec::new() };
    }
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    if has_node || !finalizers.iter().any(|one| one == FINALIZER) {
        return Vec::new();
    }
    finalizers.retain(|one| one != FINALIZER);
    vec![Action::patch(volume, json!({"metadata": {"finalizers": finalizers}}))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, summary};

    fn claim(change: &[(&str, Value)]) -> PersistentVolumeClaim {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u",
                "annotations": {STORAGE_PROVISIONER: PROVISIONER, SELECTED_NODE: "n"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1536Mi"}}}});
        for (path, value) in change {
            *claim.pointer_mut(path).expect("an object") = value.clone();
        }
        object(claim)
    }

    fn class() -> StorageClass {
        object(json!({"metadata": {"name": "local"}, "provisioner": PROVISIONER, "reclaimPolicy": "Delete"}))
    }

    fn node(folder: Option<&str>) -> Node {
        object(
            json!({"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "host"}, "annotations": {FOLDER: folder}}}),
        )
    }

    #[test]
    fn claims_get_a_folder_of_their_node_or_a_reason() {
        let modes =
            |mode: &str| json!({"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}});
        let fails = |why: &str| {
            format!("event ProvisioningFailed failed to provision volume with StorageClass \"local\": {why}")
        };
        let forget = r#"patch PersistentVolumeClaim c {"metadata":{"annotations":{"volume.kubernetes.io/selected-node":null}}}"#;
        let (here, bare) = (node(Some("/data")), node(None));
        let waits = fails(
            "folders of nodes are made where a pod goes: the class needs volumeBindingMode WaitForFirstConsumer",
        );
        let many = fails(
            "folders of nodes are used on one node only (ReadWriteOnce, ReadWriteOncePod): ReadWriteMany is not supported",
        );
        let not_called = json!({STORAGE_PROVISIONER: "csi.example", SELECTED_NODE: "n"});
        let cases: Vec<(PersistentVolumeClaim, Option<&Node>, bool, Vec<String>)> = vec![
            (
                claim(&[]),
                Some(&here),
                false,
                vec!["create PersistentVolume pvc-u · ProvisioningSucceeded".to_owned()],
            ),
            (claim(&[]), Some(&here), true, vec![]),
            (
                claim(&[]),
                Some(&bare),
                false,
                vec![fails("node \"n\" keeps no local volumes"), forget.to_owned()],
            ),
            (claim(&[]), None, false, vec![fails("node \"n\" not found"), forget.to_owned()]),
            (
                claim(&[("/metadata/annotations", json!({STORAGE_PROVISIONER: PROVISIONER}))]),
                None,
                false,
                vec![waits],
            ),
            (claim(&[("/metadata/annotations", not_called)]), Some(&here), false, vec![]),
            (claim(&[("/spec", modes("ReadWriteMany"))]), Some(&here), false, vec![many]),
            (
                claim(&[("/spec", json!({"volumeMode": "Block"}))]),
                Some(&here),
                false,
                vec![fails("folders of nodes are no block devices")],
            ),
            (claim(&[("/spec", json!({"volumeName": "v"}))]), Some(&here), false, vec![]),
        ];
        for (claim, node, is_made, expected) in cases {
            let found = decide_claim(&Claim { claim: &claim, class: Some(&class()), node, is_made });
            assert_eq!(found.iter().map(summary).collect::<Vec<_>>(), expected, "{claim:?}");
        }
        // The scheduler is about to choose again.
        let class = StorageClass { volume_binding_mode: Some("WaitForFirstConsumer".to_owned()), ..class() };
        let claim = claim(&[("/metadata/annotations", json!({STORAGE_PROVISIONER: PROVISIONER}))]);
        let asked = Claim { claim: &claim, class: Some(&class), node: None, is_made: false };
        assert!(decide_claim(&asked).is_empty());
    }

    #[test]
    fn volumes_name_their_folder_and_node() {
        let (claim, node, class) = (claim(&[]), node(Some("/data/")), class());
        let made =
            decide_claim(&Claim { claim: &claim, class: Some(&class), node: Some(&node), is_made: false });
        let Action::Create(create) = &made[0] else { panic!("a creation") };
        let spec = &create.object["spec"];
        assert_eq!(
            (&spec["local"]["path"], &spec["capacity"]["storage"]),
            (&json!("/data/pvc-u"), &json!("1536Mi"))
        );
        let term = &spec["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0];
        assert_eq!(term["values"], json!(["host"]));
        assert_eq!(create.object["metadata"]["labels"], json!({NODE: "n"}));
    }

    #[test]
    fn volumes_go_after_their_folder() {
        let volume = |phase: &str, policy: &str, going: bool, finalizers: &[&str]| -> PersistentVolume {
            let going = going.then_some("2024-01-01T00:00:00Z");
            object(json!({"metadata": {"name": "v", "finalizers": finalizers, "deletionTimestamp": going,
                    "annotations": {PROVISIONED_BY: PROVISIONER}},
                "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase}}))
        };
        let let_go = r#"patch PersistentVolume v {"metadata":{"finalizers":["a"]}}"#;
        let cases = [
            (volume("Bound", "Delete", false, &[FINALIZER]), true, None),
            (volume("Released", "Delete", false, &[FINALIZER]), true, Some("delete PersistentVolume v")),
            (volume("Released", "Retain", false, &[FINALIZER]), true, None),
            (volume("Released", "Delete", true, &["a", FINALIZER]), true, None),
            (volume("Released", "Delete", true, &["a", FINALIZER]), false, Some(let_go)),
            (volume("Released", "Delete", true, &["a"]), false, None),
        ];
        for (volume, has_node, expected) in cases {
            let found = decide_volume(&volume, has_node);
            assert_eq!(found.first().map(summary).as_deref(), expected, "{volume:?}");
        }
    }
}
