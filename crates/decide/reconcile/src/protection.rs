//! Claims, volumes and attribute classes stay while somebody uses them
//! (kube-controller-manager: pkg/controller/volume/{pvcprotection,pvprotection,vacprotection}, v1.37).

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_volume::annotation::{ATTRIBUTES_PROTECTION, CLAIM_PROTECTION, VOLUME_PROTECTION};
use plimsoll_volume::{claim_name, is_for_pod, volume_attributes, volume_phase};
use serde_json::json;

use crate::action::Action;

/// What holds objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Claims, while pods that run use them.
    Claim,
    /// Volumes, while they are bound.
    Volume,
    /// Attribute classes, while claims or volumes name them.
    Attributes,
}

impl Guard {
    fn finalizer(self) -> &'static str {
        match self {
            Self::Claim => CLAIM_PROTECTION,
            Self::Volume => VOLUME_PROTECTION,
            Self::Attributes => ATTRIBUTES_PROTECTION,
        }
    }

    /// Whether an object goes as soon as nobody uses it.
    pub fn holds(self, meta: &ObjectMeta) -> bool {
        meta.deletion_timestamp.is_some() && self.is_on(meta)
    }

    fn is_on(self, meta: &ObjectMeta) -> bool {
        meta.finalizers.iter().flatten().any(|one| one == self.finalizer())
    }

    /// Puts the guard on an object that lives, and takes it from one that goes and is unused.
    pub fn decide<K>(self, object: &K, used: bool) -> Vec<Action>
    where
        K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
    {
        let meta = object.metadata();
        let mut all = meta.finalizers.clone().unwrap_or_default();
        match (meta.deletion_timestamp.is_some(), self.is_on(meta)) {
            (true, true) if !used => all.retain(|one| one != self.finalizer()),
            (false, false) => all.push(self.finalizer().to_owned()),
            _ => return Vec::new(),
        }
        vec![Action::patch(object, json!({"metadata": {"finalizers": all}}))]
    }
}

/// Whether a pod keeps a claim: it is on a node, and its own claims matter until the node is done with it.
pub fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let Some(spec) =
        pod.spec.as_ref().filter(|spec| spec.node_name.as_ref().is_some_and(|it| !it.is_empty()))
    else {
        return false;
    };
    let shut_down =
        pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0);
    spec.volumes.iter().flatten().any(|volume| match claim_name(pod, volume) {
        Some((name, own)) => {
            claim.metadata.name == Some(name) && (!own || (!shut_down && is_for_pod(pod, claim).is_ok()))
        }
        None => false,
    })
}

/// Whether a volume is in use.
pub fn is_in_use(volume: &PersistentVolume) -> bool {
    volume_phase(volume) == "Bound"
}

/// The attribute classes that a claim names: asked for, in force, and on the way.
pub fn attributes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let spec = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.clone());
    let target = status
        .and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.clone());
    [spec, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect()
}

/// The attribute class that a volume names.
pub fn attributes_of_volume(volume: &PersistentVolume) -> Vec<String> {
    Some(volume_attributes(volume)).filter(|name| !name.is_empty()).map(str::to_owned).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn guards_come_and_go() {
        let going = "2024-01-01T00:00:00Z";
        let cases = [
            (json!({}), false, Some(r#"["kubernetes.io/pvc-protection"]"#)),
            (json!({"finalizers": ["a"]}), true, Some(r#"["a","kubernetes.io/pvc-protection"]"#)),
            (json!({"finalizers": [CLAIM_PROTECTION]}), false, None),
            (json!({"finalizers": ["a", CLAIM_PROTECTION], "deletionTimestamp": going}), true, None),
            (
                json!({"finalizers": ["a", CLAIM_PROTECTION], "deletionTimestamp": going}),
                false,
                Some(r#"["a"]"#),
            ),
            (json!({"finalizers": ["a"], "deletionTimestamp": going}), false, None),
        ];
        for (mut meta, used, expected) in cases {
            meta["name"] = json!("c");
            let claim: PersistentVolumeClaim = object(json!({"metadata": meta}));
            let found = Guard::Claim.decide(&claim, used).first().map(summary);
            let expected = expected
                .map(|all| format!(r#"patch PersistentVolumeClaim c {{"metadata":{{"finalizers":{all}}}}}"#));
            assert_eq!(found, expected, "{meta} {used}");
        }
    }

    #[test]
    fn pods_on_nodes_use_their_claims() {
        let pod = |node: Option<&str>, volume: Value, grace: Option<i64>| -> Pod {
            let going = grace.map(|_| "2024-01-01T00:00:00Z");
            object(
                json!({"metadata": {"name": "p", "uid": "pod", "deletionTimestamp": going, "deletionGracePeriodSeconds": grace},
                "spec": {"nodeName": node, "containers": [], "volumes": [volume]}}),
            )
        };
        let claim = |name: &str, owner: Option<&str>| -> PersistentVolumeClaim {
            let owners = owner.map(|uid| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]));
            object(json!({"metadata": {"name": name, "ownerReferences": owners}}))
        };
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        let own = json!({"name": "v", "ephemeral": {}});
        let cases = [
            (pod(Some("n"), named.clone(), None), claim("c", None), true),
            (pod(Some("n"), named.clone(), Some(0)), claim("c", None), true),
            (pod(Some("n"), named.clone(), None), claim("d", None), false),
            (pod(None, named, None), claim("c", None), false),
            (pod(Some("n"), own.clone(), None), claim("p-v", Some("pod")), true),
            (pod(Some("n"), own.clone(), None), claim("p-v", Some("other")), false),
            (pod(Some("n"), own.clone(), Some(30)), claim("p-v", Some("pod")), true),
            (pod(Some("n"), own, Some(0)), claim("p-v", Some("pod")), false),
        ];
        for (at, (pod, claim, expected)) in cases.into_iter().enumerate() {
            assert_eq!(uses(&pod, &claim), expected, "{at}");
        }
    }
}
