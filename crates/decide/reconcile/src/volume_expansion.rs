//! Claims that are to grow (kube-controller-manager: pkg/controller/volume/expand, v1.37).
//!
//! Volumes of CSI drivers are made larger by the driver's resizer. A folder of the built-in provisioner has no size
//! of its own: it grows by saying so.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use plimsoll_meta::quantity::Quantity;
use plimsoll_volume::annotation::PRE_RESIZE_CAPACITY;
use plimsoll_volume::{annotated, capacity, is_local, requested};
use serde_json::json;

use crate::action::{Action, Severity};

/// Makes folders larger, and tells of other volumes who is waited for.
pub fn decide(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Vec<Action> {
    let spec = volume.spec.as_ref();
    let owner = spec.and_then(|spec| spec.claim_ref.as_ref()).and_then(|owner| owner.uid.as_ref());
    let grows = wants_more(claim) || annotated(volume, PRE_RESIZE_CAPACITY).is_some();
    if owner != claim.metadata.uid.as_ref() || !grows {
        return Vec::new();
    }
    if is_local(volume) {
        return grow(claim, volume);
    }
    let severity = match spec.is_some_and(|spec| spec.csi.is_some()) {
        true => Severity::Normal,
        false => Severity::Warning,
    };
    let why = "waiting for an external controller to expand this PVC";
    vec![Action::event(claim, severity, "ExternalExpanding", why)]
}

fn grow(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Vec<Action> {
    let size = requested(claim);
    let larger = capacity(volume).is_none_or(|has| has < size);
    let resize =
        larger.then(|| Action::patch(volume, json!({"spec": {"capacity": {"storage": size.to_string()}}})));
    let old = claim.status.clone().unwrap_or_default();
    let mut new = old.clone();
    new.capacity.get_or_insert_default().insert("storage".to_owned(), Amount(size.to_string()));
    let status = Action::update_status(claim, &old, &new);
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let done = format!(
        "ExpandVolume succeeded for volume {}/{}",
        name(&claim.metadata.namespace),
        name(&claim.metadata.name)
    );
    let told = Action::event(claim, Severity::Normal, "VolumeResizeSuccessful", done);
    resize.into_iter().chain(status).chain([told]).collect()
}

/// Whether a claim that is bound asks for more than it has.
pub fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    let has = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    has.and_then(|text| text.0.parse::<Quantity>().ok()).is_some_and(|has| requested(claim) > has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn growing_claims_wait_for_a_resizer() {
        let claim = |asked: &str, has: &str| -> PersistentVolumeClaim {
            object(json!({"metadata": {"name": "c", "uid": "u"}, "status": {"capacity": {"storage": has}},
                "spec": {"resources": {"requests": {"storage": asked}}}}))
        };
        let volume = |uid: &str, csi: bool, by: &str| -> PersistentVolume {
            let driver = csi.then(|| json!({"driver": "d", "volumeHandle": "h"}));
            object(json!({"metadata": {"name": "v", "annotations": {"pv.kubernetes.io/provisioned-by": by}},
                "spec": {"claimRef": {"uid": uid}, "csi": driver}}))
        };
        let cases = [
            (claim("1Gi", "1Gi"), volume("u", true, "d"), None),
            (claim("2Gi", "1Gi"), volume("u", true, "d"), Some(Severity::Normal)),
            (claim("2Gi", "1Gi"), volume("u", false, "d"), Some(Severity::Warning)),
            (claim("2Gi", "1Gi"), volume("other", true, "d"), None),
            (claim("1Gi", "1Gi"), volume("u", false, "plimsoll.io/local"), None),
        ];
        for (claim, volume, expected) in cases {
            let found = decide(&claim, &volume).pop().map(|action| match action {
                Action::Event(note) => note.severity,
                other => panic!("{other:?}"),
            });
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn folders_grow_at_once() {
        let claim: PersistentVolumeClaim =
            object(json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
            "spec": {"resources": {"requests": {"storage": "2Gi"}}}}));
        let volume = |size: &str| -> PersistentVolume {
            object(
                json!({"metadata": {"name": "v", "annotations": {"pv.kubernetes.io/provisioned-by": "plimsoll.io/local"}},
                "spec": {"claimRef": {"uid": "u"}, "capacity": {"storage": size}}}),
            )
        };
        let grown = r#"patch PersistentVolume v {"spec":{"capacity":{"storage":"2Gi"}}}"#;
        let told = [
            r#"patch PersistentVolumeClaim/status c {"status":{"capacity":{"storage":"2Gi"}}}"#,
            "event VolumeResizeSuccessful ExpandVolume succeeded for volume ns/c",
        ];
        let steps = |size: &str| decide(&claim, &volume(size)).iter().map(summary).collect::<Vec<_>>();
        assert_eq!(steps("1Gi"), [&[grown][..], &told].concat());
        assert_eq!(steps("2Gi"), told, "the volume was written before");
    }
}
