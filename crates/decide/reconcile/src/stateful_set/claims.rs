//! Storage that stays, or goes when its set or its pod does.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::{Sync, identity};
use crate::action::{Action, Severity};
use crate::owner::controller_ref;

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
    /// Whether claims of a place must end before its pod can be made anew.
    pub(super) fn claims_end(&self, ordinal: i64) -> bool {
        let pod = identity::name(self.set, ordinal);
        // Held by a pod that was there before: it goes with that one.
        let stale = |claim: &PersistentVolumeClaim| {
            self.deletes("whenScaled")
                && claim.metadata.owner_references.iter().flatten().any(|owner| is_pod(owner, &pod))
        };
        let ends =
            |claim: &PersistentVolumeClaim| claim.metadata.deletion_timestamp.is_some() || stale(claim);
        names(self.set, ordinal).filter_map(|(_, name)| (self.claim)(&name)).any(|claim| ends(&claim))
    }

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
                claim.metadata.owner_references = Some(vec![controller_ref(self.set)]);
            }
            let pod = identity::name(self.set, ordinal);
            let mut create = Action::create(&claim);
            let made = format!("create Claim {{}} Pod {pod} in StatefulSet SET success");
            create.made = Some(self.note(Severity::Normal, "SuccessfulCreate", &made));
            let refused = format!("create Claim {name} for Pod {pod} in StatefulSet SET failed error: ");
            create.refused = Some(self.note(Severity::Warning, "FailedCreate", &refused));
            self.new_claims.push(create);
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
        let with_set = self.deletes("whenDeleted").then(|| controller_ref(self.set));
        let scaled = self.deletes("whenScaled");
        let kept = self.slots.iter().map(|(ordinal, pod)| (*ordinal, pod.clone(), with_set.clone()));
        // A claim that goes with its pod needs no second owner that would hold it.
        let gone = self.condemned.iter().map(|(ordinal, pod)| {
            let with_pod = scaled.then(|| controller_ref(&**pod)).or_else(|| with_set.clone());
            (*ordinal, Some(pod.clone()), with_pod)
        });
        for (ordinal, pod, wanted) in kept.chain(gone).collect::<Vec<_>>() {
            for (_, name) in names(self.set, ordinal) {
                let Some(claim) = (self.claim)(&name) else { continue };
                self.actions.extend(self.own(&claim, ordinal, pod.as_deref(), wanted.clone()));
            }
        }
    }

    fn own(
        &self,
        claim: &PersistentVolumeClaim,
        ordinal: i64,
        pod: Option<&Pod>,
        wanted: Option<OwnerReference>,
    ) -> Option<Action> {
        let present = claim.metadata.owner_references.clone().unwrap_or_default();
        let name = identity::name(self.set, ordinal);
        let uid = pod.and_then(|pod| pod.metadata.uid.as_ref());
        // What earlier holders of these names left is not touched: the claim goes with them.
        let stale = |owner: &OwnerReference| {
            (is_set(owner, self.set) && Some(&owner.uid) != self.set.metadata.uid.as_ref())
                || (is_pod(owner, &name) && Some(&owner.uid) != uid)
        };
        if present.iter().any(stale) {
            return None;
        }
        let ours = |owner: &&OwnerReference| is_set(owner, self.set) || is_pod(owner, &name);
        let mut owners: Vec<_> = present.iter().filter(|owner| !ours(owner)).cloned().collect();
        let controlled = owners.iter().any(|owner| owner.controller == Some(true));
        owners.extend(wanted.filter(|_| !controlled));
        if owners == present {
            return None;
        }
        let owners = if owners.is_empty() { json!(null) } else { json!(owners) };
        Some(Action::patch(claim, json!({"metadata": {"ownerReferences": owners}})))
    }
}

fn is_set(owner: &OwnerReference, set: &StatefulSet) -> bool {
    owner.kind == "StatefulSet"
        && owner.api_version.starts_with("apps/")
        && Some(&owner.name) == set.metadata.name.as_ref()
}

fn is_pod(owner: &OwnerReference, name: &str) -> bool {
    owner.kind == "Pod" && owner.api_version == "v1" && owner.name == name
}
