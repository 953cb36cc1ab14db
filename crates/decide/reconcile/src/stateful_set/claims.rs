//! Storage that stays, or goes when its set or its pod does.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::{Sync, identity};
use crate::action::{Action, Severity};

/// The claims of the pod at a place: name of the template, name of the claim.
pub(super) fn names(set: &StatefulSet, ordinal: i64) -> impl Iterator<Item = (String, String)> {
    let templates = set.spec.volume_claim_templates.iter().flatten();
    templates.map(move |template| {
        let name = template.metadata.name.clone().unwrap_or_default();
        let claim = format!("{name}-{}", identity::name(set, ordinal));
        (name, claim)
    })
}

impl Sync<'_> {
    /// Makes the claims of a place that are missing.
    pub(super) fn create_claims(&mut self, ordinal: i64) {
        let templates = self.set.spec.volume_claim_templates.clone().unwrap_or_default();
        let names: Vec<_> = names(self.set, ordinal).map(|(_, claim)| claim).collect();
        for (template, name) in templates.into_iter().zip(names) {
            if (self.claim)(&name).is_some() {
                continue;
            }
            let mut claim: PersistentVolumeClaim = template;
            claim.status = None;
            claim.metadata.name = Some(name.clone());
            claim.metadata.namespace = self.set.metadata.namespace.clone();
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(self.set.spec.selector.match_labels.clone().unwrap_or_default());
            if self.deletes("whenDeleted") {
                claim.metadata.owner_references = Some(vec![set_reference(self.set)]);
            }
            let (pod, set) =
                (identity::name(self.set, ordinal), self.set.metadata.name.as_deref().unwrap_or_default());
            let mut create = Action::create(&claim);
            let failed = format!("create Claim {name} for Pod {pod} in StatefulSet {set} failed error: ");
            create.refused = Some(self.note(Severity::Warning, "FailedCreate", failed));
            let done = format!("create Claim {name} Pod {pod} in StatefulSet {set} success");
            let event = Action::event(self.set, Severity::Normal, "SuccessfulCreate", done);
            self.actions.extend([create.into(), event]);
        }
    }

    fn deletes(&self, when: &str) -> bool {
        let policy = self.set.spec.persistent_volume_claim_retention_policy.as_ref();
        let value = policy.and_then(|policy| match when {
            "whenDeleted" => policy.when_deleted.as_deref(),
            _ => policy.when_scaled.as_deref(),
        });
        value == Some("Delete")
    }

    /// Gives the claims the owners with which they are to go.
    pub(super) fn keep_claims(&mut self) {
        let with_set = self.deletes("whenDeleted").then(|| set_reference(self.set));
        let kept: Vec<_> = self.slots.iter().map(|(ordinal, _)| (*ordinal, None)).collect();
        let scaled = self.deletes("whenScaled");
        let gone: Vec<_> =
            self.condemned.iter().map(|(ordinal, pod)| (*ordinal, scaled.then(|| pod.clone()))).collect();
        for (ordinal, pod) in kept.into_iter().chain(gone) {
            let with_pod = pod.as_deref().map(pod_reference);
            for (_, name) in names(self.set, ordinal) {
                let Some(claim) = (self.claim)(&name) else { continue };
                // A claim that goes with its pod needs no second owner that would hold it.
                let wanted = with_pod.clone().or_else(|| with_set.clone());
                self.actions.extend(self.own(&claim, ordinal, wanted));
            }
        }
    }

    fn own(
        &self,
        claim: &PersistentVolumeClaim,
        ordinal: i64,
        wanted: Option<OwnerReference>,
    ) -> Option<Action> {
        let present = claim.metadata.owner_references.clone().unwrap_or_default();
        let pod = identity::name(self.set, ordinal);
        let ours = |owner: &OwnerReference| {
            Some(&owner.uid) == self.set.metadata.uid.as_ref() || (owner.kind == "Pod" && owner.name == pod)
        };
        let mut owners: Vec<_> = present.iter().filter(|owner| !ours(owner)).cloned().collect();
        owners.extend(wanted);
        if owners == present {
            return None;
        }
        let owners = if owners.is_empty() { json!(null) } else { json!(owners) };
        Some(Action::patch(claim, json!({"metadata": {"ownerReferences": owners}})))
    }
}

fn set_reference(set: &StatefulSet) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "StatefulSet".to_owned(),
        name: set.metadata.name.clone().unwrap_or_default(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

fn pod_reference(pod: &Pod) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}
