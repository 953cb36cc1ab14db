//! Who controls what, and taking or letting go by selector
//! (kube-controller-manager: pkg/controller/controller_ref_manager.go, v1.37).

use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use plimsoll_meta::selector::Labels;
use serde_json::json;

use crate::action::{Action, Living, Patch, Target};

/// The reference that an object's controller leaves in what it makes.
pub fn controller_ref<K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The owner that controls an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_deref()?.iter().find(|owner| owner.controller == Some(true))
}

/// An owner that claims objects by selector.
pub struct Claimant<'a> {
    /// Where the owner is.
    pub target: Target,
    /// The reference it leaves.
    pub reference: OwnerReference,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What it selects.
    pub selector: &'a Labels,
}

impl<'a> Claimant<'a> {
    /// The claims of `owner`.
    pub fn new<K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>>(
        owner: &K,
        selector: &'a Labels,
    ) -> Self {
        Self {
            target: Target::of(owner),
            reference: controller_ref(owner),
            deleting: owner.metadata().deletion_timestamp.is_some(),
            selector,
        }
    }

    /// Which of `objects` (its own, and those of its namespace without a controller) are its own from
    /// now on, and what to change for that. Adopted objects count at once: what follows the adoption in
    /// one list of actions happens only when it succeeds, and nobody makes a second of what is taken.
    pub fn claim<K>(&self, objects: &[Arc<K>], may_adopt: impl Fn(&K) -> bool) -> (Vec<Arc<K>>, Vec<Action>)
    where
        K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
    {
        let (mut own, mut actions) = (Vec::new(), Vec::new());
        for object in objects {
            let meta = object.metadata();
            let selected = self.selector.matches_map(meta.labels.as_ref());
            match controller_of(meta) {
                Some(controller) if controller.uid != self.reference.uid => {}
                Some(_) if selected || self.deleting => own.push(object.clone()),
                Some(_) => actions.push(self.release(&**object)),
                None if !selected || self.deleting || meta.deletion_timestamp.is_some() => {}
                None if may_adopt(object) => {
                    actions.push(self.adopt(&**object));
                    own.push(object.clone());
                }
                None => {}
            }
        }
        (own, actions)
    }

    fn adopt<K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>>(&self, object: &K) -> Action {
        let mut owners = object.metadata().owner_references.clone().unwrap_or_default();
        owners.push(self.reference.clone());
        self.write(object, &owners, true)
    }

    fn release<K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>>(&self, object: &K) -> Action {
        let mut owners = object.metadata().owner_references.clone().unwrap_or_default();
        owners.retain(|owner| owner.uid != self.reference.uid);
        self.write(object, &owners, false)
    }

    fn write<K>(&self, object: &K, owners: &[OwnerReference], guarded: bool) -> Action
    where
        K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
    {
        let meta = object.metadata();
        let owners = if owners.is_empty() { json!(null) } else { json!(owners) };
        let body = json!({"metadata": {
            "uid": meta.uid, "resourceVersion": meta.resource_version, "ownerReferences": owners,
        }});
        let living = Living { target: self.target.clone(), uid: self.reference.uid.clone() };
        let guard = guarded.then_some(living);
        Action::Patch(Box::new(Patch { target: Target::of(object), subresource: None, body, guard }))
    }
}
