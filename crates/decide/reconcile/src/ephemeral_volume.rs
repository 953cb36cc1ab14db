//! Claims that a pod has for itself (kube-controller-manager: pkg/controller/volume/ephemeral, v1.37).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_volume::{claim_name, is_for_pod};

use crate::action::{Action, Note, Severity, reference};
use crate::owner::controller_ref;
use crate::pod::deleting;

/// Makes the claims of a pod that are missing; `claim` finds one of the pod's namespace.
pub fn decide(pod: &Pod, claim: &dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>) -> Vec<Action> {
    if deleting(pod) {
        return Vec::new();
    }
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| one(pod, volume, claim)).collect()
}

fn one(
    pod: &Pod,
    volume: &Volume,
    claim: &dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
) -> Option<Action> {
    let (name, true) = claim_name(pod, volume)? else { return None };
    if let Some(claim) = claim(&name) {
        let why = is_for_pod(pod, &claim).err()?;
        return Some(Action::Event(failed(pod, volume, &why)));
    }
    let template = volume.ephemeral.as_ref()?.volume_claim_template.clone()?;
    let meta = template.metadata.unwrap_or_default();
    let made = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: pod.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![controller_ref(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec),
        status: None,
    };
    let mut create = Action::create(&made);
    create.refused = Some(failed(pod, volume, &format!("create PVC {name}: ")));
    Some(create.into())
}

fn failed(pod: &Pod, volume: &Volume, why: &str) -> Note {
    Note {
        about: reference(pod),
        severity: Severity::Warning,
        reason: "FailedBinding",
        message: format!("ephemeral volume {}: {why}", volume.name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn pods_get_their_own_claims() {
        let pod = |deleting: bool| -> Pod {
            let going = deleting.then_some("2024-01-01T00:00:00Z");
            let template =
                json!({"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}});
            object(
                json!({"metadata": {"name": "p", "namespace": "ns", "uid": "pod", "deletionTimestamp": going},
                "spec": {"containers": [], "volumes": [{"name": "other", "persistentVolumeClaim": {"claimName": "c"}},
                    {"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]}}),
            )
        };
        let claim = |uid: &str| -> Option<Arc<PersistentVolumeClaim>> {
            let owner =
                json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true});
            Some(Arc::new(object(
                json!({"metadata": {"name": "p-v", "namespace": "ns", "ownerReferences": [owner]}}),
            )))
        };
        let conflict = "event FailedBinding ephemeral volume v: PVC ns/p-v was not created for pod ns/p (pod is not owner)";
        let cases = [
            (pod(false), None, Some("create PersistentVolumeClaim p-v")),
            (pod(false), claim("pod"), None),
            (pod(false), claim("other"), Some(conflict)),
            (pod(true), None, None),
        ];
        for (pod, claim, expected) in cases {
            let found = decide(&pod, &|name| claim.clone().filter(|_| name == "p-v"));
            assert_eq!(found.iter().map(summary).next().as_deref(), expected);
        }
        let Action::Create(create) = &decide(&pod(false), &|_| None)[0] else { panic!("a creation") };
        let meta = &create.object["metadata"];
        assert_eq!((&meta["labels"]["a"], &meta["ownerReferences"][0]["uid"]), (&json!("b"), &json!("pod")));
    }
}
