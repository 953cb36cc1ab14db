//! Revisions of a template, kept as ControllerRevisions
//! (kube-controller-manager: pkg/controller/history, v1.37).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::action::{Action, Failure};
use crate::owner::{controller_of, controller_ref};
use crate::{fingerprint, template};

/// The label that tells the pods of one revision from another's.
pub const REVISION_LABEL: &str = "controller-revision-hash";
/// The label by which revisions are told apart.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// How a kind labels its revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// Like the pods (DaemonSet).
    AsPods,
    /// With a label of their own (StatefulSet): pods name the whole revision.
    AsRevisions,
}

/// The revision of the present template.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// Name of the ControllerRevision.
    pub name: String,
    /// The hash in its name.
    pub hash: String,
    /// What makes it or raises its number; nothing if it is as it should be.
    pub actions: Vec<Action>,
}

/// What a revision keeps: the patch that brings the template back.
pub fn data_of(of: &PodTemplateSpec) -> Value {
    let mut template = template::plain(of);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    serde_json::from_value(revision.data.0["spec"]["template"].clone()).ok()
}

/// The hash in a revision's name.
pub fn hash_of(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    let of = |label: &str| labels.and_then(|labels| labels.get(label)).map(String::as_str);
    of(REVISION_LABEL).or_else(|| of(HASH_LABEL)).unwrap_or_default()
}

/// Whether a revision keeps this template.
pub fn keeps(revision: &ControllerRevision, template: &PodTemplateSpec) -> bool {
    template::plain(&revision.data.0) == data_of(template)
}

/// Finds the revision of a template, or makes one with the next number. A template that comes back
/// gets a new number for its old revision.
pub fn current<K>(
    owner: &K,
    template: &PodTemplateSpec,
    labelled: Labelled,
    revisions: &[Arc<ControllerRevision>],
    collisions: i32,
) -> Current
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
{
    let data = data_of(template);
    let (same, others): (Vec<_>, Vec<_>) =
        revisions.iter().partition(|revision| template::plain(&revision.data.0) == data);
    let last = others.iter().filter_map(|revision| revision.revision).max().unwrap_or_default();
    let same = same.into_iter().max_by_key(|revision| revision.revision);
    if let Some(known) = same {
        let behind = known.revision.unwrap_or_default() <= last;
        let raise = || Action::patch(&**known, json!({"revision": last + 1}));
        return Current {
            name: known.metadata.name.clone().unwrap_or_default(),
            hash: hash_of(known).to_owned(),
            actions: behind.then(raise).into_iter().collect(),
        };
    }
    let hash = fingerprint::of(template, collisions);
    let name = format!("{}-{hash}", owner.metadata().name.as_deref().unwrap_or_default());
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    let label = match labelled {
        Labelled::AsPods => REVISION_LABEL,
        Labelled::AsRevisions => HASH_LABEL,
    };
    labels.insert(label.to_owned(), hash.clone());
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: owner.metadata().namespace.clone(),
            labels: Some(labels),
            annotations: owner.metadata().annotations.clone().map(without_applied),
            owner_references: Some(vec![controller_ref(owner)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data),
        revision: Some(last + 1),
    };
    Current { name, hash, actions: vec![Action::create(&revision).into()] }
}

fn without_applied(mut annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations
}

/// Counts a collision when a revision could not be made because a stranger's has its name. `named` finds revisions
/// by name.
pub fn collided<K>(
    owner: &K,
    failure: &Failure,
    named: impl Fn(&str) -> Option<Arc<ControllerRevision>>,
    count: &mut Option<i32>,
) -> bool
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
{
    let collides = collides(owner, failure, named);
    if collides {
        *count = Some(count.unwrap_or_default() + 1);
    }
    collides
}

