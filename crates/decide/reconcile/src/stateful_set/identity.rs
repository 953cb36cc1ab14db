//! Names that stay.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};

use super::claims;
use crate::history::REVISION_LABEL;
use crate::owner::controller_ref;
use crate::pod;

/// The label by which others find the pod of a place.
pub(super) const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name, if it is a name of this set.
pub(super) fn ordinal(set: &StatefulSet, of: &Pod) -> Option<i64> {
    let (parent, ordinal) = of.metadata.name.as_deref()?.rsplit_once('-')?;
    (Some(parent) == set.metadata.name.as_deref()).then(|| ordinal.parse().ok()).flatten()
}

/// The name of the pod at a place.
pub(super) fn name(set: &StatefulSet, ordinal: i64) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The labels that tell a place.
pub(super) fn labels(set: &StatefulSet, ordinal: i64) -> BTreeMap<String, String> {
    let name = (NAME_LABEL.to_owned(), name(set, ordinal));
    BTreeMap::from([name, (INDEX_LABEL.to_owned(), ordinal.to_string())])
}

/// The pod at a place.
pub(super) fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i64) -> Pod {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut made = pod::from_template(namespace, &controller_ref(set), template);
    let name = name(set, ordinal);
    made.metadata.generate_name = None;
    made.metadata.name = Some(name.clone());
    let all = made.metadata.labels.get_or_insert_default();
    all.extend(labels(set, ordinal));
    all.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let spec = made.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone();
    let claims: Vec<_> = claims::names(set, ordinal).collect();
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|volume| !claims.iter().any(|(template, _)| *template == volume.name));
    volumes.extend(claims.into_iter().map(|(template, claim)| Volume {
        name: template,
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim,
            read_only: None,
        }),
        ..Volume::default()
    }));
    if volumes.is_empty() {
        spec.volumes = None;
    }
    made
}