fn collides<K>(owner: &K, failure: &Failure, named: impl Fn(&str) -> Option<Arc<ControllerRevision>>) -> bool
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
{
    let Action::Create(create) = &failure.action else { return false };
    if failure.code != 409 || create.resource.kind != "ControllerRevision" {
        return false;
    }
    // When the cache does not know the name yet, the next attempt will find what has it.
    let Some(taken) = named(create.object["metadata"]["name"].as_str().unwrap_or_default()) else {
        return false;
    };
    // What an owner of the same name left behind is about to be collected.
    let ours = |by: &&OwnerReference| by.kind == K::KIND && Some(&by.name) == owner.metadata().name.as_ref();
    controller_of(&taken.metadata).as_ref().is_none_or(|by| !ours(by))
}

/// Deletes the oldest revisions that `in_use` does not name, but for `kept` of them.
pub fn clean_up(
    revisions: &[Arc<ControllerRevision>],
    kept: usize,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Action> {
    let mut idle: Vec<_> = revisions.iter().filter(|revision| !in_use(revision)).collect();
    idle.sort_by_key(|revision| revision.revision);
    let surplus = idle.len().saturating_sub(kept);
    idle.into_iter().take(surplus).map(|revision| Action::delete(&**revision).into()).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSet;

    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn templates_that_come_back_get_a_new_number() {
        let owner: DaemonSet = object(json!({"metadata": {"name": "ds", "namespace": "ns", "uid": "u"},
            "spec": {"selector": {}, "template": {}}}));
        let template = |image: &str| -> PodTemplateSpec {
            object(
                json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}),
            )
        };
        let make = |image: &str, revisions: &[Arc<ControllerRevision>]| {
            let current = current(&owner, &template(image), Labelled::AsPods, revisions, 0);
            let Action::Create(create) = &current.actions[0] else { panic!("{current:?}") };
            Arc::new(object::<ControllerRevision>(create.object.clone()))
        };
        let one = make("one", &[]);
        let two = make("two", std::slice::from_ref(&one));
        assert_eq!((one.revision, two.revision), (Some(1), Some(2)));
        assert_eq!(template_of(&two), Some(template("two")));
        let labels = one.metadata.labels.clone().unwrap_or_default();
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["a", REVISION_LABEL]);
        let both = [one.clone(), two.clone()];
        assert!(current(&owner, &template("two"), Labelled::AsPods, &both, 0).actions.is_empty());
        let back = current(&owner, &template("one"), Labelled::AsPods, &both, 0);
        assert_eq!(
            summary(&back.actions[0]),
            format!("patch ControllerRevision {} {{\"revision\":3}}", back.name)
        );
        let gone = clean_up(&both, 0, |revision| revision.revision == Some(2));
        assert_eq!(gone.len(), 1);
    }

    #[test]
    fn only_a_strangers_revision_is_a_collision() {
        let owner: DaemonSet = object(json!({"metadata": {"name": "ds", "namespace": "ns", "uid": "u"},
            "spec": {"selector": {}, "template": {}}}));
        let action = current(&owner, &PodTemplateSpec::default(), Labelled::AsPods, &[], 0).actions.remove(0);
        let failure = |code| Failure {
            action: action.clone(),
            code,
            reason: String::new(),
            message: String::new(),
            causes: vec![],
        };
        // Who controls what has the name, the answer's code, whether it is a collision.
        let cases = [
            (json!(null), 409, true),
            (
                json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "ds", "uid": "s", "controller": true}]),
                409,
                true,
            ),
            (
                json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "ds", "uid": "u", "controller": true}]),
                409,
                false,
            ),
            (
                json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "ds", "uid": "before", "controller": true}]),
                409,
                false,
            ),
            (json!(null), 403, false),
        ];
        for (owners, code, expected) in cases {
            let taken: ControllerRevision = object(
                json!({"metadata": {"name": "x", "ownerReferences": owners}, "revision": 1, "data": {}}),
            );
            let taken = Arc::new(taken);
            assert_eq!(
                collides(&owner, &failure(code), |_| Some(taken.clone())),
                expected,
                "{taken:?} {code}"
            );
        }
        assert!(!collides(&owner, &failure(409), |_| None));
    }
}
